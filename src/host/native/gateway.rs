//! The gateway part: drives the machine of [`crate::gateway`] with what NATS brings, and does what it
//! says. It decides nothing itself.

use std::future::{pending, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{json, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::clock;
use super::directory::Directory;
use super::mailbox::Responder;
use super::nats::{Event, NatsConnection, NatsError};
use super::shared::Shared;
use super::supervisor::{self, Answer};
use super::wire::{options, wire_error, Wire, TO_UNSUBSCRIBE};
use crate::agent::AgentId;
use crate::error::SendError;
use crate::gateway::{subscriptions, Ask, Gateway, Input, Output};
use crate::host::random;
use crate::message::{ErrorCode, NatsMessage, StatusCode, WireError};
use crate::nats::Inbox;
use crate::node::NodeEvent;
use crate::time::Instant;

/// What the gateway is told.
pub(super) enum GatewayMail {
    /// A command.
    Command(NatsMessage),
    /// An answer of another node, under the tag in its subject.
    Reply(NatsMessage),
    /// Other nodes could not be asked under that tag.
    NoReply(u64),
    /// A body was refused elsewhere, and counts here.
    BadInput { subject: String, error: WireError },
    /// The node ends: answer what is open, and then this one.
    Finish(oneshot::Sender<()>),
    /// No more comes on one of the subjects of commands, and what had come was handed on.
    NoMore,
}

/// What somebody of this node answered.
enum Heard {
    Done { tag: u64, json: Vec<u8> },
    Answered { tag: u64, payload: Value },
    Refused { tag: u64, error: WireError },
    Gone { tag: u64, comes_back: bool },
}

/// The part's work, on a node that has a `wire`.
pub(super) async fn run(
    shared: Arc<Shared>,
    told: mpsc::UnboundedSender<NodeEvent>,
    to_itself: mpsc::Sender<GatewayMail>,
    mails: &mut mpsc::Receiver<GatewayMail>,
) {
    let Some(wire) = &shared.wire else { return };
    let mut host = Host::new(&shared, wire, told, to_itself);
    loop {
        let deadline = host.work();
        if host.not_left == 0 && host.gateway.is_idle() {
            if let Some(finishing) = host.finishing.take() {
                // Who has waited long enough is gone.
                let _ = finishing.send(());
            }
        }
        let timer = clock::until(deadline);
        tokio::select! {
            biased;
            Some(heard) = host.asked.next() => host.heard(heard),
            mail = mails.recv() => match mail {
                Some(mail) => host.mail(mail),
                None => return,
            },
            () = timer => host.tell(Input::Tick),
        }
    }
}

type Asked = FuturesUnordered<Pin<Box<dyn Future<Output = Heard> + Send>>>;

struct Host<'a> {
    gateway: Gateway,
    shared: &'a Arc<Shared>,
    wire: &'a Wire,
    told: mpsc::UnboundedSender<NodeEvent>,
    /// What was asked within the node; at most [`Gateway::MAX_PENDING`], and a drain.
    asked: Asked,
    inbox: Inbox,
    to_itself: mpsc::Sender<GatewayMail>,
    finishing: Option<oneshot::Sender<()>>,
    listening: Vec<AbortHandle>,
    /// Whether the subjects of commands are to be left.
    leaving: watch::Sender<bool>,
    /// How many of them have not been.
    not_left: usize,
}

impl<'a> Host<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        wire: &'a Wire,
        told: mpsc::UnboundedSender<NodeEvent>,
        to_itself: mpsc::Sender<GatewayMail>,
    ) -> Self {
        let inbox = Inbox::from_random(random());
        let mut listening = Vec::new();
        let (leaving, leave) = watch::channel(false);
        let mut listen = |subject: String, group: Option<&'static str>, as_mail, leave| {
            let (connection, mails) = (wire.connection().clone(), to_itself.clone());
            let listen = listen(connection, subject, group, mails, as_mail, leave);
            listening.push(shared.parts.spawn(listen).abort_handle());
        };
        // Other nodes may answer until the end.
        let as_reply = GatewayMail::Reply as fn(NatsMessage) -> _;
        listen(inbox.pattern().to_string(), None, as_reply, None);
        let mut not_left = 0;
        for (subject, group) in subscriptions(shared.node_id.as_str()) {
            listen(subject, group, GatewayMail::Command, Some(leave.clone()));
            not_left += 1;
        }
        Self {
            gateway: Gateway::new(shared.node_id.as_str(), "native"),
            shared,
            wire,
            told,
            asked: FuturesUnordered::new(),
            inbox,
            to_itself,
            finishing: None,
            listening,
            leaving,
            not_left,
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.gateway.handle_input(clock::now(), input);
    }

    /// Does what the machine says, until it wants to wait.
    fn work(&mut self) -> Option<Instant> {
        loop {
            match self.gateway.poll_output() {
                Output::Supervisor { tag, ask } => self.ask_supervisor(tag, ask),
                Output::Agent { tag, agent_id, payload, command } => {
                    self.ask_agent(tag, agent_id, payload, command);
                }
                Output::Publish { subject, body, .. } => self.wire.post(subject, body),
                Output::Request { tag, subject, body } => self.request(tag, &subject, &body),
                Output::Shutdown { grace_ms } => {
                    let grace = Duration::from_millis(grace_ms);
                    drop(self.told.send(NodeEvent::ShutdownAsked { grace }));
                }
                Output::Drain => drop(self.told.send(NodeEvent::DrainAsked)),
                Output::Wait(deadline) => return deadline,
            }
        }
    }

    fn ask_supervisor(&mut self, tag: u64, ask: Ask) {
        match ask {
            Ask::Spawn { config } => {
                let (config, declared) = (Box::new(config), false);
                self.ask(tag, |answer| supervisor::Ask::Spawn { config, declared, answer });
            }
            Ask::Stop { agent_id } => {
                self.ask(tag, |answer| supervisor::Ask::Stop { id: agent_id, answer });
            }
            Ask::Status { agent_id: None } => {
                self.ask(tag, |answer| supervisor::Ask::Status { answer });
            }
            Ask::Status { agent_id: Some(id) } => {
                self.ask(tag, |answer| supervisor::Ask::Agent { id, answer });
            }
            Ask::List { after, limit } => {
                self.ask(tag, |answer| supervisor::Ask::List { after, limit, answer });
            }
            Ask::Drain => {
                let (answer, answered) = oneshot::channel();
                self.shared.ask_supervisor(supervisor::Ask::Drain { answer });
                let node_id = self.shared.node_id.to_string();
                self.await_answer(tag, async move {
                    answered.await.map(|done| done.map(|()| json!({ "node_id": node_id })))
                });
            }
        }
    }

    fn ask<T>(&mut self, tag: u64, ask: impl FnOnce(Answer<T>) -> supervisor::Ask)
    where
        T: Serialize + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // Without a supervisor, the answer's sender is dropped, which is heard.
        self.shared.ask_supervisor(ask(answer));
        self.await_answer(tag, answered);
    }

    fn await_answer<T: Serialize>(
        &mut self,
        tag: u64,
        answered: impl Future<Output = Result<Result<T, WireError>, oneshot::error::RecvError>>
            + Send
            + 'static,
    ) {
        self.asked.push(Box::pin(async move {
            match answered.await {
                // Our own types can always be written as JSON.
                Ok(Ok(done)) => {
                    Heard::Done { tag, json: serde_json::to_vec(&done).unwrap_or_default() }
                }
                Ok(Err(error)) => Heard::Refused { tag, error },
                Err(_) => {
                    let text = "the agent supervisor is being restarted; try again";
                    let error = WireError::new(ErrorCode::AgentRestarting, text);
                    Heard::Refused { tag, error }
                }
            }
        }));
    }

    fn ask_agent(&mut self, tag: u64, agent_id: AgentId, payload: Value, command: Vec<u8>) {
        let (asker, answered) = oneshot::channel();
        let reply = Some(Responder::Asker(asker));
        if let Err(error) = self.shared.directory.send(&agent_id, payload, reply) {
            let error = &wire_error(&agent_id, &error);
            return self.tell(Input::NotAsked { tag, error, command });
        }
        let directory = Arc::clone(&self.shared.directory);
        self.asked.push(Box::pin(async move {
            match answered.await {
                Ok(Ok(payload)) => Heard::Answered { tag, payload },
                Ok(Err(error)) => Heard::Refused { tag, error },
                // The question was dropped with the agent.
                Err(_) => Heard::Gone { tag, comes_back: comes_back(&directory, &agent_id).await },
            }
        }));
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Done { tag, json } => self.tell(Input::Done { tag, json: &json }),
            Heard::Answered { tag, payload } => {
                self.tell(Input::Answered { tag, payload: &payload });
            }
            Heard::Refused { tag, error } => {
                let (code, message) = (error.code.as_str(), error.message.as_str());
                self.tell(Input::Refused { tag, code, message });
            }
            Heard::Gone { tag, comes_back } => self.tell(Input::Gone { tag, comes_back }),
        }
    }

    /// Asks other nodes. What they answer has the tag as the last token of its subject.
    fn request(&mut self, tag: u64, subject: &str, body: &[u8]) {
        let (connection, mails) = (self.wire.connection().clone(), self.to_itself.clone());
        let reply = self.inbox.reply_subject(0, tag as i64);
        let (subject, body) = (subject.to_owned(), body.to_vec());
        // As many as questions are open at the most: each ends with its publish.
        self.shared.parts.spawn(async move {
            if let Err(error) = connection.publish_request(&subject, &reply, &body).await {
                log::debug!(subject = subject.as_str(); "other nodes cannot be asked: {error}");
                // Without a gateway nobody waits.
                drop(mails.send(GatewayMail::NoReply(tag)).await);
            }
        });
    }

    fn mail(&mut self, mail: GatewayMail) {
        match mail {
            GatewayMail::Command(message) => {
                let (subject, reply) = (message.subject(), message.reply());
                self.tell(Input::Message { subject, reply, body: message.payload() });
            }
            GatewayMail::Reply(message) => {
                let Some((_, tag)) = self.inbox.parse(message.subject()) else { return };
                let tag = tag as u64;
                match message.status() {
                    Some(StatusCode::NO_RESPONDERS) => self.tell(Input::NoResponders { tag }),
                    _ => self.tell(Input::Reply { tag, body: message.payload() }),
                }
            }
            GatewayMail::NoReply(tag) => self.tell(Input::NoReply { tag }),
            GatewayMail::BadInput { subject, error } => {
                self.tell(Input::BadInput { subject: &subject, error: &error });
            }
            GatewayMail::Finish(done) => {
                self.finishing = Some(done);
                self.leaving.send_replace(true);
            }
            GatewayMail::NoMore => {
                self.not_left -= 1;
                if self.not_left == 0 {
                    self.tell(Input::Finish);
                }
            }
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.listening.iter().for_each(AbortHandle::abort);
    }
}

