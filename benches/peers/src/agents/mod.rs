//! Messages between two agents of one process: those of our native host, and actors of kameo and of
//! ractor, each as its users write them.
//!
//! One is the source and does all the work: it sends to the sink and asks it at the end how many it
//! got, or asks it again and again. All three carry the same [`Message`], whose payload is a text of
//! 128 bytes, cloned for each; ours makes its id where it arrives, the others have it from their source.
//! All run on one runtime of tokio with a thread for each core.

mod kameo;
mod ours;
mod ractor;

use std::time::{Duration, Instant, SystemTime};

use rust_wasm_lunatic_nats::message::MessageIds;
use rust_wasm_lunatic_nats::{AgentId, Message};
use serde_json::Value;

use crate::Result;

/// How many messages may wait for ours and for kameo's; ractor's mailboxes have no bound.
const MAILBOX: usize = 16_384;
/// How long one waits for an answer. Each has a timeout, since ours always has one.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who does the work.
#[derive(Clone, Copy)]
pub enum Library {
    Ours,
    Kameo,
    Ractor,
}

impl Library {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ours" => Ok(Self::Ours),
            "kameo" => Ok(Self::Kameo),
            "ractor" => Ok(Self::Ractor),
            other => Err(format!("there is ours, kameo and ractor, and no {other:?}").into()),
        }
    }
}

/// What the source is to do.
#[derive(Clone, Copy)]
pub enum Work {
    /// To send so many messages.
    Send(u64),
    /// To make so many requests, one after the other.
    Request(u64),
}

/// Prints how many messages a second one agent sent to another, or how many µs a request took.
pub async fn measure(library: Library, work: Work, rounds: usize) -> Result<()> {
    let took = match library {
        Library::Ours => ours::measure(work, rounds).await,
        Library::Kameo => kameo::measure(work, rounds).await,
        Library::Ractor => ractor::measure(work, rounds).await,
    }?;
    let seconds = took.as_secs_f64();
    match work {
        Work::Send(messages) => {
            let (sent, rate) =
                (messages * rounds as u64, (messages * rounds as u64) as f64 / seconds);
            println!(r#"{{"msgs_per_sec":{rate:.0},"messages":{sent},"seconds":{seconds}}}"#);
        }
        Work::Request(requests) => {
            let made = requests * rounds as u64;
            let us = seconds * 1e6 / made as f64;
            println!(r#"{{"us":{us:.3},"requests":{made},"seconds":{seconds}}}"#);
        }
    }
    Ok(())
}

/// What the sink counted has to be what was sent.
fn check(handled: u64, messages: u64) -> Result<()> {
    match handled == messages {
        true => Ok(()),
        false => Err(format!("{handled} of {messages} messages were handled").into()),
    }
}

fn payload() -> Value {
    Value::from("x".repeat(128))
}

/// What the source of another library sends: as many texts as ours, made in the same way.
struct Messages {
    ids: MessageIds,
    from: AgentId,
    to: AgentId,
    payload: Value,
    timestamp: u64,
}

impl Messages {
    fn new() -> Self {
        let mut random = [0; MessageIds::RANDOM];
        // It is only to be told apart.
        getrandom::fill(&mut random).ok();
        Self {
            ids: MessageIds::new(random),
            from: AgentId("source".to_owned()),
            to: AgentId("sink".to_owned()),
            payload: payload(),
            timestamp: 0,
        }
    }

    /// Ours reads the clock once for many messages, too.
    fn begin(&mut self) -> Instant {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.timestamp = since.unwrap_or_default().as_secs();
        Instant::now()
    }

    fn next(&mut self) -> Message {
        Message {
            id: self.ids.next_id(),
            from: self.from.clone(),
            to: self.to.clone(),
            payload: self.payload.clone(),
            timestamp: self.timestamp,
        }
    }
}
