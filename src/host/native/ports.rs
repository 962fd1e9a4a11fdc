//! What this host does for an agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::agent::{read_answer, Life};
use super::clock;
use super::directory::{not_taken, LocalSender};
use super::mailbox::{Mail, Mailbox, NotTaken, Responder};
use super::nats::{NatsError, Subscription};
use super::wire::{options, Wire};
use crate::agent::{AgentId, Context, Port, Ports, ReplyTo};
use crate::error::{Error, RequestError, Result, SendError};
use crate::message::{encode_error, Headers, Message, MessageIds, Subject, WireError};
use crate::node::read_remote_answer;

/// What this host does for one life of an agent.
pub(super) struct NativePorts {
    life: Life,
    local: LocalSender,
    nats_enabled: bool,
    /// For messages to other nodes.
    ids: Option<MessageIds>,
    /// Its NATS subscriptions, by subject and queue group: at most [`Context::MAX_SUBSCRIPTIONS`].
    subscriptions: HashMap<(String, Option<String>), AbortHandle>,
}

impl NativePorts {
    pub(super) fn new(life: Life, nats_enabled: bool) -> Self {
        let local = LocalSender::new(life.id.as_ref().clone(), Arc::clone(&life.shared.directory));
        Self { life, local, nats_enabled, ids: None, subscriptions: HashMap::new() }
    }

    /// What a life that is over still does, because its code does not let itself be killed, is nobody's
    /// any more.
    fn lives(&self) -> Result<(), SendError> {
        match self.life.mailbox.is_over() {
            true => Err(SendError::AgentRestarting(self.life.id.as_ref().clone())),
            false => Ok(()),
        }
    }

    fn wire(&self) -> Result<&Wire> {
        self.lives()?;
        self.life.shared.wire.as_ref().ok_or_else(no_nats)
    }

    /// The connection, if an agent that is not on this node can be looked for on others.
    fn elsewhere(&self, error: &SendError) -> Option<&Wire> {
        let may = matches!(error, SendError::UnknownAgent(_)) && self.nats_enabled;
        self.life.shared.wire.as_ref().filter(|wire| may && wire.is_online())
    }

    /// A message as it goes to another node.
    fn remote(&mut self, to: &AgentId, payload: Value) -> Result<Vec<u8>, SendError> {
        let ids = self.ids.get_or_insert_with(|| MessageIds::new(clock::random()));
        let message = Message {
            id: ids.next_id(),
            from: self.life.id.as_ref().clone(),
            to: to.clone(),
            payload,
            timestamp: clock::unix_seconds(),
        };
        serde_json::to_vec(&message).map_err(|error| SendError::Nats(error.to_string()))
    }

    /// Puts a message into the agent's mailbox, if there is one with room.
    fn push(
        &mut self,
        to: &AgentId,
        payload: Value,
        reply: Option<Responder>,
    ) -> Result<(), NotSent> {
        let letter = match self.lives().and_then(|()| self.local.letter(payload, reply)) {
            Ok(letter) => letter,
            Err(error) => return Err(NotSent::Refused(error)),
        };
        let mailbox = match self.local.find(to) {
            Ok(mailbox) => mailbox,
            Err(error) => {
                return Err(match (self.elsewhere(&error), letter) {
                    (Some(_), Mail::Letter(letter)) => NotSent::Elsewhere(letter.payload),
                    _ => NotSent::Refused(error),
                });
            }
        };
        match mailbox.push(letter) {
            Ok(()) => Ok(()),
            // In one's own mailbox nobody else makes room.
            Err(NotTaken::Full(letter)) if *self.life.id != *to => {
                Err(NotSent::Full(Arc::clone(mailbox), letter))
            }
            Err(error) => Err(NotSent::Refused(not_taken(mailbox, to, &error))),
        }
    }
}

