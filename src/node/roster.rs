//! What a node answers about its agents.

use crate::agent::{AgentConfig, AgentId};
use crate::config::unknown_type;
use crate::message::{
    AgentCommand, AgentPage, AgentStatus, AgentSummary, ErrorCode, NodeCounters, NodeSummary,
    Stopped, WireError,
};
use crate::supervision::{Now, StartError, StopError, Supervisor, TreeError};
use crate::time::Instant;

use super::{TreeCommand, TreeDone};

/// The agents of a node for those who ask about them: the engine, what it is not told (which types
/// there are, whether the node takes new agents), and how its errors are called on the wire.
///
/// After each call that changes something, the host does the work that the [engine](Self::engine)
/// has.
#[derive(Debug)]
pub struct Roster {
    node_id: String,
    host: &'static str,
    types: Vec<String>,
    engine: Supervisor,
    draining: bool,
    stopping: bool,
    started_at: Instant,
}

impl Roster {
    /// The agents of a node of that name on that host (`lunatic`, `native` or `browser`), which can
    /// be of these types.
    pub fn new(
        node_id: impl Into<String>,
        host: &'static str,
        types: Vec<String>,
        engine: Supervisor,
        now: Instant,
    ) -> Self {
        let (draining, stopping, node_id) = (false, false, node_id.into());
        Self { node_id, host, types, engine, draining, stopping, started_at: now }
    }

    /// What decides.
    pub fn engine(&mut self) -> &mut Supervisor {
        &mut self.engine
    }

    /// The same, to look at.
    pub fn decided(&self) -> &Supervisor {
        &self.engine
    }

    /// Starts an agent. With an empty id, `fresh_id` makes one up. A `declared` one is not held up by
    /// the rate.
    pub fn start(
        &mut self,
        now: Now,
        mut config: AgentConfig,
        declared: bool,
        fresh_id: impl FnOnce() -> AgentId,
    ) -> Result<AgentId, WireError> {
        self.takes_agents()?;
        if config.id.as_str().is_empty() {
            config.id = fresh_id();
        }
        self.knows(&config.agent_type)?;
        let id = config.id.clone();
        let started = match declared {
            true => self.engine.start_declared(now, config),
            false => self.engine.start(now, config),
        };
        started.map_err(start_error)?;
        Ok(id)
    }

    /// Ends an agent for good.
    pub fn stop(&mut self, now: Now, id: &AgentId) -> Result<Stopped, WireError> {
        self.engine.stop(now, id).map_err(stop_error)?;
        Ok(Stopped { agent_id: id.clone() })
    }

    /// Does something with declared trees.
    pub fn tree(&mut self, now: Now, command: TreeCommand) -> Result<TreeDone, WireError> {
        for agent in command.agents() {
            self.knows(&agent.agent_type)?;
        }
        if command.starts_agents() {
            self.takes_agents()?;
        }
        let engine = &mut self.engine;
        let done = match command {
            TreeCommand::StartSupervisor { spec } => engine.start_supervisor(now, spec),
            TreeCommand::StopSupervisor { id, grace } => engine.stop_supervisor(now, &id, grace),
            TreeCommand::StartChild { supervisor, child } => {
                engine.start_child(now, &supervisor, child)
            }
            TreeCommand::TerminateChild { supervisor, child } => {
                engine.terminate_child(now, &supervisor, &child)
            }
            TreeCommand::RestartChild { supervisor, child } => {
                engine.restart_child(now, &supervisor, &child)
            }
            TreeCommand::DeleteChild { supervisor, child } => {
                engine.delete_child(now, &supervisor, &child)
            }
            TreeCommand::CountChildren { supervisor } => {
                let counts = engine.count_children(&supervisor).map_err(tree_error)?;
                return Ok(TreeDone::Counts(counts));
            }
        };
        done.map(|()| TreeDone::Done).map_err(tree_error)
    }

    /// One agent.
    pub fn agent(&self, now: Instant, id: &AgentId) -> Result<AgentSummary, WireError> {
        self.engine.summary(now, id).ok_or_else(|| WireError::unknown_agent(id))
    }

    /// A page of agents, at most [`AgentCommand::MAX_PAGE`].
    pub fn page(&self, now: Instant, after: Option<&AgentId>, limit: usize) -> AgentPage {
        self.engine.page(now, after, limit.clamp(1, AgentCommand::MAX_PAGE))
    }

