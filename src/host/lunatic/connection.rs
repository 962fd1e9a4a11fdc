//! The connection: owns the NATS session, and is the only one that writes to the socket. What many
//! publish at once goes out in one frame.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::clock;
use super::delivery::{Ended, Load, Why, ANSWERS};
use super::dial::{self, DialOptions};
use super::handover::{Handover, Request};
use super::logger;
use super::mail::{self, Answer, NoAnswer, SupervisorMail, Waiter};
use super::names::{self, Lookup};
use super::publishers::{Bunch, Bunching, Publishers};
use super::reader::{self, ReaderMail, ReaderStart, Route};
use super::stream::{FrameSocket, Stream};
use super::sys::{self, Permissions, Pid, Received};
use super::timer::Timer;
use crate::agent::AgentId;
use crate::config::{NatsAuth, NodeConfig};
use crate::error::{Error, Result};
use crate::gateway::subscriptions;
use crate::log_line::OnceAMinute;
use crate::message::Subject;
use crate::nats::{
    Auth, CloseReason, ControlOp, DisconnectReason, Event, Inbox, Input, Operation, Output,
    PermissionViolation, PublishError, QueueGroup, ServerUrl, Session, SessionConfig, Stats,
    SubjectPattern,
};

/// What the connection is told first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ConnectionStart {
    owner: Owner,
    session: SessionConfig,
    dial: DialOptions,
    log_level: u8,
}

/// Whose connection it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Owner {
    /// The node's: it brings what is for the gateway and the agents. The root starts it again when
    /// it dies.
    Node { node_id: String },
    /// One process's, with which it ends.
    Process { pid: u64 },
}

impl ConnectionStart {
    /// What a node's config says about NATS; none if it wants none.
    pub(super) fn new(config: &NodeConfig) -> Result<Option<Self>> {
        let Some(urls) = &config.nats else { return Ok(None) };
        let mut session = SessionConfig::for_server(urls.expose())
            .map_err(|error| Error::Node(error.to_string()))?;
        session.name = Some(config.node_id.to_string());
        session.auth = match &config.nats_auth {
            NatsAuth::Anonymous => Auth::None,
            NatsAuth::Token(token) => Auth::Token(token.clone()),
            NatsAuth::User { user, password } => {
                Auth::UserPassword { user: user.clone(), password: password.clone() }
            }
            // The dial reads it.
            NatsAuth::NKey(_) | NatsAuth::Credentials(_) => Auth::None,
        };
        let options = &config.nats_options;
        session.connect_timeout = options.connect_timeout;
        session.ping_interval = options.ping_interval;
        session.max_pings_out = options.max_pings_out;
        session.reconnect.first = options.reconnect_first;
        session.reconnect.cap = options.reconnect_cap;
        session.reconnect.late_cap = options.reconnect_late_cap;
        session.shuffle_servers = options.shuffle_servers;
        session.use_advertised = options.use_advertised;
        session.max_pending_bytes = options.max_pending_bytes;
        session.max_pending_messages = options.max_pending_messages;
        session.validate().map_err(|error| Error::Node(error.to_string()))?;
        let owner = Owner::Node { node_id: config.node_id.to_string() };
        let dial = DialOptions::of_node(config).map_err(Error::Node)?;
        Ok(Some(Self { owner, session, dial, log_level: logger::level() }))
    }
}

/// Starts a connection of this process's own. It is not linked: a fault in it is an error for who
/// uses it, and no death.
pub(super) fn start_own(session: SessionConfig, dial: DialOptions) -> Result<Pid, String> {
    /// As the root grants the node's.
    const MAX_MEMORY: u64 = 1 << 30;
    let permissions = Permissions::none().map(|none| none.max_memory(MAX_MEMORY).may_spawn());
    let permissions = permissions.ok_or("this process may not start others")?;
    let connection = sys::spawn(&permissions, None, process)?;
    let owner = Owner::Process { pid: sys::this().0 };
    let log_level = logger::level();
    mail::start(connection, &Some(ConnectionStart { owner, session, dial, log_level }));
    Ok(connection)
}

