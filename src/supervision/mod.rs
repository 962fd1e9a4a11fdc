//! Supervision: what is decided when an agent starts, answers, fails or stops, and what is told
//! of it.

mod backoff;
mod child;
mod death;
mod event;
mod group;
mod handling;
mod health;
mod intensity;
mod limits;
mod outbox;
mod port;
mod schedule;
mod spec;
mod supervisor;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use event::{
    FailureContext, FailureSeverity, FailureType, HealthMetrics, HealthStatus, LifecycleEvent,
    RecoveryAction, RecoveryOutcome, SupervisionEvent,
};
pub use handling::{HandlingTimes, Quantiles};
pub use intensity::{Intensity, RestartHistory};
pub use limits::SpawnLimits;
pub use port::{Figures, Input, LastWord, Now, Output, PreviousFailure};
pub use spec::{
    ChildCounts, ChildSpec, InvalidSupervisorConfig, Shutdown, Strategy, SupervisorConfig,
    SupervisorSpec,
};
pub use supervisor::{StartError, Supervisor, TreeError, UnknownAgent};
