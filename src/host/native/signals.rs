//! SIGINT and SIGTERM, and Ctrl-C where there are no signals: the first one is for the node to stop,
//! the second one ends the program.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::node::NodeEvent;

/// Has them told from now on; what they did before they do no more.
pub(super) fn watch(runtime: &Handle, told: mpsc::UnboundedSender<NodeEvent>, grace: Duration) {
    let _context = runtime.enter();
    match Signals::new() {
        Ok(mut signals) => {
            runtime.spawn(async move {
                let name = signals.next().await.0;
                log::info!("{name}: the node stops; another one ends it at once");
                drop(told.send(NodeEvent::ShutdownAsked { grace }));
                let (name, number) = signals.next().await;
                log::warn!("{name} again: the node ends at once");
                std::process::exit(128 + number);
            });
        }
        Err(error) => log::error!("signals are not seen, and end the node at once: {error}"),
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{signal, SignalKind};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one, and its number.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = self.terminate.recv() => ("SIGTERM", 15),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> (&'static str, i32) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        ("Ctrl-C", 2)
    }
}

/// Waits until the system tells a program that shows something to end: SIGTERM, or SIGHUP, which comes
/// when its terminal is closed. For ever where there are no such signals.
#[cfg(all(feature = "operator", unix))]
pub(super) async fn told_to_end() {
    use tokio::signal::unix::{signal, SignalKind};
    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hangup)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        // Then a signal ends it at once.
        _ => std::future::pending().await,
    }
}

#[cfg(all(feature = "operator", not(unix)))]
pub(super) async fn told_to_end() {
    std::future::pending().await
}
