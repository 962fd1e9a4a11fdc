//! A connection to NATS with what the supervision of many nodes needs: their events come here, are
//! looked through for patterns and alerts, and one's own are published.
//!
//! ```no_run
//! use std::time::Duration;
//! use rust_wasm_lunatic_nats::{AgentId, NatsConfig, Transport};
//!
//! # async fn example() -> rust_wasm_lunatic_nats::Result<()> {
//! let mut transport = Transport::new(NatsConfig::default()).await?;
//! transport.enable_supervision().await?;
//! if let Some(supervision) = transport.supervision_processor() {
//!     supervision.register_agent_for_monitoring(&AgentId("worker-1".into()));
//!     tokio::spawn(async move { supervision.start_monitoring().await });
//! }
//! // …
//! transport.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::clock;
use super::nats::{NatsConfig, NatsConnection, Subscription};
use crate::agent::AgentId;
use crate::error::{Error, Result};
use crate::log_line::OnceAMinute;
use crate::message::{write_event, MessageEnvelope, NatsMessage, SubjectPattern};
use crate::node::log_alert;
use crate::supervision::{
    AlertConfig, CriticalFailureHandler, DetectionConfig, FailureSeverity, SupervisionEvent,
    SupervisionEventProcessor,
};

/// A connection to NATS with supervision, when that is enabled.
#[derive(Debug)]
pub struct Transport {
    connection: NatsConnection,
    /// Who it is in the envelopes of what it publishes.
    source: Arc<str>,
    supervision: Option<Supervision>,
    /// Dropped, it ends the monitoring.
    over: watch::Sender<bool>,
}

/// The events of all nodes, as a [`Transport`] understands them. Its clones are the same.
#[derive(Clone, Debug)]
pub struct Supervision {
    connection: NatsConnection,
    source: Arc<str>,
    processor: Arc<Mutex<SupervisionEventProcessor>>,
    critical: Arc<Mutex<CriticalFailureHandler>>,
    /// What comes is taken by one of those who monitor.
    inbound: Arc<tokio::sync::Mutex<mpsc::Receiver<NatsMessage>>>,
    over: watch::Receiver<bool>,
}

impl Transport {
    /// What is listened to: the events of supervision, and not what is found in them.
    const SUBJECTS: [&'static str; 5] = [
        "supervision.health.*",
        "supervision.failures.*",
        "supervision.recovery.*",
        "supervision.escalation.*",
        "supervision.lifecycle.*",
    ];

    /// Connects, as [`NatsConnection::new`] does: there need not be a server yet. What it publishes has
    /// the config's `name` for its source; without one, `transport`.
    pub async fn new(config: NatsConfig) -> Result<Self> {
        let source = config.name.clone().unwrap_or_else(|| "transport".to_owned()).into();
        let connection = NatsConnection::new(config).await?;
        Ok(Self { connection, source, supervision: None, over: watch::Sender::new(false) })
    }

    /// Listens to the events of supervision from now on, with the usual detection and alerts. To enable
    /// it twice changes nothing.
    pub async fn enable_supervision(&mut self) -> Result<()> {
        self.enable_supervision_with(DetectionConfig::default(), AlertConfig::default()).await
    }

    /// The same with a detection and alerts of one's own.
    pub async fn enable_supervision_with(
        &mut self,
        detection: DetectionConfig,
        alerts: AlertConfig,
    ) -> Result<()> {
        if self.supervision.is_some() {
            return Ok(());
        }
        detection.validate().map_err(|error| Error::Node(error.to_string()))?;
        alerts.validate().map_err(|error| Error::Node(error.to_string()))?;
        let mut processor = SupervisionEventProcessor::new(detection, alerts);
        let critical = Arc::new(Mutex::new(CriticalFailureHandler::default()));
        let pattern = SubjectPattern::parse(CriticalFailureHandler::SUBJECT);
        let pattern = pattern.map_err(|error| Error::Node(error.to_string()))?;
        let registered = processor.register_handler(pattern, Box::new(Arc::clone(&critical)));
        registered.map_err(|error| Error::Node(error.to_string()))?;
        // One: the rest waits in the subscriptions, which have their own bounds.
        let (sender, inbound) = mpsc::channel(1);
        for subject in Self::SUBJECTS {
            let subscription = self.connection.subscribe(subject).await?;
            tokio::spawn(pass_on(subscription, sender.clone()));
        }
        self.supervision = Some(Supervision {
            connection: self.connection.clone(),
            source: Arc::clone(&self.source),
            processor: Arc::new(Mutex::new(processor)),
            critical,
            inbound: Arc::new(tokio::sync::Mutex::new(inbound)),
            over: self.over.subscribe(),
        });
        Ok(())
    }

    /// What understands the events, if supervision is enabled.
    pub fn supervision_processor(&self) -> Option<Supervision> {
        self.supervision.clone()
    }

