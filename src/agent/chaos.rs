//! The built-in type `chaos`, which dies as it is told, and the ways to die. How one dies is the host's.

use std::marker::PhantomData;

use async_trait::async_trait;
use serde_json::{json, Map, Value};

use super::{Agent, Context};
use crate::error::{Error, Result};
use crate::memory::StateAction;
use crate::message::Message;
use crate::supervision::FailureType;

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// A panic.
    Panic,
    /// More memory than the limit allows.
    Memory,
    /// A loop that never ends.
    Loop,
    /// A recursion that never ends.
    Stack,
    /// `exit(3)`.
    Exit,
    /// To wait for ever for a message that never comes.
    Hang,
}

impl Death {
    /// All of them, by the names that `chaos` takes.
    pub const ALL: [(&'static str, Self); 6] = [
        ("panic", Self::Panic),
        ("memory", Self::Memory),
        ("loop", Self::Loop),
        ("stack", Self::Stack),
        ("exit", Self::Exit),
        ("hang", Self::Hang),
    ];

    /// The way with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, death)| death)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |&(name, _)| name)
    }

    /// What a payload asks for: none if it is no object with a field `die`.
    pub fn asked_for(payload: &Value) -> Result<Option<Self>> {
        let Some(name) = payload.get("die") else { return Ok(None) };
        name.as_str().and_then(Self::by_name).map(Some).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            Error::failure(
                FailureType::ProtocolViolation,
                format!("die is {name}, and must be one of {names}"),
            )
        })
    }
}

/// How agents die on a host.
#[async_trait]
pub trait Dying: Send + 'static {
    /// Dies. Where that would be the end of more than the agent, it is an error that says so.
    async fn die(death: Death) -> Result<()>;
}

/// What `chaos` does when it is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastAct {
    /// Publishes what it has done, on `chaos.stopped.<its id>`.
    Publish,
    /// Stores the same in its state, under `stopped`.
    Store,
    /// Returns an error.
    Fail,
    /// Dies.
    Die(Death),
}

impl LastAct {
    /// What `args` ask for under `on_stop`: one name, or several in an array.
    fn asked_for(args: &Map<String, Value>) -> Result<Vec<Self>> {
        match args.get("on_stop") {
            None => Ok(Vec::new()),
            Some(Value::Array(names)) => names.iter().map(Self::by_name).collect(),
            Some(name) => Ok(vec![Self::by_name(name)?]),
        }
    }

    fn by_name(name: &Value) -> Result<Self> {
        match name.as_str() {
            Some("publish") => Ok(Self::Publish),
            Some("store") => Ok(Self::Store),
            Some("fail") => Ok(Self::Fail),
            other => other.and_then(Death::by_name).map(Self::Die).ok_or_else(|| {
                let deaths = Death::ALL.map(|(name, _)| name).join(", ");
                let text = format!(
                    "args.on_stop is {name}, and must be publish, store, fail, {deaths}, or an array of these"
                );
                Error::failure(FailureType::ProtocolViolation, text)
            }),
        }
    }
}

/// `chaos`: answers like `echo`, except that `{"die": …}` makes it do so, and that
/// `{"publish": SUBJECT}` is published there as well. With `on_stop` in its `args` it does something
/// when it is told to stop, too: `publish`, `store`, `fail`, or a way to die, alone or in an array.
#[derive(Debug)]
pub struct Chaos<D> {
    handled: u64,
    published: u64,
    last_acts: Vec<LastAct>,
    dying: PhantomData<fn() -> D>,
}

impl<D> Default for Chaos<D> {
    fn default() -> Self {
        Self { handled: 0, published: 0, last_acts: Vec::new(), dying: PhantomData }
    }
}

#[async_trait]
impl<D: Dying> Agent for Chaos<D> {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        self.last_acts = LastAct::asked_for(&ctx.config().args)?;
        Ok(())
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if let Some(death) = Death::asked_for(&message.payload)? {
            D::die(death).await?;
        }
        self.handled += 1;
        if let Some(subject) = message.payload.get("publish").and_then(Value::as_str) {
            ctx.publish(subject, message.payload.to_string().as_bytes()).await?;
            self.published += 1;
        }
        let payload = message.payload.clone();
        ctx.answer(&message, payload).await
    }

    async fn on_stop(&mut self, ctx: &mut Context) -> Result<()> {
        let done = json!({ "agent_id": ctx.id(), "handled": self.handled,
            "published": self.published });
        for act in std::mem::take(&mut self.last_acts) {
            match act {
                LastAct::Publish => {
                    let subject = format!("chaos.stopped.{}", ctx.id());
                    ctx.publish(&subject, done.to_string().as_bytes()).await?;
                }
                LastAct::Store => {
                    let (key, value) = ("stopped".to_owned(), done.clone());
                    ctx.handle_state_action(StateAction::Store { key, value }).await?;
                }
                LastAct::Fail => return Err(Error::handler("told to fail on stop")),
                LastAct::Die(death) => D::die(death).await?,
            }
        }
        Ok(())
    }
}
