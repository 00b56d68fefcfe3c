//! When a schedule is due: five fields of cron, in UTC.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

impl Schedule {
    /// Reads five fields of cron.
    ///
    /// # Errors
    /// What is wrong with them, in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| {
            format!(
                "schedule: expected five fields of cron such as \"0 3 * * *\", not {text:?}: {error}"
            )
        })?;
        let schedule = Self(cron);
        match schedule.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(format!("schedule: {text:?} is never due")),
        }
    }

    /// The first time it is due after this one.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let civil = TimeZone::UTC.to_datetime(time);
        let next = self.0.find_next_occurrence(&civil, false).ok()?;
        TimeZone::UTC.to_timestamp(next).ok()
    }

    /// The last time it was due after `since` and not after `now`: one that was missed counts, those
    /// before it do not.
    pub fn due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let civil = TimeZone::UTC.to_datetime(now);
        let last = self.0.find_previous_occurrence(&civil, true).ok()?;
        let last = TimeZone::UTC.to_timestamp(last).ok()?;
        (last > since && last <= now).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn nights_follow_each_other_in_utc() {
        let nightly = Schedule::parse("0 3 * * *").unwrap();
        let next = |time| nightly.after(at(time)).unwrap().to_string();
        assert_eq!(next("2027-03-27T12:00:00Z"), "2027-03-28T03:00:00Z");
        // Clocks that people set forward in that night take no part.
        assert_eq!(next("2027-03-28T03:00:00Z"), "2027-03-29T03:00:00Z");
        assert_eq!(next("2027-03-28T02:59:59Z"), "2027-03-28T03:00:00Z");
        let sundays = Schedule::parse("30 4 * * 0").unwrap();
        let sunday = sundays.after(at("2026-11-22T04:30:00Z")).unwrap();
        assert_eq!(sunday.to_string(), "2026-11-29T04:30:00Z");
    }

    #[test]
    fn of_what_was_missed_only_the_last_is_made_good() {
        let hourly = Schedule::parse("0 * * * *").unwrap();
        let due = |since, now| hourly.due(at(since), at(now)).map(|t| t.to_string());
        assert_eq!(
            due("2027-01-01T00:00:00Z", "2027-01-01T05:30:00Z").as_deref(),
            Some("2027-01-01T05:00:00Z")
        );
        assert_eq!(due("2027-01-01T05:00:00Z", "2027-01-01T05:30:00Z"), None);
        assert_eq!(
            due("2027-01-01T05:00:00Z", "2027-01-01T06:00:00Z").as_deref(),
            Some("2027-01-01T06:00:00Z")
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            "",
            "nightly",
            "0 3 * *",
            "0 0 3 * * *",
            "61 * * * *",
            "0 0 30 2 *",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
