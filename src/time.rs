//! Time as the core sees it: monotonic instants and wall-clock timestamps, both handed in by the
//! host. Nothing in the core reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// A point on the host's monotonic clock: the time since the host's start.
///
/// Our own, since `std::time::Instant` does not exist in a browser and cannot be made up in a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The host's start.
    pub const START: Self = Self(Duration::ZERO);

    /// The instant that lies `since_start` after the host's start.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The time since the host's start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is the later one.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, so that "never" can be written as `Duration::MAX`.
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

/// A moment on the wall clock; RFC 3339 in UTC with microseconds on the wire
/// (`2026-11-21T20:50:00.123456Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub(crate) const EPOCH: Self = Self(DateTime::<Utc>::UNIX_EPOCH);

    /// The moment that lies `since_epoch` after 1970-01-01T00:00:00Z.
    ///
    /// A value beyond the calendar's range (the year 262,142) is held at its end.
    pub fn from_epoch(since_epoch: Duration) -> Self {
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        Self(
            DateTime::from_timestamp(seconds, since_epoch.subsec_nanos())
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        )
    }

    /// With milliseconds, as the log has it: `2026-11-21T20:50:00.123Z`.
    pub fn to_millis(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn unix_micros(self) -> u64 {
        u64::try_from(self.0.timestamp_micros()).unwrap_or(0)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, as in `Message::timestamp`.
    pub fn unix_seconds(self) -> u64 {
        u64::try_from(self.0.timestamp()).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|moment| Self(moment.with_timezone(&Utc))).map_err(
            |error| de::Error::custom(format!("{text:?} is not an RFC 3339 time: {error}")),
        )
    }
}

/// The wall clock in whole seconds, for a host: to read it can cost as much as half a message, so one
/// reading serves for the sends of one handler.
#[derive(Debug, Default)]
pub struct Seconds {
    /// What was read, and how often it was used.
    read: Option<(u64, u32)>,
}

impl Seconds {
    /// A reading is used for this many messages at the most: in a loop of sends, that is half a
    /// millisecond.
    const USES: u32 = 256;

    /// The seconds since the Unix epoch; `clock` is asked where no reading serves.
    pub fn get(&mut self, clock: impl FnOnce() -> u64) -> u64 {
        match &mut self.read {
            Some((seconds, uses)) if *uses < Self::USES => {
                *uses += 1;
                *seconds
            }
            _ => {
                let seconds = clock();
                self.read = Some((seconds, 0));
                seconds
            }
        }
    }

    /// The next one is read anew.
    pub fn forget(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc_with_microseconds() {
        let moment = Timestamp::from_epoch(Duration::from_micros(1_795_294_200_123_456));
        assert_eq!(moment.to_string(), "2026-11-21T20:50:00.123456Z");
        assert_eq!(moment.to_millis(), "2026-11-21T20:50:00.123Z");
        assert_eq!(moment.unix_seconds(), 1_795_294_200);
        assert_eq!(moment.unix_micros(), 1_795_294_200_123_456);
        let json = serde_json::to_string(&moment).expect("a timestamp serializes");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("and parses"), moment);
    }

    #[test]
    fn a_timestamp_with_an_offset_is_taken_and_nonsense_is_named() {
        let moment: Timestamp =
            serde_json::from_str("\"2026-11-21T22:50:00+02:00\"").expect("an offset is fine");
        assert_eq!(moment.to_string(), "2026-11-21T20:50:00.000000Z");
        let error = serde_json::from_str::<Timestamp>("\"yesterday\"").expect_err("not a time");
        assert!(error.to_string().contains("yesterday"), "{error}");
    }

    #[test]
    fn instants_saturate() {
        let late = Instant::from_start(Duration::from_secs(5));
        assert_eq!(Instant::START - late, Duration::ZERO);
        assert_eq!(late - Instant::START, Duration::from_secs(5));
        assert!(late + Duration::MAX > late);
    }
}
