//! The nodes behind a NATS server, asked over the wire contract.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::{json, Value};
use tokio::time::{timeout, Instant};

use super::answer::{answer, Answer};
use super::args::Common;
use super::connect::Connection;
use super::failure::Failure;
use crate::agent::AgentId;
use crate::host::native::nats::{NatsError, RequestMany, SubscribeOptions, Subscription};
use crate::host::random;
use crate::message::{AgentCommand, AgentPage, AgentSummary, NodeSummary, Pong, Subject};
use crate::nats::{Gather, GatherEnd, Gathering, Inbox};

/// The most answers that are taken when nodes are looked for; those beyond are left out. Worst case in
/// memory: their ids, and what waits for its turn (see [`WAITING`]).
const MAX_NODES: u32 = 1000;

/// Messages that can wait to be looked at; those beyond are dropped and counted. Worst case: 8 MiB,
/// where the connection's own bound is, and 200 bytes for each.
const WAITING: u64 = 8192;

/// The question of who is there.
const PING: &[u8] = br#"{"Ping":{}}"#;

/// The most agents of one node that are looked at for those that are wanted.
const MAX_LOOKED_AT: usize = 1_000_000;

/// How many nodes are asked at once.
const AT_ONCE: usize = 16;

/// Nodes by way of a connection.
pub(super) struct Nodes {
    pub(super) connection: Connection,
    /// How long anybody may take to answer.
    pub(super) timeout: Duration,
    /// How long to wait for one more node after the last one that answered.
    gather: Duration,
}

/// A node that has answered a `Ping`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) id: AgentId,
    /// How long its answer took.
    pub(super) latency: Duration,
}

/// What came of a request.
pub(super) enum Asked {
    /// An answer, whatever it says.
    Answered(Bytes),
    /// Nobody is subscribed: NATS itself says so.
    NoResponders,
}

/// The agents of some nodes.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Each with its node, by node and id.
    pub(super) agents: Vec<(AgentId, Answer<AgentSummary>)>,
    /// Whether there are more than were asked for.
    pub(super) more: bool,
    /// Nodes that did not answer in time.
    pub(super) silent: Vec<String>,
}

impl Nodes {
    pub(super) fn new(connection: Connection, common: &Common) -> Self {
        Self { connection, timeout: common.timeout(), gather: common.gather() }
    }

    /// Where NATS is, without what is secret in it.
    pub(super) fn url(&self) -> &str {
        &self.connection.url
    }

