//! How long a node is away after its server is back.

use std::time::{Duration, Instant};

use async_nats::RequestErrorKind;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::{Result, within};

/// How often it is looked whether the server listens, and whether the node answers.
const LOOK: Duration = Duration::from_millis(1);

/// Prints how many ms it took from when the server listened at `address`, where the node connects,
/// until a request on `subject`, to which one of the node's agents is subscribed, was answered. It
/// has to be started while the server is away, and says so when it looks.
pub async fn measure(url: &str, subject: &str, address: &str) -> Result<()> {
    if TcpStream::connect(address).await.is_ok() {
        return Err(format!("{address} listens already: this is no outage").into());
    }
    println!(r#"{{"phase":"away"}}"#);
    let away = async {
        // Nothing of this connection is used: the server drops it when it ends.
        while TcpStream::connect(address).await.is_err() {
            sleep(LOOK).await;
        }
        Ok(Instant::now())
    };
    let listened = within("the server's return", away).await?;
    let back = async {
        let client = loop {
            // The server may listen at one port a moment before it does at the other.
            match async_nats::connect(url).await {
                Ok(client) => break client,
                Err(_) => sleep(LOOK).await,
            }
        };
        loop {
            match client.request(subject.to_owned(), "back?".into()).await {
                Ok(_) => return Ok(listened.elapsed()),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => sleep(LOOK).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let took = within("the node's return", back).await?;
    println!(r#"{{"back_ms":{:.2}}}"#, took.as_secs_f64() * 1e3);
    Ok(())
}
