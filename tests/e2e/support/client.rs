//! The independent client: async-nats over TCP.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap, Message};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{SOON, until};

/// A client that speaks JSON.
#[derive(Clone, Debug)]
pub struct Client {
    nats: async_nats::Client,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Nobody is subscribed: NATS itself says so.
    NoResponders,
    /// Nobody answered in time.
    TimedOut,
    /// The client could not send.
    Other,
}

impl Client {
    /// A client at this URL; tries until it is let in.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Self {
        let deadline = Instant::now() + SOON;
        loop {
            match options.clone().connect(url).await {
                Ok(nats) => return Self { nats },
                Err(error) => assert!(Instant::now() < deadline, "cannot connect: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// async-nats itself.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// Asks, and takes whatever comes.
    pub async fn try_request(
        &self,
        subject: &str,
        body: impl Into<Vec<u8>>,
        within: Duration,
    ) -> Result<Value, Failed> {
        let request = async_nats::Request::new().payload(body.into().into()).timeout(Some(within));
        match self.nats.send_request(subject.to_owned(), request).await {
            Ok(message) => Ok(parse(&message)),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => Failed::NoResponders,
                RequestErrorKind::TimedOut => Failed::TimedOut,
                _ => Failed::Other,
            }),
        }
    }

    /// Asks, and fails the test if there is no answer.
    #[track_caller]
    pub fn request(&self, subject: &str, body: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.try_request(subject, body.to_string(), SOON).await;
            answer.unwrap_or_else(|error| panic!("{caller}: {subject} {body}: {error:?}"))
        }
    }

    /// Asks, and takes what is in the `Ok`.
    #[track_caller]
    pub fn ok(&self, subject: &str, body: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.try_request(subject, body.to_string(), SOON).await;
            match answer.as_ref().ok().and_then(|answer| answer.get("Ok")) {
                Some(inner) => inner.clone(),
                None => panic!("{caller}: {subject} {body} was answered with {answer:?}"),
            }
        }
    }

    /// Asks, and takes the code in the `Err`, whose message has to be a sentence.
    #[track_caller]
    pub fn err(&self, subject: &str, body: Value) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.try_request(subject, body.to_string(), SOON).await;
            let answer = answer.unwrap_or_else(|error| panic!("{caller}: {subject}: {error:?}"));
            code(&answer).unwrap_or_else(|| panic!("{caller}: {subject} {body}: {answer}"))
        }
    }

    /// A command that goes well.
    #[track_caller]
    pub fn command(&self, body: Value) -> impl Future<Output = Value> {
        self.ok("agent.command", body)
    }

    /// Starts an agent, and gives its incarnation.
    #[track_caller]
    pub fn spawn(&self, config: Value) -> impl Future<Output = u64> {
        let spawned = self.command(json!({"Spawn": {"config": config}}));
        async move { spawned.await["incarnation"].as_u64().expect("an incarnation") }
    }

    /// Waits until a node answers.
    pub async fn node_answers(&self, id: &str, within: Duration) -> Value {
        let (control, ping) = (format!("system.control.{id}"), json!("Ping"));
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = left.clamp(Duration::from_millis(100), Duration::from_secs(1));
            match self.try_request(&control, ping.to_string(), wait).await {
                Ok(answer) => return answer,
                Err(error) => {
                    assert!(!left.is_zero(), "{id} does not answer within {within:?}: {error:?}")
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One agent as `Status` shows it.
    #[track_caller]
    pub fn agent(&self, id: &str) -> impl Future<Output = Value> {
        self.command(json!({"Status": {"agent_id": id}}))
    }

    /// Waits until an agent is in this status.
    pub async fn agent_is(&self, id: &str, status: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let agent = self.agent(id).await;
            if agent["status"] == status {
                return agent;
            }
            assert!(Instant::now() < deadline, "{id} is not {status} within {within:?}: {agent}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks an agent on its own subject, and gives the payload of its answer.
    #[track_caller]
    pub fn input(&self, id: &str, payload: Value) -> impl Future<Output = Value> {
        let subject = format!("agent.input.{id}");
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.try_request(&subject, payload.to_string(), SOON).await;
            let answer = answer.unwrap_or_else(|error| panic!("{caller}: {subject}: {error:?}"));
            match answer.get("payload") {
                Some(payload) => payload.clone(),
                None => panic!("{caller}: {subject} {payload} was answered with {answer}"),
            }
        }
    }

    /// Sends without asking for an answer.
    pub async fn publish(&self, subject: &str, body: impl Into<Vec<u8>>) {
        let sent = self.nats.publish(subject.to_owned(), body.into().into()).await;
        sent.expect("it can be published");
        self.nats.flush().await.expect("and goes out");
    }

    /// Keeps everything that comes on a subject from now on.
    pub async fn watch(&self, subject: &str) -> Watch {
        let mut subscription =
            self.nats.subscribe(subject.to_owned()).await.expect("a subscription");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                let one = Seen {
                    at: Instant::now(),
                    subject: message.subject.to_string(),
                    headers: message.headers.clone(),
                    text: String::from_utf8_lossy(&message.payload).into_owned(),
                };
                keep.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
        });
        // The server has the subscription when it answers what came behind it.
        let probe = self.nats.new_inbox();
        let answer = self.try_request(&probe, "", SOON).await;
        assert_eq!(answer, Err(Failed::NoResponders), "a probe");
        Watch { seen }
    }
}

fn parse(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap_or_else(|error| {
        panic!("the answer is no JSON ({error}): {:?}", String::from_utf8_lossy(&message.payload))
    })
}

/// The code in `{"Err":{"code","message"}}`, which has to have exactly that shape.
pub(crate) fn code(answer: &Value) -> Option<String> {
    let (body, error) = (answer.as_object()?, answer.get("Err")?.as_object()?);
    let message = error.get("message")?.as_str()?;
    let well = body.len() == 1 && error.len() == 2 && (3..=500).contains(&message.len());
    well.then(|| error["code"].as_str().map(str::to_owned)).flatten()
}

/// Something that came on a subject.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Where.
    pub subject: String,
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// What.
    pub text: String,
}