/// Why a message is not in the mailbox of an agent of this node.
enum NotSent {
    Refused(SendError),
    /// There is no room now.
    Full(Arc<Mailbox>, Mail),
    /// There is no such agent here. Another node may have it.
    Elsewhere(Value),
}

impl Ports for NativePorts {
    fn send<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
    ) -> Option<Port<'a, Result<(), SendError>>> {
        match self.push(to, payload, None) {
            Ok(()) => None,
            Err(NotSent::Refused(error)) => Some(Port::done(Err(error))),
            Err(NotSent::Full(mailbox, letter)) => Some(Port::Later(Box::pin(async move {
                let pushed = mailbox.push_patiently(letter).await;
                pushed.map_err(|error| not_taken(&mailbox, to, &error))
            }))),
            Err(NotSent::Elsewhere(payload)) => {
                let body = match self.remote(to, payload) {
                    Ok(body) => body,
                    Err(error) => return Some(Port::done(Err(error))),
                };
                let wire = self.life.shared.wire.as_ref()?;
                Some(Port::Later(Box::pin(async move {
                    let subject = Subject::agent_input(to);
                    let published = wire.connection().publish(&subject, &body).await;
                    published.map_err(|error| SendError::Nats(error.to_string()))
                })))
            }
        }
    }

    fn request<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
        timeout: Duration,
    ) -> Port<'a, Result<Value, RequestError>> {
        let (asker, answer) = oneshot::channel();
        let waits = match self.push(to, payload, Some(Responder::Asker(asker))) {
            Ok(()) => None,
            Err(NotSent::Refused(error)) => return Port::done(Err(error.into())),
            Err(NotSent::Full(mailbox, letter)) => Some((mailbox, letter)),
            Err(NotSent::Elsewhere(payload)) => {
                let body = match self.remote(to, payload) {
                    Ok(body) => body,
                    Err(error) => return Port::done(Err(error.into())),
                };
                let Some(wire) = &self.life.shared.wire else {
                    return Port::done(Err(SendError::UnknownAgent(to.clone()).into()));
                };
                return Port::Later(Box::pin(async move {
                    let subject = Subject::agent_input(to);
                    let answer = wire.connection().request(&subject, &body, timeout).await;
                    remote_answer(to, timeout, answer)
                }));
            }
        };
        Port::Later(Box::pin(async move {
            if let Some((mailbox, letter)) = waits {
                let pushed = mailbox.push_patiently(letter).await;
                pushed.map_err(|error| not_taken(&mailbox, to, &error))?;
            }
            read_answer(to, timeout, answer).await
        }))
    }

    fn reply(&mut self, to: &ReplyTo, payload: Value) -> Result<(), SendError> {
        match to {
            ReplyTo::Process { .. } => {
                Context::check_payload(&payload)?;
                // One that was killed has nobody to answer.
                if let Some(responder) = self.life.mailbox.take_answering() {
                    responder.answer(Ok(payload));
                }
                Ok(())
            }
            ReplyTo::Subject { subject, asker } => {
                self.lives()?;
                let body = self.remote(asker, payload)?;
                let Some(wire) = &self.life.shared.wire else {
                    return Err(SendError::Nats(NO_NATS.to_owned()));
                };
                wire.post(subject.clone(), body);
                Ok(())
            }
        }
    }

    fn publish<'a>(
        &'a mut self,
        subject: &'a str,
        reply: Option<&'a str>,
        headers: &'a Headers,
        payload: &'a [u8],
    ) -> Option<Port<'a, Result<()>>> {
        let wire = match self.wire() {
            Ok(wire) => wire.connection(),
            Err(error) => return Some(Port::done(Err(error))),
        };
        Some(Port::Later(Box::pin(async move {
            let published = match reply {
                None => wire.publish_with_headers(subject, headers, payload).await,
                Some(reply) => {
                    wire.publish_request_with_headers(subject, reply, headers, payload).await
                }
            };
            Ok(published?)
        })))
    }

    fn nats_request<'a>(
        &'a mut self,
        subject: &'a str,
        payload: &'a [u8],
        timeout: Duration,
    ) -> Port<'a, Result<Vec<u8>>> {
        match self.wire() {
            Ok(wire) => Port::Later(Box::pin(async move {
                Ok(wire.connection().request(subject, payload, timeout).await?)
            })),
            Err(error) => Port::done(Err(error)),
        }
    }

    fn subscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<()>> {
        let key = (subject.to_owned(), queue_group.map(str::to_owned));
        // One that has ended by itself may be made again.
        if self.subscriptions.get(&key).is_some_and(|reader| !reader.is_finished()) {
            return Port::done(Ok(()));
        }
        self.subscriptions.retain(|_, reader| !reader.is_finished());
        let max = Context::MAX_SUBSCRIPTIONS;
        if self.subscriptions.len() >= max {
            return Port::done(Err(NatsError::TooManySubscriptions { max }.into()));
        }
        Port::Later(Box::pin(async move {
            let subscription =
                self.wire()?.connection().subscribe_with(subject, options(queue_group)).await?;
            let read = read(subscription, Arc::clone(&self.life.mailbox));
            let reader = self.life.shared.agents.spawn(read).abort_handle();
            self.subscriptions.insert(key, reader);
            Ok(())
        }))
    }

    fn unsubscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<bool>> {
        let key = (subject.to_owned(), queue_group.map(str::to_owned));
        let reader = self.subscriptions.remove(&key);
        let was_there = reader.as_ref().is_some_and(|reader| !reader.is_finished());
        if let Some(reader) = reader {
            reader.abort();
        }
        Port::done(Ok(was_there))
    }

    fn refuse(&mut self, to: &ReplyTo, error: &WireError) {
        match to {
            ReplyTo::Process { .. } => {
                if let Some(responder) = self.life.mailbox.take_answering() {
                    responder.answer(Err(error.clone()));
                }
            }
            ReplyTo::Subject { subject, .. } => {
                if let Some(wire) = &self.life.shared.wire {
                    wire.post(subject.clone(), encode_error(error));
                }
            }
        }
    }

    fn handled(&mut self) -> Result<()> {
        self.local.turn();
        Ok(())
    }
}

