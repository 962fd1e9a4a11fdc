//! The subjects of the wire contract.

use crate::agent::AgentId;
use crate::supervision::FailureSeverity;

/// Builds the subjects of the wire contract.
///
/// What goes into a subject is one token. An [`AgentId`] is one by its rule; who hands in another
/// name has checked it with [`Subject::is_token`] where it entered.
#[derive(Clone, Copy, Debug)]
pub struct Subject;

impl Subject {
    /// Whether `name` can stand as one token in these subjects: the rule of [`AgentId`].
    pub fn is_token(name: &str) -> bool {
        (1..=AgentId::MAX_LEN).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

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

    /// `coordination.tasks.<task_type>`: tasks that wait for an agent. `assignment` and
    /// `broadcast` are no task types.
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
    pub fn coordination_task_result(task_id: &str) -> String {
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

    /// Whether a NATS wildcard takes a subject.
    fn takes(pattern: &str, subject: &str) -> bool {
        let mut subject = subject.split('.');
        for token in pattern.split('.') {
            match (token, subject.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(found)) if literal == found => {}
                _ => return false,
            }
        }
        subject.next().is_none()
    }

    #[test]
    fn the_subjects_of_the_wire_contract() {
        let a = AgentId("a".into());
        let cases = [
            (Subject::agent_input(&a), "agent.input.a"),
            (Subject::agent_events(&a), "agent.events.a"),
            (Subject::agent_command(), "agent.command"),
            (Subject::agent_command_node("n"), "agent.command.n"),
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
            (Subject::coordination_task_result("t"), "coordination.results.t"),
            (Subject::coordination_resource_request("r"), "coordination.resources.r"),
            (Subject::coordination_election("d"), "coordination.election.d"),
            (Subject::coordination_barrier("b"), "coordination.sync.barrier.b"),
        ];
        let check = |cases: &[(String, &str)], wildcards: &[&str]| {
            for (built, expected) in cases {
                assert_eq!(built, expected);
                let takers = wildcards.iter().filter(|w| takes(w, built)).count();
                assert_eq!(takers, 2, "{built}: the whole area and one part of it");
            }
        };
        check(&supervision, &Subject::all_supervision_wildcards());
        check(&coordination, &Subject::all_coordination_wildcards());
    }

    #[test]
    fn a_token_has_no_dot_space_or_wildcard() {
        assert!(Subject::is_token("node-1_A"));
        for bad in ["", "a.b", "a b", "*", ">", "a\r\nPUB x", &"x".repeat(129)] {
            assert!(!Subject::is_token(bad), "{bad:?}");
        }
    }
}
