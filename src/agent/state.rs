//! An agent's data, and what can be asked of it.

use std::collections::HashMap;

use serde_json::Value;

use super::AgentId;
use crate::memory::{MemoryBackend, MemoryError, StateAction};

/// An agent's data: its name, and the memory where it keeps what it knows.
#[derive(Debug)]
pub struct AgentState {
    id: AgentId,
    memory: Box<dyn MemoryBackend>,
}

impl AgentState {
    /// The data of agent `id`, kept in `memory`.
    pub fn new(id: AgentId, memory: Box<dyn MemoryBackend>) -> Self {
        Self { id, memory }
    }

    /// Whose data it is.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// Does what is asked and answers: `Store` and `Clear` with `null`, `Get` with the value or
    /// `null`, `Delete` with whether the key was there, `List` with the keys, sorted.
    pub async fn handle_state_action(&mut self, action: StateAction) -> Result<Value, MemoryError> {
        match action {
            StateAction::Store { key, value } => {
                self.memory.store(&key, &value).await?;
                Ok(Value::Null)
            }
            StateAction::Get { key } => Ok(self.memory.retrieve(&key).await?.unwrap_or_default()),
            StateAction::Delete { key } => Ok(self.memory.delete(&key).await?.into()),
            StateAction::Clear => {
                self.memory.clear().await?;
                Ok(Value::Null)
            }
            StateAction::List => {
                let mut keys = self.memory.list_keys(None).await?;
                // Ours are sorted already; one that a user wrote need not be.
                keys.sort_unstable();
                Ok(keys.into())
            }
        }
    }

    /// Everything that is kept, by key. At worst as large as the memory can get.
    pub async fn snapshot(&mut self) -> Result<HashMap<String, Value>, MemoryError> {
        let mut all = HashMap::new();
        for key in self.memory.list_keys(None).await? {
            if let Some(value) = self.memory.retrieve(&key).await? {
                all.insert(key, value);
            }
        }
        Ok(all)
    }

    /// Where it is kept.
    pub fn memory(&mut self) -> &mut dyn MemoryBackend {
        &mut *self.memory
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::memory::testing::now;
    use crate::memory::InMemoryBackend;

    fn state() -> AgentState {
        AgentState::new(AgentId("a".into()), Box::new(InMemoryBackend::new()))
    }

    #[test]
    fn each_action_has_its_answer() {
        let mut state = state();
        let transcript = [
            (json!({"Get": {"key": "b"}}), json!(null)),
            (json!({"Store": {"key": "b", "value": {"n": 1}}}), json!(null)),
            (json!({"Store": {"key": "a", "value": null}}), json!(null)),
            (json!({"Get": {"key": "b"}}), json!({"n": 1})),
            (json!({"Get": {"key": "a"}}), json!(null)),
            (json!("List"), json!(["a", "b"])),
            (json!({"Delete": {"key": "b"}}), json!(true)),
            (json!({"Delete": {"key": "b"}}), json!(false)),
            (json!({"List": {}}), json!(["a"])),
            (json!({"Clear": {}}), json!(null)),
            (json!({"List": null}), json!([])),
        ];
        for (action, answer) in transcript {
            let parsed = serde_json::from_value(action.clone()).expect("an action");
            assert_eq!(now(state.handle_state_action(parsed)), Ok(answer), "{action}");
        }
    }

    #[test]
    fn an_error_changes_nothing() {
        let mut state = state();
        let action = StateAction::Store { key: String::new(), value: json!(1) };
        assert!(now(state.handle_state_action(action)).is_err());
        assert_eq!(now(state.snapshot()), Ok(HashMap::new()));
    }

    #[test]
    fn a_snapshot_has_everything() {
        let mut state = state();
        for key in ["x", "y"] {
            now(state.memory().store(key, &json!(key))).expect("it fits");
        }
        let expected = HashMap::from([("x".into(), json!("x")), ("y".into(), json!("y"))]);
        assert_eq!(now(state.snapshot()), Ok(expected));
    }
}
