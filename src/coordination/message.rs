//! What is said of tasks on `coordination.>`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TaskId;
use crate::agent::{AgentConfig, AgentId};
use crate::message::{
    parse_payload, strict_fields, take_id, wrong_kind, ErrorCode, Subject, Variant, WireError,
};

/// A message of coordination. Externally tagged on the wire: `{"TaskCoordination":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub enum CoordinationMessage {
    /// A task for one agent or several: comes on `coordination.tasks.<task_type>`, and goes to
    /// agents on `coordination.tasks.assignment.<agent_id>` or `coordination.tasks.broadcast`.
    TaskCoordination {
        /// Its name. Default: none, which means that one is made up when it is accepted.
        #[serde(skip_serializing_if = "Option::is_none")]
        task_id: Option<TaskId>,
        /// How its agents work together.
        coordination_type: TaskCoordinationType,
        /// Who takes part; at most 1,000. Default: nobody, which leaves it to the coordinator.
        participants: Vec<AgentId>,
        /// What it needs. Default: nothing.
        requirements: TaskRequirements,
        /// What is to be done.
        payload: Value,
    },
    /// How a task ended: on `coordination.results.<task_id>`.
    TaskResult {
        /// The task.
        task_id: TaskId,
        /// How it ended.
        outcome: TaskOutcome,
        /// What its agents said; at most 1,000.
        results: Vec<AgentResult>,
        /// How often it was tried.
        attempts: u32,
        /// Why it did not complete, if it did not.
        error: Option<String>,
    },
}

/// How the agents of a task work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskCoordinationType {
    /// One agent does it.
    Assignment,
    /// Every participant does all of it.
    Broadcast,
    /// One after the other, each with what the one before it made.
    Pipeline,
    /// Each does a part, at the same time.
    Parallel,
    /// Each does a part, and the parts are put together.
    MapReduce,
}

/// What a task needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskRequirements {
    /// What an agent must be able to do, as in [`AgentConfig::capabilities`]; at most 64, each 1 to
    /// 128 bytes. Default: nothing.
    pub required_capabilities: Vec<String>,
    /// How long it will take, in ms, 1 to 86,400,000. Default: not known.
    pub estimated_duration_ms: Option<u64>,
    /// What goes first. Default: [`TaskPriority::Normal`].
    pub priority: TaskPriority,
    /// How long it may take, in ms, 1 to 86,400,000. Default: none.
    pub deadline_ms: Option<u64>,
}

/// What goes first; the least first here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum TaskPriority {
    /// After all others.
    Low,
    /// As it comes.
    #[default]
    Normal,
    /// Before what is normal.
    High,
    /// Before all others.
    Critical,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// It was done.
    Completed,
    /// It could not be done.
    Failed,
    /// Somebody called it off.
    Cancelled,
    /// Its deadline passed.
    TimedOut,
}

/// What one agent made of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentResult {
    /// The agent.
    pub agent_id: AgentId,
    /// What it said.
    pub value: Value,
}

impl CoordinationMessage {
    /// The most participants of a task, and so the most results.
    pub const MAX_PARTICIPANTS: usize = 1000;

    /// Parses a body, in an envelope or bare. Unknown fields of a task are refused, those of a
    /// result ignored.
    ///
    /// Errors: `too_large` beyond `max_bytes`, `bad_json`, `bad_shape` (with the field's name),
    /// `bad_id`.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        parse_payload(bytes, max_bytes)?.try_into()
    }

    /// Checks every value. What was parsed has been checked already.
    pub fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::TaskCoordination { participants, requirements, .. } => {
                at_most("participants", participants.len(), Self::MAX_PARTICIPANTS)?;
                all_ids("participants", participants.iter())?;
                requirements.validate()
            }
            Self::TaskResult { results, .. } => {
                at_most("results", results.len(), Self::MAX_PARTICIPANTS)?;
                all_ids("results", results.iter().map(|result| &result.agent_id))
            }
        }
    }

    /// The subject that it is published on, where it says so itself: that of a result. A task goes
    /// to a type of task, an agent or all, which is for its sender to say.
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::TaskCoordination { .. } => None,
            Self::TaskResult { task_id, .. } => Some(Subject::coordination_task_result(task_id)),
        }
    }

    /// The `coordination_type` of its envelope: that of a task, or `TaskResult`.
    pub fn coordination_type(&self) -> &'static str {
        match self {
            Self::TaskCoordination { coordination_type, .. } => coordination_type.as_str(),
            Self::TaskResult { .. } => "TaskResult",
        }
    }
}

