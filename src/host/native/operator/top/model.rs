//! What `top` knows: fed with facts and the time of each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{json, Value};

use super::super::args::Sort;
use super::super::nodes::Found;
use super::super::paint::{Paint, Tone};
use super::super::watch::{line, tone, Event};
use crate::agent::AgentId;
use crate::message::{AgentStatus, AgentSummary, NodeSummary};
use crate::time::Instant;

/// A round of questions to all nodes: each with its agents, and whether it has more.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) nodes: Vec<(Found, NodeSummary, Vec<AgentSummary>, bool)>,
}

/// Something that is known now.
#[derive(Debug)]
pub(super) enum Fact {
    /// All nodes were asked.
    Round(Round),
    /// All nodes were asked, and there was no answer, and why.
    Nobody(String),
    /// Something happened.
    Event(Box<Event>),
    /// Something is to be said of the connection; nothing if all is well again.
    Notice(String),
    /// So many events were dropped so far.
    Dropped(u64),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Quit,
}

/// All that is shown.
///
/// Worst case in memory: 1,000 nodes of some 20 KB with their histories at the shortest interval, what
/// one round brings of agents (10,000 of about 1 KB) and what nodes had that are gone for less than a
/// minute, and [`Self::MAX_EVENTS`] lines.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: String,
    nodes: BTreeMap<AgentId, Node>,
    pub(super) events: VecDeque<(Tone, String)>,
    pub(super) sort: Sort,
    /// What ids, nodes, types and statuses have to contain.
    pub(super) filter: String,
    /// Whether the filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    /// How many agents stand above the first one shown.
    pub(super) scroll: usize,
    /// How many fit on the screen; the screen says so.
    pub(super) page: usize,
    /// Whether there was an answer, or a failure, yet.
    pub(super) asked: bool,
    pub(super) nobody: Option<String>,
    pub(super) notice: String,
    pub(super) dropped: u64,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) summary: NodeSummary,
    pub(super) latency: Duration,
    pub(super) seen: Instant,
    /// How many restarts it had counted when, over the last minute.
    history: VecDeque<(Instant, u64)>,
    agents: BTreeMap<AgentId, Agent>,
    pub(super) more: bool,
}

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) summary: AgentSummary,
    /// When its counters were read by its supervisor, which life it was, and what it had handled.
    sample: Option<(Instant, u64, u64)>,
    pub(super) per_second: Option<f64>,
}

impl Model {
    /// The most lines of events that are kept.
    const MAX_EVENTS: usize = 100;
    /// How long a node is shown that does not answer any more.
    const GONE: Duration = Duration::from_secs(60);
    /// What restarts are counted over.
    const MINUTE: Duration = Duration::from_secs(60);
    /// The longest filter, in characters.
    const MAX_FILTER: usize = 64;

    pub(super) fn new(url: &str, sort: Sort) -> Self {
        Self {
            url: url.to_owned(),
            nodes: BTreeMap::new(),
            events: VecDeque::new(),
            sort,
            filter: String::new(),
            typing: false,
            paused: false,
            scroll: 0,
            page: 1,
            asked: false,
            nobody: None,
            notice: String::new(),
            dropped: 0,
        }
    }

    /// Takes a fact that is known since `now`. While it is paused, what it shows stays as it is.
    pub(super) fn take(&mut self, now: Instant, fact: Fact) {
        match fact {
            Fact::Notice(text) => self.notice = text,
            Fact::Dropped(dropped) => self.dropped = dropped,
            _ if self.paused => {}
            Fact::Round(round) => {
                self.asked = true;
                self.nobody = None;
                for (found, summary, agents, more) in round.nodes {
                    self.take_node(now, found, summary, agents, more);
                }
                self.forget(now);
            }
            Fact::Nobody(why) => {
                self.asked = true;
                self.nobody = Some(why);
                self.forget(now);
            }
            Fact::Event(event) => {
                let shown = line(&event, Paint::Off).trim_end().to_owned();
                self.events.push_back((tone(&event), shown));
                if self.events.len() > Self::MAX_EVENTS {
                    self.events.pop_front();
                }
            }
        }
    }

