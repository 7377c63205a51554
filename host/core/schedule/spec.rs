//! When a schedule is due: the union of its calendars, cron expressions and intervals, without what is excluded, between its
//! bounds. A time that is due is *nominal*; jitter says how much later it is acted on.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, CalendarSpec};
use super::cron::{self, Cron};
use super::span::Span;
use crate::ids::Timestamp;

/// The most calendars, expressions, intervals and exclusions of one schedule.
pub const MOST_PARTS: usize = 100;
/// The shortest interval.
const SHORTEST: Span = Span::seconds(1);
/// The longest interval, jitter or window.
pub const LONGEST: Span = Span::days(36_500);
/// Excluded times in a row, behind which none is looked for.
const MOST_EXCLUDED: usize = 100_000;

/// When a schedule is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Cron expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<String>,
    /// Calendar times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<CalendarSpec>,
    /// Intervals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<IntervalSpec>,
    /// Calendar times that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<CalendarSpec>,
    /// Nothing before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Nothing behind this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Timestamp>,
    /// Each time is acted on up to so much later, but before the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// The time zone of calendars and of cron expressions that name none (an IANA name); UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Times at equal distances, counted from 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalSpec {
    /// The distance, at least a second.
    pub every: Span,
    /// How much later than a multiple of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Span>,
}

/// A specification that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Times {
    calendars: Vec<Calendar>,
    intervals: Vec<IntervalSpec>,
    exclude: Vec<Calendar>,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    jitter: Span,
    seed: u64,
}

impl ScheduleSpec {
    /// Gets it ready. `zone` finds a time zone by its name, and `id` tells one schedule's jitter from another's.
    ///
    /// # Errors
    /// What of it cannot be, and why.
    pub fn times(&self, id: &str, zone: impl Fn(&str) -> Option<TimeZone>) -> Result<Times, String> {
        let parts = self.cron.len() + self.calendars.len() + self.intervals.len();
        if parts == 0 {
            return Err("spec: at least one of cron, calendars and intervals".to_owned());
        }
        if parts + self.exclude.len() > MOST_PARTS {
            return Err(format!(
                "spec: at most {MOST_PARTS} expressions, calendars, intervals and exclusions"
            ));
        }
        let find = |name: &str| zone(name).ok_or_else(|| format!("there is no time zone `{name}`"));
        let own = match &self.time_zone {
            Some(name) => find(name).map_err(|why| format!("spec: time_zone: {why}"))?,
            None => TimeZone::UTC,
        };
        let mut intervals = self.intervals.clone();
        let mut calendars = Vec::new();
        for (number, text) in self.cron.iter().enumerate() {
            let wrong = |why: String| format!("spec: cron[{number}]: {why}");
            match cron::parse(text).map_err(wrong)? {
                Cron::Interval(interval) => intervals.push(interval),
                Cron::Calendar(zone, calendar) => {
                    let zone = zone.map(|name| find(&name)).transpose().map_err(wrong)?;
                    calendars.push(calendar.compile(zone.as_ref().unwrap_or(&own)).map_err(wrong)?);
                }
            }
        }
        let compile = |name: &str, list: &[CalendarSpec]| -> Result<Vec<Calendar>, String> {
            let each = list.iter().enumerate().map(|(number, calendar)| {
                calendar.compile(&own).map_err(|why| format!("spec: {name}[{number}]: {why}"))
            });
            each.collect()
        };
        calendars.extend(compile("calendars", &self.calendars)?);
        for (number, interval) in intervals.iter().enumerate() {
            let IntervalSpec { every, offset } = interval;
            if *every < SHORTEST || *every > LONGEST || offset.is_some_and(|offset| offset >= *every) {
                return Err(format!(
                    "spec: intervals[{number}]: every is between {SHORTEST} and {LONGEST}, and offset is less than it"
                ));
            }
        }
        let jitter = self.jitter.unwrap_or_default();
        if jitter > LONGEST {
            return Err(format!("spec: jitter: at most {LONGEST}"));
        }
        if self.start_at.zip(self.end_at).is_some_and(|(start, end)| end < start) {
            return Err("spec: end_at is before start_at".to_owned());
        }
        Ok(Times {
            calendars,
            intervals,
            exclude: compile("exclude", &self.exclude)?,
            start_at: self.start_at,
            end_at: self.end_at,
            jitter,
            seed: id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
        })
    }
}

impl Times {
    /// The first nominal time behind `after`.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut after = match self.start_at {
            Some(start) => after.max(Timestamp(start.0 - 1)),
            None => after,
        };
        for _ in 0..MOST_EXCLUDED {
            let calendars = self.calendars.iter().filter_map(|calendar| calendar.next(after));
            let intervals = self.intervals.iter().map(|interval| interval.next(after));
            let next = calendars.chain(intervals).min()?;
            if self.end_at.is_some_and(|end| next > end) || next > Timestamp::MAX {
                return None;
            }
            if !self.exclude.iter().any(|excluded| excluded.matches(next)) {
                return Some(next);
            }
            after = next;
        }
        None
    }

    /// When a nominal time is acted on: up to the jitter later, always as much for the same schedule and time, and before
    /// the next nominal time.
    #[must_use]
    pub fn acted_on(&self, nominal: Timestamp) -> Timestamp {
        if self.jitter.0 == 0 {
            return nominal;
        }
        let room = self.next(nominal).map_or(u64::MAX, |next| next.ms_since(nominal));
        let most = self.jitter.0.min(room);
        nominal.plus_ms(scattered(self.seed ^ nominal.0.unsigned_abs()) % most.max(1))
    }
}

