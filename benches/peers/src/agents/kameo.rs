//! Two actors of kameo, with bounded mailboxes. A request is sent by `send`, which spares it a box.

use std::time::{Duration, Instant};

use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message as Handles};
use rust_wasm_lunatic_nats::Message;
use serde_json::Value;

use super::{MAILBOX, Messages, TIMEOUT, Work, check};
use crate::Result;

pub(super) async fn measure(work: Work, rounds: usize) -> Result<Duration> {
    let sink = Sink::spawn_with_mailbox(Sink::default(), mailbox::bounded(MAILBOX));
    let source = Source { sink, messages: Messages::new() };
    let source = Source::spawn_with_mailbox(source, mailbox::bounded(MAILBOX));
    let mut took = Duration::ZERO;
    // The first round fills caches and buffers.
    for round in 0..=rounds {
        let this = source.ask(Task(work)).await.map_err(|error| error.to_string())?;
        if round > 0 {
            took += this;
        }
    }
    Ok(took)
}

#[derive(kameo::Actor)]
struct Source {
    sink: ActorRef<Sink>,
    messages: Messages,
}

struct Task(Work);

impl Handles<Task> for Source {
    type Reply = Result<Duration>;

    async fn handle(&mut self, task: Task, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let started = self.messages.begin();
        match task.0 {
            Work::Send(messages) => {
                for _ in 0..messages {
                    let message = self.messages.next();
                    self.sink
                        .tell(Tell(message))
                        .send()
                        .await
                        .map_err(|error| error.to_string())?;
                }
                // Answered when everything before it was handled.
                let handled = self.sink.ask(Handled).reply_timeout(TIMEOUT).send().await;
                check(handled.map_err(|error| error.to_string())?, messages)?;
            }
            Work::Request(requests) => {
                for _ in 0..requests {
                    let message = self.messages.next();
                    let answer = self.sink.ask(Ask(message)).reply_timeout(TIMEOUT).send().await;
                    let Answer(_payload) = answer.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(Instant::now() - started)
    }
}

/// Counts what it gets, and tells; answers a request with what it says.
#[derive(Default, kameo::Actor)]
struct Sink {
    handled: u64,
}

struct Tell(Message);
struct Ask(Message);
struct Handled;

impl Handles<Tell> for Sink {
    type Reply = ();

    async fn handle(&mut self, message: Tell, _: &mut Context<Self, Self::Reply>) {
        drop(message.0);
        self.handled += 1;
    }
}

#[derive(kameo::Reply)]
struct Answer(Value);

impl Handles<Ask> for Sink {
    type Reply = Answer;

    async fn handle(&mut self, message: Ask, _: &mut Context<Self, Self::Reply>) -> Answer {
        Answer(message.0.payload)
    }
}

impl Handles<Handled> for Sink {
    type Reply = u64;

    async fn handle(&mut self, _: Handled, _: &mut Context<Self, Self::Reply>) -> u64 {
        std::mem::take(&mut self.handled)
    }
}