    fn take_node(
        &mut self,
        now: Instant,
        found: Found,
        summary: NodeSummary,
        agents: Vec<AgentSummary>,
        more: bool,
    ) {
        let Found { id, latency } = found;
        let mut before = self.nodes.remove(&id);
        let (mut history, mut known) = match before.as_mut() {
            Some(node) => (std::mem::take(&mut node.history), std::mem::take(&mut node.agents)),
            None => Default::default(),
        };
        let restarts = summary.counters.restarts;
        // A node of the same name that was started anew counts from zero.
        if history.back().is_some_and(|&(_, counted)| counted > restarts) {
            history.clear();
        }
        history.push_back((now, restarts));
        // One that is just a minute old is what the others are compared with.
        while history.get(1).is_some_and(|&(at, _)| now - at >= Self::MINUTE) {
            history.pop_front();
        }
        let agents = agents
            .into_iter()
            .map(|summary| {
                let before = known.remove(&summary.agent_id);
                (summary.agent_id.clone(), Agent::new(now, summary, before))
            })
            .collect();
        let node = Node { summary, latency, seen: now, history, agents, more };
        self.nodes.insert(id, node);
    }

    /// Forgets the nodes that have not answered for long.
    fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, node| now - node.seen < Self::GONE);
    }

    /// The nodes by their ids.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&AgentId, &Node)> {
        self.nodes.iter()
    }

    /// The agents that the filter lets through, with their nodes, in their order.
    pub(super) fn agents(&self) -> Vec<(&AgentId, &Agent)> {
        let mut agents: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|(node, on)| on.agents.values().map(move |agent| (node, agent)))
            .filter(|(node, agent)| self.lets_through(node, agent))
            .collect();
        // Those that are equal stand by their nodes and ids, as they came.
        agents.sort_by(|(_, a), (_, b)| a.rank(self.sort).total_cmp(&b.rank(self.sort)).reverse());
        if self.sort == Sort::Id {
            agents.sort_by_key(|(_, agent)| &agent.summary.agent_id);
        }
        agents
    }

    fn lets_through(&self, node: &AgentId, agent: &Agent) -> bool {
        let summary = &agent.summary;
        let status = summary.status.to_string();
        let all = [summary.agent_id.as_str(), node.as_str(), &summary.agent_type, &status];
        let wanted = self.filter.to_lowercase();
        wanted.is_empty() || all.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    /// Takes a key; none if only the screen is to be drawn anew.
    pub(super) fn key(&mut self, key: Option<KeyEvent>) -> Wish {
        let Some(KeyEvent { code, modifiers, .. }) = key else { return Wish::Stay };
        if modifiers.contains(KeyModifiers::CONTROL) {
            return match code {
                KeyCode::Char('c' | 'd') => Wish::Quit,
                _ => Wish::Stay,
            };
        }
        if self.typing {
            self.type_filter(code);
            return Wish::Stay;
        }
        match code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('i') => self.sort = Sort::Id,
            KeyCode::Char('s') => self.sort = Sort::Status,
            KeyCode::Char('r') => self.sort = Sort::Restarts,
            KeyCode::Char('m') => self.sort = Sort::Messages,
            KeyCode::Char('l') => self.sort = Sort::Latency,
            KeyCode::Char('M') => self.sort = Sort::Memory,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(self.page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = usize::MAX,
            _ => {}
        }
        Wish::Stay
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(typed) if self.filter.chars().count() < Self::MAX_FILTER => {
                self.filter.push(typed);
            }
            _ => {}
        }
        self.scroll = 0;
    }

    /// `{"nodes":[…],"agents":[…]}`: as `status` and `agents` have them, with what is computed here.
    pub(super) fn json(&self) -> Value {
        let node = |(_, node): (&AgentId, &Node)| {
            let mut whole = json!(node.summary);
            whole["latency_us"] = json!(node.latency.as_micros() as u64);
            whole["restarts_last_minute"] = json!(node.restarts_last_minute());
            whole["messages_per_second"] = json!(node.per_second());
            whole["more"] = json!(node.more);
            whole
        };
        let agent = |(node, agent): (&AgentId, &Agent)| {
            let mut whole = json!(agent.summary);
            whole["node_id"] = json!(node);
            whole["messages_per_second"] = json!(agent.per_second);
            whole
        };
        let nodes: Vec<Value> = self.nodes().map(node).collect();
        let agents: Vec<Value> = self.agents().into_iter().map(agent).collect();
        json!({ "nodes": nodes, "agents": agents })
    }
}

