//! The client as its tests use it: calls that wait, over an owner on a thread of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rust_wasm_lunatic_nats::nats::{
    Auth, Batch, Event, FlushError, GatherEnd, Headers, InvalidConfig, Outbox, OutboxError,
    PublishError, QueueGroup, RequestError, RequestMany, RequestRefused, ServerMessage, ServerUrl,
    SessionConfig, Stats, Status, SubjectPattern, SubscribeError, UpgradeHeaders,
};

use crate::owner::{Answer, Ask, How, Mail, Owner};
use crate::{SOON, until};

/// How many messages a subscription holds for who reads it; more are dropped and counted.
pub(crate) const MAX_HELD: usize = 200_000;

/// How many events are kept: more than any test has.
const MAX_EVENTS: usize = 100_000;

/// A connection. Ends when it is dropped.
#[derive(Debug)]
pub struct Client {
    owner: SyncSender<Mail>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What the owner tells everybody.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    events: Vec<Event>,
    max_payload: Option<usize>,
}

impl Shared {
    pub(crate) fn tell(&self, event: Event) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(told.events.len() < MAX_EVENTS, "more events than a test has");
        if let Event::Connected { max_payload, .. } = &event {
            told.max_payload = Some(usize::try_from(*max_payload).unwrap_or(usize::MAX));
        }
        told.events.push(event);
        self.changed.notify_all();
    }
}

/// Why a publish was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// Before a byte of it was encoded.
    Outbox(OutboxError),
    /// By the session.
    Session(PublishError),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFailed {
    /// It was not sent.
    Refused(RequestRefused),
    /// It was taken, and has none.
    Failed(RequestError),
}

impl Client {
    /// Starts a connection; it need not be there yet.
    pub fn start(config: SessionConfig) -> Result<Self, InvalidConfig> {
        Self::start_with(config, UpgradeHeaders::default())
    }

    /// The same with headers of one's own in the upgrade request.
    pub fn start_with(
        config: SessionConfig,
        headers: UpgradeHeaders,
    ) -> Result<Self, InvalidConfig> {
        let shared = Arc::<Shared>::default();
        let (owner, mails) = sync_channel(1024);
        let owned = Owner::new(config, headers, owner.clone(), Arc::clone(&shared))?;
        let thread = std::thread::spawn(move || owned.run(&mails));
        Ok(Self { owner, thread: Some(thread), shared })
    }

    /// One that is up.
    #[track_caller]
    pub fn connect(config: SessionConfig) -> Self {
        let client = Self::start(config).expect("a valid config");
        client.wait_for("connected", |event| matches!(event, Event::Connected { .. }));
        client
    }

    /// A config for tests at this URL: quick to try again.
    pub fn config(url: &str) -> SessionConfig {
        let mut config = SessionConfig::for_server(url).expect("a URL");
        config.reconnect.first = Duration::from_millis(5);
        config.reconnect.cap = Duration::from_millis(50);
        config
    }

