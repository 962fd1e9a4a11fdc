//! The subjects of the wire contract, read back.

use std::fmt;

use super::Subject;
use crate::agent::AgentId;
use crate::coordination::TaskId;
use crate::supervision::FailureSeverity;

/// What a subject of the wire contract is, with the names in it. Its `Display` is the subject.
///
/// Names that are plain text here keep the rule of [`Subject::is_token`] where they were parsed;
/// who makes one has checked them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubjectKind {
    /// `agent.input.<agent_id>`: messages to an agent.
    AgentInput(AgentId),
    /// `agent.events.<agent_id>`: what happened to an agent.
    AgentEvents(AgentId),
    /// `agent.command`, or `agent.command.<node_id>` for one node: commands about agents.
    AgentCommand(Option<AgentId>),
    /// `agent.command.all`: commands about agents, to every node.
    AgentCommandAll,
    /// `system.control`, or `system.control.<node_id>` for one node: commands to nodes.
    SystemControl(Option<AgentId>),
    /// `supervision.events`: events without a subject of their own.
    SupervisionEvents,
    /// `supervision.health.<agent_id>`.
    SupervisionHealth(AgentId),
    /// `supervision.failures.<severity>`.
    SupervisionFailure(FailureSeverity),
    /// `supervision.recovery.<agent_id>`.
    SupervisionRecovery(AgentId),
    /// `supervision.escalation.<level>`.
    SupervisionEscalation(u32),
    /// `supervision.lifecycle.<supervisor_id>`.
    SupervisionLifecycle(String),
    /// `supervision.patterns.<pattern>`.
    SupervisionPattern(String),
    /// `supervision.alerts.<severity>`.
    SupervisionAlert(FailureSeverity),
    /// `coordination.tasks.<task_type>`: tasks that wait for an agent.
    CoordinationTask(String),
    /// `coordination.tasks.assignment.<agent_id>`: a task for one agent.
    CoordinationTaskAssignment(AgentId),
    /// `coordination.tasks.broadcast`: a task for all.
    CoordinationTaskBroadcast,
    /// `coordination.results.<task_id>`: how a task ended.
    CoordinationTaskResult(TaskId),
    /// `coordination.resources.<resource_type>`.
    CoordinationResource(String),
    /// `coordination.election.<domain>`.
    CoordinationElection(String),
    /// `coordination.sync.barrier.<barrier_id>`.
    CoordinationBarrier(String),
}

impl SubjectKind {
    /// Reads a subject; none if it is not of the wire contract.
    pub fn parse(subject: &str) -> Option<Self> {
        let (area, rest) = subject.split_once('.')?;
        let (part, name) = match rest.split_once('.') {
            Some((part, name)) => (part, Some(name)),
            None => (rest, None),
        };
        match (area, name) {
            ("agent", name) => Self::agent(part, name),
            ("system", name) if part == "control" => Some(Self::SystemControl(optional(name)?)),
            ("supervision", None) if part == "events" => Some(Self::SupervisionEvents),
            ("supervision", Some(name)) => Self::supervision(part, name),
            ("coordination", Some(name)) => Self::coordination(part, name),
            _ => None,
        }
    }

    fn agent(part: &str, name: Option<&str>) -> Option<Self> {
        Some(match part {
            "input" => Self::AgentInput(agent_id(name?)?),
            "events" => Self::AgentEvents(agent_id(name?)?),
            "command" if name == Some(Subject::ALL_NODES) => Self::AgentCommandAll,
            "command" => Self::AgentCommand(optional(name)?),
            _ => return None,
        })
    }

    fn supervision(part: &str, name: &str) -> Option<Self> {
        Some(match part {
            "health" => Self::SupervisionHealth(agent_id(name)?),
            "failures" => Self::SupervisionFailure(FailureSeverity::from_subject_token(name)?),
            "recovery" => Self::SupervisionRecovery(agent_id(name)?),
            "escalation" => Self::SupervisionEscalation(level(name)?),
            "lifecycle" => Self::SupervisionLifecycle(token(name)?),
            "patterns" => Self::SupervisionPattern(token(name)?),
            "alerts" => Self::SupervisionAlert(FailureSeverity::from_subject_token(name)?),
            _ => return None,
        })
    }

    fn coordination(part: &str, name: &str) -> Option<Self> {
        Some(match (part, name.split_once('.')) {
            ("tasks", Some(("assignment", id))) => Self::CoordinationTaskAssignment(agent_id(id)?),
            ("tasks", None) if name == "broadcast" => Self::CoordinationTaskBroadcast,
            ("tasks", None) if Subject::is_task_type(name) => Self::CoordinationTask(name.into()),
            ("results", None) => Self::CoordinationTaskResult(TaskId::parse(name).ok()?),
            ("resources", None) => Self::CoordinationResource(token(name)?),
            ("election", None) => Self::CoordinationElection(token(name)?),
            ("sync", Some(("barrier", id))) => Self::CoordinationBarrier(token(id)?),
            _ => return None,
        })
    }

