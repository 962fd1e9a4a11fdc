//! Whether a running agent answers.
//!
//! One ping at a time, every half of the agent's timeout, behind whatever waits in the mailbox:
//!
//! ```text
//! ping ─────────── half ─────────── timeout
//!   answer: healthy │ answer: late   │ killed
//!                   └ degraded       └ unresponsive
//! ```
//!
//! So a handler that takes less than the timeout is never killed, and one that never ends is
//! killed after at most one and a half of it.

use std::time::Duration;

use super::port::{Figures, Now};
use super::{HealthMetrics, HealthStatus};
use crate::time::{Instant, Timestamp};

/// Watches one life of one agent.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    timeout: Duration,
    report_interval: Duration,
    next_report: Instant,
    ping: Ping,
    seq: u64,
    status: HealthStatus,
    metrics: HealthMetrics,
    figures: Figures,
    /// When the figures were taken; at first, when this life began.
    figures_at: Instant,
    answered: bool,
    last_seen: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Ping {
    /// The next one is sent then.
    Due(Instant),
    /// One is on its way.
    Sent { at: Instant },
    /// It has missed its half.
    Late { at: Instant, deadline: Instant, extended: bool },
}

/// What a monitor wants when the time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Send a ping.
    Ping { seq: u64 },
    /// Tell of the agent's health.
    Report,
    /// The agent has missed its deadline.
    Unresponsive,
}

impl Monitor {
    /// Starts to watch. `random` (0 to 1) spreads the first ping over the second half of its
    /// interval, and the first report likewise, so that agents that start together do not stay in
    /// step.
    pub(super) fn new(
        now: Now,
        timeout: Duration,
        report_interval: Duration,
        random: [f64; 2],
    ) -> Self {
        let within = |interval: Duration, random: f64| {
            now.at + interval.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
        };
        Self {
            timeout,
            report_interval,
            next_report: within(report_interval, random[0]),
            ping: Ping::Due(within(timeout / 2, random[1])),
            seq: 0,
            status: HealthStatus::Healthy,
            metrics: HealthMetrics::default(),
            figures: Figures::default(),
            figures_at: now.at,
            answered: false,
            last_seen: now.wall,
        }
    }

    /// When there will be something to do.
    pub(super) fn due(&self) -> Instant {
        self.next_report.min(match self.ping {
            Ping::Due(at) => at,
            Ping::Sent { at } => at + self.timeout / 2,
            Ping::Late { deadline, .. } => deadline,
        })
    }

