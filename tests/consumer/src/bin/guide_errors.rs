//! What calls say when they cannot do what was asked; each line of the guide's table of errors that a
//! program can see. The server that it wants permits less than it asks for; who runs it stops the
//! server as it says so.

use std::error::Error;
use std::time::Duration;

use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::wasm_nats::{NatsError, WasmNatsConfig, WasmNatsConnection, WhenBusy};

const SOON: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    run_ready(errors())?
}

async fn connect(url: &str) -> Result<WasmNatsConnection, NatsError> {
    let config = WasmNatsConfig { websocket_url: url.to_owned(), ..Default::default() };
    WasmNatsConnection::new(config).await
}

async fn errors() -> Result<(), Box<dyn Error>> {
    println!("nowhere: {}", connect("ws://localhost:9").await.unwrap_err());
    println!("tcp: {}", connect("nats://localhost:4222").await.unwrap_err());

    let nats = connect(&std::env::var("NATS_WEBSOCKET_URL")?).await?;
    println!("request: {}", nats.request("secret.a", b"", SOON).await.unwrap_err());
    let mut denied = nats.subscribe("secret.b").await?;
    println!("subscribe: {}", denied.next_within(SOON).await.unwrap_err());
    println!("size: {}", nats.publish("open", &[0; 70_000]).await.unwrap_err());

    nats.set_when_busy(WhenBusy::Error);
    println!("stop the server");
    println!("busy: {}", until_refused(&nats).await);
    println!("end the server");
    while nats.is_connected() {
        rust_wasm_lunatic_nats::sleep(Duration::from_millis(10));
    }
    nats.set_when_busy(WhenBusy::Wait);
    println!("full: {}", until_refused(&nats).await);
    Ok(())
}

/// Publishes until that is an error.
async fn until_refused(nats: &WasmNatsConnection) -> NatsError {
    loop {
        if let Err(error) = nats.publish("open", &[0; 16 * 1024]).await {
            return error;
        }
    }
}
