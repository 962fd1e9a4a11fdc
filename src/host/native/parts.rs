//! Keeps the parts of a node running: one that panics is started again. Agents are not touched by the
//! end of any part but their own supervisor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::clock;
use super::logger;
use crate::supervision::{Intensity, RestartHistory};

/// The parts of one node. They end when this is dropped.
pub(super) struct Parts {
    runtime: Handle,
    history: Arc<Mutex<RestartHistory>>,
    /// Told the name of a part that died too often.
    give_up: Arc<dyn Fn(&'static str) + Send + Sync>,
    running: Vec<AbortHandle>,
}

impl Parts {
    /// As for a declared tree: more than five restarts of parts in five seconds are too many.
    const INTENSITY: Intensity = Intensity { max_restarts: 5, period: Duration::from_secs(5) };

    pub(super) fn new(
        runtime: Handle,
        give_up: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Self {
        let (history, running) = (Arc::default(), Vec::new());
        Self { runtime, history, give_up: Arc::new(give_up), running }
    }

    /// Starts a part. `work` makes its future, for each life anew; it is told which one that is.
    pub(super) fn start<F>(&mut self, name: &'static str, work: impl Fn(u64) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (history, give_up) = (Arc::clone(&self.history), Arc::clone(&self.give_up));
        let keep = async move {
            for life in 1.. {
                let part = Part { name, work: Box::pin(work(life)) };
                if part.await.is_ok() {
                    return;
                }
                let now = clock::now();
                let may_live = {
                    let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                    let may_live = history.next_attempt(now, Self::INTENSITY).is_some();
                    history.record(now, Self::INTENSITY);
                    may_live
                };
                if !may_live {
                    let Intensity { max_restarts, period } = Self::INTENSITY;
                    log::error!(child = name; "died more than {max_restarts} times in {period:?}");
                    return give_up(name);
                }
                log::error!(child = name; "died, and is started again");
            }
        };
        self.running.push(self.runtime.spawn(keep).abort_handle());
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.running.iter().for_each(AbortHandle::abort);
    }
}

/// One life of a part; an error if it panicked, which the log has told.
struct Part<F> {
    name: &'static str,
    work: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Part<F> {
    type Output = Result<(), ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let polled = logger::as_part(this.name, || {
            // What is left half done is dropped with the part.
            let look = std::panic::AssertUnwindSafe(|| this.work.as_mut().poll(cx));
            std::panic::catch_unwind(look)
        });
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}
