//! The subjects of the wire contract.

use super::Subject;
use crate::agent::AgentId;
use crate::coordination::TaskId;
use crate::supervision::FailureSeverity;

impl Subject {
    /// `agent.input.<agent_id>`: messages to an agent.
    pub fn agent_input(agent_id: &AgentId) -> String {
        format!("agent.input.{agent_id}")
    }

    /// `agent.events.<agent_id>`: what happened to an agent.
    pub fn agent_events(agent_id: &AgentId) -> String {
        format!("agent.events.{agent_id}")
    }

    /// `agent.command`: commands to any one node.
    pub fn agent_command() -> String {
        "agent.command".to_owned()
    }

    /// `agent.command.<node_id>`: commands to one node.
    pub fn agent_command_node(node_id: &str) -> String {
        format!("agent.command.{node_id}")
    }

    /// What stands in the place of a node's id for all of them; no node can have it as its name.
    pub const ALL_NODES: &'static str = "all";

    /// `agent.command.all`: commands about agents to every node.
    pub fn agent_command_all() -> &'static str {
        "agent.command.all"
    }

    /// `system.control`: system messages to all nodes.
    pub fn system_control() -> String {
        "system.control".to_owned()
    }

    /// `system.control.<node_id>`: system messages to one node.
    pub fn system_control_node(node_id: &str) -> String {
        format!("system.control.{node_id}")
    }

    /// `supervision.health.<agent_id>`.
    pub fn supervision_health_check(agent_id: &AgentId) -> String {
        format!("supervision.health.{agent_id}")
    }

    /// `supervision.failures.<low|medium|high|critical>`.
    pub fn supervision_failure(severity: FailureSeverity) -> String {
        format!("supervision.failures.{}", severity.as_subject_token())
    }

    /// `supervision.recovery.<agent_id>`.
    pub fn supervision_recovery(agent_id: &AgentId) -> String {
        format!("supervision.recovery.{agent_id}")
    }

    /// `supervision.escalation.<level>`.
    pub fn supervision_escalation(level: u32) -> String {
        format!("supervision.escalation.{level}")
    }

    /// `supervision.lifecycle.<supervisor_id>`.
    pub fn supervision_lifecycle(supervisor_id: &str) -> String {
        format!("supervision.lifecycle.{supervisor_id}")
    }

    /// `supervision.patterns.<pattern>`.
    pub fn supervision_pattern(pattern: &str) -> String {
        format!("supervision.patterns.{pattern}")
    }

    /// `supervision.alerts.<low|medium|high|critical>`.
    pub fn supervision_alert(severity: FailureSeverity) -> String {
        format!("supervision.alerts.{}", severity.as_subject_token())
    }

    /// `supervision.events`: for an event of supervision that has no subject of its own. Today
    /// each has one, so that nothing comes here.
    pub fn supervision_events() -> &'static str {
        "supervision.events"
    }

    /// Whether `name` can be a task type: a token, and not `assignment` or `broadcast`, which have
    /// a meaning of their own in its place.
    pub fn is_task_type(name: &str) -> bool {
        Self::is_token(name) && !matches!(name, "assignment" | "broadcast")
    }

    /// `coordination.tasks.<task_type>`: tasks that wait for an agent. The type has been checked
    /// with [`Subject::is_task_type`].
    pub fn coordination_task_assignment(task_type: &str) -> String {
        format!("coordination.tasks.{task_type}")
    }

    /// `coordination.tasks.assignment.<agent_id>`: a task for one agent.
    pub fn coordination_task_assignment_to(agent_id: &AgentId) -> String {
        format!("coordination.tasks.assignment.{agent_id}")
    }

    /// `coordination.tasks.broadcast`: a task for all.
    pub fn coordination_task_broadcast() -> String {
        "coordination.tasks.broadcast".to_owned()
    }

    /// `coordination.results.<task_id>`: how a task ended.
    pub fn coordination_task_result(task_id: &TaskId) -> String {
        format!("coordination.results.{task_id}")
    }

    /// `coordination.resources.<resource_type>`.
    pub fn coordination_resource_request(resource_type: &str) -> String {
        format!("coordination.resources.{resource_type}")
    }

    /// `coordination.election.<domain>`.
    pub fn coordination_election(domain: &str) -> String {
        format!("coordination.election.{domain}")
    }

    /// `coordination.sync.barrier.<barrier_id>`.
    pub fn coordination_barrier(barrier_id: &str) -> String {
        format!("coordination.sync.barrier.{barrier_id}")
    }

    /// What a monitor of supervision subscribes to; the first has all that the others have.
    pub fn all_supervision_wildcards() -> [&'static str; 8] {
        [
            "supervision.>",
            "supervision.health.*",
            "supervision.failures.*",
            "supervision.recovery.*",
            "supervision.escalation.*",
            "supervision.lifecycle.*",
            "supervision.patterns.*",
            "supervision.alerts.*",
        ]
    }

    /// What a monitor of coordination subscribes to; the first has all that the others have.
    pub fn all_coordination_wildcards() -> [&'static str; 6] {
        [
            "coordination.>",
            "coordination.tasks.>",
            "coordination.results.*",
            "coordination.resources.*",
            "coordination.election.*",
            "coordination.sync.>",
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SubjectPattern;

    #[test]
    fn the_subjects_of_the_wire_contract() {
        let a = AgentId("a".into());
        let cases = [
            (Subject::agent_input(&a), "agent.input.a"),
            (Subject::agent_events(&a), "agent.events.a"),
            (Subject::agent_command(), "agent.command"),
            (Subject::agent_command_node("n"), "agent.command.n"),
            (Subject::agent_command_all().to_owned(), "agent.command.all"),
            (Subject::system_control(), "system.control"),
            (Subject::system_control_node("n"), "system.control.n"),
        ];
        for (built, expected) in cases {
            assert_eq!(built, expected);
        }
    }

    #[test]
    fn each_area_is_taken_by_its_wildcards() {
        let a = AgentId("a".into());
        let task = TaskId::parse("t").expect("a task id");
        let supervision = [
            (Subject::supervision_health_check(&a), "supervision.health.a"),
            (
                Subject::supervision_failure(FailureSeverity::Critical),
                "supervision.failures.critical",
            ),
            (Subject::supervision_recovery(&a), "supervision.recovery.a"),
            (Subject::supervision_escalation(2), "supervision.escalation.2"),
            (Subject::supervision_lifecycle("s"), "supervision.lifecycle.s"),
            (Subject::supervision_pattern("p"), "supervision.patterns.p"),
            (Subject::supervision_alert(FailureSeverity::Low), "supervision.alerts.low"),
        ];
        let coordination = [
            (Subject::coordination_task_assignment("t"), "coordination.tasks.t"),
            (Subject::coordination_task_assignment_to(&a), "coordination.tasks.assignment.a"),
            (Subject::coordination_task_broadcast(), "coordination.tasks.broadcast"),
            (Subject::coordination_task_result(&task), "coordination.results.t"),
            (Subject::coordination_resource_request("r"), "coordination.resources.r"),
            (Subject::coordination_election("d"), "coordination.election.d"),
            (Subject::coordination_barrier("b"), "coordination.sync.barrier.b"),
        ];
        let takers = |subject: &str, wildcards: &[&str]| {
            let patterns = wildcards.iter().map(|w| SubjectPattern::parse(*w).expect("a pattern"));
            patterns.filter(|pattern| pattern.matches(subject)).count()
        };
        let check = |cases: &[(String, &str)], own: &[&str], other: &[&str]| {
            for (built, expected) in cases {
                assert_eq!(built, expected);
                assert_eq!(takers(built, own), 2, "{built}: the whole area and one part of it");
                assert_eq!(takers(built, other), 0, "{built} is of one area");
            }
        };
        let areas = (Subject::all_supervision_wildcards(), Subject::all_coordination_wildcards());
        check(&supervision, &areas.0, &areas.1);
        check(&coordination, &areas.1, &areas.0);
        assert_eq!(takers(Subject::supervision_events(), &areas.0), 1, "only the whole area");
    }

    #[test]
    fn two_names_are_no_task_types() {
        assert!(Subject::is_task_type("count-words"));
        for bad in ["assignment", "broadcast", "", "a.b", "*"] {
            assert!(!Subject::is_task_type(bad), "{bad:?}");
        }
    }
}
