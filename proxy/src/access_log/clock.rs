//! The time of day, as lines have it, in UTC. Its text is made once a second.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A worker's clock.
pub(super) struct Clock {
    /// When the system's was read last, and what it said, since 1970.
    read: Instant,
    said: Duration,
    /// The second that the texts are of.
    second: u64,
    /// `2026-11-30T10:04:05`
    iso: Vec<u8>,
    /// `30/Nov/2026:10:04:05 +0000`
    local: Vec<u8>,
    /// `Nov 30 10:04:05`
    syslog: String,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'c> {
    pub(super) iso: &'c [u8],
    pub(super) local: &'c [u8],
    pub(super) syslog: &'c str,
    pub(super) second: u64,
    pub(super) millis: u32,
}

impl Clock {
    pub(super) fn new() -> Self {
        let mut clock = Self {
            read: Instant::now(),
            said: Duration::ZERO,
            second: 0,
            iso: Vec::new(),
            local: Vec::new(),
            syslog: String::new(),
        };
        clock.set(SystemTime::now());
        clock
    }

    /// What the system's clock says now: it is read.
    fn set(&mut self, now: SystemTime) {
        self.said = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.second = self.said.as_secs();
        self.iso.clear();
        self.local.clear();
        let (year, month, day) = date(self.second / DAY);
        let of_day = self.second % DAY;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let name = MONTHS[month as usize - 1];
        // Writing to memory does not fail.
        let _ = write!(
            self.iso,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        );
        let _ = write!(
            self.local,
            "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"
        );
        self.syslog = format!("{name} {day:>2} {hour:02}:{minute:02}:{second:02}");
    }

    /// The time at `now`.
    pub(super) fn at(&mut self, now: Instant) -> Moment<'_> {
        let mut time = self.said + now.saturating_duration_since(self.read);
        if time.as_secs() != self.second {
            self.read = now;
            self.set(SystemTime::now());
            time = self.said;
        }
        Moment {
            iso: &self.iso,
            local: &self.local,
            syslog: &self.syslog,
            second: self.second,
            millis: time.subsec_millis(),
        }
    }
}

/// Year, month and day, so many days after 1970 began. March is the first month of the years that are
/// counted here, so that a leap day is the last of one.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From 1 March of the year 0.
    let days = days + 719_468;
    let era = days / DAYS_OF_400_YEARS;
    let of_era = days % DAYS_OF_400_YEARS;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, want) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_787, (2026, 11, 30)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), want);
        }
        // Day after day, as httpdate has them.
        for days in 0..60_000 {
            let time = UNIX_EPOCH + Duration::from_secs(days * DAY);
            let (year, month, day) = date(days);
            let name = MONTHS[month as usize - 1];
            let text = httpdate::fmt_http_date(time);
            assert!(
                text.contains(&format!(" {day:02} {name} {year} ")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_moment_is_written_in_both_forms() {
        let mut clock = Clock::new();
        let time = Duration::from_millis(1_796_033_045_678);
        clock.set(UNIX_EPOCH + time);
        let moment = clock.at(clock.read);
        assert_eq!(moment.iso, b"2026-11-30T10:04:05");
        assert_eq!(moment.local, b"30/Nov/2026:10:04:05 +0000");
        assert_eq!((moment.second, moment.millis), (1_796_033_045, 678));
    }

    #[test]
    fn the_system_clock_is_read_again_when_a_second_is_over() {
        let mut clock = Clock::new();
        clock.set(UNIX_EPOCH);
        let begun = clock.read;
        let soon = clock.at(begun + Duration::from_millis(999));
        assert_eq!((soon.second, soon.millis), (0, 999));
        let later = clock.at(begun + Duration::from_secs(1));
        assert!(later.second > 1_700_000_000, "{later:?}");
    }
}