    /// Publishes an event of supervision in its envelope, on its subject.
    pub async fn publish_supervision_event(&self, event: &SupervisionEvent) -> Result<()> {
        let (subject, severity) = (event.subject(), event.severity());
        publish(&self.connection, &self.source, &subject, severity, event).await
    }

    /// Its connection.
    pub fn connection(&self) -> &NatsConnection {
        &self.connection
    }

    /// The client of async-nats beneath: see [`NatsConnection::client`].
    pub fn client(&self) -> &async_nats::Client {
        self.connection.client()
    }

    /// Ends it in good order: the monitoring stops, and the server gets everything that was published,
    /// for which it waits for `timeout` at most. See [`NatsConnection::drain`].
    pub async fn shutdown(self, timeout: Duration) -> Result<()> {
        let drained = self.connection.drain(timeout).await;
        self.over.send_replace(true);
        Ok(drained?)
    }
}

impl Supervision {
    /// Takes the events as they come, publishes what is found in them, and returns when the transport
    /// is shut down. What cannot be read or published is logged, once a minute. Until it is called they wait, up to the bounds of a subscription. Of several that
    /// call it one works, and the others wait to take its place.
    pub async fn start_monitoring(&self) {
        let (mut unreadable, mut unpublished) = (OnceAMinute::default(), OnceAMinute::default());
        let mut over = self.over.clone();
        let mut inbound = tokio::select! {
            inbound = self.inbound.lock() => inbound,
            () = ended(&mut over) => return,
        };
        loop {
            let deadline = self.with_processor(|processor| processor.next_deadline());
            let timer = clock::until(deadline);
            tokio::select! {
                biased;
                message = inbound.recv() => match message {
                    Some(message) => {
                        let read = serde_json::from_slice(message.payload());
                        match read.map(|e: MessageEnvelope<SupervisionEvent>| e.payload) {
                            Ok(event) => self.with_processor(|processor| {
                                processor.handle(clock::both(), message.subject(), &event);
                            }),
                            Err(error) => {
                                if unreadable.is_due(clock::now()) {
                                    let subject = message.subject();
                                    log::warn!(subject; "no event of supervision: {error}");
                                }
                            }
                        }
                    }
                    // The subscriptions have ended, and with them the connection.
                    None => return,
                },
                () = timer => self.with_processor(|processor| processor.tick(clock::both())),
                () = ended(&mut over) => return,
            }
            while let Some(finding) = self.with_processor(|processor| processor.poll_finding()) {
                log_alert(&finding);
                let (subject, severity) = (finding.subject(), Some(finding.severity()));
                let (connection, source) = (&self.connection, &self.source);
                let published = publish(connection, source, &subject, severity, &finding).await;
                if let Err(error) = published {
                    if unpublished.is_due(clock::now()) {
                        log::warn!(subject = subject.as_str(); "what was found is lost: {error}");
                    }
                }
            }
        }
    }

    /// The detector knows this agent from now on, before anything is told of it. False if there is no
    /// room for it, or no detector.
    pub fn register_agent_for_monitoring(&self, agent_id: &AgentId) -> bool {
        let now = clock::both();
        self.with_processor(|processor| processor.register_agent_for_monitoring(now, agent_id))
    }

    /// Whether this event, or one that says the same of the same moment, is among the last
    /// [`SupervisionEventProcessor::MAX_PROCESSED`].
    pub fn event_was_processed(&self, event: &SupervisionEvent) -> bool {
        self.with_processor(|processor| processor.event_was_processed(event))
    }

    /// The critical failures that came.
    pub fn critical_failures(&self) -> Vec<SupervisionEvent> {
        let critical = self.critical.lock().unwrap_or_else(PoisonError::into_inner);
        critical.last().cloned().collect()
    }

    /// Does something with the processor: to register a handler, or to see what the detector knows.
    /// Nothing is handled meanwhile.
    pub fn with_processor<T>(&self, call: impl FnOnce(&mut SupervisionEventProcessor) -> T) -> T {
        call(&mut self.processor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn ended(over: &mut watch::Receiver<bool>) {
    // Its sender went with the transport: that is an end as well.
    let _ = over.wait_for(|over| *over).await.map(drop);
}

/// Hands on what comes, for as long as somebody takes it.
async fn pass_on(mut subscription: Subscription, to: mpsc::Sender<NatsMessage>) {
    while let Some(message) = subscription.next().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
    if let Some(why) = subscription.ended() {
        log::info!(subject = subscription.subject(); "nothing more comes here: {why}");
    }
}

async fn publish<T: Serialize>(
    connection: &NatsConnection,
    source: &str,
    subject: &str,
    severity: Option<FailureSeverity>,
    payload: &T,
) -> Result<()> {
    let (mut body, payload) = (Vec::new(), serde_json::to_vec(payload)?);
    let (random, now) = (clock::random(), clock::timestamp());
    write_event(&mut body, random, source, now, "supervision", severity, &payload);
    Ok(connection.publish(subject, &body).await?)
}