/// What the connection is told.
#[derive(Serialize, Deserialize)]
pub(super) enum Mail<'a> {
    /// Never sent: see [`mail::REPLY`].
    Reply,
    /// Never sent so: see [`Handover`].
    Publish,
    /// Who are you? Answered with a [`Greeting`].
    Hello { waiter: Waiter },
    /// `agent.input.<id>` leads to the agent.
    SubscribeAgent { id: &'a str },
    /// It does not any more.
    UnsubscribeAgent { id: &'a str },
    /// No agent is left.
    ForgetAgents,
    /// What comes on a subject goes to a process; answered with the number of the subscription.
    Subscribe {
        subject: &'a str,
        queue: Option<&'a str>,
        limits: Load,
        pid: u64,
        tag: i64,
        waiter: Waiter,
    },
    /// The subscription is over.
    Unsubscribe { sid: u64 },
    /// It is over after so many messages in all.
    UnsubscribeAfter { sid: u64, max: u64 },
    /// It is over; answer when all that the server had sent for it was delivered.
    DrainSubscription { sid: u64, waiter: Waiter },
    /// The reader dropped messages, since who they are for is slow.
    SlowConsumer { sid: u64, messages: u64, bytes: u64, began: bool },
    /// Tell a process of each event from now on, under a tag.
    Watch { pid: u64, tag: i64 },
    /// Do that no more.
    Unwatch { pid: u64, tag: i64 },
    /// End all subscriptions, send everything, and close; answer when that is done.
    Drain { timeout: Duration, waiter: Waiter },
    /// Give the present connection up for the next one.
    ForceReconnect,
    /// The node ends: from now on only answers to its own questions come in.
    StopListening,
    /// Answer when the server has everything that was published until now.
    Flush { waiter: Waiter },
    /// The reader has a socket, and the credentials that it has read.
    Opened { dial: u64, reader: u64, stream: Stream, auth: Option<Auth> },
    /// The reader got none.
    DialFailed { dial: u64, reason: &'a str },
    /// The reader's socket is closed.
    Closed { dial: u64, reason: &'a str },
    /// What the server says to the session.
    Ops { dial: u64, ops: Vec<ControlOp> },
    /// What the reader delivered: subscription, messages, bytes on the wire.
    Received { counts: Vec<(u64, u64, u64)> },
    /// Answer when the connection is up, or when it is known that it will not be.
    AwaitUp { waiter: Waiter },
    /// How is it? Answered with a [`Report`].
    Report { waiter: Waiter },
    /// Write what waits, answer, and end.
    Close { waiter: Waiter },
    /// The server's WebSocket asks whether somebody is there.
    Pong {
        dial: u64,
        #[serde(with = "serde_bytes")]
        payload: &'a [u8],
    },
    /// What the connection sends itself, to know that it has read what came meanwhile.
    Marker,
    /// It is time to look at the clock.
    Tick,
}

/// What a client of the connection has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) inbox: [u8; 16],
}

/// How a connection is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) stats: Stats,
}

/// The inbox is subscribed to before anything else.
const INBOX_SID: u64 = 1;

/// The code of an answer that says that the connection has ended for good.
pub(super) const CLOSED: &str = "closed";

/// The process's entry.
pub(super) fn process() {
    let start: Option<ConnectionStart> = mail::first();
    let start = start.expect("the root starts a connection only where there is one to make");
    logger::install_part(start.log_level, "connection");
    sys::trap_link_deaths();
    let mut connection = Connection::new(start);
    let mut buffer = Vec::new();
    while !connection.over {
        match sys::receive(&[], None) {
            Received::Message => {
                sys::read_message(&mut buffer);
                if Handover::is_one(&buffer) {
                    connection.take_over(std::mem::take(&mut buffer));
                    continue;
                }
                match postcard::from_bytes(&buffer) {
                    Ok(mail) => connection.mail(mail),
                    Err(error) => log::error!("a mail cannot be read: {error}"),
                }
            }
            Received::LinkDied(link) => connection.link_died(link),
            Received::ProcessDied(pid) => connection.process_died(pid),
            Received::TimedOut => {}
        }
    }
    connection.drop_link();
}

/// The present dial: its reader, and the socket once there is one.
struct Link {
    dial: u64,
    link: i64,
    reader: Pid,
    socket: Option<FrameSocket>,
    /// What it means if the reader dies before it has a socket.
    cause_of_death: String,
}

impl Link {
    fn has_pushed(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| !socket.is_empty())
    }
}

