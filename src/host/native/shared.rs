//! What the parts of a node and its agents have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::clock;
use super::directory::Directory;
use super::events::{EventsMail, Watcher};
use super::gateway::GatewayMail;
use super::mailbox::MailboxLimits;
use super::store::Store;
use super::supervisor::{Ask, SupervisorMail};
use super::wire::Wire;
use crate::agent::AgentId;
use crate::log_line::OnceAMinute;
use crate::message::{AgentEvent, WireError};
use crate::supervision::{Input, SupervisionEvent};

/// What the parts of a node and its agents have in common.
pub(super) struct Shared {
    pub(super) node_id: AgentId,
    /// Where agents run.
    pub(super) agents: Handle,
    /// Where the parts of the node run.
    pub(super) parts: Handle,
    pub(super) directory: Arc<Directory>,
    pub(super) mailbox_limits: MailboxLimits,
    pub(super) store: Store,
    /// None on a node without NATS.
    pub(super) wire: Option<Wire>,
    /// To the supervisor. Not bounded by itself, but by what is said: an agent answers what it is
    /// asked and reports at most 32 errors in between, and who asks something waits for the answer.
    supervisor: mpsc::UnboundedSender<SupervisorMail>,
    events: mpsc::Sender<EventsMail>,
    /// Whether anybody listens to events. Where nobody does they are not made.
    listened: AtomicBool,
    lost_events: Mutex<Lost>,
    watchers: Mutex<Vec<Watcher>>,
    gateway: mpsc::Sender<GatewayMail>,
    /// Tasks that were killed and have not ended: their code does not await.
    pub(super) stuck: AtomicU64,
}

/// The other ends of what is in [`Shared`], for the parts.
pub(super) struct Ends {
    pub(super) supervisor: mpsc::UnboundedReceiver<SupervisorMail>,
    pub(super) events: mpsc::Receiver<EventsMail>,
    pub(super) gateway: mpsc::Receiver<GatewayMail>,
}

/// What a node is made of.
pub(super) struct Made {
    pub(super) node_id: AgentId,
    pub(super) agents: Handle,
    pub(super) parts: Handle,
    pub(super) mailbox_limits: MailboxLimits,
    pub(super) store: Store,
    pub(super) wire: Option<Wire>,
}

impl Shared {
    /// The most events that wait to be told; some 500 bytes each. One more is not told, and counted.
    const MAX_EVENTS: usize = 65_536;
    /// The most that waits for the gateway; what comes beyond it waits with NATS.
    const MAX_FOR_GATEWAY: usize = 1024;
    /// More watchers than this are refused: a watcher is a person's program, not an agent.
    pub(super) const MAX_WATCHERS: usize = 16;

    pub(super) fn new(made: Made) -> (Arc<Self>, Ends) {
        let Made { node_id, agents, parts, mailbox_limits, store, wire } = made;
        let (supervisor, to_supervisor) = mpsc::unbounded_channel();
        let (events, to_events) = mpsc::channel(Self::MAX_EVENTS);
        let (gateway, to_gateway) = mpsc::channel(Self::MAX_FOR_GATEWAY);
        let shared = Self {
            node_id,
            agents,
            parts,
            directory: Arc::default(),
            mailbox_limits,
            store,
            wire,
            supervisor,
            events,
            listened: AtomicBool::new(false),
            lost_events: Mutex::default(),
            watchers: Mutex::default(),
            gateway,
            stuck: AtomicU64::new(0),
        };
        (
            Arc::new(shared),
            Ends { supervisor: to_supervisor, events: to_events, gateway: to_gateway },
        )
    }

    /// Tells the supervisor something of one of its agents.
    pub(super) fn tell_supervisor(&self, epoch: u64, input: Input) {
        // Without one there is nobody whom it concerns.
        drop(self.supervisor.send(SupervisorMail::Fact { epoch, input }));
    }

    /// Asks the supervisor; the answer goes where the question says. False if there is none any more.
    pub(super) fn ask_supervisor(&self, ask: Ask) -> bool {
        self.supervisor.send(SupervisorMail::Ask(ask)).is_ok()
    }

    /// Has the supervisor panic.
    #[cfg(test)]
    pub(super) fn panic_supervisor(&self) {
        assert!(self.supervisor.send(SupervisorMail::Panic).is_ok(), "its mailbox outlives it");
    }

    /// From now on events are made.
    pub(super) fn listen(&self) {
        self.listened.store(true, Ordering::Release);
    }

    pub(super) fn is_listened(&self) -> bool {
        self.listened.load(Ordering::Acquire)
    }

    pub(super) fn tell_supervision(&self, event: SupervisionEvent) {
        self.tell(EventsMail::Supervision(Box::new(event)));
    }

    pub(super) fn tell_of_agent(&self, event: AgentEvent) {
        self.tell(EventsMail::Agent(Box::new(event)));
    }

    fn tell(&self, event: EventsMail) {
        // The supervisor never waits for who only listens.
        if self.events.try_send(event).is_err() {
            let mut lost = self.lost_events.lock().unwrap_or_else(PoisonError::into_inner);
            lost.one_more("more of them wait than can");
        }
    }

    /// NATS did not take an event.
    pub(super) fn event_lost(&self, why: &str) {
        self.lost_events.lock().unwrap_or_else(PoisonError::into_inner).one_more(why);
    }

    /// Asks the events part something, behind what it was told so far.
    pub(super) async fn ask_events(&self, mail: EventsMail) -> bool {
        self.events.send(mail).await.is_ok()
    }

    /// One more watches, if it is not one too many.
    pub(super) fn watch(&self, watcher: Watcher) -> Result<(), String> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(Watcher::is_there);
        if watchers.iter().any(|known| known.is_same(&watcher)) {
            return Ok(());
        }
        if watchers.len() >= Self::MAX_WATCHERS {
            return Err(format!("{} handles watch already", Self::MAX_WATCHERS));
        }
        watchers.push(watcher);
        // Before this returns: what is done after it is seen.
        self.listen();
        Ok(())
    }

    pub(super) fn watchers(&self) -> Vec<Watcher> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A body was refused: the gateway counts those of the whole node, and logs them.
    pub(super) fn count_bad_input(&self, subject: &str, error: &WireError) {
        let (subject, error) = (subject.to_owned(), error.clone());
        // With so many that there is no room, one more or less says nothing.
        drop(self.gateway.try_send(GatewayMail::BadInput { subject, error }));
    }

    /// The gateway's own way to itself, and that of those who end it.
    pub(super) fn to_gateway(&self) -> mpsc::Sender<GatewayMail> {
        self.gateway.clone()
    }
}

/// Counts events that nobody got, and says so at most once a minute.
#[derive(Default)]
struct Lost {
    count: u64,
    told: OnceAMinute,
}

impl Lost {
    fn one_more(&mut self, why: &str) {
        self.count += 1;
        if self.told.is_due(clock::now()) {
            log::warn!(lost = self.count; "events are lost: {why}");
        }
    }
}
