//! The events process: puts what the supervisor tells into envelopes, publishes it on NATS, and
//! passes it on to processes of this node that watch. What is found in it goes the same way.

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::clock;
use super::logger;
use super::mail::{self, Answer, EventsMail, MainMail, Waiter};
use super::names;
use super::observed::Observed;
use super::sys::{self, Pid, Received};
use super::timer::Timer;
use crate::log_line::OnceAMinute;
use crate::message::write_event;
use crate::node::log_alert;
use crate::supervision::{
    AlertConfig, DetectionConfig, FailureSeverity, SupervisionEventProcessor,
};
use crate::time::Instant;

/// What the events process is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventsStart {
    pub(super) node_id: String,
    /// Whether events are published on NATS.
    pub(super) publish: bool,
    pub(super) detection: DetectionConfig,
    pub(super) alerts: AlertConfig,
    pub(super) log_level: u8,
}

/// The process's entry.
pub(super) fn process() {
    let start: EventsStart = mail::first();
    let mut buffer = Vec::new();
    logger::install_part(start.log_level, "events");
    let mut events = Events {
        node_id: start.node_id,
        client: start.publish.then(Client::new),
        watchers: Events::registered_watchers(),
        body: Vec::new(),
        lost: Lost::default(),
        processor: SupervisionEventProcessor::new(start.detection, start.alerts),
        timer: Timer::default(),
    };
    loop {
        if sys::receive(&[], None) != Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        match buffer.first() {
            // What the supervisor had to tell in one turn comes together, and goes on together.
            Some(&sys::BATCH_KIND) => sys::parts(&buffer[1..]).for_each(|mail| events.mail(mail)),
            _ => events.mail(&buffer),
        }
        events.flush();
    }
}

struct Events {
    node_id: String,
    client: Option<Client>,
    watchers: Vec<Pid>,
    /// The envelope that is being written.
    body: Vec<u8>,
    lost: Lost,
    processor: SupervisionEventProcessor,
    /// Alerts end some time after what they were about.
    timer: Timer,
}

impl Events {
    /// More watchers than this are refused: a watcher is a person's program, not an agent.
    const MAX_WATCHERS: usize = 16;

    /// Those who watched the events process before this one, and still live.
    fn registered_watchers() -> Vec<Pid> {
        let names = (0..Self::MAX_WATCHERS).map(names::watcher);
        names
            .filter_map(|name| sys::lookup(&name))
            .filter(|&watcher| sys::exists(watcher))
            .collect()
    }

    fn mail(&mut self, bytes: &[u8]) {
        match postcard::from_bytes(bytes) {
            Ok(EventsMail::Publish { subject, source, severity, payload, observed }) => {
                self.publish(subject, source, severity, payload);
                if let Some(observed) = observed {
                    self.process(subject, &observed);
                }
            }
            Ok(EventsMail::Tick) => self.tick(),
            Ok(EventsMail::Watch { waiter }) => self.watch(waiter),
            // Each event is handed to the connection before the next mail is read.
            Ok(EventsMail::Flush { waiter }) => mail::answer(waiter, &Answer::Ok(&[])),
            // An answer that came too late, or nothing of ours.
            Ok(EventsMail::Reply) | Err(_) => {}
        }
    }

    fn watch(&mut self, waiter: Waiter) {
        let pid = Pid(waiter.pid);
        self.watchers = Self::registered_watchers();
        if !self.watchers.contains(&pid) {
            let is_free = |name: &String| !sys::lookup(name).is_some_and(sys::exists);
            let Some(name) = (0..Self::MAX_WATCHERS).map(names::watcher).find(is_free) else {
                let message = format!("{} processes watch already", Self::MAX_WATCHERS);
                let error = Answer::Err { code: "capacity", message: &message };
                return mail::answer(waiter, &error);
            };
            sys::register(&name, pid);
            self.watchers.push(pid);
            // Without a listener the supervisor does not even write its events. Before the answer:
            // what is done after that is seen.
            sys::register(names::LISTENED, sys::this());
        }
        mail::answer(waiter, &Answer::Ok(&[]));
    }

    /// Looks for patterns in what was told.
    fn process(&mut self, subject: &str, observed: &Observed<'_>) {
        if self.processor.wants(subject) {
            let now = clock::both();
            self.processor.handle(now, subject, &observed.event(now.wall));
            self.tell_findings();
        }
    }

    fn tick(&mut self) {
        let now = clock::both();
        self.timer.fired(now.at);
        self.processor.tick(now);
        self.tell_findings();
    }

    fn tell_findings(&mut self) {
        while let Some(finding) = self.processor.poll_finding() {
            log_alert(&finding);
            // Our own types can always be written as JSON.
            let payload = serde_json::to_vec(&finding).unwrap_or_default();
            self.publish(&finding.subject(), None, Some(finding.severity()), &payload);
        }
        self.timer.arm(self.processor.next_deadline(), || EventsMail::Tick);
    }

    fn publish(
        &mut self,
        subject: &str,
        source: Option<&str>,
        severity: Option<FailureSeverity>,
        payload: &[u8],
    ) {
        for &watcher in &self.watchers {
            mail::send(watcher, &MainMail::Event { subject, payload });
        }
        let Some(client) = self.client.as_mut() else { return };
        let (category, source) = match source {
            Some(agent) => ("agent", agent),
            None => ("supervision", self.node_id.as_str()),
        };
        let (random, now) = (clock::random(), clock::timestamp());
        self.body.clear();
        write_event(&mut self.body, random, source, now, category, severity, payload);
        if let Err(error) = client.publish(subject, None, &self.body) {
            self.lost.one_more(clock::now(), &error.to_string());
        }
    }

    /// An event that tells of a fault must not wait for the next one.
    fn flush(&mut self) {
        if let Some(Err(error)) = self.client.as_mut().map(Client::flush) {
            self.lost.one_more(clock::now(), &error.to_string());
        }
    }
}

/// Counts events that NATS did not take, and says so at most once a minute.
#[derive(Default)]
struct Lost {
    count: u64,
    told: OnceAMinute,
}

impl Lost {
    fn one_more(&mut self, now: Instant, error: &str) {
        self.count += 1;
        if self.told.is_due(now) {
            log::warn!(lost = self.count; "events are lost: {error}");
        }
    }
}
