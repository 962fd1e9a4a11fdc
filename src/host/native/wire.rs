//! The node's connection to NATS, as its parts and its agents use it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::clock;
use super::mailbox::{Mail, NotTaken};
use super::nats::{Event, NatsConfig, NatsConnection, NatsError, SubscribeOptions, Subscription};
use super::shared::Shared;
use crate::agent::{AgentId, Context};
use crate::error::SendError;
use crate::log_line::OnceAMinute;
use crate::message::{encode_error, ErrorCode, NatsMessage, Subject, WireError};

/// The connection of a node.
pub(super) struct Wire {
    connection: NatsConnection,
    runtime: Handle,
    /// Room for what is published by who cannot wait, and has to.
    late: Arc<Semaphore>,
    /// The subscriptions for agents, each with what ends it.
    inputs: Mutex<HashMap<AgentId, Arc<Notify>>>,
}

impl Wire {
    /// The most answers that wait for a server that is too slow; one more is lost, and logged.
    const MAX_LATE: usize = 4096;

    /// Connects, whether there is a server or not.
    pub(super) async fn connect(config: NatsConfig, runtime: Handle) -> Result<Self, NatsError> {
        // Its tasks are to run where those of the node do.
        let connect = runtime.spawn(NatsConnection::new(config));
        let connection = match connect.await {
            Ok(connection) => connection?,
            Err(error) => return Err(NatsError::Connect(error.to_string())),
        };
        let (late, inputs) = (Arc::new(Semaphore::new(Self::MAX_LATE)), Mutex::default());
        Ok(Self { connection, runtime, late, inputs })
    }

    pub(super) fn connection(&self) -> &NatsConnection {
        &self.connection
    }

    pub(super) fn is_online(&self) -> bool {
        self.connection.is_connected()
    }