    /// The node at a glance. What else it counts is for the host to add.
    pub fn summary(&self, now: Instant) -> NodeSummary {
        NodeSummary {
            node_id: self.node_id.clone(),
            host: self.host.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agents: self.engine.len() as u64,
            by_status: self.engine.by_status(),
            draining: self.draining,
            counters: NodeCounters {
                uptime_ms: (now - self.started_at).as_millis() as u64,
                restarts: self.engine.restarts(),
                refused_starts: self.engine.refused_starts(),
                ..NodeCounters::default()
            },
        }
    }

    /// From now on there are no new agents.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// The same, since all are being stopped.
    pub fn stopping(&mut self) {
        (self.draining, self.stopping) = (true, true);
    }

    /// Whether NATS is to reach an agent: not one that has failed, or was told to stop.
    pub fn takes_input(&self, id: &AgentId) -> bool {
        use AgentStatus::{Created, Failed, Stopping, Terminated};
        let enabled = self.engine.agent_config(id).is_some_and(|config| config.nats_enabled);
        let ends =
            matches!(self.engine.status(id), Some((Created | Stopping | Terminated | Failed, _)));
        enabled && !ends
    }

    fn takes_agents(&self) -> Result<(), WireError> {
        if !self.draining {
            return Ok(());
        }
        let doing = if self.stopping { "stopping" } else { "draining" };
        let text = format!("the node is {doing} and takes no new agents");
        Err(WireError::new(ErrorCode::Capacity, text))
    }

    fn knows(&self, name: &str) -> Result<(), WireError> {
        if self.types.iter().any(|known| known == name) {
            return Ok(());
        }
        let known: Vec<&str> = self.types.iter().map(String::as_str).collect();
        Err(WireError::new(ErrorCode::UnknownType, unknown_type(name, &known)))
    }
}

/// What a start that is refused is called on the wire.
pub fn start_error(error: StartError) -> WireError {
    let code = match &error {
        StartError::Exists { .. } => ErrorCode::Exists,
        StartError::Capacity { .. }
        | StartError::TypeCapacity { .. }
        | StartError::SpawnRate { .. } => ErrorCode::Capacity,
        StartError::Invalid(invalid) => return invalid.clone().into(),
    };
    WireError::new(code, error.to_string())
}

/// What a stop that is refused is called on the wire.
pub fn stop_error(error: StopError) -> WireError {
    match &error {
        StopError::UnknownAgent(id) => WireError::unknown_agent(id),
        StopError::Restarting(_) => WireError::new(ErrorCode::AgentRestarting, error.to_string()),
    }
}