struct Connection {
    owner: Owner,
    /// What it is registered under while it is up.
    online: String,
    session: Session,
    dial: DialOptions,
    log_level: u8,
    inbox: [u8; 16],
    /// Why there will be no answers on this connection, if so.
    no_inbox: Option<Why>,
    /// What the server takes, as it was said in the registry.
    max_payload: u64,
    link: Option<Link>,
    routes: BTreeMap<u64, Route>,
    agents: HashMap<AgentId, u64>,
    next_sid: u64,
    flushes: HashMap<u64, Waiter>,
    next_flush: u64,
    /// Who waits for the first connection.
    awaiting: Vec<Waiter>,
    /// What the server did not permit of the node's own subscriptions, agents' and parts': as many as
    /// there are of these.
    denied: Vec<(PermissionViolation, Route)>,
    /// Who publishes.
    publishers: Publishers,
    /// How many requests there were.
    requests: u64,
    /// Who waits for the end of a subscription that drains.
    draining: HashMap<u64, Waiter>,
    /// Who waits for the end of the connection.
    closing: Vec<Waiter>,
    /// Who is told of events.
    watchers: Vec<Waiter>,
    /// Why there will be no more connection, if so.
    closed: Option<String>,
    /// Whether that was in good order.
    drained: bool,
    /// Whether this process has nothing more to do.
    over: bool,
    /// When a failed attempt of the present outage was told last.
    outage_told: OnceAMinute,
    bunching: Bunching,
    timer: Timer,
}

impl Connection {
    /// So much is written at once at the most; what waits beyond it goes into the next frame.
    const WRITE_AT: usize = 256 * 1024;

    fn new(start: ConnectionStart) -> Self {
        let seed = u64::from_le_bytes(clock::random());
        let timeout_checked = "the node checked the config before it started the tree";
        let session = Session::new(start.session, seed, clock::now()).expect(timeout_checked);
        let online = match start.owner {
            Owner::Node { .. } => names::ONLINE.to_owned(),
            Owner::Process { .. } => names::own_online(sys::this()),
        };
        let mut connection = Self {
            owner: start.owner,
            online,
            session,
            dial: start.dial,
            log_level: start.log_level,
            inbox: clock::random(),
            no_inbox: None,
            max_payload: 0,
            link: None,
            routes: BTreeMap::new(),
            agents: HashMap::new(),
            next_sid: 1,
            flushes: HashMap::new(),
            next_flush: 0,
            awaiting: Vec::new(),
            denied: Vec::new(),
            publishers: Publishers::default(),
            requests: 0,
            draining: HashMap::new(),
            closing: Vec::new(),
            watchers: Vec::new(),
            closed: None,
            drained: false,
            over: false,
            outage_told: OnceAMinute::default(),
            bunching: Bunching::default(),
            timer: Timer::default(),
        };
        let inbox = Inbox::from_random(connection.inbox).pattern();
        let inbox = connection.subscribe(inbox.as_str(), None, Route::Inbox);
        let sid = inbox.expect("an inbox is a valid pattern");
        debug_assert_eq!(sid, INBOX_SID);
        match connection.owner.clone() {
            Owner::Node { node_id } => connection.join_node(&node_id),
            Owner::Process { pid } => connection.watch(Pid(pid)),
        }
        connection.work();
        connection
    }

    fn join_node(&mut self, node_id: &str) {
        for (subject, queue) in subscriptions(node_id) {
            self.subscribe(&subject, queue, Route::Part(names::GATEWAY.to_owned()))
                .expect("the node's name was checked, and makes valid subjects");
        }
        if let Lookup::Runs(supervisor) = names::look_up(names::SUPERVISOR) {
            mail::send(supervisor, &SupervisorMail::ConnectionStarted);
        }
    }