impl Drop for NativePorts {
    /// What it subscribed to ends with its life.
    fn drop(&mut self) {
        self.subscriptions.values().for_each(AbortHandle::abort);
    }
}

/// Puts what comes on a subject into the agent's mailbox. What that has no room for waits with the
/// subscription, up to its bound.
async fn read(mut subscription: Subscription, mailbox: Arc<Mailbox>) {
    while let Some(message) = subscription.next().await {
        let mut mail = Mail::Nats(message);
        loop {
            match mailbox.push_patiently(mail).await {
                Ok(()) => break,
                Err(NotTaken::Full(again)) => mail = again,
                Err(NotTaken::Closed) => return,
            }
        }
    }
    let why = subscription.ended().map_or_else(|| "it was ended".to_owned(), ToString::to_string);
    let subject = subscription.subject().to_owned();
    // A life that is over does not care.
    drop(mailbox.push(Mail::SubscriptionEnded { subject, why }));
}

const NO_NATS: &str = "this node has no NATS";

fn no_nats() -> Error {
    Error::Nats(NO_NATS.to_owned())
}

/// What an agent of another node answered.
fn remote_answer(
    agent: &AgentId,
    timeout: Duration,
    answer: Result<Vec<u8>, NatsError>,
) -> Result<Value, RequestError> {
    match answer {
        Ok(body) => read_remote_answer(agent, &body),
        Err(NatsError::NoResponders { .. }) => Err(SendError::UnknownAgent(agent.clone()).into()),
        Err(NatsError::TimedOut { .. }) => {
            Err(RequestError::Timeout { agent: agent.clone(), timeout })
        }
        Err(error) => Err(SendError::Nats(error.to_string()).into()),
    }
}
