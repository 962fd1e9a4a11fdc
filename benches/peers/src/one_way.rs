//! Messages from a sender through the server to a receiver.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::{Result, subscribe, within};

/// Prints how many messages a second came through.
///
/// A node has one connection for all its agents. Here it can be one too, or one for the sender and
/// one for the receiver, which is two tasks that write and read instead of one that does both: the
/// quicker form is what a node has to be compared with.
pub async fn measure(
    url: &str,
    subject: &str,
    size: usize,
    messages: usize,
    rounds: usize,
    two: bool,
) -> Result<()> {
    let receiver = connect(url, messages).await?;
    let sender = if two { connect(url, messages).await? } else { receiver.clone() };
    let bench = Bench { sender, receiver, subject, size, messages };
    // The first round fills caches and buffers.
    bench.round().await?;
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        took += bench.round().await?;
    }
    let (sent, seconds) = (messages * rounds, took.as_secs_f64());
    let rate = sent as f64 / seconds;
    println!(r#"{{"msgs_per_sec":{rate:.0},"size":{size},"messages":{sent},"seconds":{seconds}}}"#);
    Ok(())
}

/// A client whose subscription holds all messages of a round: it drops what does not fit.
async fn connect(url: &str, messages: usize) -> Result<Client> {
    Ok(ConnectOptions::new().subscription_capacity(messages).connect(url).await?)
}

struct Bench<'a> {
    sender: Client,
    receiver: Client,
    subject: &'a str,
    size: usize,
    messages: usize,
}

impl Bench<'_> {
    /// From the first message sent to the last one received.
    async fn round(&self) -> Result<Duration> {
        let mut subscription = subscribe(&self.receiver, self.subject).await?;
        let (sender, messages) = (self.sender.clone(), self.messages);
        let subject = async_nats::Subject::from(self.subject);
        let payload = Bytes::from(vec![b'x'; self.size]);
        let started = Instant::now();
        let sending = tokio::spawn(async move {
            for _ in 0..messages {
                sender.publish(subject.clone(), payload.clone()).await?;
            }
            sender.flush().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        let took = within("the messages", async {
            for received in 0..messages {
                match subscription.next().await {
                    Some(message) if message.payload.len() == self.size => {}
                    Some(message) => {
                        return Err(format!("one has {} bytes", message.payload.len()).into());
                    }
                    None => return Err(format!("it ended after {received} messages").into()),
                }
            }
            Ok(started.elapsed())
        });
        let took = took.await?;
        sending.await??;
        subscription.unsubscribe().await?;
        Ok(took)
    }
}