    fn mail(&mut self, mail: Mail<'_>) {
        let now = clock::now();
        match mail {
            Mail::Reply | Mail::Publish => return,
            Mail::Marker => self.bunching.marker_is_back(),
            Mail::Hello { waiter } => self.greet(waiter),
            Mail::SubscribeAgent { id } => self.subscribe_agent(id),
            Mail::UnsubscribeAgent { id } => {
                if let Some(sid) = self.agents.remove(id) {
                    self.unsubscribe(sid);
                }
            }
            Mail::ForgetAgents => {
                for sid in std::mem::take(&mut self.agents).into_values() {
                    self.unsubscribe(sid);
                }
            }
            Mail::Subscribe { subject, queue, limits, pid, tag, waiter } => {
                self.subscribe_process(subject, queue, Route::Process { pid, tag, limits }, waiter);
            }
            Mail::Unsubscribe { sid } => self.unsubscribe(sid),
            Mail::UnsubscribeAfter { sid, max } => {
                self.session.unsubscribe(sid, Some(max));
                self.tell_reader(&ReaderMail::Count { sid });
            }
            Mail::DrainSubscription { sid, waiter } => {
                if self.session.drain_subscription(sid) {
                    self.draining.insert(sid, waiter);
                } else {
                    mail::answer(waiter, &Answer::Ok(&[]));
                }
            }
            Mail::SlowConsumer { sid, messages, bytes, began } => {
                let (dropped_messages, dropped_bytes) = (messages, bytes);
                let slow = Input::SlowConsumer { sid, dropped_messages, dropped_bytes, began };
                self.session.handle_input(now, slow);
            }
            Mail::Watch { pid, tag } => {
                self.watchers.push(Waiter { pid, tag });
                self.watch(Pid(pid));
            }
            Mail::Unwatch { pid, tag } => self.watchers.retain(|one| *one != Waiter { pid, tag }),
            Mail::Drain { timeout, waiter } => {
                self.closing.push(waiter);
                self.session.drain(now, timeout);
                self.tell_closing();
            }
            Mail::ForceReconnect => self.session.force_reconnect(now),
            Mail::StopListening => self.stop_listening(),
            Mail::Flush { waiter } => self.flush(waiter),
            Mail::Received { counts } => {
                for (sid, messages, bytes) in counts {
                    self.session.handle_input(now, Input::Received { sid, messages, bytes });
                }
            }
            Mail::AwaitUp { waiter } => {
                self.awaiting.push(waiter);
                self.tell_awaiting();
            }
            Mail::Report { waiter } => self.report(waiter),
            Mail::Close { waiter } => {
                self.session.close();
                self.work();
                mail::answer(waiter, &Answer::Ok(&[]));
                self.over = true;
            }
            Mail::Opened { dial, reader, stream, auth } => {
                self.opened(dial, Pid(reader), stream, auth);
            }
            Mail::DialFailed { dial, reason } => {
                let reason = reason.to_owned();
                self.session.handle_input(now, Input::DialFailed { dial, reason });
            }
            Mail::Closed { dial, reason } => {
                let reason = reason.to_owned();
                self.session.handle_input(now, Input::Closed { dial, reason });
            }
            Mail::Ops { dial, ops } => {
                for op in ops {
                    self.session.handle_input(now, Input::Control { dial, op });
                }
                self.work();
                self.tell_max_payload();
            }
            Mail::Pong { dial, payload } => self.pong(dial, payload),
            Mail::Tick => {
                self.timer.fired(now);
                self.session.handle_input(now, Input::Tick);
            }
        }
        self.work();
    }

    /// Takes what is to be published. It is written when the mailbox has been read: what piles up
    /// behind a write goes out with the next one.
    fn take_over(&mut self, mail: Vec<u8>) {
        let mail = Bytes::from(mail);
        let Some((handover, bytes)) = Handover::read(&mail) else {
            return log::error!("a mail cannot be read");
        };
        let from = handover.from;
        self.requests += u64::from(handover.request.is_some());
        match (handover.request, &self.no_inbox) {
            (Some(Request { number, .. }), Some(why)) => {
                self.publishers.handed_over(from, None);
                Ended { number, why: why.clone() }.send(from, ANSWERS);
            }
            (request, _) => self.publishers.handed_over(from, request),
        }
        let taken = self.session.publish(bytes, handover.ops);
        match (taken, handover.waiter()) {
            (Ok(()), None) => {}
            (Ok(()), Some(waiter)) => match self.publishers.take_refused(from) {
                None => mail::answer(waiter, &Answer::Ok(&[])),
                Some(message) => {
                    mail::answer(waiter, &Answer::Err { code: "capacity", message: &message });
                }
            },
            (Err(error), Some(waiter)) => {
                // Of what was refused before this is the reason, too.
                self.publishers.take_refused(from);
                let message = &error.to_string();
                let code = if error == PublishError::Closed { CLOSED } else { "capacity" };
                mail::answer(waiter, &Answer::Err { code, message });
            }
            (Err(error), None) => {
                log::warn!(lost = handover.ops, process = from.0; "messages are lost: {error}");
                self.publishers.refused(from, &error);
            }
        }
        if self.session.pending_bytes() >= Self::WRITE_AT && self.session.is_connected() {
            return self.work();
        }
        match self.bunching.handed_over() {
            Bunch::Write => self.work(),
            Bunch::Mark => mail::send(sys::this(), &Mail::Marker),
            Bunch::Wait => {}
        }
    }