    /// Publishes.
    pub fn publish_with(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<(), PublishRefused> {
        let mut outbox = Outbox::default();
        if let Some(max) = self.told(|told| told.max_payload) {
            outbox.set_max_payload(max);
        }
        outbox.publish(subject, reply, headers, payload).map_err(PublishRefused::Outbox)?;
        let Batch { bytes, ops } = outbox.take();
        let taken = self.call(move |owner| owner.session.publish(bytes, ops));
        taken.map_err(PublishRefused::Session)
    }

    /// Publishes without a reply subject and headers.
    pub fn publish(&self, subject: &str, payload: &[u8]) -> Result<(), PublishRefused> {
        self.publish_with(subject, None, &Headers::new(), payload)
    }

    /// Waits until the server has everything that was published since the last flush, and fails if
    /// a connection has broken since: whether all of it arrived is not known then.
    pub fn flush(&self) -> Result<(), FlushError> {
        let (told, answer) = sync_channel(1);
        let asked = self.call(move |owner| owner.flush(told));
        asked?;
        answer.recv_timeout(SOON).expect("a flush is answered, if only with an error")
    }

    /// Subscribes.
    pub fn subscribe(&self, pattern: &str) -> Result<Subscription, SubscribeError> {
        self.subscribe_in(pattern, None, MAX_HELD)
    }

    /// Subscribes in a queue group.
    pub fn queue_subscribe(
        &self,
        pattern: &str,
        queue: &str,
    ) -> Result<Subscription, SubscribeError> {
        let queue = QueueGroup::parse(queue).expect("a queue group");
        self.subscribe_in(pattern, Some(queue), MAX_HELD)
    }

    /// Subscribes with room for so many messages that are not yet read; what finds none is dropped.
    pub fn subscribe_with_room(
        &self,
        pattern: &str,
        messages: usize,
    ) -> Result<Subscription, SubscribeError> {
        self.subscribe_in(pattern, None, messages)
    }

    fn subscribe_in(
        &self,
        pattern: &str,
        queue: Option<QueueGroup>,
        room: usize,
    ) -> Result<Subscription, SubscribeError> {
        let pattern = SubjectPattern::parse(pattern).expect("a pattern");
        let (to, messages) = sync_channel(room);
        let sid = self.call(move |owner| owner.subscribe(pattern, queue, to))?;
        Ok(Subscription { sid, messages, owner: self.owner.clone() })
    }

    /// Asks, and waits for one answer.
    pub fn request(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        within: Duration,
    ) -> Result<ServerMessage, RequestFailed> {
        match self.ask(subject, headers, payload, How::One { within })?.recv() {
            Ok(Answer::Message(message)) => Ok(message),
            Ok(Answer::Failed(error)) => Err(RequestFailed::Failed(error)),
            other => panic!("an answer or an error, and not {}", other.is_ok()),
        }
    }

    /// Asks, and collects answers until there are enough, or an error ends it.
    pub fn request_many(
        &self,
        subject: &str,
        payload: &[u8],
        many: RequestMany,
    ) -> (Vec<ServerMessage>, Result<GatherEnd, RequestFailed>) {
        let mut messages = Vec::new();
        let answers = match self.ask(subject, &Headers::new(), payload, How::Many(many)) {
            Ok(answers) => answers,
            Err(error) => return (messages, Err(error)),
        };
        loop {
            match answers.recv().expect("an end") {
                Answer::Message(message) => messages.push(message),
                Answer::Failed(error) => return (messages, Err(RequestFailed::Failed(error))),
                Answer::Gathered(end) => return (messages, Ok(end)),
            }
        }
    }

    fn ask(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        how: How,
    ) -> Result<Receiver<Answer>, RequestFailed> {
        let (subject, headers) = (subject.to_owned(), headers.clone());
        let ask = Ask { subject, headers, payload: payload.to_vec(), how };
        let (told, answers) = sync_channel(MAX_HELD);
        let asked = self.call(move |owner| owner.request(&ask, told));
        asked.map(|()| answers).map_err(RequestFailed::Refused)
    }

    /// How many requests wait for an answer.
    pub fn open_requests(&self) -> usize {
        self.call(|owner| owner.session.pending_requests())
    }

    /// Ends in good order: see [`Session::drain`]. Says whether it begins.
    ///
    /// [`Session::drain`]: rust_wasm_lunatic_nats::nats::Session::drain
    pub fn drain(&self, within: Duration) -> bool {
        self.call(move |owner| owner.drain(within))
    }

    /// Goes to another connection.
    pub fn force_reconnect(&self) {
        self.call(Owner::force_reconnect);
    }

    /// Everything that has happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.told(|told| told.events.clone())
    }

