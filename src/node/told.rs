//! What an operator reads in the log of what happens to agents.

use crate::supervision::{AlertState, FailureSeverity, SupervisionEvent, SupervisionFinding};

/// What an operator without NATS has to know: an agent died, or was given up.
pub fn log_failure(event: &SupervisionEvent, node_is_stopping: bool) {
    if let SupervisionEvent::Escalation { supervisor_id, reason, .. } = event {
        return log::error!(supervisor = supervisor_id.as_str(); "gave up: {reason}");
    }
    let SupervisionEvent::Failure { agent_id, incarnation, severity, context, .. } = event else {
        return;
    };
    let (agent, incarnation) = (agent_id.as_str(), *incarnation);
    match severity {
        FailureSeverity::Low | FailureSeverity::Medium => {}
        FailureSeverity::Critical => log::error!(agent, incarnation; "given up: {context}"),
        // The node's last line counts it with those that ended as they were told.
        FailureSeverity::High if node_is_stopping => {
            log::warn!(agent, incarnation; "died while it was stopped: {context}");
        }
        FailureSeverity::High => log::warn!(agent, incarnation; "died: {context}"),
    }
}

/// One line for each alert, unless [`log_failure`] has told what it tells.
pub fn log_alert(finding: &SupervisionFinding) {
    let SupervisionFinding::Alert(alert) = finding else { return };
    if alert.is_single_event() {
        return;
    }
    let (key, message) = (alert.key.as_str(), alert.message.as_str());
    let (level, over) = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => (log::Level::Info, "over: "),
        (_, FailureSeverity::Critical) => (log::Level::Error, ""),
        _ => (log::Level::Warn, ""),
    };
    log::log!(level, alert = key; "{over}{message}");
}
