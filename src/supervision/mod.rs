//! Supervision: what is decided when an agent starts, answers, fails or stops, and what is told
//! of it.

mod alert;
mod backoff;
mod child;
mod children;
mod death;
mod detector;
mod event;
mod group;
mod handling;
mod health;
mod intensity;
mod limits;
mod outbox;
mod port;
mod processor;
mod schedule;
mod spec;
mod supervisor;
#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertConfig, AlertCounters, AlertManager, AlertState};
pub use backoff::Backoff;
pub use detector::{
    DetectedPattern, DetectionConfig, DetectorCounters, InvalidDetectionConfig, Pattern,
    PatternDetector,
};
pub use event::{
    FailureContext, FailureSeverity, FailureType, HealthMetrics, HealthStatus, LifecycleEvent,
    RecoveryAction, RecoveryOutcome, SupervisionEvent,
};
pub use handling::{HandlingTimes, Quantiles};
pub use intensity::{Intensity, RestartHistory};
pub use limits::SpawnLimits;
pub use port::{Figures, Input, LastWord, Now, Output, PreviousFailure};
pub use processor::{
    CriticalFailureHandler, SupervisionEventHandler, SupervisionEventProcessor, SupervisionFinding,
    TooManyHandlers,
};
pub use spec::{
    ChildCounts, ChildSpec, InvalidSupervisorConfig, Shutdown, Strategy, SupervisorConfig,
    SupervisorSpec,
};
pub use supervisor::{StartError, StopError, Supervisor, TreeError};