    /// Waits for the first event that `wanted` takes, from the beginning on.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait_for_many(what, 1, wanted).remove(0)
    }

    /// Waits for so many events that `wanted` takes, from the beginning on.
    #[track_caller]
    pub fn wait_for_many(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Vec<Event> {
        let deadline = Instant::now() + SOON;
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found: Vec<_> = told.events.iter().filter(|event| wanted(event)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{count} × {what}; there was {:#?}", last(&told.events));
            let waited = self.shared.changed.wait_timeout(told, left);
            (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it has connected so many times in all.
    #[track_caller]
    pub fn wait_connected(&self, times: usize) {
        self.wait_for_many("connected", times, |event| matches!(event, Event::Connected { .. }));
    }

    /// Other credentials, from the next handshake on.
    pub fn set_auth(&self, auth: Auth) {
        self.call(|owner| owner.session.set_auth(auth));
    }

    /// The counts.
    pub fn stats(&self) -> Stats {
        self.call(|owner| owner.session.stats())
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        self.call(|owner| owner.session.status())
    }

    /// How many subscriptions the session has.
    pub fn subscription_count(&self) -> usize {
        self.call(|owner| owner.session.subscription_count())
    }

    /// How many publishes wait for a connection, and their bytes.
    pub fn pending(&self) -> (u64, usize) {
        self.call(|owner| (owner.session.pending_messages(), owner.session.pending_bytes()))
    }

    /// The servers that it knows, with their failures in a row.
    pub fn servers(&self) -> Vec<(ServerUrl, u32)> {
        self.call(|owner| owner.session.servers().map(|(url, n)| (url.clone(), n)).collect())
    }

    /// Anything else, on the owner's thread; its outputs are done afterwards.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Owner) -> T + Send + 'static,
    ) -> T {
        let (told, answer) = sync_channel(1);
        // Nobody waits for an answer any more only if the whole test has failed.
        let command = Mail::Call(Box::new(move |owner| drop(told.send(command(owner)))));
        self.owner.send(command).expect("the owner lives as long as the client");
        answer.recv_timeout(SOON).expect("the owner answers")
    }

    /// Closes it, and waits until everything has been done for that.
    pub fn close(mut self) -> Vec<Event> {
        self.end();
        self.events()
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // An owner that is gone has failed, and `join` says so.
            let _ = self.owner.send(Mail::End);
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("the owner has panicked");
            }
        }
    }

    fn told<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.shared.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

fn last(events: &[Event]) -> &[Event] {
    &events[events.len().saturating_sub(50)..]
}

/// A subscription. Unsubscribes when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    sid: u64,
    messages: Receiver<ServerMessage>,
    owner: SyncSender<Mail>,
}

impl Subscription {
    /// Its number.
    pub fn sid(&self) -> u64 {
        self.sid
    }

    /// The next message; that the subscription is over is `Disconnected`.
    pub fn next(&self, within: Duration) -> Result<ServerMessage, RecvTimeoutError> {
        self.messages.recv_timeout(within)
    }

    /// The next message, which has to come.
    #[track_caller]
    pub fn expect(&self) -> ServerMessage {
        self.next(SOON).expect("a message")
    }

    /// What is there.
    pub fn take_all(&self) -> Vec<ServerMessage> {
        self.messages.try_iter().collect()
    }

    /// Waits until it is over, and gives what came before that.
    #[track_caller]
    pub fn until_over(&self) -> Vec<ServerMessage> {
        let mut messages = Vec::new();
        until("the subscription is over", || match self.next(Duration::from_millis(10)) {
            Ok(message) => {
                messages.push(message);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(()),
        });
        messages
    }

    /// Ends it in good order: what is on its way still comes.
    pub fn drain(&self) {
        let sid = self.sid;
        let drain = move |owner: &mut Owner| {
            owner.session.drain_subscription(sid);
        };
        // If the client is gone, so is the subscription.
        let _ = self.owner.send(Mail::Call(Box::new(drain)));
    }

    /// Ends it once it has had so many messages in all.
    pub fn unsubscribe_after(&self, max: u64) {
        let sid = self.sid;
        // If the client is gone, so is the subscription.
        let _ = self.owner.send(Mail::Call(Box::new(move |owner| owner.unsubscribe(sid, max))));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.unsubscribe_after(0);
    }
}
