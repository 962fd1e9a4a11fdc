//! The agent types that every node knows, for trying things out and for the tests. The fifth,
//! `chaos`, belongs to the host, since how one dies does.

use async_trait::async_trait;
use serde_json::{json, Value};

use super::text::WordCounts;
use super::{Agent, Context};
use crate::error::{Error, Result};
use crate::memory::StateAction;
use crate::message::Message;
use crate::supervision::FailureType;

/// `echo`: answers with the payload.
#[derive(Debug, Default)]
pub struct Echo;

#[async_trait]
impl Agent for Echo {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let payload = message.payload.clone();
        ctx.answer(&message, payload).await
    }
}

/// `state`: the payload is a [`StateAction`]; answers `Store` and `Clear` with `null`, `Get` with
/// the value or `null`, `Delete` with a boolean, `List` with the keys.
#[derive(Debug, Default)]
pub struct State;

#[async_trait]
impl Agent for State {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let action: StateAction = serde_json::from_value(message.payload.clone())?;
        let result = ctx.handle_state_action(action).await?;
        ctx.answer(&message, result).await
    }
}

/// `text`: the payload is a text or `{"text": "…"}`; answers `{"words": n, "counts": {word: n}}`.
/// Words are maximal runs of ASCII letters, lower-cased.
#[derive(Debug, Default)]
pub struct Text;

impl Text {
    /// Counts the words of a payload.
    pub fn count(payload: &Value) -> Result<Value> {
        let text = payload.as_str().or_else(|| payload.get("text").and_then(Value::as_str));
        let text = text.ok_or_else(|| {
            Error::failure(
                FailureType::ProtocolViolation,
                "a `text` agent takes a text or an object with a field \"text\"",
            )
        })?;
        let counts = WordCounts::of(text.as_bytes());
        Ok(json!({ "words": counts.total(), "counts": counts }))
    }
}

#[async_trait]
impl Agent for Text {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let counted = Self::count(&message.payload)?;
        ctx.answer(&message, counted).await
    }
}
