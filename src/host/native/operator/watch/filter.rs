//! Which events are shown, and on which subjects they can come.

use super::super::args::{Kind, Watch};
use super::Event;
use crate::message::Subject;

/// What has to be subscribed to.
pub(in super::super) fn subjects(args: &Watch) -> Vec<String> {
    let wanted = |kinds: &[Kind]| kinds.iter().any(|&kind| args.wants_kind(kind));
    let mut subjects = Vec::new();
    if wanted(&SUPERVISION) {
        subjects.push("supervision.>".to_owned());
    }
    // They do not say on which node it was.
    if wanted(&AGENT) && args.node.is_none() {
        match &*args.agents {
            [] => subjects.push("agent.events.>".to_owned()),
            agents => subjects.extend(agents.iter().map(Subject::agent_events)),
        }
    }
    subjects
}

const SUPERVISION: [Kind; 8] = [
    Kind::Failure,
    Kind::Recovery,
    Kind::Health,
    Kind::Lifecycle,
    Kind::Escalation,
    Kind::Pattern,
    Kind::Alert,
    Kind::Other,
];

const AGENT: [Kind; 5] = [Kind::Spawned, Kind::State, Kind::Terminated, Kind::Error, Kind::Other];

impl Watch {
    /// Whether an event is to be shown.
    pub(in super::super) fn wants(&self, event: &Event) -> bool {
        let about = |agent: &str| self.agents.iter().any(|wanted| wanted.as_str() == agent);
        self.wants_kind(event.kind)
            && self.severity.is_none_or(|least| event.severity.is_some_and(|is| is >= least))
            && self.node.as_ref().is_none_or(|node| node.as_str() == event.source())
            && (self.agents.is_empty() || event.agents().any(about))
    }

    fn wants_kind(&self, kind: Kind) -> bool {
        (self.only.is_empty() || self.only.contains(&kind)) && !self.except.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentId;
    use crate::host::native::operator::args::Severity;

    fn failure() -> Event {
        let body = r#"{"source":"n1","metadata":{"severity":"High"},
            "payload":{"Failure":{"agent_id":"a1"}}}"#;
        Event::read("supervision.failures.high", body.as_bytes())
    }

    #[test]
    fn each_filter_alone() {
        let ids = |ids: &[&str]| ids.iter().map(|id| AgentId((*id).to_owned())).collect::<Vec<_>>();
        let all = Watch::default;
        let node = |id: &str| Some(AgentId(id.to_owned()));
        let cases = [
            (all(), true),
            (Watch { agents: ids(&["x", "a1"]), ..all() }, true),
            (Watch { agents: ids(&["x"]), ..all() }, false),
            (Watch { node: node("n1"), ..all() }, true),
            (Watch { node: node("n2"), ..all() }, false),
            (Watch { only: vec![Kind::Alert, Kind::Failure], ..all() }, true),
            (Watch { only: vec![Kind::Alert], ..all() }, false),
            (Watch { except: vec![Kind::Health], ..all() }, true),
            (Watch { except: vec![Kind::Failure], ..all() }, false),
            (Watch { severity: Some(Severity::High), ..all() }, true),
            (Watch { severity: Some(Severity::Critical), ..all() }, false),
        ];
        for (args, expected) in cases {
            assert_eq!(args.wants(&failure()), expected, "{args:?}");
        }
        let fine = Event::read("s", br#"{"payload":{"Recovery":{"agent_id":"a1"}}}"#);
        let bad = Watch { severity: Some(Severity::Low), ..all() };
        assert!(!bad.wants(&fine), "what is not bad has no severity");
    }

    #[test]
    fn only_what_can_be_wanted_is_subscribed_to() {
        let all = Watch::default;
        let id = |id: &str| AgentId(id.to_owned());
        assert_eq!(subjects(&all()), ["supervision.>", "agent.events.>"]);
        let one = Watch { agents: vec![id("a"), id("b")], ..all() };
        assert_eq!(subjects(&one), ["supervision.>", "agent.events.a", "agent.events.b"]);
        assert_eq!(subjects(&Watch { node: Some(id("n")), ..all() }), ["supervision.>"]);
        assert_eq!(subjects(&Watch { only: vec![Kind::Failure], ..all() }), ["supervision.>"]);
        assert_eq!(subjects(&Watch { only: vec![Kind::State], ..all() }), ["agent.events.>"]);
    }
}