impl Node {
    /// How many restarts there were in the last minute, or since it is known if that is shorter.
    pub(super) fn restarts_last_minute(&self) -> u64 {
        let oldest = self.history.front().map_or(0, |&(_, counted)| counted);
        self.summary.counters.restarts.saturating_sub(oldest)
    }

    /// What its agents handle per second, those that are known; nothing if none is.
    pub(super) fn per_second(&self) -> Option<f64> {
        let rates: Vec<f64> = self.agents.values().filter_map(|agent| agent.per_second).collect();
        (!rates.is_empty()).then(|| rates.iter().sum())
    }

    /// What its agents' memory comes to, of those that are known.
    pub(super) fn memory(&self) -> Option<u64> {
        let known = self.agents.values().filter_map(|agent| agent.summary.counters.memory_bytes);
        known.fold(None, |sum: Option<u64>, bytes| Some(sum.unwrap_or(0).saturating_add(bytes)))
    }
}

impl Agent {
    /// Two answers of an agent to its supervisor lie further apart than this; what is closer is the
    /// same one, seen twice over a network.
    const SAME: Duration = Duration::from_millis(40);

    /// An agent as it is shown now. Its counters are as of its last answer to a health check, so that
    /// its rate is that between two such answers, and stays until the next one.
    fn new(now: Instant, summary: AgentSummary, before: Option<Self>) -> Self {
        let counters = &summary.counters;
        let measured = counters.last_answer_ms.map(|ago| {
            let since = now.since_start().saturating_sub(Duration::from_millis(ago));
            (Instant::from_start(since), summary.incarnation, counters.handled)
        });
        let (sample, per_second) = match (before, measured) {
            (Some(before), Some((at, life, handled))) => match before.sample {
                Some((earlier, same, counted)) if same == life => {
                    let passed = at - earlier;
                    if passed < Self::SAME {
                        (before.sample, before.per_second)
                    } else {
                        let more = handled.saturating_sub(counted);
                        (measured, Some(more as f64 / passed.as_secs_f64()))
                    }
                }
                _ => (measured, None),
            },
            (_, measured) => (measured, None),
        };
        Self { summary, sample, per_second }
    }

    /// What it is sorted by, the larger first; what is not known last.
    fn rank(&self, sort: Sort) -> f64 {
        let counters = &self.summary.counters;
        let known = match sort {
            Sort::Id => None,
            Sort::Status => Some(match self.summary.status {
                AgentStatus::Failed => 6.0,
                AgentStatus::Restarting => 5.0,
                AgentStatus::Starting => 4.0,
                AgentStatus::Stopping => 3.0,
                AgentStatus::Created => 2.0,
                AgentStatus::Running => 1.0,
                AgentStatus::Terminated => 0.0,
            }),
            Sort::Restarts => Some(self.summary.restarts as f64),
            Sort::Messages => self.per_second,
            Sort::Latency => counters.handling_us.map(|us| us.p99 as f64),
            Sort::Memory => counters.memory_bytes.map(|bytes| bytes as f64),
        };
        known.unwrap_or(-1.0)
    }
}

#[cfg(test)]
pub(super) mod tests;
