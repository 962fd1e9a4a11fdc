//! Two actors of ractor, whose mailboxes have no bound.

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call, call_t};
use rust_wasm_lunatic_nats::Message;
use serde_json::Value;

use super::{Messages, TIMEOUT, Work, check};
use crate::Result;

pub(super) async fn measure(work: Work, rounds: usize) -> Result<Duration> {
    let (sink, _) = Actor::spawn(None, Sink, ()).await?;
    let (source, _) = Actor::spawn(None, Source, sink).await?;
    let mut took = Duration::ZERO;
    // The first round fills caches and buffers.
    for round in 0..=rounds {
        let this = call!(source, Task, work)?;
        if round > 0 {
            took += this;
        }
    }
    Ok(took)
}

struct Source;

struct Task(Work, RpcReplyPort<Duration>);

struct Sends {
    sink: ActorRef<ToSink>,
    messages: Messages,
}

impl Actor for Source {
    type Msg = Task;
    type State = Sends;
    type Arguments = ActorRef<ToSink>;

    async fn pre_start(
        &self,
        _: ActorRef<Task>,
        sink: ActorRef<ToSink>,
    ) -> std::result::Result<Sends, ActorProcessingErr> {
        Ok(Sends { sink, messages: Messages::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<Task>,
        Task(work, reply): Task,
        Sends { sink, messages: made }: &mut Sends,
    ) -> std::result::Result<(), ActorProcessingErr> {
        let timeout_ms = TIMEOUT.as_millis() as u64;
        let started = made.begin();
        match work {
            Work::Send(messages) => {
                for _ in 0..messages {
                    sink.cast(ToSink::Tell(made.next()))?;
                }
                // Answered when everything before it was handled.
                check(call_t!(sink, ToSink::Handled, timeout_ms)?, messages)?;
            }
            Work::Request(requests) => {
                for _ in 0..requests {
                    call_t!(sink, ToSink::Ask, timeout_ms, made.next())?;
                }
            }
        }
        reply.send(Instant::now() - started)?;
        Ok(())
    }
}

/// Counts what it gets, and tells; answers a request with what it says.
struct Sink;

enum ToSink {
    Tell(Message),
    Ask(Message, RpcReplyPort<Value>),
    Handled(RpcReplyPort<u64>),
}

impl Actor for Sink {
    type Msg = ToSink;
    type State = u64;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<ToSink>,
        (): (),
    ) -> std::result::Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<ToSink>,
        message: ToSink,
        handled: &mut u64,
    ) -> std::result::Result<(), ActorProcessingErr> {
        match message {
            ToSink::Tell(message) => {
                drop(message);
                *handled += 1;
            }
            ToSink::Ask(message, reply) => reply.send(message.payload)?,
            ToSink::Handled(reply) => reply.send(std::mem::take(handled))?,
        }
        Ok(())
    }
}
