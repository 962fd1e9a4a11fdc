//! Whether a running agent answers.
//!
//! One ping at a time, behind whatever waits in the mailbox, and a part of the agent's timeout after
//! the last one; its answer is looked for after each such part. There are `threshold` parts, here
//! two:
//!
//! ```text
//! ping ─────────── half ─────────── timeout
//!   answer: healthy │ answer: late   │ killed
//!                   └ degraded       └ unresponsive
//! ```
//!
//! So a handler that takes less than the timeout is never killed, and one that never ends is
//! killed after at most one timeout and one part of it.
//!
//! An agent that is busy, and not heard of for long, says so between two pings: a ping that is
//! missed then tells of a backlog that is too old, and else of an agent that is stuck.

use std::time::Duration;

use super::death::Unanswered;
use super::port::{Figures, Now};
use super::{HealthMetrics, HealthStatus, SupervisorConfig};
use crate::message::AgentCounters;
use crate::time::{Instant, Timestamp};

/// Watches one life of one agent.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    timeout: Duration,
    /// After so many parts of the timeout without an answer it is over.
    threshold: u32,
    report_interval: Duration,
    next_report: Instant,
    ping: Ping,
    seq: u64,
    status: HealthStatus,
    /// The most missed checks that were told of since it was healthy.
    told: u32,
    metrics: HealthMetrics,
    figures: Figures,
    /// When the figures were taken; at first, when this life began.
    figures_at: Instant,
    /// Messages handled, by its last word.
    handled: u64,
    answered: bool,
    last_seen: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Ping {
    /// The next one is sent then.
    Due(Instant),
    /// One is on its way, and not answered so far.
    Sent {
        at: Instant,
        /// So many checks went by since then.
        missed: u32,
        /// Until when it was given more time.
        extended: Option<Instant>,
        /// Messages handled, by the last word before it was sent.
        handled: u64,
    },
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
    /// The number of the ping that a word answers which nobody asked for.
    const UNASKED: u64 = 0;

    /// Starts to watch. `random` (0 to 1) spreads the first ping over the second half of its
    /// interval, and the first report likewise, so that agents that start together do not stay in
    /// step.
    pub(super) fn new(
        now: Now,
        timeout: Duration,
        config: &SupervisorConfig,
        random: [f64; 2],
    ) -> Self {
        let (threshold, report_interval) =
            (config.failure_detection_threshold.max(1), config.health_interval);
        let within = |interval: Duration, random: f64| {
            together(now.at + interval.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0)), interval)
        };
        Self {
            timeout,
            threshold,
            report_interval,
            next_report: within(report_interval, random[0]),
            ping: Ping::Due(within(timeout / threshold, random[1])),
            seq: 0,
            status: HealthStatus::Healthy,
            told: 0,
            metrics: HealthMetrics::default(),
            figures: Figures::default(),
            figures_at: now.at,
            handled: 0,
            answered: false,
            last_seen: now.wall,
        }
    }

    /// When there will be something to do.
    pub(super) fn due(&self) -> Instant {
        self.next_report.min(match self.ping {
            Ping::Due(at) => at,
            Ping::Sent { extended: Some(until), .. } => until,
            Ping::Sent { at, missed, .. } if missed + 1 < self.threshold => {
                at + self.part() * (missed + 1)
            }
            Ping::Sent { at, .. } => at + self.timeout,
        })
    }

    /// One thing that is due, if there is one.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Finding> {
        let part = self.part();
        match self.ping {
            Ping::Due(at) if at <= now => {
                self.seq += 1;
                let handled = self.handled;
                self.ping = Ping::Sent { at: now, missed: 0, extended: None, handled };
                return Some(Finding::Ping { seq: self.seq });
            }
            Ping::Sent { at, missed, extended, handled } => {
                let parts = (now - at).as_nanos() / part.as_nanos().max(1);
                let parts = u32::try_from(parts).unwrap_or(u32::MAX).min(self.threshold - 1);
                let deadline = extended.unwrap_or(at + self.timeout);
                if parts > missed {
                    self.ping = Ping::Sent { at, missed: parts, extended, handled };
                    return self.degraded(parts).then_some(Finding::Report);
                } else if deadline <= now {
                    // A supervisor that was held up itself may have the answer in its mailbox: the
                    // agent gets another quarter, once.
                    if extended.is_some() || now - deadline <= self.timeout / 4 {
                        return Some(Finding::Unresponsive);
                    }
                    let extended = Some(now + self.timeout / 4);
                    self.ping = Ping::Sent { at, missed, extended, handled };
                }
            }
            Ping::Due(_) => {}
        }
        if self.next_report <= now {
            self.next_report = together(now + self.report_interval, self.report_interval);
            return Some(Finding::Report);
        }
        None
    }

    /// It has missed so many checks in a row. True if that is news.
    fn degraded(&mut self, missed: u32) -> bool {
        let late = (self.part() * missed).as_millis();
        let reason = format!("no answer to a health check for {late} ms");
        self.status = HealthStatus::Degraded { reason, missed };
        // One that is late each time, and always as late, is told of once.
        let is_news = missed > self.told;
        self.told = self.told.max(missed);
        is_news
    }

    /// Takes an answer. True if the status has changed, so that it should be told.
    pub(super) fn pong(&mut self, now: Now, seq: u64, figures: Figures) -> bool {
        if seq == Self::UNASKED {
            self.handled = figures.handled;
            return false;
        }
        let sent = match self.ping {
            Ping::Sent { at, .. } if seq == self.seq => at,
            _ => return false,
        };
        let took = now.at - sent;
        self.measure(now.at, took, figures);
        self.answered = true;
        self.last_seen = now.wall;
        self.ping = Ping::Due(now.at.max(together(sent + self.part(), self.part())));
        // A late answer does not make it healthy: one that is always late would flap.
        if took > self.part() || self.status == HealthStatus::Healthy {
            return false;
        }
        self.status = HealthStatus::Healthy;
        self.told = 0;
        true
    }

    pub(super) fn status(&self) -> &HealthStatus {
        &self.status
    }

    pub(super) fn metrics(&self) -> &HealthMetrics {
        &self.metrics
    }

    /// What it counts, as of its last answer.
    pub(super) fn counters(&self, now: Instant) -> AgentCounters {
        let Figures { handled, errors, memory_bytes, handling_us, mailbox_delay_us } = self.figures;
        let last_answer_ms = self.answered.then(|| (now - self.figures_at).as_millis());
        AgentCounters {
            handled,
            errors,
            memory_bytes,
            handling_us,
            mailbox_delay_us,
            last_answer_ms: last_answer_ms.and_then(|ms| u64::try_from(ms).ok()),
        }
    }

    /// When it answered last, or else started.
    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// How it missed its deadline.
    pub(super) fn unanswered(&self, now: Instant) -> Unanswered {
        let (age, handled) = match self.ping {
            Ping::Sent { at, handled, .. } => (now - at, self.handled.saturating_sub(handled)),
            Ping::Due(_) => (Duration::ZERO, 0),
        };
        Unanswered { deadline: self.timeout, age, handled }
    }

    fn part(&self) -> Duration {
        self.timeout / self.threshold
    }

    fn measure(&mut self, now: Instant, took: Duration, mut figures: Figures) {
        // It is measured by a clock that may be set meanwhile.
        let most = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        figures.mailbox_delay_us = figures.mailbox_delay_us.map(|us| us.min(most));
        let handled = figures.handled.saturating_sub(self.figures.handled);
        let errors = figures.errors.saturating_sub(self.figures.errors);
        let seconds = (now - self.figures_at).as_secs_f64();
        self.metrics = HealthMetrics {
            cpu_usage: None,
            memory_usage: figures.memory_bytes,
            response_time_ms: Some(took.as_secs_f64() * 1e3),
            error_rate: (handled > 0).then(|| (errors as f64 / handled as f64).min(1.0)),
            throughput: (seconds > 0.0).then(|| handled as f64 / seconds),
            handled: Some(figures.handled),
            errors: Some(figures.errors),
            handling_us: figures.handling_us,
            mailbox_delay_us: figures.mailbox_delay_us,
        };
        self.handled = figures.handled;
        self.figures = figures;
        self.figures_at = now;
    }
}