    /// One thing that is due, if there is one.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Finding> {
        let half = self.timeout / 2;
        match self.ping {
            Ping::Due(at) if at <= now => {
                self.seq += 1;
                self.ping = Ping::Sent { at: now };
                return Some(Finding::Ping { seq: self.seq });
            }
            Ping::Sent { at } if at + half <= now => {
                self.ping = Ping::Late { at, deadline: at + self.timeout, extended: false };
                let was_healthy = self.status == HealthStatus::Healthy;
                self.status = HealthStatus::Degraded {
                    reason: format!("no answer to a health check for {} ms", half.as_millis()),
                    missed: 1,
                };
                return was_healthy.then_some(Finding::Report);
            }
            Ping::Late { at, deadline, extended } if deadline <= now => {
                // A supervisor that was held up itself may have the answer in its mailbox: the
                // agent gets another quarter, once.
                if extended || now - deadline <= self.timeout / 4 {
                    return Some(Finding::Unresponsive);
                }
                self.ping = Ping::Late { at, deadline: now + self.timeout / 4, extended: true };
            }
            _ => {}
        }
        if self.next_report <= now {
            self.next_report = now + self.report_interval;
            return Some(Finding::Report);
        }
        None
    }

    /// Takes an answer. True if the status has changed, so that it should be told.
    pub(super) fn pong(&mut self, now: Now, seq: u64, figures: Figures) -> bool {
        let sent = match self.ping {
            Ping::Sent { at } | Ping::Late { at, .. } if seq == self.seq => at,
            _ => return false,
        };
        let took = now.at - sent;
        self.measure(now.at, took, figures);
        self.answered = true;
        self.last_seen = now.wall;
        self.ping = Ping::Due(now.at.max(sent + self.timeout / 2));
        // A late answer does not make it healthy: one that is always late would flap.
        if took > self.timeout / 2 || self.status == HealthStatus::Healthy {
            return false;
        }
        self.status = HealthStatus::Healthy;
        true
    }

    pub(super) fn status(&self) -> &HealthStatus {
        &self.status
    }

    pub(super) fn metrics(&self) -> &HealthMetrics {
        &self.metrics
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// When it answered last, or else started.
    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// When it answered last.
    pub(super) fn last_answer(&self) -> Option<Instant> {
        self.answered.then_some(self.figures_at)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn measure(&mut self, now: Instant, took: Duration, figures: Figures) {
        let handled = figures.handled.saturating_sub(self.figures.handled);
        let errors = figures.errors.saturating_sub(self.figures.errors);
        let seconds = (now - self.figures_at).as_secs_f64();
        self.metrics = HealthMetrics {
            cpu_usage: None,
            memory_usage: figures.memory_bytes,
            response_time_ms: Some(took.as_secs_f64() * 1e3),
            error_rate: (handled > 0).then(|| (errors as f64 / handled as f64).min(1.0)),
            throughput: (seconds > 0.0).then(|| handled as f64 / seconds),
        };
        self.figures = figures;
        self.figures_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const REPORTS: Duration = Duration::from_secs(30);

    fn now(ms: u64) -> Now {
        let since = Duration::from_millis(ms);
        Now { at: Instant::from_start(since), wall: Timestamp::from_epoch(since) }
    }

    /// A monitor whose first ping goes out at 500 ms.
    fn monitor() -> Monitor {
        Monitor::new(now(0), TIMEOUT, REPORTS, [1.0, 1.0])
    }

    fn poll(monitor: &mut Monitor, ms: u64) -> Option<Finding> {
        monitor.poll(now(ms).at)
    }

    #[test]
    fn one_ping_each_half_while_it_answers() {
        let mut monitor = monitor();
        for (seq, ms) in [(1, 500), (2, 1000), (3, 1500)] {
            assert_eq!(monitor.due(), now(ms).at);
            assert_eq!(poll(&mut monitor, ms - 1), None);
            assert_eq!(poll(&mut monitor, ms), Some(Finding::Ping { seq }));
            assert_eq!(poll(&mut monitor, ms), None);
            assert!(!monitor.pong(now(ms + 1), seq, Figures::default()));
        }
    }

    #[test]
    fn late_is_degraded_then_unresponsive_at_the_timeout() {
        let mut monitor = monitor();
        assert_eq!(poll(&mut monitor, 500), Some(Finding::Ping { seq: 1 }));
        assert_eq!(monitor.due(), now(1000).at);
        assert_eq!(poll(&mut monitor, 1000), Some(Finding::Report));
        assert!(matches!(monitor.status(), HealthStatus::Degraded { missed: 1, .. }));
        assert_eq!(monitor.due(), now(1500).at);
        assert_eq!(poll(&mut monitor, 1499), None);
        assert_eq!(poll(&mut monitor, 1500), Some(Finding::Unresponsive));
    }

    #[test]
    fn a_late_answer_saves_it_and_a_timely_one_makes_it_healthy() {
        let mut monitor = monitor();
        poll(&mut monitor, 500);
        poll(&mut monitor, 1000);
        assert!(!monitor.pong(now(1400), 1, Figures::default()), "late");
        assert_eq!(poll(&mut monitor, 1400), Some(Finding::Ping { seq: 2 }));
        assert!(monitor.pong(now(1410), 2, Figures::default()), "in time");
        assert_eq!(monitor.status(), &HealthStatus::Healthy);
    }

    #[test]
    fn an_answer_to_an_older_ping_is_none() {
        let mut monitor = monitor();
        poll(&mut monitor, 500);
        monitor.pong(now(501), 1, Figures::default());
        poll(&mut monitor, 1000);
        assert!(!monitor.pong(now(1001), 1, Figures::default()));
        assert_eq!(monitor.due(), now(1500).at, "still waiting for ping 2");
    }

    #[test]
    fn a_supervisor_that_was_held_up_gives_another_quarter_once() {
        let mut monitor = monitor();
        poll(&mut monitor, 500);
        poll(&mut monitor, 9_000);
        assert_eq!(poll(&mut monitor, 9_000), None, "7.5 s late itself");
        assert_eq!(monitor.due(), now(9_250).at);
        assert_eq!(poll(&mut monitor, 20_000), Some(Finding::Unresponsive));
    }

    #[test]
    fn figures_are_rates_since_the_last_answer() {
        let mut monitor = monitor();
        poll(&mut monitor, 500);
        let figures = |handled, errors| Figures { handled, errors, memory_bytes: Some(9) };
        monitor.pong(now(510), 1, figures(51, 0));
        assert_eq!(monitor.metrics().throughput, Some(100.0));
        assert_eq!(monitor.metrics().response_time_ms, Some(10.0));
        poll(&mut monitor, 1000);
        monitor.pong(now(1010), 2, figures(61, 5));
        assert_eq!(monitor.metrics().error_rate, Some(0.5));
        assert_eq!(monitor.metrics().throughput, Some(20.0));
        poll(&mut monitor, 1500);
        monitor.pong(now(1510), 3, figures(61, 5));
        assert_eq!(monitor.metrics().error_rate, None, "nothing handled");
        assert_eq!(monitor.metrics().cpu_usage, None);
        assert_eq!(monitor.last_seen(), now(1510).wall);
    }

    #[test]
    fn a_report_each_interval() {
        let mut monitor = Monitor::new(now(0), Duration::from_secs(3600), REPORTS, [1.0, 1.0]);
        for ms in [30_000, 60_000, 90_000] {
            assert_eq!(monitor.due(), now(ms).at);
            assert_eq!(poll(&mut monitor, ms), Some(Finding::Report));
            assert_eq!(poll(&mut monitor, ms), None);
        }
    }
}
