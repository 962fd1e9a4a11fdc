//! Figures for people.

use std::time::Duration;

/// What stands for a figure that is not known.
pub(super) const UNKNOWN: &str = "-";

/// A figure, or what stands for an unknown one.
pub(super) fn or_unknown<T>(figure: Option<T>, show: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// Bytes in powers of 1024: `512 B`, `64.0 KiB`, `1.1 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024.0 of one unit is 1.0 of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time of µs to seconds: `14 µs`, `20.5 ms`, `1.5 s`.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..999_950 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// A time of seconds to days, by its two largest units: `59 s`, `2 min 5 s`, `3 h 0 min`, `4 d 7 h`.
pub(super) fn long(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if minutes == 0 {
        format!("{seconds} s")
    } else if hours == 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else if days == 0 {
        format!("{hours} h {} min", minutes % 60)
    } else {
        format!("{days} d {} h", hours % 24)
    }
}

/// Something per second: `0`, `0.4`, `12.5`, `2041`, `1.3 M`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate if rate < 999_500.0 => format!("{rate:.0}"),
        rate => format!("{:.1} M", rate / 1e6),
    }
}

/// `1 agent`, `2 agents`.
pub(super) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_as_people_read_them() {
        let shown = [0, 1023, 1024, 65_536, 1_179_648, (1 << 20) - 1, 1 << 30, u64::MAX].map(bytes);
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "64.0 KiB", "1.1 MiB", "1.0 MiB", "1.0 GiB", "16.0 EiB"];
        assert_eq!(shown, expected);
        let shown = [0, 999, 1_000, 20_480, 999_949, 999_950, 1_500_000].map(micros);
        assert_eq!(shown, ["0 µs", "999 µs", "1.0 ms", "20.5 ms", "999.9 ms", "1.0 s", "1.5 s"]);
        let shown = [0, 59, 125, 10_800, 370_800].map(|s| long(Duration::from_secs(s)));
        assert_eq!(shown, ["0 s", "59 s", "2 min 5 s", "3 h 0 min", "4 d 7 h"]);
        let shown = [0.0, 0.04, 0.4, 12.45, 99.94, 2041.2, 999_499.0, 1_300_000.0].map(rate);
        assert_eq!(shown, ["0", "0", "0.4", "12.4", "99.9", "2041", "999499", "1.3 M"]);
        assert_eq!(or_unknown(None, bytes), "-");
        assert_eq!((count(1, "node"), count(0, "node")), ("1 node".into(), "0 nodes".into()));
    }
}
