//! A wire between a node and a server that can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::server::free_port;

/// Passes TCP connections on, while it is whole.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    whole: watch::Sender<bool>,
}

impl Relay {
    /// A whole one to a port of this machine.
    pub async fn to(port: u16) -> Self {
        let from = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from)).await.expect("a free port");
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // While it is cut, who connects is thrown out.
                if *state.borrow() {
                    tokio::spawn(pass(stream, port, state.clone()));
                }
            }
        });
        Self { port: from, whole }
    }

    /// Ends the connections there are, and takes no more.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// Where a node finds the server behind it.
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

async fn pass(mut near: TcpStream, port: u16, mut state: watch::Receiver<bool>) {
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut far) = TcpStream::connect(far).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = state.wait_for(|whole| !whole) => {}
    }
}
