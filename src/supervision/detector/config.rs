//! What the detector goes by.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The thresholds of the rules in `docs/DETECTION.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionConfig {
    /// Whether patterns are looked for. Default: true.
    pub enabled: bool,
    /// How far back `failure_spike` and `cascading_failure` look, 100 ms to 1 hour. Default: 10 s.
    pub window: Duration,
    /// How far back `resource_exhaustion` and `network_partition` look, 100 ms to 1 hour.
    /// Default: 1 min.
    pub long_window: Duration,
    /// A count is unusual from its threshold and this many times what is usual on, 1 to 1000.
    /// Default: 3.
    pub baseline_factor: f64,
    /// So many deaths in the window are a spike, 2 to 4096. Default: 10.
    pub spike_failures: u32,
    /// So many agents that fail after another one are a cascade, 2 to 4096. Default: 5.
    pub cascade_agents: u32,
    /// So many failures for want of a resource are an exhaustion, 2 to 4096. Default: 5.
    pub exhaustion_failures: u32,
    /// So many agents that cannot reach others are a partition, 2 to 4096. Default: 5.
    pub partition_agents: u32,
    /// So many slow agents are a degradation, 1 to 4096. Default: 3.
    pub slow_agents: u32,
    /// An agent is slow if it answers that many times as late as it used to, 1 to 1000. Default: 4.
    pub slow_factor: f64,
    /// And not below this, 1 ms to 1 hour. Default: 50 ms.
    pub slow_min: Duration,
    /// How many answers make what an agent is used to, 1 to 100. Default: 5.
    pub slow_samples: u32,
    /// How often a pattern that lasts is told again, 1 s to 1 day. Default: 1 min.
    pub repeat: Duration,
}

/// A value that is out of its range.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{field} is {value}, and must be {allowed}")]
pub struct InvalidDetectionConfig {
    pub(crate) field: &'static str,
    pub(crate) value: String,
    pub(crate) allowed: String,
}

impl Default for DetectionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(10),
            long_window: Duration::from_secs(60),
            baseline_factor: 3.0,
            spike_failures: 10,
            cascade_agents: 5,
            exhaustion_failures: 5,
            partition_agents: 5,
            slow_agents: 3,
            slow_factor: 4.0,
            slow_min: Duration::from_millis(50),
            slow_samples: 5,
            repeat: Duration::from_secs(60),
        }
    }
}

impl DetectionConfig {
    /// Of `window` and `long_window`.
    pub(crate) const WINDOW_MS: RangeInclusive<u64> = 100..=3_600_000;
    /// Of the counts that are compared with a window's.
    pub(crate) const COUNT: RangeInclusive<u64> = 2..=4096;
    /// Of `slow_agents`.
    pub(crate) const SLOW_AGENTS: RangeInclusive<u64> = 1..=4096;
    /// Of both factors.
    pub(crate) const FACTOR: RangeInclusive<f64> = 1.0..=1000.0;
    /// Of `slow_min`.
    pub(crate) const SLOW_MIN_MS: RangeInclusive<u64> = 1..=3_600_000;
    /// Of `slow_samples`.
    pub(crate) const SLOW_SAMPLES: RangeInclusive<u64> = 1..=100;
    /// Of `repeat`, and of the times of alerts.
    pub(crate) const REPEAT_MS: RangeInclusive<u64> = 1_000..=86_400_000;

    /// Checks every value.
    pub fn validate(&self) -> Result<(), InvalidDetectionConfig> {
        let times = [
            ("detection.window", self.window, Self::WINDOW_MS),
            ("detection.long_window", self.long_window, Self::WINDOW_MS),
            ("detection.slow_min", self.slow_min, Self::SLOW_MIN_MS),
            ("detection.repeat", self.repeat, Self::REPEAT_MS),
        ];
        times.into_iter().try_for_each(|(field, time, range)| check_time(field, time, &range))?;
        for (field, value, range) in [
            ("detection.spike_failures", self.spike_failures, Self::COUNT),
            ("detection.cascade_agents", self.cascade_agents, Self::COUNT),
            ("detection.exhaustion_failures", self.exhaustion_failures, Self::COUNT),
            ("detection.partition_agents", self.partition_agents, Self::COUNT),
            ("detection.slow_agents", self.slow_agents, Self::SLOW_AGENTS),
            ("detection.slow_samples", self.slow_samples, Self::SLOW_SAMPLES),
        ] {
            if !range.contains(&u64::from(value)) {
                let allowed = format!("{} to {}", range.start(), range.end());
                return Err(InvalidDetectionConfig { field, value: value.to_string(), allowed });
            }
        }
        for (field, value) in [
            ("detection.baseline_factor", self.baseline_factor),
            ("detection.slow_factor", self.slow_factor),
        ] {
            if !Self::FACTOR.contains(&value) {
                let allowed = "1 to 1000".to_owned();
                return Err(InvalidDetectionConfig { field, value: value.to_string(), allowed });
            }
        }
        Ok(())
    }
}

/// A time in ms within its range. More than that many ms is out of every range.
pub(crate) fn check_time(
    field: &'static str,
    time: Duration,
    range: &RangeInclusive<u64>,
) -> Result<(), InvalidDetectionConfig> {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if range.contains(&ms) {
        return Ok(());
    }
    let allowed = format!("{} to {} ms", range.start(), range.end());
    Err(InvalidDetectionConfig { field, value: format!("{time:?}"), allowed })
}