impl Seen {
    /// What it says, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{} has no JSON ({error}): {}", self.subject, self.text))
    }

    /// The variant and the fields of the event in its envelope.
    pub fn event(&self) -> (String, Value) {
        let json = self.json();
        let event = json["payload"].as_object().and_then(|payload| payload.iter().next());
        let (name, fields) =
            event.unwrap_or_else(|| panic!("{} has no event: {json}", self.subject));
        (name.clone(), fields.clone())
    }
}

/// What came on a subject since the watch began.
#[derive(Clone, Debug)]
pub struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Watch {
    /// Everything so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events of one kind about one agent so far; only the fields.
    pub fn events(&self, kind: &str, agent: &str) -> Vec<Value> {
        let events = self.all().into_iter().map(|seen| seen.event());
        events
            .filter(|(name, fields)| name == kind && concerns(fields, agent))
            .map(|(_, fields)| fields)
            .collect()
    }

    /// Waits for so many events of one kind about one agent, and gives them.
    pub async fn wait(
        &self,
        kind: &str,
        agent: &str,
        count: usize,
        within: Duration,
    ) -> Vec<Value> {
        let what = format!("{count} × {kind} of {agent}");
        until(what, within, || {
            let events = self.events(kind, agent);
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// Waits for the first that `wanted` takes.
    pub async fn find(&self, what: &str, within: Duration, wanted: impl Fn(&Seen) -> bool) -> Seen {
        until(what, within, || self.all().into_iter().find(&wanted)).await
    }
}

fn concerns(fields: &Value, agent: &str) -> bool {
    let listed =
        |agents: &Value| agents.as_array().is_some_and(|ids| ids.iter().any(|id| id == agent));
    fields["agent_id"] == agent || listed(&fields["affected_agents"])
}
