//! Agents: what they are called, what they are made of, and what they do.

mod builtin;
pub mod chaos;
mod config;
mod context;
mod id;
mod ready;
mod state;
pub mod text;
mod vitals;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::message::{Message, NatsMessage};
use crate::supervision::PreviousFailure;

pub use builtin::{Echo, State, Text};
pub use config::{AgentConfig, InvalidAgentConfig, MemoryBackendType, RestartType};
pub use context::Context;
pub use id::{AgentId, InvalidAgentId};
pub use state::AgentState;

// What a host needs to run agents.
pub use context::{Port, Ports, ReplyTo};
pub use ready::{run_ready, NeverReady};
pub use vitals::{cut_report, Vitals};

/// What a user writes: how an agent behaves.
///
/// One message is handled at a time. An error is published as a `Failure` of severity `low`, and
/// answered to who asked; the agent lives. A panic, or breaking a limit, ends this agent alone and
/// its supervisor starts a fresh one.
///
/// On Lunatic the futures must be ready at once: what waits there suspends the process, not the
/// future. A handler that awaits something that nothing can wake fails with `ProtocolViolation`.
#[async_trait]
pub trait Agent: Send {
    /// Called once before the first message, in each incarnation but those after a failure, which
    /// have [`on_restart`](Self::on_restart). An error here ends the agent.
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Called instead of `on_start` where the life before this one ended with a failure, which it is
    /// told: the agent's own, not one of a sibling whose supervisor restarts both. Does by default
    /// what `on_start` does. An error here ends the agent.
    async fn on_restart(&mut self, ctx: &mut Context, previous: &PreviousFailure) -> Result<()> {
        let _ = previous;
        self.on_start(ctx).await
    }

    /// Handles one message.
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()>;

    /// Handles one message of a NATS subject that the agent subscribed to: see
    /// [`Context::subscribe`]. To answer, publish to its `reply`.
    async fn on_nats_message(&mut self, ctx: &mut Context, message: NatsMessage) -> Result<()> {
        let _ = ctx;
        let subject = message.subject();
        Err(Error::handler(format!("it subscribed to {subject}, and has no on_nats_message")))
    }

    /// Called when the agent is told to stop, before its process ends; not when it is killed, also
    /// if it takes longer than the grace. What it publishes, sends and stores is not lost.
    async fn on_stop(&mut self, ctx: &mut Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
}
