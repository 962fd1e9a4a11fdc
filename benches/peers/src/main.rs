//! Sends messages through a nats-server with `async-nats` over TCP and prints how many came through
//! per second: what `scripts/bench` compares `bench nats-one-way` with.
//!
//! ```text
//! peers URL SIZE MESSAGES two|one      two clients, or one for both directions
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;

const SUBJECT: &str = "bench.peer";
/// How long the messages may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, size, messages, clients] = arguments.as_slice() else {
        return Err("usage: peers URL SIZE MESSAGES two|one".into());
    };
    let (size, messages) = (size.parse()?, messages.parse()?);
    let receiver = connect(url, messages).await?;
    let sender = match clients.as_str() {
        "two" => connect(url, messages).await?,
        "one" => receiver.clone(),
        other => return Err(format!("clients is {other:?}, and must be one or two").into()),
    };
    // The first run fills caches and buffers.
    run(&sender, &receiver, size, messages / 10 + 1).await?;
    let took = run(&sender, &receiver, size, messages).await?;
    let rate = messages as f64 / took.as_secs_f64();
    println!(r#"{{"msgs_per_sec":{rate:.0},"size":{size},"messages":{messages}}}"#);
    Ok(())
}

/// A client whose subscription holds all messages: it drops what does not fit.
async fn connect(url: &str, messages: usize) -> Result<async_nats::Client, Box<dyn Error>> {
    let options = async_nats::ConnectOptions::new().subscription_capacity(messages.max(1));
    Ok(options.connect(url).await?)
}

/// From the first message sent to the last one received.
async fn run(
    sender: &async_nats::Client,
    receiver: &async_nats::Client,
    size: usize,
    messages: usize,
) -> Result<Duration, Box<dyn Error>> {
    let mut subscription = receiver.subscribe(SUBJECT).await?;
    // The server has seen the subscription once it has answered this.
    receiver.flush().await?;
    let payload = Bytes::from(vec![b'x'; size]);
    let started = Instant::now();
    let sender = sender.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..messages {
            sender.publish(SUBJECT, payload.clone()).await?;
        }
        sender.flush().await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });
    let receiving = async {
        for received in 0..messages {
            if subscription.next().await.is_none() {
                return Err(format!("the subscription ended after {received} messages"));
            }
        }
        Ok(started.elapsed())
    };
    let took = tokio::time::timeout(PATIENCE, receiving)
        .await
        .map_err(|_| format!("{messages} messages did not arrive in {PATIENCE:?}"))??;
    sending.await?.map_err(|error| error.to_string())?;
    subscription.unsubscribe().await?;
    Ok(took)
}