impl TryFrom<Value> for CoordinationMessage {
    type Error = WireError;

    /// As [`CoordinationMessage::parse`], for a payload that is JSON already.
    fn try_from(payload: Value) -> Result<Self, WireError> {
        let mut variant = Variant::from_value(payload)?;
        let message = match variant.name.as_str() {
            "TaskCoordination" => task(&mut variant)?,
            "TaskResult" => result(&mut variant)?,
            _ => {
                let known = "TaskCoordination or TaskResult";
                return Err(variant.unknown("message of coordination", known));
            }
        };
        message.validate()?;
        Ok(message)
    }
}

fn task(fields: &mut Variant) -> Result<CoordinationMessage, WireError> {
    let task = CoordinationMessage::TaskCoordination {
        task_id: fields.optional("task_id").map(task_id).transpose()?,
        coordination_type: field("coordination_type", fields.required("coordination_type")?)?,
        participants: match fields.optional("participants") {
            None => Vec::new(),
            Some(Value::Array(ids)) => {
                ids.into_iter().map(participant).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(wrong_kind("participants", &other, "an array")),
        },
        requirements: match fields.optional("requirements") {
            None => TaskRequirements::default(),
            Some(Value::Object(map)) => strict_fields(map, "requirements")?,
            Some(other) => return Err(wrong_kind("requirements", &other, "an object")),
        },
        payload: fields.required("payload")?,
    };
    fields.nothing_left()?;
    Ok(task)
}

/// What a newer node adds to a result is ignored.
fn result(fields: &mut Variant) -> Result<CoordinationMessage, WireError> {
    Ok(CoordinationMessage::TaskResult {
        task_id: task_id(fields.required("task_id")?)?,
        outcome: field("outcome", fields.required("outcome")?)?,
        results: match fields.required("results")? {
            Value::Array(results) => {
                results.into_iter().map(agent_result).collect::<Result<_, _>>()?
            }
            other => return Err(wrong_kind("results", &other, "an array")),
        },
        attempts: field("attempts", fields.required("attempts")?)?,
        error: field("error", fields.optional("error").unwrap_or_default())?,
    })
}

fn task_id(value: Value) -> Result<TaskId, WireError> {
    match value {
        Value::String(id) => TaskId::parse(id)
            .map_err(|error| WireError::new(ErrorCode::BadId, format!("task_id: {error}"))),
        other => Err(wrong_kind("task_id", &other, "a string")),
    }
}

/// A participant, whose id is checked with all others.
fn participant(value: Value) -> Result<AgentId, WireError> {
    match value {
        Value::String(id) => Ok(AgentId(id)),
        other => Err(wrong_kind("a participant", &other, "a string")),
    }
}

fn agent_result(value: Value) -> Result<AgentResult, WireError> {
    match value {
        Value::Object(mut map) => Ok(AgentResult {
            agent_id: take_id(&mut map, "agent_id")?,
            value: map
                .remove("value")
                .ok_or_else(|| WireError::bad_shape("a result needs value"))?,
        }),
        other => Err(wrong_kind("a result", &other, "an object")),
    }
}

/// Reads a field whose own errors say what is allowed, and names it.
fn field<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T, WireError> {
    serde_json::from_value(value).map_err(|error| WireError::bad_shape(format!("{name}: {error}")))
}

fn at_most(what: &str, found: usize, most: usize) -> Result<(), WireError> {
    if found <= most {
        Ok(())
    } else {
        Err(WireError::bad_shape(format!("{what}' length is {found}, and must be 0 to {most}")))
    }
}

fn all_ids<'a>(what: &str, mut ids: impl Iterator<Item = &'a AgentId>) -> Result<(), WireError> {
    ids.try_for_each(|id| id.validate())
        .map_err(|error| WireError::new(ErrorCode::BadId, format!("{what}: {error}")))
}

