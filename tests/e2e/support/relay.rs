//! A wire between a node and a server that can be cut, and held.

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::server::free_port;

/// Passes TCP connections on, while it is whole.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    whole: watch::Sender<bool>,
    held: watch::Sender<bool>,
}

impl Relay {
    /// A whole one to a port of this machine.
    pub async fn to(port: u16) -> Self {
        let from = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from)).await.expect("a free port");
        let (whole, state) = watch::channel(true);
        let (held, hold) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // While it is cut, who connects is thrown out.
                if *state.borrow() {
                    tokio::spawn(pass(stream, port, state.clone(), hold.clone()));
                }
            }
        });
        Self { port: from, whole, held }
    }

    /// Ends the connections there are, and takes no more.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// Reads nothing more from the nodes; what the server says still reaches them.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Reads again.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Where a node finds the server behind it.
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

async fn pass(
    near: TcpStream,
    port: u16,
    mut state: watch::Receiver<bool>,
    hold: watch::Receiver<bool>,
) {
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = copy(from_near, to_far, Some(hold)) => {}
        _ = copy(from_far, to_near, None) => {}
        _ = state.wait_for(|whole| !whole) => {}
    }
}

/// Copies until one side ends; not while it is held.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut hold: Option<watch::Receiver<bool>>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some(hold) = &mut hold {
            // Who could release it is gone: so is this.
            let _ = hold.wait_for(|held| !held).await;
        }
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read]).await?,
        }
    }
}
