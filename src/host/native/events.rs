//! The events part: looks for patterns in what the supervisor tells, and passes it on to whoever
//! watches on this node. What is found in it goes the same way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::shared::Shared;
use crate::message::{write_event, AgentEvent};
use crate::node::{log_alert, NodeEvent};
use crate::supervision::{
    AlertConfig, DetectionConfig, FailureSeverity, SupervisionEvent, SupervisionEventProcessor,
};

/// What the events part is told.
pub(super) enum EventsMail {
    Supervision(Box<SupervisionEvent>),
    Agent(Box<AgentEvent>),
    /// Answered when everything that was told before is passed on.
    Flush(oneshot::Sender<()>),
}

/// What the events part begins with.
#[derive(Clone)]
pub(super) struct EventsStart {
    pub(super) detection: DetectionConfig,
    pub(super) alerts: AlertConfig,
    /// Whether events are published on NATS.
    pub(super) publishes: bool,
}

/// The part's work.
pub(super) async fn run(
    shared: Arc<Shared>,
    start: EventsStart,
    mails: &mut mpsc::Receiver<EventsMail>,
) {
    let processor = SupervisionEventProcessor::new(start.detection, start.alerts);
    let mut events = Events { shared, processor, publishes: start.publishes, body: Vec::new() };
    loop {
        let deadline = events.processor.next_deadline();
        let timer = clock::until(deadline);
        tokio::select! {
            biased;
            mail = mails.recv() => match mail {
                Some(mail) => events.mail(mail).await,
                None => return,
            },
            () = timer => {
                events.processor.tick(clock::both());
                events.tell_findings().await;
            }
        }
    }
}

struct Events {
    shared: Arc<Shared>,
    processor: SupervisionEventProcessor,
    publishes: bool,
    /// The envelope that is being written.
    body: Vec<u8>,
}

impl Events {
    async fn mail(&mut self, mail: EventsMail) {
        match mail {
            EventsMail::Supervision(event) => {
                let subject = event.subject();
                self.publish(&subject, None, event.severity(), &*event).await;
                if self.processor.wants(&subject) {
                    self.processor.handle(clock::both(), &subject, &event);
                    self.tell_findings().await;
                }
            }
            EventsMail::Agent(event) => {
                let source = Some(event.agent_id().as_str());
                self.publish(&event.subject(), source, None, &*event).await;
            }
            EventsMail::Flush(done) => drop(done.send(())),
        }
    }

    async fn tell_findings(&mut self) {
        while let Some(finding) = self.processor.poll_finding() {
            log_alert(&finding);
            self.publish(&finding.subject(), None, Some(finding.severity()), &finding).await;
        }
    }

    async fn publish<T: Serialize + Sync>(
        &mut self,
        subject: &str,
        source: Option<&str>,
        severity: Option<FailureSeverity>,
        payload: &T,
    ) {
        let watchers = self.shared.watchers();
        if !watchers.is_empty() {
            // Our own types can always be written as JSON.
            let payload = serde_json::to_value(payload).unwrap_or_default();
            for watcher in watchers {
                if !watcher.tell(subject, &payload) {
                    self.shared.event_lost("who watches does not take them");
                }
            }
        }
        let Some(wire) = self.shared.wire.as_ref().filter(|_| self.publishes) else { return };
        let (category, source) = match source {
            Some(agent) => ("agent", agent),
            None => ("supervision", self.shared.node_id.as_str()),
        };
        let payload = serde_json::to_vec(payload).unwrap_or_default();
        let (random, now) = (clock::random(), clock::timestamp());
        self.body.clear();
        write_event(&mut self.body, random, source, now, category, severity, &payload);
        // It waits for a server that is slow; what comes meanwhile waits for this part, up to its bound.
        if let Err(error) = wire.connection().publish(subject, &self.body).await {
            self.shared.event_lost(&error.to_string());
        }
    }
}

/// Where the events and answers for one handle go.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    inbox: mpsc::UnboundedSender<NodeEvent>,
    /// Events that it has not taken yet.
    waiting: Arc<AtomicUsize>,
}

impl Watcher {
    /// The most events that wait for one handle, some 1 KB each. Later ones are left out until it has
    /// taken some.
    pub(super) const MAX_WAITING: usize = 65_536;

    pub(super) fn new(inbox: mpsc::UnboundedSender<NodeEvent>, waiting: Arc<AtomicUsize>) -> Self {
        Self { inbox, waiting }
    }

    pub(super) fn is_there(&self) -> bool {
        !self.inbox.is_closed()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.inbox.same_channel(&other.inbox)
    }

    /// False if it has not taken too many.
    fn tell(&self, subject: &str, payload: &Value) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= Self::MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (subject, payload) = (subject.to_owned(), payload.clone());
        // One that is gone is left out at the next look.
        drop(self.inbox.send(NodeEvent::Event { subject, payload }));
        true
    }
}
