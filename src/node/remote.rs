//! What comes from an agent of another node.

use serde_json::Value;

use crate::agent::AgentId;
use crate::error::{RequestError, SendError};
use crate::message::Message;

/// Reads what an agent of another node answered: a [`Message`], or `{"Err": …}`, which means the same
/// as from an agent of this node.
pub fn read_remote_answer(agent: &AgentId, body: &[u8]) -> Result<Value, RequestError> {
    if let Ok(message) = serde_json::from_slice::<Message>(body) {
        return Ok(message.payload);
    }
    let agent = agent.clone();
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = |field| answer.get("Err")?.get(field)?.as_str();
    let message = told("message").unwrap_or("its answer cannot be read").to_owned();
    Err(match told("code").unwrap_or_default() {
        "unknown_agent" => SendError::UnknownAgent(agent).into(),
        "agent_restarting" => SendError::AgentRestarting(agent).into(),
        _ => RequestError::Failed { agent, message },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_a_message_and_an_error_is_what_it_is_on_one_node() {
        let a = AgentId("a".to_owned());
        let read = |body: Value| read_remote_answer(&a, body.to_string().as_bytes());
        let message = json!({ "id": "m", "from": "a", "to": "b", "payload": [1], "timestamp": 7 });
        assert_eq!(read(message), Ok(json!([1])));
        let error = |code: &str| json!({ "Err": { "code": code, "message": "why" } });
        let unknown = RequestError::Send(SendError::UnknownAgent(a.clone()));
        assert_eq!(read(error("unknown_agent")), Err(unknown));
        let restarting = RequestError::Send(SendError::AgentRestarting(a.clone()));
        assert_eq!(read(error("agent_restarting")), Err(restarting));
        let failed = |message: &str| {
            Err(RequestError::Failed { agent: a.clone(), message: message.to_owned() })
        };
        assert_eq!(read(error("handler_failed")), failed("why"));
        assert_eq!(read(json!(7)), failed("its answer cannot be read"));
        assert_eq!(read_remote_answer(&a, b"\xff"), failed("its answer cannot be read"));
    }
}
