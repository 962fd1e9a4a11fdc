//! The events part: looks for patterns in what the supervisor tells, and passes it on to whoever
//! watches on this node. What is found in it goes the same way.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::shared::Shared;
use crate::message::AgentEvent;
use crate::node::{log_alert, NodeEvent};
use crate::supervision::{
    AlertConfig, DetectionConfig, FailureSeverity, SupervisionEvent, SupervisionEventProcessor,
};

/// What the events part is told.
pub(super) enum EventsMail {
    Supervision(SupervisionEvent),
    Agent(AgentEvent),
    /// Answered when everything that was told before is passed on.
    Flush(oneshot::Sender<()>),
}

/// What the events part begins with.
#[derive(Clone)]
pub(super) struct EventsStart {
    pub(super) detection: DetectionConfig,
    pub(super) alerts: AlertConfig,
}

/// The part's work.
pub(super) async fn run(
    shared: Arc<Shared>,
    start: EventsStart,
    mails: &mut mpsc::Receiver<EventsMail>,
) {
    let processor = SupervisionEventProcessor::new(start.detection, start.alerts);
    let mut events = Events { shared, processor };
    loop {
        let deadline = events.processor.next_deadline();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(clock::timer(deadline)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            mail = mails.recv() => match mail {
                Some(mail) => events.mail(mail),
                None => return,
            },
            () = timer => {
                events.processor.tick(clock::both());
                events.tell_findings();
            }
        }
    }
}

struct Events {
    shared: Arc<Shared>,
    processor: SupervisionEventProcessor,
}

impl Events {
    fn mail(&mut self, mail: EventsMail) {
        match mail {
            EventsMail::Supervision(event) => {
                let subject = event.subject();
                self.publish(&subject, None, event.severity(), &event);
                if self.processor.wants(&subject) {
                    self.processor.handle(clock::both(), &subject, &event);
                    self.tell_findings();
                }
            }
            EventsMail::Agent(event) => {
                self.publish(&event.subject(), Some(event.agent_id().as_str()), None, &event);
            }
            EventsMail::Flush(done) => drop(done.send(())),
        }
    }

    fn tell_findings(&mut self) {
        while let Some(finding) = self.processor.poll_finding() {
            log_alert(&finding);
            self.publish(&finding.subject(), None, Some(finding.severity()), &finding);
        }
    }

    fn publish<T: Serialize>(
        &mut self,
        subject: &str,
        _source: Option<&str>,
        _severity: Option<FailureSeverity>,
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