/// A moment a little earlier, the same for many agents: at most a fiftieth of the interval, and at most
/// 250 ms. A supervisor that wakes for each agent by itself wakes a processor each time, which on an idle
/// machine costs several times what the check does.
fn together(at: Instant, interval: Duration) -> Instant {
    const SHARE: u32 = 50;
    const MOST: Duration = Duration::from_millis(250);
    let step = (interval / SHARE).min(MOST);
    let since = at.since_start();
    let beyond = since.as_nanos().checked_rem(step.as_nanos()).unwrap_or(0);
    Instant::from_start(since.saturating_sub(Duration::from_nanos(beyond as u64)))
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

    fn with_threshold(threshold: u32) -> Monitor {
        let config = SupervisorConfig {
            failure_detection_threshold: threshold,
            health_interval: REPORTS,
            ..SupervisorConfig::default()
        };
        Monitor::new(now(0), TIMEOUT, &config, [1.0, 1.0])
    }

    /// A monitor whose first ping goes out at 500 ms.
    fn monitor() -> Monitor {
        with_threshold(2)
    }

    fn missed(monitor: &Monitor) -> u32 {
        match monitor.status() {
            HealthStatus::Degraded { missed, .. } => *missed,
            _ => 0,
        }
    }

    fn poll(monitor: &mut Monitor, ms: u64) -> Option<Finding> {
        monitor.poll(now(ms).at)
    }

    #[test]
    fn checks_of_many_agents_fall_together() {
        let timeout = Duration::from_secs(20);
        let dues: std::collections::BTreeSet<Instant> = (0..1000)
            .map(|n| {
                let random = [1.0, f64::from(n) / 1000.0];
                let monitor = Monitor::new(now(123), timeout, &SupervisorConfig::default(), random);
                monitor.due()
            })
            .collect();
        // In the second half of ten seconds, every 200 ms.
        assert_eq!(dues.len(), 26, "{dues:?}");
        assert!(dues.iter().all(|due| due.since_start().as_millis() % 200 == 0));
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
        let figures = |handled, errors| Figures {
            handled,
            errors,
            memory_bytes: Some(9),
            ..Figures::default()
        };
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
        let hour = Duration::from_secs(3600);
        let mut monitor = Monitor::new(now(0), hour, &SupervisorConfig::default(), [1.0, 1.0]);
        for ms in [30_000, 60_000, 90_000] {
            assert_eq!(monitor.due(), now(ms).at);
            assert_eq!(poll(&mut monitor, ms), Some(Finding::Report));
            assert_eq!(poll(&mut monitor, ms), None);
        }
    }

    #[test]
    fn each_threshold_has_its_checks_and_the_same_deadline() {
        for threshold in [1, 2, 3, 5, 10] {
            let mut monitor = with_threshold(threshold);
            let part = 1000 / u64::from(threshold);
            // A fiftieth of the part earlier at the most.
            let sent = monitor.due().since_start().as_millis() as u64;
            assert!((part - part / 50..=part).contains(&sent), "threshold {threshold}: {sent}");
            assert_eq!(poll(&mut monitor, sent + 1), Some(Finding::Ping { seq: 1 }));
            let sent = sent + 1;
            for check in 1..u64::from(threshold) {
                let at = sent + part * check;
                assert_eq!(poll(&mut monitor, at - 1), None, "{threshold}: {check}");
                assert_eq!(poll(&mut monitor, at + 1), Some(Finding::Report));
                assert_eq!(missed(&monitor), check as u32);
                assert_eq!(poll(&mut monitor, at + 1), None, "once");
            }
            assert_eq!(monitor.due(), now(sent + 1000).at, "threshold {threshold}");
            assert_eq!(poll(&mut monitor, sent + 999), None);
            assert_eq!(poll(&mut monitor, sent + 1000), Some(Finding::Unresponsive));
        }
    }

    #[test]
    fn checks_that_nobody_looked_at_are_told_of_together() {
        let mut monitor = with_threshold(5);
        poll(&mut monitor, 200);
        assert_eq!(poll(&mut monitor, 810), Some(Finding::Report));
        assert_eq!(missed(&monitor), 3);
        assert_eq!(poll(&mut monitor, 810), None);
        assert_eq!(monitor.due(), now(1000).at);
    }

    #[test]
    fn one_that_is_always_as_late_is_told_of_once() {
        let mut monitor = with_threshold(4);
        let mut reports = Vec::new();
        let mut at = 250;
        for late in [300, 300, 600, 300, 600, 10, 300] {
            assert!(matches!(poll(&mut monitor, at), Some(Finding::Ping { .. })));
            for step in 1..late / 50 {
                if poll(&mut monitor, at + step * 50) == Some(Finding::Report) {
                    reports.push(missed(&monitor));
                }
            }
            at += late;
            if monitor.pong(now(at), monitor.seq, Figures::default()) {
                reports.push(missed(&monitor));
            }
            at = at.max(monitor.due().since_start().as_millis() as u64);
        }
        assert_eq!(reports, [1, 2, 0, 1]);
    }

    #[test]
    fn a_word_between_tells_a_backlog_from_an_agent_that_is_stuck() {
        let figures = |handled| Figures { handled, ..Figures::default() };
        let missed = |words: &[(u64, u64)]| {
            let mut monitor = monitor();
            monitor.pong(now(400), Monitor::UNASKED, figures(10));
            poll(&mut monitor, 500);
            for &(ms, handled) in words {
                assert!(!monitor.pong(now(ms), Monitor::UNASKED, figures(handled)));
            }
            assert_eq!(poll(&mut monitor, 1000), Some(Finding::Report));
            assert_eq!(
                poll(&mut monitor, 1507),
                Some(Finding::Unresponsive),
                "a word is no answer"
            );
            monitor.unanswered(now(1507).at)
        };
        let age = Duration::from_millis(1007);
        assert_eq!(missed(&[]), Unanswered { deadline: TIMEOUT, age, handled: 0 });
        assert_eq!(missed(&[(600, 12), (900, 25)]).handled, 15);
    }

    #[test]
    fn what_an_answer_brings_is_shown_in_metrics_and_counters() {
        let mut monitor = monitor();
        assert_eq!(monitor.counters(now(3).at), AgentCounters::default());
        let quantiles = super::super::Quantiles { p50: 1, p90: 2, p99: 3 };
        poll(&mut monitor, 500);
        let figures = Figures {
            handled: 7,
            errors: 1,
            memory_bytes: Some(65_536),
            handling_us: Some(quantiles),
            mailbox_delay_us: Some(4),
        };
        monitor.pong(now(510), 1, figures);
        let counters = monitor.counters(now(550).at);
        let expected = AgentCounters {
            handled: 7,
            errors: 1,
            memory_bytes: Some(65_536),
            handling_us: Some(quantiles),
            mailbox_delay_us: Some(4),
            last_answer_ms: Some(40),
        };
        assert_eq!(counters, expected);
        let metrics = monitor.metrics();
        assert_eq!((metrics.handled, metrics.errors), (Some(7), Some(1)));
        assert_eq!((metrics.handling_us, metrics.mailbox_delay_us), (Some(quantiles), Some(4)));
        poll(&mut monitor, 1000);
        let clock_was_set = Figures { mailbox_delay_us: Some(3_600_000_000), ..figures };
        monitor.pong(now(1002), 2, clock_was_set);
        assert_eq!(
            monitor.metrics().mailbox_delay_us,
            Some(2_000),
            "no longer than the answer took"
        );
    }
}
