//! Coordination: tasks that several agents share. Here is what is said of them on the wire.

mod message;
mod task_id;

pub use message::{
    AgentResult, CoordinationMessage, TaskCoordinationType, TaskOutcome, TaskPriority,
    TaskRequirements,
};
pub use task_id::{InvalidTaskId, TaskId};