    /// The subject as text.
    pub fn subject(&self) -> String {
        match self {
            Self::AgentInput(id) => Subject::agent_input(id),
            Self::AgentEvents(id) => Subject::agent_events(id),
            Self::AgentCommand(None) => Subject::agent_command(),
            Self::AgentCommand(Some(node)) => Subject::agent_command_node(node.as_str()),
            Self::AgentCommandAll => Subject::agent_command_all().to_owned(),
            Self::SystemControl(None) => Subject::system_control(),
            Self::SystemControl(Some(node)) => Subject::system_control_node(node.as_str()),
            Self::SupervisionEvents => Subject::supervision_events().to_owned(),
            Self::SupervisionHealth(id) => Subject::supervision_health_check(id),
            Self::SupervisionFailure(severity) => Subject::supervision_failure(*severity),
            Self::SupervisionRecovery(id) => Subject::supervision_recovery(id),
            Self::SupervisionEscalation(level) => Subject::supervision_escalation(*level),
            Self::SupervisionLifecycle(id) => Subject::supervision_lifecycle(id),
            Self::SupervisionPattern(pattern) => Subject::supervision_pattern(pattern),
            Self::SupervisionAlert(severity) => Subject::supervision_alert(*severity),
            Self::CoordinationTask(kind) => Subject::coordination_task_assignment(kind),
            Self::CoordinationTaskAssignment(id) => Subject::coordination_task_assignment_to(id),
            Self::CoordinationTaskBroadcast => Subject::coordination_task_broadcast(),
            Self::CoordinationTaskResult(task) => Subject::coordination_task_result(task),
            Self::CoordinationResource(kind) => Subject::coordination_resource_request(kind),
            Self::CoordinationElection(domain) => Subject::coordination_election(domain),
            Self::CoordinationBarrier(id) => Subject::coordination_barrier(id),
        }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject())
    }
}

fn agent_id(name: &str) -> Option<AgentId> {
    AgentId::parse(name).ok()
}

/// A name that may be absent, but not wrong.
fn optional(name: Option<&str>) -> Option<Option<AgentId>> {
    name.map_or(Some(None), |name| agent_id(name).map(Some))
}

fn token(name: &str) -> Option<String> {
    Subject::is_token(name).then(|| name.to_owned())
}

/// A figure as this library writes it: `+1` and `01` are other subjects than `1`.
fn level(name: &str) -> Option<u32> {
    name.parse().ok().filter(|level: &u32| level.to_string() == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = String> {
        "[A-Za-z0-9_-]{1,128}"
    }

    fn ids() -> impl Strategy<Value = AgentId> {
        names().prop_map(AgentId)
    }

    fn severities() -> impl Strategy<Value = FailureSeverity> {
        prop::sample::select(FailureSeverity::ALL.to_vec())
    }

    fn kinds() -> impl Strategy<Value = SubjectKind> {
        use SubjectKind::*;
        let task_types = names().prop_filter("reserved", |name| Subject::is_task_type(name));
        let tasks = names().prop_map(|id| TaskId::parse(id).expect("a token"));
        prop_oneof![
            ids().prop_map(AgentInput),
            ids().prop_map(AgentEvents),
            prop::option::of(ids().prop_filter("reserved", |id| id.as_str() != Subject::ALL_NODES))
                .prop_map(AgentCommand),
            Just(AgentCommandAll),
            prop::option::of(ids()).prop_map(SystemControl),
            Just(SupervisionEvents),
            ids().prop_map(SupervisionHealth),
            severities().prop_map(SupervisionFailure),
            ids().prop_map(SupervisionRecovery),
            any::<u32>().prop_map(SupervisionEscalation),
            names().prop_map(SupervisionLifecycle),
            names().prop_map(SupervisionPattern),
            severities().prop_map(SupervisionAlert),
            task_types.prop_map(CoordinationTask),
            ids().prop_map(CoordinationTaskAssignment),
            Just(CoordinationTaskBroadcast),
            tasks.prop_map(CoordinationTaskResult),
            names().prop_map(CoordinationResource),
            names().prop_map(CoordinationElection),
            names().prop_map(CoordinationBarrier),
        ]
    }

    #[test]
    fn what_is_not_of_the_contract_is_none() {
        for subject in [
            "",
            "agent",
            "agent.",
            "agent.input",
            "agent.input.",
            "agent.input.a.b",
            "agent.input.ä",
            "agent.command.",
            "agent.command.a.b",
            "agent.commands",
            "Agent.command",
            "system",
            "system.controller",
            "system.control.*",
            "system.control.a.b",
            "supervision.health",
            "supervision.events.a",
            "supervision.failures.High",
            "supervision.failures.fatal",
            "supervision.escalation.01",
            "supervision.escalation.+1",
            "supervision.escalation.-1",
            "supervision.escalation.4294967296",
            "supervision.lifecycle.a.b",
            "coordination.tasks",
            "coordination.tasks.assignment",
            "coordination.tasks.assignment.a.b",
            "coordination.tasks.broadcast.a",
            "coordination.tasks.t.a",
            "coordination.results.a b",
            "coordination.sync.barrier",
            "coordination.sync.b",
            "orders.new",
        ] {
            assert_eq!(SubjectKind::parse(subject), None, "{subject:?}");
        }
    }

    proptest! {
        #[test]
        fn a_kind_becomes_a_subject_and_the_same_kind_again(kind in kinds()) {
            let subject = Subject::parse(kind.subject()).expect("a subject");
            prop_assert_eq!(kind.to_string(), subject.as_str());
            prop_assert_eq!(subject.kind(), Some(kind));
        }

        #[test]
        fn what_is_of_the_contract_is_written_as_it_was_read(
            subject in "(agent|system|supervision|coordination)(\\.(input|events|command|all|control\
                |health|failures|low|escalation|7|patterns|alerts|tasks|assignment|broadcast|results\
                |resources|election|sync|barrier|a|\\*)){1,4}",
        ) {
            if let Some(kind) = SubjectKind::parse(&subject) {
                prop_assert_eq!(kind.subject(), subject);
            }
        }
    }
}