    /// Publishes for one who cannot wait: at once if that can be, else as soon as it can.
    pub(super) fn post(&self, subject: String, body: Vec<u8>) {
        let connection = self.connection.clone();
        let mut publish =
            Box::pin(async move { connection.publish(&subject, &body).await.map_err(drop_lost) });
        let first = {
            let mut publish = pin!(&mut publish);
            publish.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()))
        };
        if first == Poll::Pending {
            match Arc::clone(&self.late).try_acquire_owned() {
                Ok(room) => drop(self.runtime.spawn(async move {
                    let _ = publish.await;
                    drop(room);
                })),
                Err(_) => log::warn!("an answer is lost: too many wait for the server"),
            }
        }
    }

    /// Has what comes on `agent.input.<id>` handed to that agent, and calls `then` when the server is
    /// about to be told.
    pub(super) fn subscribe_agent(
        &self,
        shared: &Arc<Shared>,
        id: &AgentId,
        then: impl FnOnce() + Send + 'static,
    ) {
        let end = Arc::new(Notify::new());
        if let Some(before) = self.inputs().insert(id.clone(), Arc::clone(&end)) {
            before.notify_one();
        }
        let (connection, shared, id) = (self.connection.clone(), Arc::clone(shared), id.clone());
        self.runtime.spawn(async move {
            let subject = Subject::agent_input(&id);
            let mut then = Some(then);
            // A subscription that the server does not permit is tried again with the next connection.
            let mut events = connection.events();
            loop {
                let subscribed = connection.subscribe(&subject).await;
                if let Some(then) = then.take() {
                    then();
                }
                let why = match subscribed {
                    Ok(subscription) => match hand_over(&shared, &id, subscription, &end).await {
                        Some(why) => why,
                        None => return,
                    },
                    Err(why) => why,
                };
                if matches!(why, NatsError::Closed(_)) {
                    return;
                }
                log::error!(agent = id.as_str(); "cannot be reached: {why}");
                loop {
                    tokio::select! {
                        event = events.next() => match event {
                            Some(Event::Connected { .. }) => break,
                            Some(_) => {}
                            None => return,
                        },
                        () = end.notified() => return,
                    }
                }
            }
        });
    }

    /// Ends that. What had come is answered with an error.
    pub(super) fn unsubscribe_agent(&self, id: &AgentId) {
        if let Some(end) = self.inputs().remove(id) {
            end.notify_one();
        }
    }

    /// Ends it for all agents.
    pub(super) fn unsubscribe_agents(&self) {
        self.inputs().drain().for_each(|(_, end)| end.notify_one());
    }

    /// Tells in the log what becomes of the connection, for as long as it lives.
    pub(super) async fn log_events(connection: NatsConnection) {
        let mut events = connection.events();
        let mut outage_told = OnceAMinute::default();
        while let Some(event) = events.next().await {
            match &event {
                Event::Connected { .. } => {
                    outage_told = OnceAMinute::default();
                    log::info!("nats: {event}");
                }
                Event::Reconnecting { .. } | Event::Closed { .. } => log::debug!("nats: {event}"),
                // The first one of an outage is told, and then one a minute.
                Event::AttemptFailed { .. } if !outage_told.is_due(clock::now()) => {
                    log::debug!("nats: {event}");
                }
                _ => log::warn!("nats: {event}"),
            }
        }
    }

    /// Has everything reach the server that was published, and closes the connection; whether that
    /// went well.
    pub(super) async fn finish(&self, timeout: Duration) -> bool {
        self.connection.drain(timeout).await.is_ok()
    }

    fn inputs(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<Notify>>> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the end of a subscription waits for the server to hear that no more is wanted.
pub(super) const TO_UNSUBSCRIBE: Duration = Duration::from_millis(500);

fn drop_lost(error: NatsError) {
    log::warn!("an answer is lost: {error}");
}

/// Hands messages to an agent until that is ended, or why it ended by itself.
async fn hand_over(
    shared: &Shared,
    id: &AgentId,
    mut subscription: Subscription,
    end: &Notify,
) -> Option<NatsError> {
    loop {
        tokio::select! {
            biased;
            () = end.notified() => break,
            message = subscription.next() => match message {
                Some(message) => input(shared, id, &message).await,
                None => return subscription.ended().cloned(),
            },
        }
    }
    // What the server has sent by then is answered, and whoever asks after that learns at once that
    // nobody is there.
    if let Err(why) = subscription.drain(TO_UNSUBSCRIBE).await {
        log::debug!(agent = id.as_str(); "its input is left in a hurry: {why}");
    }
    while let Some(message) = subscription.next().await {
        refuse(shared, &message, &WireError::unknown_agent(id));
    }
    None
}

/// Hands one message to an agent, or answers why not.
async fn input(shared: &Shared, id: &AgentId, message: &NatsMessage) {
    let (bytes, max) = (message.payload().len(), Context::MAX_PAYLOAD);
    if bytes > max {
        let text = format!("the body has {bytes} bytes, and may have {max}");
        let error = WireError::new(ErrorCode::TooLarge, text);
        shared.count_bad_input(message.subject(), &error);
        return refuse(shared, message, &error);
    }
    let reply = message.reply().map(str::to_owned);
    let mail = Mail::Input { body: bytes::Bytes::copy_from_slice(message.payload()), reply };
    let given = match shared.directory.find(id) {
        Ok(mailbox) => match mailbox.push(mail) {
            // What comes meanwhile waits behind it, up to the subscription's own bound.
            Err(NotTaken::Full(mail)) => {
                let pushed = mailbox.push_patiently(mail).await;
                pushed.map_err(|error| super::directory::not_taken(&mailbox, id, &error))
            }
            pushed => pushed.map_err(|error| super::directory::not_taken(&mailbox, id, &error)),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = given {
        refuse(shared, message, &wire_error(id, &error));
    }
}

fn refuse(shared: &Shared, message: &NatsMessage, error: &WireError) {
    if let (Some(reply), Some(wire)) = (message.reply(), &shared.wire) {
        wire.post(reply.to_owned(), encode_error(error));
    }
}

/// What an error of this node is called on the wire.
pub(super) fn wire_error(id: &AgentId, error: &SendError) -> WireError {
    let code = match error {
        SendError::UnknownAgent(_) => return WireError::unknown_agent(id),
        SendError::AgentRestarting(_) => ErrorCode::AgentRestarting,
        SendError::TooLarge { .. } => ErrorCode::TooLarge,
        SendError::MailboxFull { .. } => ErrorCode::Capacity,
        _ => ErrorCode::Unsupported,
    };
    WireError::new(code, error.to_string())
}

/// How an agent's own subscription is made.
pub(super) fn options(queue_group: Option<&str>) -> SubscribeOptions {
    SubscribeOptions { queue_group: queue_group.map(str::to_owned), ..SubscribeOptions::default() }
}