    /// Does what the session wants, until it wants to wait.
    fn work(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Write(bytes) => {
                    let socket = self.link.as_mut().and_then(|link| link.socket.as_mut());
                    let pushed = socket.map_or(0, |socket| socket.push(&bytes));
                    if pushed >= Self::WRITE_AT {
                        self.send(FrameSocket::write);
                    }
                }
                Output::Dial { dial, server, deadline, .. } => {
                    self.dial(dial, server, deadline - clock::now());
                }
                Output::Disconnect { reason, .. } => {
                    // What it said last, if anything, is on its way out.
                    self.send(FrameSocket::write);
                    self.hang_up(&reason);
                }
                Output::Event(event) => self.event(&event),
                // Messages do not come this way here: the reader delivers them, and the answers.
                Output::Deliver(_) | Output::Response { .. } | Output::Gathered { .. } => {}
                Output::Drained { sid } => {
                    match self.draining.remove(&sid) {
                        Some(waiter) => mail::answer(waiter, &Answer::Ok(&[])),
                        // With the whole connection.
                        None => {
                            self.tell_ended(sid, &Why::Closed(CloseReason::Drained.to_string()))
                        }
                    }
                    self.unroute(sid);
                }
                Output::Flushed { token, result } => self.flushed(token, result.is_ok()),
                Output::Wait(deadline) => {
                    if self.link.as_ref().is_some_and(Link::has_pushed) {
                        self.send(FrameSocket::write);
                        // A write can end the connection, and there is more to do.
                        continue;
                    }
                    self.timer.arm(deadline, || Mail::Tick);
                    return;
                }
            }
        }
    }

    fn dial(&mut self, dial: u64, server: ServerUrl, timeout: Duration) {
        self.drop_link();
        let cause_of_death = dial::cause_of_death(&server);
        let start = ReaderStart {
            owner: sys::this().0,
            dial,
            server,
            timeout,
            options: self.dial.clone(),
            inbox: self.inbox,
            routes: self.routes.iter().map(|(&sid, route)| (sid, route.clone())).collect(),
            counts: matches!(self.owner, Owner::Process { .. }),
            log_level: self.log_level,
        };
        let link = mail::new_tag();
        // One message of the largest size, its frame, and its copies on the way.
        const MAX_MEMORY: u64 = 256 << 20;
        let permissions = Permissions::none().map(|none| none.max_memory(MAX_MEMORY));
        let permissions = permissions.map(|some| match self.dial.has_files() {
            true => some.may_spawn(),
            false => some,
        });
        let spawned = permissions
            .ok_or_else(|| "this process may not make configs".to_owned())
            .and_then(|permissions| sys::spawn(&permissions, Some(link), reader::process));
        match spawned {
            Ok(reader) => {
                mail::start(reader, &start);
                self.link = Some(Link { dial, link, reader, socket: None, cause_of_death });
            }
            Err(reason) => {
                self.session.handle_input(clock::now(), Input::DialFailed { dial, reason });
            }
        }
    }

    fn opened(&mut self, dial: u64, reader: Pid, stream: Stream, auth: Option<Auth>) {
        let Some(link) = self.link.as_mut().filter(|link| link.dial == dial) else {
            // A dial that was given up; the stream is closed when the last handle to it goes.
            return sys::kill(reader);
        };
        link.socket = Some(FrameSocket::new(stream));
        if let Some(auth) = auth {
            self.session.set_auth(auth);
        }
        self.session.handle_input(clock::now(), Input::Opened { dial });
    }

    fn send(&mut self, send: impl FnOnce(&mut FrameSocket) -> io::Result<()>) {
        let Some(link) = self.link.as_mut() else { return };
        let Some(socket) = link.socket.as_mut() else { return };
        if let Err(error) = send(socket) {
            let (dial, reason) = (link.dial, format!("a write failed: {error}"));
            self.session.handle_input(clock::now(), Input::Closed { dial, reason });
        }
    }

    fn pong(&mut self, dial: u64, payload: &[u8]) {
        if self.link.as_ref().is_some_and(|link| link.dial == dial) {
            self.send(|socket| socket.pong(payload));
        }
    }

    fn hang_up(&mut self, reason: &DisconnectReason) {
        log::debug!("hangs up: {reason}");
        self.drop_link();
    }

    fn drop_link(&mut self) {
        self.unregister();
        if let Some(link) = self.link.take() {
            sys::kill(link.reader);
        }
    }

    fn unregister(&mut self) {
        self.max_payload = 0;
        sys::unregister(&self.online);
    }

    fn link_died(&mut self, tag: i64) {
        if tag == sys::PARENT {
            sys::follow_parent();
        }
        // Otherwise a reader whose dial is over.
        let Some(link) = self.link.as_ref().filter(|link| link.link == tag) else { return };
        // It died without a word: a trap in the TLS handshake, or a fault of ours.
        let dial = link.dial;
        let input = match link.socket {
            Some(_) => Input::Closed { dial, reason: "the reader died".to_owned() },
            None => Input::DialFailed { dial, reason: link.cause_of_death.clone() },
        };
        self.session.handle_input(clock::now(), input);
        self.work();
    }

    fn event(&mut self, event: &Event) {
        self.tell_watchers(event);
        match event {
            Event::Connected { .. } => {
                self.outage_told = OnceAMinute::default();
                self.tell_max_payload();
                self.subscribe_inbox_again();
                self.subscribe_denied_again();
                log::info!("nats: {event}");
                self.tell_awaiting();
            }
            Event::Disconnected { .. } => {
                self.unregister();
                self.publishers.connection_broke();
                log::warn!("nats: {event}");
            }
            Event::Closed { reason, .. } => {
                // Asked for, it is no news.
                let level = match reason {
                    CloseReason::ByOwner => log::Level::Debug,
                    CloseReason::Drained => log::Level::Debug,
                    CloseReason::GaveUp { .. }
                    | CloseReason::AuthenticationFailed { .. }
                    | CloseReason::DrainInterrupted
                    | CloseReason::DrainTimedOut => log::Level::Warn,
                };
                log::log!(level, "nats: {event}");
                self.closed = Some(reason.to_string());
                self.drained = *reason == CloseReason::Drained;
                let why = Why::Closed(reason.to_string());
                self.publishers.end_requests(None, &why);
                self.routes.keys().for_each(|&sid| self.tell_ended(sid, &why));
                self.tell_awaiting();
                self.tell_closing();
            }
            Event::Reconnecting { .. } => log::debug!("nats: {event}"),
            Event::PermissionViolation { violation, sids } => {
                log::warn!("nats: {event}");
                let why = Why::Denied(violation.to_string());
                for &sid in sids {
                    if sid == INBOX_SID {
                        self.publishers.end_requests(None, &why);
                        self.no_inbox = Some(why.clone());
                    } else {
                        self.denied(sid, violation);
                        self.tell_ended(sid, &why);
                        self.unroute(sid);
                    }
                }
                if violation.operation == Operation::Publish {
                    self.publishers.end_requests(Some(&violation.subject), &why);
                }
            }
            // The first one of an outage is told, and then one a minute.
            Event::AttemptFailed { .. } if !self.outage_told.is_due(clock::now()) => {
                log::debug!("nats: {event}");
            }
            _ => log::warn!("nats: {event}"),
        }
    }

    /// The server does not permit one of the node's own subscriptions: there may be other credentials
    /// for the next connection.
    fn denied(&mut self, sid: u64, violation: &PermissionViolation) {
        match self.routes.get(&sid) {
            Some(Route::Agent(id)) => {
                self.agents.remove(id);
                self.denied.push((violation.clone(), Route::Agent(id.clone())));
            }
            Some(route @ Route::Part(_)) => self.denied.push((violation.clone(), route.clone())),
            _ => {}
        }
    }

    fn subscribe_denied_again(&mut self) {
        for (PermissionViolation { subject, queue, .. }, route) in std::mem::take(&mut self.denied)
        {
            if let Route::Agent(id) = &route {
                // One that has stopped meanwhile is not subscribed for any more.
                if names::look_up(&names::agent(id.as_str())) != Lookup::Unknown {
                    self.subscribe_agent(id.as_str());
                }
            } else if let Err(error) = self.subscribe(&subject, queue.as_deref(), route) {
                log::error!("{subject} cannot be subscribed to again: {error}");
            }
        }
    }

    /// Says what the server takes, where that is news: it can change while the connection is up.
    fn tell_max_payload(&mut self) {
        let Some(info) = self.session.server_info() else { return };
        if info.max_payload != std::mem::replace(&mut self.max_payload, info.max_payload) {
            names::register_online(&self.online, info.max_payload);
        }
    }

    /// Who may not be answered on one connection may be on the next.
    fn subscribe_inbox_again(&mut self) {
        if self.no_inbox.take().is_some() {
            let inbox = Inbox::from_random(self.inbox).pattern();
            if let Err(error) = self.session.subscribe_as(INBOX_SID, inbox, None) {
                log::error!("requests will have no answers: {error}");
            }
        }
    }

    /// Tells the process of a subscription, if it has one, that nothing more will come.
    fn tell_ended(&self, sid: u64, why: &Why) {
        if let Some(Route::Process { pid, tag, .. }) = self.routes.get(&sid) {
            Ended { number: sid, why: why.clone() }.send(Pid(*pid), *tag);
        }
    }

    fn greet(&self, waiter: Waiter) {
        let mut bytes = Vec::new();
        mail::encode(&Greeting { inbox: self.inbox }, &mut bytes);
        mail::answer(waiter, &Answer::Ok(&bytes));
    }

    fn subscribe(&mut self, subject: &str, queue: Option<&str>, route: Route) -> Result<u64> {
        let refused = |error: &dyn std::fmt::Display| Error::Nats(error.to_string());
        let pattern = SubjectPattern::parse(subject).map_err(|error| refused(&error))?;
        let queue = queue.map(QueueGroup::parse).transpose().map_err(|error| refused(&error))?;
        let sid = self.next_sid;
        self.session.subscribe_as(sid, pattern, queue).map_err(|error| refused(&error))?;
        self.next_sid += 1;
        self.tell_reader(&ReaderMail::Route { sid, route: route.clone() });
        self.routes.insert(sid, route);
        Ok(sid)
    }

    fn unsubscribe(&mut self, sid: u64) {
        self.session.unsubscribe(sid, None);
        self.unroute(sid);
    }

    /// Nothing is delivered for it any more.
    fn unroute(&mut self, sid: u64) {
        if self.routes.remove(&sid).is_some() {
            self.tell_reader(&ReaderMail::Unroute { sid });
        }
    }

    fn tell_reader(&self, mail: &ReaderMail) {
        if let Some(link) = &self.link {
            mail::send(link.reader, mail);
        }
    }

    fn tell_watchers(&self, event: &Event) {
        if self.watchers.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        mail::encode(event, &mut bytes);
        self.watchers.iter().for_each(|&watcher| mail::answer(watcher, &Answer::Ok(&bytes)));
    }

    /// The connection has ended: who waited for that learns how.
    fn tell_closing(&mut self) {
        let Some(closed) = &self.closed else { return };
        let answer = match self.drained {
            true => Answer::Ok(&[]),
            false => Answer::Err { code: CLOSED, message: closed },
        };
        self.closing.drain(..).for_each(|waiter| mail::answer(waiter, &answer));
    }

    fn stop_listening(&mut self) {
        let is_other = |(_, route): &(&u64, &Route)| !matches!(route, Route::Inbox);
        let sids: Vec<u64> = self.routes.iter().filter(is_other).map(|(&sid, _)| sid).collect();
        self.agents.clear();
        for sid in sids {
            // The reader keeps the way to the gateway: what the server sends until it has read
            // this is still answered.
            self.session.unsubscribe(sid, None);
        }
    }

    fn subscribe_agent(&mut self, id: &str) {
        if self.agents.contains_key(id) {
            return;
        }
        let id = AgentId(id.to_owned());
        match self.subscribe(&Subject::agent_input(&id), None, Route::Agent(id.clone())) {
            Ok(sid) => {
                self.agents.insert(id, sid);
            }
            Err(error) => log::error!(agent = id.as_str(); "cannot be reached: {error}"),
        }
    }

    fn subscribe_process(
        &mut self,
        subject: &str,
        queue: Option<&str>,
        route: Route,
        waiter: Waiter,
    ) {
        match self.subscribe(subject, queue, route) {
            Ok(sid) => {
                mail::answer(waiter, &Answer::Ok(&sid.to_le_bytes()));
                self.watch(Pid(waiter.pid));
            }
            Err(error) => {
                let message = &error.to_string();
                let code = if self.closed.is_some() { CLOSED } else { "bad_shape" };
                mail::answer(waiter, &Answer::Err { code, message });
            }
        }
    }

    /// From now on the death of that process is known here.
    fn watch(&mut self, pid: Pid) {
        sys::monitor(pid);
        // A monitor on a process that has died already never fires.
        if !sys::exists(pid) {
            self.process_died(pid);
        }
    }

    fn process_died(&mut self, dead: Pid) {
        self.over |= matches!(self.owner, Owner::Process { pid } if pid == dead.0);
        let of_dead = |route: &Route| matches!(route, Route::Process { pid, .. } if *pid == dead.0);
        let sids: Vec<u64> =
            self.routes.iter().filter(|(_, route)| of_dead(route)).map(|(&sid, _)| sid).collect();
        for sid in sids {
            self.unsubscribe(sid);
        }
        self.watchers.retain(|watcher| watcher.pid != dead.0);
        self.work();
    }

    fn flush(&mut self, waiter: Waiter) {
        if !self.publishers.flushes(Pid(waiter.pid)) && self.closed.is_none() {
            return refuse_flush(waiter);
        }
        self.next_flush += 1;
        match self.session.flush(self.next_flush) {
            Ok(()) => {
                self.flushes.insert(self.next_flush, waiter);
            }
            Err(error) => {
                let message = &error.to_string();
                let code = if self.closed.is_some() { CLOSED } else { "unsupported" };
                mail::answer(waiter, &Answer::Err { code, message });
            }
        }
    }

    fn report(&mut self, waiter: Waiter) {
        // What was handed over before the question is counted in the answer.
        self.work();
        let stats = self.session.stats();
        let report = Report { stats: Stats { requests: self.requests, ..stats } };
        let mut bytes = Vec::new();
        mail::encode(&report, &mut bytes);
        mail::answer(waiter, &Answer::Ok(&bytes));
    }

    fn tell_awaiting(&mut self) {
        let answer = match &self.closed {
            Some(reason) => Answer::Err { code: CLOSED, message: reason },
            None if self.session.is_connected() => Answer::Ok(&[]),
            None => return,
        };
        for waiter in self.awaiting.drain(..) {
            mail::answer(waiter, &answer);
        }
    }

    fn flushed(&mut self, token: u64, ok: bool) {
        let Some(waiter) = self.flushes.remove(&token) else { return };
        if ok {
            mail::answer(waiter, &Answer::Ok(&[]));
        } else {
            refuse_flush(waiter);
        }
    }
}