impl IntervalSpec {
    /// The first of its times behind `after`.
    fn next(&self, after: Timestamp) -> Timestamp {
        let every = i64::try_from(self.every.0).unwrap_or(i64::MAX).max(1);
        let offset = i64::try_from(self.offset.unwrap_or_default().0).unwrap_or(0);
        let passed = after.0.saturating_sub(offset).div_euclid(every);
        Timestamp(passed.saturating_add(1).saturating_mul(every).saturating_add(offset))
    }
}

/// A number that looks like chance and is not (the finalizer of splitmix64).
const fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn times(spec: serde_json::Value) -> Times {
        try_times(spec).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_times(spec: serde_json::Value) -> Result<Times, String> {
        let spec: ScheduleSpec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
        spec.times("test", |name| TimeZone::get(name).ok())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The next times, in the short form of the test's table.
    fn next(spec: serde_json::Value, after: &str, count: usize) -> Vec<String> {
        let times = times(spec);
        let first = times.next(at(after));
        let all = std::iter::successors(first, |time| times.next(*time)).take(count);
        all.map(|time| time.to_string().replace(".000Z", "Z")).collect()
    }

    #[test]
    fn times_come_in_their_order() {
        let cases: [(serde_json::Value, &str, &[&str]); 12] = [
            (
                json!({ "cron": ["30 9 * * MON-FRI"] }),
                "2026-01-02T09:30:00Z",
                &["2026-01-05T09:30:00Z", "2026-01-06T09:30:00Z"],
            ),
            (json!({ "cron": ["@yearly"] }), "2026-01-01T00:00:00Z", &["2027-01-01T00:00:00Z"]),
            (json!({ "cron": ["@monthly # rent"] }), "2026-01-31T12:00:00Z", &["2026-02-01T00:00:00Z"]),
            (json!({ "cron": ["@weekly"] }), "2026-01-01T00:00:00Z", &["2026-01-04T00:00:00Z"]),
            (json!({ "cron": ["@every 1h/5m"] }), "2026-01-01T00:05:00Z", &["2026-01-01T01:05:00Z"]),
            (
                json!({ "cron": ["*/20 0 29 2 *"] }),
                "2026-01-01T00:00:00Z",
                &[
                    "2028-02-29T00:00:00Z",
                    "2028-02-29T00:20:00Z",
                    "2028-02-29T00:40:00Z",
                    "2032-02-29T00:00:00Z",
                ],
            ),
            // Both days have to be right.
            (json!({ "cron": ["0 0 13 * 5"] }), "2026-01-01T00:00:00Z", &["2026-02-13T00:00:00Z"]),
            (json!({ "cron": ["10 5 4 3 2 * 2027"] }), "2026-01-01T00:00:00Z", &["2027-02-03T04:05:10Z"]),
            (json!({ "cron": ["0 0 * * 7"] }), "2026-01-01T00:00:00Z", &["2026-01-04T00:00:00Z"]),
            (
                json!({ "calendars": [{ "hour": "22-23", "minute": 15, "day_of_week": "sat" }],
                        "intervals": [{ "every": "7d", "offset": "1d 23h" }] }),
                "2026-01-01T00:00:00Z",
                &[
                    "2026-01-02T23:00:00Z",
                    "2026-01-03T22:15:00Z",
                    "2026-01-03T23:15:00Z",
                    "2026-01-09T23:00:00Z",
                ],
            ),
            (
                json!({ "intervals": [{ "every": "1h" }], "exclude": [{ "hour": "1-22" }],
                        "start_at": "2026-01-01T00:00:00Z", "end_at": "2026-01-01T23:00:00Z" }),
                "2020-01-01T00:00:00Z",
                &["2026-01-01T00:00:00Z", "2026-01-01T23:00:00Z"],
            ),
            (
                json!({ "cron": ["CRON_TZ=Asia/Kolkata 0 9 * * *", "0 4 * * *"], "time_zone": "Europe/Berlin" }),
                "2026-06-01T00:00:00Z",
                &["2026-06-01T02:00:00Z", "2026-06-01T03:30:00Z"],
            ),
        ];
        for (spec, after, expected) in cases {
            assert_eq!(next(spec.clone(), after, expected.len()), expected, "{spec}");
        }
        assert_eq!(next(json!({ "cron": ["0 0 30 2 *"] }), "2026-01-01T00:00:00Z", 1), [""; 0]);
        assert_eq!(next(json!({ "cron": ["0 0 * * * 2020"] }), "2026-01-01T00:00:00Z", 1), [""; 0]);
        let everything = json!({ "cron": ["0 * * * *"], "exclude": [{ "hour": "*" }] });
        assert_eq!(next(everything, "2099-01-01T00:00:00Z", 1), [""; 0]);
    }

    #[test]
    fn a_clock_that_is_put_forward_has_no_such_time_and_one_that_is_put_back_has_it_twice() {
        // Berlin leaves 02:00 to 03:00 out on 29 March 2026, and has it twice on 25 October.
        let berlin = |cron: &str| json!({ "cron": [cron], "time_zone": "Europe/Berlin" });
        let cases: [(serde_json::Value, &str, &[&str]); 6] = [
            (berlin("30 2 * * *"), "2026-03-28T00:00:00Z", &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]),
            (
                berlin("30 2 * * *"),
                "2026-10-24T12:00:00Z",
                &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            // The local hour stays, the distance does not.
            (berlin("0 9 * * *"), "2026-03-28T00:00:00Z", &["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"]),
            // Every half an hour has no gap and no double.
            (
                berlin("*/30 * * * *"),
                "2026-10-24T23:50:00Z",
                &[
                    "2026-10-25T00:00:00Z",
                    "2026-10-25T00:30:00Z",
                    "2026-10-25T01:00:00Z",
                    "2026-10-25T01:30:00Z",
                ],
            ),
            (
                berlin("*/30 * * * *"),
                "2026-03-29T00:20:00Z",
                &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
            ),
            // Lord Howe goes by half an hour, at 02:00 forward and at 02:00 back to 01:30.
            (
                json!({ "cron": ["45 1 * * *"], "time_zone": "Australia/Lord_Howe" }),
                "2026-04-04T00:00:00Z",
                &["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"],
            ),
        ];
        for (spec, after, expected) in cases {
            assert_eq!(next(spec.clone(), after, expected.len()), expected, "{spec}");
        }
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_the_same() {
        let times = times(json!({ "cron": ["*/10 * * * *"], "jitter": "1h" }));
        let small = super::tests::times(json!({ "cron": ["0 * * * *"], "jitter": "90s" }));
        let (mut nominal, mut scattered) = (at("2026-01-01T00:00:00Z"), std::collections::BTreeSet::new());
        for _ in 0..500 {
            nominal = times.next(nominal).expect("it goes on");
            let acted = times.acted_on(nominal);
            assert_eq!(acted, times.acted_on(nominal));
            assert!(acted >= nominal && acted < times.next(nominal).expect("it goes on"));
            scattered.insert(acted.ms_since(nominal));
            assert!(small.acted_on(nominal).ms_since(nominal) < 90_000);
        }
        assert!(scattered.len() > 450, "it looks like chance: {}", scattered.len());
        let none = super::tests::times(json!({ "cron": ["0 * * * *"] }));
        assert_eq!(none.acted_on(nominal), nominal);
    }

    #[test]
    fn what_is_no_specification_is_told() {
        let cases = [
            (json!({}), "at least one of cron, calendars and intervals"),
            (json!({ "cron": ["* * * *"] }), "cron[0]: a cron expression has 5, 6 or 7 fields, not 4"),
            (json!({ "cron": ["@daily", "61 * * * *"] }), "cron[1]: minute: 61 is not between 0 and 59"),
            (json!({ "cron": ["* * * * FOO"] }), "cron[0]: day_of_week: `FOO` is no number"),
            (json!({ "cron": ["5-1 * * * *"] }), "cron[0]: minute: `5-1` ends before it begins"),
            (json!({ "cron": ["*/0 * * * *"] }), "cron[0]: minute: `0` is no step"),
            (json!({ "cron": ["@sometimes"] }), "cron[0]: `@sometimes` is none of"),
            (
                json!({ "cron": ["CRON_TZ=Mars/Base 0 0 * * *"] }),
                "cron[0]: there is no time zone `Mars/Base`",
            ),
            (json!({ "cron": ["@daily"], "time_zone": "Moon" }), "time_zone: there is no time zone `Moon`"),
            (json!({ "calendars": [{ "month": "13" }] }), "calendars[0]: month: 13 is not between 1 and 12"),
            (
                json!({ "calendars": [{ "year": "1999" }] }),
                "calendars[0]: year: 1999 is not between 2000 and 2100",
            ),
            (json!({ "intervals": [{ "every": "10ms" }] }), "intervals[0]: every is between 1s and 36500d"),
            (json!({ "intervals": [{ "every": "1h", "offset": "1h" }] }), "offset is less than it"),
            (
                json!({ "cron": ["@daily"], "start_at": "2026-01-02T00:00:00Z", "end_at": "2026-01-01T00:00:00Z" }),
                "end_at is before start_at",
            ),
            (json!({ "cron": vec!["@daily"; 101] }), "at most 100 expressions"),
        ];
        for (spec, why) in cases {
            let error = try_times(spec.clone()).err().unwrap_or_default();
            assert!(error.contains(why), "{spec}: {error}");
        }
    }
}
