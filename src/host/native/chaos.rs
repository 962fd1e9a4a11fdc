//! How an agent dies here: see [`Death`]. A task can panic, and wait for ever; what takes the whole
//! process with it is refused.

use async_trait::async_trait;

use crate::agent::chaos::{self, Death, Dying};
use crate::error::{Error, Result};
use crate::supervision::FailureType;

/// The built-in type `chaos`. On this host it refuses `memory`, `stack` and `exit`, which would end the
/// whole process; and its `loop` awaits at each turn, so that it can be ended.
pub(super) type Chaos = chaos::Chaos<Here>;

/// The ways to die of a task.
#[derive(Debug)]
pub(in crate::host) struct Here;

/// Those of the demo, in their order.
pub(in crate::host) const DEMO: [Death; 5] =
    [Death::Panic, Death::Hang, Death::Panic, Death::Loop, Death::Panic];

/// Those that would end more than the agent.
pub(in crate::host) const NOT_CONTAINED: [Death; 3] = [Death::Memory, Death::Stack, Death::Exit];

#[async_trait]
impl Dying for Here {
    async fn die(death: Death) -> Result<()> {
        match death {
            Death::Panic => panic!("told to panic"),
            Death::Hang => std::future::pending().await,
            Death::Loop => loop {
                tokio::task::yield_now().await;
            },
            Death::Memory | Death::Stack | Death::Exit => Err(Error::failure(
                FailureType::ProtocolViolation,
                format!(
                    "die is {:?}, which would end the whole node: agents here are tasks of one \
                     process; panic, loop and hang end an agent alone",
                    death.name()
                ),
            )),
        }
    }
}