/// The server may lack something that the waiter published.
fn refuse_flush(waiter: Waiter) {
    let message = "the connection broke before the server had everything";
    mail::answer(waiter, &Answer::Err { code: "timeout", message });
}

/// Has no more requests come in: when this returns, those that the server sent are in the mailboxes
/// of whom they are for, or `timeout` is over.
pub(super) fn stop_listening(timeout: Duration) {
    if let Lookup::Runs(connection) = names::look_up(names::ONLINE) {
        mail::send(connection, &Mail::StopListening);
        // Without an answer the node ends all the same, and who asks it learns nothing.
        let _ = mail::request(connection, Some(timeout), |waiter| Mail::Flush { waiter });
    }
}

/// Waits until the server has everything that was published; false if it has not by then, or if a
/// connection broke and may have taken something with it.
pub(super) fn flush(timeout: Duration) -> bool {
    const LOOK: Duration = Duration::from_millis(20);
    let deadline = clock::now() + timeout;
    let mut broken = false;
    loop {
        let left = deadline - clock::now();
        if left.is_zero() {
            return false;
        }
        let flushed = match names::look_up(names::CONNECTION) {
            Lookup::Runs(connection) => {
                mail::request(connection, Some(left), |waiter| Mail::Flush { waiter })
            }
            _ => Err(NoAnswer::Died),
        };
        match flushed {
            Ok(_) => return !broken,
            // What was not yet written goes out with the next connection, if there is one in time.
            Err(_) => {
                broken = true;
                sys::sleep(LOOK);
            }
        }
    }
}