/// Whether an agent that has just died is started again: its supervisor has to hear of it first.
async fn comes_back(directory: &Directory, id: &AgentId) -> bool {
    /// With that, who asked learns of it within 200 ms.
    const PATIENCE: Duration = Duration::from_millis(150);
    const LOOK: Duration = Duration::from_millis(5);
    let deadline = clock::now() + PATIENCE;
    while clock::now() < deadline {
        match directory.find(id) {
            Ok(_) => return true,
            Err(SendError::UnknownAgent(_)) => return false,
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    true
}

/// Hands on what comes on a subject, for as long as the connection lives, or until it is to be left.
async fn listen(
    connection: NatsConnection,
    subject: String,
    group: Option<&'static str>,
    mails: mpsc::Sender<GatewayMail>,
    as_mail: fn(NatsMessage) -> GatewayMail,
    mut leave: Option<watch::Receiver<bool>>,
) {
    let can_leave = leave.is_some();
    let mut events = connection.events();
    'listening: loop {
        let why = match connection.subscribe_with(&subject, options(group)).await {
            Ok(mut subscription) => loop {
                tokio::select! {
                    biased;
                    () = is_to_leave(&mut leave) => {
                        // What the server has sent by then is handed on, and whoever asks after that
                        // learns at once that nobody is there.
                        if let Err(why) = subscription.drain(TO_UNSUBSCRIBE).await {
                            log::debug!(subject = subject.as_str(); "it is left in a hurry: {why}");
                        }
                        // The end was asked for, and is no longer to be waited for.
                        leave = None;
                    }
                    message = subscription.next() => match message {
                        // The subscription's own bound holds what the gateway has not taken.
                        Some(message) => {
                            if mails.send(as_mail(message)).await.is_err() {
                                return;
                            }
                        }
                        None => break subscription.ended().cloned(),
                    }
                }
            },
            Err(why) => Some(why),
        };
        match why {
            _ if can_leave && leave.is_none() => break,
            None | Some(NatsError::Closed(_)) => break,
            Some(why) => log::error!(subject = subject.as_str(); "nothing comes here: {why}"),
        }
        // The next connection may be permitted more.
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Connected { .. }) => break,
                    Some(_) => {}
                    None => break 'listening,
                },
                () = is_to_leave(&mut leave) => break 'listening,
            }
        }
    }
    // Without a gateway nobody waits.
    if can_leave {
        drop(mails.send(GatewayMail::NoMore).await);
    }
}

/// Waits until a subject is to be left; for ever with one that is not.
async fn is_to_leave(leave: &mut Option<watch::Receiver<bool>>) {
    let Some(leave) = leave else { return pending().await };
    // Where nobody can say so any more, the gateway is gone, and this task soon after.
    if leave.wait_for(|leave| *leave).await.is_err() {
        pending().await
    }
}