    /// Asks, and takes what comes. `whom` is for the error where nothing does.
    pub(super) async fn ask(
        &self,
        subject: String,
        body: &Value,
        within: Duration,
        whom: &str,
    ) -> Result<Asked, Failure> {
        let nats = &self.connection.nats;
        match nats.request(&subject, body.to_string().as_bytes(), within).await {
            Ok(answer) => Ok(Asked::Answered(answer.into())),
            Err(NatsError::NoResponders { .. }) => Ok(Asked::NoResponders),
            Err(NatsError::TimedOut { .. }) => Err(Failure::timeout(whom, within)),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// What an error of the connection is to us.
    pub(super) fn failure(&self, error: &NatsError) -> Failure {
        match error {
            NatsError::Disconnected { .. }
            | NatsError::Closed(_)
            | NatsError::Refused(_)
            | NatsError::Busy => Failure::connection_lost(self.url()),
            NatsError::PermissionDenied(_) => Failure::not_permitted(&error.to_string()),
            NatsError::Invalid(_) => Failure::usage(error.to_string()),
            _ => Failure::other(error.to_string()),
        }
    }

    /// Subscribes, with a bound that is right for people and for programs that keep up.
    pub(super) async fn subscribe(&self, subject: &str) -> Result<Subscription, Failure> {
        let options = SubscribeOptions { max_pending_messages: WAITING, ..Default::default() };
        let subscribed = self.connection.nats.subscribe_with(subject, options).await;
        subscribed.map_err(|error| self.failure(&error))
    }

    /// The nodes: this one, or all that answer, by their ids.
    pub(super) async fn find(&self, node: Option<&AgentId>) -> Result<Vec<Found>, Failure> {
        match node {
            None => self.find_all().await,
            Some(id) => {
                let (subject, asked_at) =
                    (Subject::system_control_node(id.as_str()), Instant::now());
                let whom = format!("node {id}");
                match self.ask(subject, &json!({"Ping": {}}), self.timeout, &whom).await? {
                    Asked::NoResponders => Err(Failure::no_such_node(id.as_str())),
                    Asked::Answered(bytes) => {
                        answer::<Pong>(&bytes)?;
                        Ok(vec![Found { id: id.clone(), latency: asked_at.elapsed() }])
                    }
                }
            }
        }
    }

    async fn find_all(&self) -> Result<Vec<Found>, Failure> {
        let inbox = Inbox::from_random(random()).reply_subject(0, 0);
        let mut answers = self.subscribe(&inbox).await?;
        let asked_at = Instant::now();
        let now = || crate::time::Instant::from_start(asked_at.elapsed());
        let control = Subject::system_control();
        let asked = self.connection.nats.publish_request(&control, &inbox, PING).await;
        asked.map_err(|error| self.failure(&error))?;
        let many = RequestMany {
            total: self.timeout,
            stall: Some(self.gather),
            max_messages: MAX_NODES,
            ..RequestMany::default()
        };
        let mut gather = Gather::new(now(), &many);
        // One answer at a time is looked at, so that a crowd cannot fill the memory.
        let mut found = BTreeMap::new();
        loop {
            let until = match gather.tick(now()) {
                Gathering::Continue { until } => until,
                Gathering::Done(GatherEnd::NoResponders) => {
                    return Err(Failure::no_node(self.url()));
                }
                Gathering::Done(_) => break,
            };
            let Ok(message) = timeout(until - now(), answers.next()).await else { continue };
            let Some(message) = message else {
                let why = answers.ended().cloned();
                let why = why.unwrap_or_else(|| NatsError::Closed("no answers".to_owned()));
                return Err(self.failure(&why));
            };
            if !gather.reply(now(), message.status(), message.payload().len()) {
                continue;
            }
            // Whoever listens on the subject can answer anything; a node has an id.
            let Ok(pong) = answer::<Pong>(message.payload()) else { continue };
            let Ok(id) = AgentId::parse(pong.known.node_id) else { continue };
            found.entry(id).or_insert_with(|| asked_at.elapsed());
        }
        if found.is_empty() {
            return Err(Failure::timeout("the nodes", self.timeout));
        }
        Ok(found.into_iter().map(|(id, latency)| Found { id, latency }).collect())
    }

    /// Gives a node a command about agents, or any node.
    pub(super) async fn command<T: DeserializeOwned>(
        &self,
        node: Option<&AgentId>,
        command: &Value,
        within: Duration,
    ) -> Result<Answer<T>, Failure> {
        let (subject, whom) = match node {
            Some(id) => (Subject::agent_command_node(id.as_str()), format!("node {id}")),
            None => (Subject::agent_command(), "a node".to_owned()),
        };
        match (self.ask(subject, command, within, &whom).await?, node) {
            (Asked::Answered(bytes), _) => answer(&bytes),
            (Asked::NoResponders, Some(id)) => Err(Failure::no_such_node(id.as_str())),
            (Asked::NoResponders, None) => Err(Failure::no_node(self.url())),
        }
    }

    /// What these nodes say of themselves, in their order.
    pub(super) async fn summaries(
        &self,
        nodes: Vec<Found>,
    ) -> Vec<(Found, Result<Answer<NodeSummary>, Failure>)> {
        let ask = |node: Found| async {
            let status = json!({"Status": {}});
            let summary = self.command(Some(&node.id), &status, self.timeout).await;
            (node, summary)
        };
        stream::iter(nodes).map(ask).buffered(AT_ONCE).collect().await
    }

    /// What these nodes say of this agent: those that have it, and those that did not answer.
    ///
    /// By a page of one agent, where it would stand: a `Status` of an agent that a node does not have
    /// would be bad input there, counted and logged.
    pub(super) async fn agent(&self, nodes: &[Found], id: &AgentId) -> Result<Listed, Failure> {
        let list = json!({"List": {"after": before(id), "limit": 1}});
        let ask = |node: AgentId| async {
            let page = self.command::<AgentPage>(Some(&node), &list, self.timeout).await;
            (node, page)
        };
        let ids = nodes.iter().map(|node| node.id.clone());
        let mut answers = stream::iter(ids).map(ask).buffered(AT_ONCE);
        let mut listed = Listed::default();
        while let Some((node, page)) = answers.next().await {
            match page {
                Ok(page) => {
                    let agent = of_page(page).next().filter(|agent| agent.known.agent_id == *id);
                    listed.agents.extend(agent.map(|agent| (node, agent)));
                }
                Err(failure) => listed.not_heard(node, failure)?,
            }
        }
        Ok(listed)
    }

    /// The agents of these nodes that `wanted` takes, `most` at most, asked for by pages of `page`.
    pub(super) async fn agents(
        &self,
        nodes: Vec<Found>,
        most: usize,
        page: usize,
        wanted: impl Fn(&AgentSummary) -> bool,
    ) -> Result<Listed, Failure> {
        let wanted = &wanted;
        let ask = |node: Found| async move {
            // One more, to know whether there are more.
            let agents = self.pages(&node.id, most.saturating_add(1), page, wanted).await;
            (node.id, agents)
        };
        let mut answers = stream::iter(nodes).map(ask).buffered(AT_ONCE);
        let mut listed = Listed::default();
        while let Some((node, agents)) = answers.next().await {
            match agents {
                Ok(agents) => {
                    listed.agents.extend(agents.into_iter().map(|agent| (node.clone(), agent)));
                }
                Err(failure) => listed.not_heard(node, failure)?,
            }
            if listed.agents.len() > most {
                listed.agents.truncate(most);
                listed.more = true;
                break;
            }
        }
        Ok(listed)
    }

    /// The agents of a node that `wanted` takes, page by page, until there are `most`. At most
    /// [`MAX_LOOKED_AT`] are looked at: beyond that it is no answer of a node.
    async fn pages(
        &self,
        node: &AgentId,
        most: usize,
        page: usize,
        wanted: impl Fn(&AgentSummary) -> bool,
    ) -> Result<Vec<Answer<AgentSummary>>, Failure> {
        let limit = page.clamp(1, AgentCommand::MAX_PAGE);
        let mut looked_at = 0;
        let mut agents = Vec::new();
        let mut after: Option<AgentId> = None;
        loop {
            let list = match &after {
                Some(after) => json!({"List": {"after": after, "limit": limit}}),
                None => json!({"List": {"limit": limit}}),
            };
            let page: Answer<AgentPage> = self.command(Some(node), &list, self.timeout).await?;
            let next = page.known.next.clone();
            let listed = page.known.agents.len();
            looked_at += listed;
            let room = most - agents.len();
            agents.extend(of_page(page).filter(|agent| wanted(&agent.known)).take(room));
            match next {
                Some(next) if agents.len() < most => {
                    // Or else somebody could keep us asking for ever.
                    let moves = after.as_ref().is_none_or(|after| *after < next);
                    if !moves || listed == 0 || looked_at > MAX_LOOKED_AT {
                        let what =
                            format!("the pages of node {node} do not end, the last at {next}");
                        return Err(Failure::not_understood(&what));
                    }
                    after = Some(next);
                }
                _ => return Ok(agents),
            }
        }
    }
}

/// The agents of a page.
fn of_page(mut page: Answer<AgentPage>) -> impl Iterator<Item = Answer<AgentSummary>> {
    let whole = match page.whole.get_mut("agents").map(Value::take) {
        Some(Value::Array(agents)) => agents,
        _ => Vec::new(),
    };
    let agents = page.known.agents.into_iter().zip(whole);
    agents.map(|(known, whole)| Answer { known, whole })
}

/// The last id that comes before this one: what a page is behind that begins with it. None if it is
/// the very first.
fn before(id: &AgentId) -> Option<AgentId> {
    // In the order of their bytes.
    const ALLOWED: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let (last, rest) = id.as_str().as_bytes().split_last()?;
    let at = ALLOWED.iter().position(|allowed| allowed == last)?;
    let mut before = String::from_utf8_lossy(rest).into_owned();
    // Nothing stands between an id and the same with the first character behind it.
    if let Some(&smaller) = at.checked_sub(1).and_then(|at| ALLOWED.get(at)) {
        before.push(char::from(smaller));
        before.extend(std::iter::repeat_n('z', AgentId::MAX_LEN - before.len()));
    }
    AgentId::parse(before).ok()
}

impl Listed {
    /// Notes a node that has not answered; any other failure is the whole command's.
    fn not_heard(&mut self, node: AgentId, failure: Failure) -> Result<(), Failure> {
        match failure.code() {
            // It may have ended since it answered the Ping.
            Some("timeout" | "no_such_node") => {
                self.silent.push(node.0);
                Ok(())
            }
            _ => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stands_right_before_an_id() {
        let before = |id: &str| before(&AgentId(id.to_owned())).map(|id| id.0);
        assert_eq!(before("-"), None);
        assert_eq!(before("a-").as_deref(), Some("a"));
        assert_eq!(before("a1"), Some(format!("a0{}", "z".repeat(126))));
        assert_eq!(before("aa"), Some(format!("a_{}", "z".repeat(126))));
        let longest = "b".repeat(128);
        assert_eq!(before(&longest), Some(format!("{}a", "b".repeat(127))));
    }

    #[test]
    fn a_page_of_another_shape_has_no_agents() {
        use crate::host::native::operator::answer::answer;

        // serde takes a list for a struct, too.
        for body in ["{\"Ok\":[[],null]}", "{\"Ok\":{\"agents\":[],\"next\":\"a\"}}"] {
            let page = answer::<AgentPage>(body.as_bytes()).expect("a page");
            assert_eq!(of_page(page).count(), 0, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_stands_between_an_id_and_what_is_before_it(
            id in "[A-Za-z0-9_-]{1,128}",
            other in "[A-Za-z0-9_-]{1,128}",
        ) {
            let (id, other) = (AgentId(id), AgentId(other));
            match before(&id) {
                None => prop_assert!(other >= id),
                Some(before) => {
                    prop_assert!(before < id && before.validate().is_ok());
                    prop_assert!(other <= before || other >= id, "{} is between", other);
                }
            }
        }
    }
}