/// What is refused of a declared tree, on the wire.
pub fn tree_error(error: TreeError) -> WireError {
    let code = match &error {
        TreeError::Agent { error: start, .. } => start_error(start.clone()).code,
        TreeError::Exists(_) | TreeError::Running(_) => ErrorCode::Exists,
        TreeError::TooMany | TreeError::TooDeep { .. } => ErrorCode::Capacity,
        TreeError::UnknownSupervisor(_) | TreeError::UnknownChild { .. } => ErrorCode::UnknownAgent,
        TreeError::NotRunning(_) | TreeError::Restarting(_) => ErrorCode::AgentRestarting,
        TreeError::Invalid { .. } => ErrorCode::BadShape,
    };
    WireError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::supervision::{ChildCounts, Input, Output, SupervisorConfig, SupervisorSpec};

    fn roster(max_agents: usize) -> Roster {
        let config = SupervisorConfig { max_agents, ..SupervisorConfig::default() };
        let engine = Supervisor::new(config, 1).expect("valid");
        let types = vec!["text".to_owned(), "echo".to_owned()];
        Roster::new("n1", "native", types, engine, Instant::START)
    }

    fn config(id: &str, agent_type: &str) -> AgentConfig {
        let (id, agent_type) = (AgentId(id.to_owned()), agent_type.to_owned());
        AgentConfig { id, agent_type, ..AgentConfig::default() }
    }

    fn start(roster: &mut Roster, config: AgentConfig) -> Result<AgentId, WireError> {
        roster.start(Now::START, config, false, || AgentId("made-up".to_owned()))
    }

    #[test]
    fn each_reason_to_refuse_a_start_has_its_code() {
        let mut roster = roster(2);
        assert_eq!(start(&mut roster, config("", "echo")), Ok(AgentId("made-up".to_owned())));
        let small = AgentConfig { timeout_ms: 1, ..config("b", "echo") };
        let cases = [
            (config("made-up", "echo"), ErrorCode::Exists, "made-up already"),
            (config("b", "nobody"), ErrorCode::UnknownType, "registered are echo, text"),
            (config("b.c", "echo"), ErrorCode::BadId, "b.c"),
            (small, ErrorCode::BadShape, "timeout_ms is 1"),
        ];
        for (config, code, text) in cases {
            let error = start(&mut roster, config).expect_err(text);
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(text), "{error}");
        }
        start(&mut roster, config("b", "echo")).expect("there is room");
        let full = start(&mut roster, config("c", "echo")).expect_err("full");
        assert_eq!(full.code, ErrorCode::Capacity);
    }

    #[test]
    fn a_node_that_drains_or_stops_takes_nobody_and_says_which() {
        let mut roster = roster(9);
        let spec = SupervisorSpec {
            id: "top".to_owned(),
            children: vec![config("a", "echo").into()],
            ..SupervisorSpec::default()
        };
        let tree = TreeCommand::StartSupervisor { spec };
        roster.drain();
        assert!(roster.summary(Instant::START).draining);
        for (doing, stops) in [("draining", false), ("stopping", true)] {
            if stops {
                roster.stopping();
            }
            let text = format!("the node is {doing} and takes no new agents");
            let expected = WireError::new(ErrorCode::Capacity, text);
            assert_eq!(start(&mut roster, config("a", "echo")), Err(expected.clone()));
            assert_eq!(roster.tree(Now::START, tree.clone()), Err(expected));
        }
    }

    #[test]
    fn a_tree_is_started_counted_and_stopped() {
        let mut roster = roster(9);
        let spec = |agent_type| SupervisorSpec {
            id: "top".to_owned(),
            children: vec![config("a", agent_type).into()],
            ..SupervisorSpec::default()
        };
        let command = TreeCommand::StartSupervisor { spec: spec("nobody") };
        let error = roster.tree(Now::START, command).expect_err("no such type");
        assert_eq!(error.code, ErrorCode::UnknownType);
        let command = TreeCommand::StartSupervisor { spec: spec("echo") };
        assert_eq!(roster.tree(Now::START, command.clone()), Ok(TreeDone::Done));
        let again = roster.tree(Now::START, command).expect_err("it is there");
        assert_eq!(again.code, ErrorCode::Exists);
        let count = TreeCommand::CountChildren { supervisor: "top".to_owned() };
        let counts = ChildCounts { specs: 1, active: 1, supervisors: 0, workers: 1 };
        assert_eq!(roster.tree(Now::START, count), Ok(TreeDone::Counts(counts)));
        let stop = |id: &str| TreeCommand::StopSupervisor {
            id: id.to_owned(),
            grace: Duration::from_secs(1),
        };
        let nobody = roster.tree(Now::START, stop("nobody")).expect_err("unknown");
        assert_eq!(nobody.code, ErrorCode::UnknownAgent);
        assert_eq!(roster.tree(Now::START, stop("top")), Ok(TreeDone::Done));
    }

    #[test]
    fn nats_reaches_an_agent_until_it_is_told_to_stop() {
        let mut roster = roster(9);
        let id = start(&mut roster, config("a", "echo")).expect("started");
        let off = AgentConfig { nats_enabled: false, ..config("off", "echo") };
        let off = start(&mut roster, off).expect("started");
        roster.engine().handle(Now::START, Input::Started { id: id.clone(), incarnation: 1 });
        assert!(roster.takes_input(&id) && !roster.takes_input(&off));
        roster.stop(Now::START, &id).expect("it is there");
        assert!(!roster.takes_input(&id));
        while !matches!(roster.engine().poll_output(), Output::Wait(_)) {}
        let unknown = AgentId("nobody".to_owned());
        assert_eq!(roster.agent(Instant::START, &unknown), Err(WireError::unknown_agent(&unknown)));
        assert_eq!(roster.stop(Now::START, &unknown), Err(WireError::unknown_agent(&unknown)));
        assert_eq!(roster.page(Instant::START, None, 0).agents.len(), 1, "at least one");
        assert_eq!(roster.summary(Instant::START).agents, 2);
    }
}