impl TaskRequirements {
    /// How long it will take, if that is known.
    pub fn estimated_duration(&self) -> Option<Duration> {
        self.estimated_duration_ms.map(Duration::from_millis)
    }

    /// How long it may take, if that is limited.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(Duration::from_millis)
    }

    /// Checks every value.
    pub fn validate(&self) -> Result<(), WireError> {
        let named = self.required_capabilities.len();
        at_most("required_capabilities", named, AgentConfig::MAX_CAPABILITIES)?;
        for capability in &self.required_capabilities {
            let len = capability.len();
            if !(1..=AgentConfig::MAX_CAPABILITY).contains(&len) {
                return Err(WireError::bad_shape(format!(
                    "a required capability's length is {len}, and must be 1 to {}",
                    AgentConfig::MAX_CAPABILITY
                )));
            }
        }
        let times = [
            ("estimated_duration_ms", self.estimated_duration_ms),
            ("deadline_ms", self.deadline_ms),
        ];
        for (name, time) in times {
            if let Some(ms) = time.filter(|ms| !(1..=86_400_000).contains(ms)) {
                return Err(WireError::bad_shape(format!(
                    "{name} is {ms}, and must be null or 1 to 86400000"
                )));
            }
        }
        Ok(())
    }
}

impl TaskCoordinationType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Assignment, Self::Broadcast, Self::Pipeline, Self::Parallel, Self::MapReduce];

    /// The type as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assignment => "Assignment",
            Self::Broadcast => "Broadcast",
            Self::Pipeline => "Pipeline",
            Self::Parallel => "Parallel",
            Self::MapReduce => "MapReduce",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ErrorCode::{BadId, BadJson, BadShape, TooLarge};

    fn parse(body: &Value) -> Result<CoordinationMessage, WireError> {
        CoordinationMessage::parse(body.to_string().as_bytes(), 200_000)
    }

    fn task(fields: &Value) -> Value {
        let mut task = json!({"coordination_type": "Broadcast", "payload": 1});
        for (name, value) in fields.as_object().expect("fields") {
            task[name] = value.clone();
        }
        json!({ "TaskCoordination": task })
    }

    fn result(fields: &Value) -> Value {
        let mut result = json!({"task_id": "t", "outcome": "Completed", "results": [],
            "attempts": 1, "error": null});
        for (name, value) in fields.as_object().expect("fields") {
            result[name] = value.clone();
        }
        json!({ "TaskResult": result })
    }

    fn whole_task() -> CoordinationMessage {
        CoordinationMessage::TaskCoordination {
            task_id: Some(TaskId::parse("t-1").expect("a task id")),
            coordination_type: TaskCoordinationType::MapReduce,
            participants: vec![AgentId("a".into()), AgentId("b".into())],
            requirements: TaskRequirements {
                required_capabilities: vec!["code_analysis".into()],
                estimated_duration_ms: Some(60_000),
                priority: TaskPriority::High,
                deadline_ms: Some(90_000),
            },
            payload: json!({"path": "src"}),
        }
    }

    #[test]
    fn a_task_on_the_wire() {
        let expected = json!({"TaskCoordination": {
            "task_id": "t-1",
            "coordination_type": "MapReduce",
            "participants": ["a", "b"],
            "requirements": {"required_capabilities": ["code_analysis"],
                "estimated_duration_ms": 60_000, "priority": "High", "deadline_ms": 90_000},
            "payload": {"path": "src"}}});
        assert_eq!(serde_json::to_value(whole_task()).expect("serializes"), expected);
        assert_eq!(parse(&expected).expect("parses"), whole_task());
        let envelope = json!({"id": "e", "source": "s", "metadata": {}, "payload": expected,
            "timestamp": "2026-11-21T20:50:00Z"});
        assert_eq!(parse(&envelope).expect("in an envelope"), whole_task());
        assert_eq!(whole_task().subject(), None, "its sender says");
        assert_eq!(whole_task().coordination_type(), "MapReduce");
    }

    #[test]
    fn everything_of_a_task_but_its_type_and_payload_has_a_default() {
        let expected = CoordinationMessage::TaskCoordination {
            task_id: None,
            coordination_type: TaskCoordinationType::Broadcast,
            participants: Vec::new(),
            requirements: TaskRequirements::default(),
            payload: json!(1),
        };
        for fields in [
            json!({}),
            json!({"task_id": null, "participants": null, "requirements": null}),
            json!({"participants": [], "requirements": {}}),
            json!({"requirements": {"required_capabilities": [], "estimated_duration_ms": null,
                "priority": "Normal", "deadline_ms": null}}),
        ] {
            assert_eq!(parse(&task(&fields)).expect("a task"), expected, "{fields}");
        }
        let written = serde_json::to_value(&expected).expect("serializes");
        assert_eq!(
            written,
            json!({"TaskCoordination": {"coordination_type": "Broadcast", "participants": [],
                "requirements": {"required_capabilities": [], "estimated_duration_ms": null,
                    "priority": "Normal", "deadline_ms": null}, "payload": 1}})
        );
        assert_eq!(parse(&written).expect("and is taken again"), expected);
    }

    #[test]
    fn a_result_on_the_wire() {
        let message = CoordinationMessage::TaskResult {
            task_id: TaskId::parse("t").expect("a task id"),
            outcome: TaskOutcome::Failed,
            results: vec![AgentResult { agent_id: AgentId("a".into()), value: json!([1]) }],
            attempts: 3,
            error: Some("b did not answer".into()),
        };
        let expected = json!({"TaskResult": {"task_id": "t", "outcome": "Failed",
            "results": [{"agent_id": "a", "value": [1]}], "attempts": 3,
            "error": "b did not answer"}});
        assert_eq!(serde_json::to_value(&message).expect("serializes"), expected);
        assert_eq!(parse(&expected).expect("parses"), message);
        assert_eq!(message.subject().as_deref(), Some("coordination.results.t"));
        assert_eq!(message.coordination_type(), "TaskResult");
        let newer = result(&json!({"took_ms": 5, "results": [{"agent_id": "a", "value": null,
            "node_id": "n"}]}));
        assert!(parse(&newer).is_ok(), "what is not known of a result is ignored");
    }

    #[test]
    fn names_on_the_wire() {
        for coordination_type in TaskCoordinationType::ALL {
            assert_eq!(
                serde_json::to_value(coordination_type).expect("serializes"),
                json!(coordination_type.as_str())
            );
        }
        for (outcome, name) in [
            (TaskOutcome::Completed, "Completed"),
            (TaskOutcome::Failed, "Failed"),
            (TaskOutcome::Cancelled, "Cancelled"),
            (TaskOutcome::TimedOut, "TimedOut"),
        ] {
            assert_eq!(serde_json::to_value(outcome).expect("serializes"), json!(name));
        }
        use TaskPriority::{Critical, High, Low, Normal};
        assert!([Low, Normal, High, Critical].is_sorted());
    }

    #[test]
    fn wrong_shapes_are_named() {
        let many = |number| vec!["a"; number];
        let long = "x".repeat(129);
        let cases = [
            (json!(1), BadShape, "the body is a number, and must be a string or an object"),
            (
                json!({}),
                BadShape,
                "the body has 0 fields, and must have the name of what it is as the only one",
            ),
            (
                json!("Barrier"),
                BadShape,
                "there is no message of coordination \"Barrier\": TaskCoordination or TaskResult",
            ),
            (json!("TaskCoordination"), BadShape, "TaskCoordination needs coordination_type"),
            (
                json!({"TaskCoordination": {"coordination_type": "Broadcast"}}),
                BadShape,
                "TaskCoordination needs payload",
            ),
            (
                task(&json!({"coordination_type": "Gossip"})),
                BadShape,
                "coordination_type: unknown variant `Gossip`, expected one of `Assignment`, \
                 `Broadcast`, `Pipeline`, `Parallel`, `MapReduce`",
            ),
            (
                task(&json!({"task_id": "a.b"})),
                BadId,
                "task_id: \"a.b\" is not a task id: 1 to 128 characters of A-Z a-z 0-9 _ -",
            ),
            (task(&json!({"task_id": 1})), BadShape, "task_id is a number, and must be a string"),
            (
                task(&json!({"participants": "a"})),
                BadShape,
                "participants is a string, and must be an array",
            ),
            (
                task(&json!({"participants": [1]})),
                BadShape,
                "a participant is a number, and must be a string",
            ),
            (
                task(&json!({"participants": ["a", "a.b"]})),
                BadId,
                "participants: \"a.b\" is not an agent id: 1 to 128 characters of A-Z a-z 0-9 _ -",
            ),
            (
                task(&json!({"participants": many(1001)})),
                BadShape,
                "participants' length is 1001, and must be 0 to 1000",
            ),
            (
                task(&json!({"requirements": {"priority": "Urgent"}})),
                BadShape,
                "requirements.priority: unknown variant `Urgent`, expected one of `Low`, \
                 `Normal`, `High`, `Critical`",
            ),
            (
                task(&json!({"requirements": {"deadline": 5}})),
                BadShape,
                "requirements.deadline: unknown field `deadline`, expected one of \
                 `required_capabilities`, `estimated_duration_ms`, `priority`, `deadline_ms`",
            ),
            (
                task(&json!({"requirements": {"deadline_ms": 0}})),
                BadShape,
                "deadline_ms is 0, and must be null or 1 to 86400000",
            ),
            (
                task(&json!({"requirements": {"estimated_duration_ms": 86_400_001}})),
                BadShape,
                "estimated_duration_ms is 86400001, and must be null or 1 to 86400000",
            ),
            (
                task(&json!({"requirements": {"required_capabilities": many(65)}})),
                BadShape,
                "required_capabilities' length is 65, and must be 0 to 64",
            ),
            (
                task(&json!({"requirements": {"required_capabilities": [long]}})),
                BadShape,
                "a required capability's length is 129, and must be 1 to 128",
            ),
            (
                task(&json!({"requirements": {"required_capabilities": [""]}})),
                BadShape,
                "a required capability's length is 0, and must be 1 to 128",
            ),
            (
                task(&json!({"priority": "High"})),
                BadShape,
                "TaskCoordination has no field \"priority\"",
            ),
            (json!({"TaskResult": {"outcome": "Failed"}}), BadShape, "TaskResult needs task_id"),
            (
                result(&json!({"outcome": "Lost"})),
                BadShape,
                "outcome: unknown variant `Lost`, expected one of `Completed`, `Failed`, \
                 `Cancelled`, `TimedOut`",
            ),
            (
                result(&json!({"results": [{"agent_id": "a b", "value": 1}]})),
                BadId,
                "agent_id: \"a b\" is not an agent id: 1 to 128 characters of A-Z a-z 0-9 _ -",
            ),
            (result(&json!({"results": [{"agent_id": "a"}]})), BadShape, "a result needs value"),
            (
                result(&json!({"results": vec![json!({"agent_id": "a", "value": 1}); 1001]})),
                BadShape,
                "results' length is 1001, and must be 0 to 1000",
            ),
            (
                result(&json!({"attempts": -1})),
                BadShape,
                "attempts: invalid value: integer `-1`, expected u32",
            ),
        ];
        for (body, code, message) in cases {
            let error = parse(&body).expect_err(message);
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
        let parse = |body: &[u8]| CoordinationMessage::parse(body, 10).expect_err("refused").code;
        assert_eq!((parse(b"{"), parse(&[b' '; 11])), (BadJson, TooLarge));
    }

    #[test]
    fn the_bounds_are_inclusive() {
        let fields = json!({
            "task_id": "x".repeat(128),
            "participants": vec!["a"; CoordinationMessage::MAX_PARTICIPANTS],
            "requirements": {"required_capabilities": vec!["x".repeat(128); 64],
                "estimated_duration_ms": 1, "deadline_ms": 86_400_000},
        });
        assert!(parse(&task(&fields)).is_ok());
        let results = vec![json!({"agent_id": "a", "value": 1}); 1000];
        assert!(parse(&result(&json!({ "results": results }))).is_ok());
    }

    #[test]
    fn what_was_made_by_hand_can_be_checked_too() {
        assert_eq!(whole_task().validate(), Ok(()));
        let mut task = whole_task();
        if let CoordinationMessage::TaskCoordination { participants, .. } = &mut task {
            participants.push(AgentId("a.b".into()));
        }
        assert_eq!(task.validate().expect_err("a bad id").code, BadId);
    }
}
