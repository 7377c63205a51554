//! Calendar times: each field of the clock is to be one of a set of numbers. The clock is read literally, as Temporal does: a
//! time that a day does not have (the hour that is left out in spring) is passed over, one that it has twice counts twice.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::Timestamp;

/// The first and the last year of which there are calendar times.
pub const YEARS: (u8, u16, u16) = (0, 2_000, 2_100);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Which times of the clock are meant: a time is one of them if each of its fields is. A field is `*`, a number or a name
/// (`MON`, `jan`), a range `x-y`, each with a step `/z`, or several of these with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarSpec {
    /// 0 to 59; `0` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// 0 to 59; `0` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub minute: Option<String>,
    /// 0 to 23; `0` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// 1 to 31; `*` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    /// 1 to 12 or a name; `*` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    /// 2000 to 2100; `*` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub year: Option<String>,
    /// 0 to 7 or a name, 0 and 7 are Sunday; `*` if absent.
    #[serde(default, deserialize_with = "field", skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A field as text or as a number.
fn field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text such as `*/5`, or a number")]
    enum Field {
        Text(String),
        Number(u16),
    }
    Ok(Option::deserialize(deserializer)?.map(|field| match field {
        Field::Text(text) => text,
        Field::Number(number) => number.to_string(),
    }))
}

/// Calendar times, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    /// Bit n is the number n.
    seconds: u128,
    minutes: u128,
    hours: u128,
    days: u128,
    months: u128,
    /// Bit n is the year 2000 + n.
    years: u128,
    weekdays: u128,
    zone: TimeZone,
}

impl CalendarSpec {
    /// Gets it ready.
    ///
    /// # Errors
    /// Which field cannot be read.
    pub(super) fn compile(&self, zone: &TimeZone) -> Result<Calendar, String> {
        let set = |name: &str, text: &Option<String>, unless: &str, bounds, names: &[&str]| {
            numbers(text.as_deref().unwrap_or(unless), bounds, names).map_err(|why| format!("{name}: {why}"))
        };
        let weekdays = set("day_of_week", &self.day_of_week, "*", (0, 0, 7), &WEEKDAYS)?;
        Ok(Calendar {
            seconds: set("second", &self.second, "0", (0, 0, 59), &[])?,
            minutes: set("minute", &self.minute, "0", (0, 0, 59), &[])?,
            hours: set("hour", &self.hour, "0", (0, 0, 23), &[])?,
            days: set("day_of_month", &self.day_of_month, "*", (0, 1, 31), &[])?,
            months: set("month", &self.month, "*", (1, 1, 12), &MONTHS)?,
            years: set("year", &self.year, "*", YEARS, &[])?,
            weekdays: weekdays | (weekdays >> 7 & 1),
            zone: zone.clone(),
        })
    }
}

/// The numbers of a field, each as a bit: of a year the distance from the first one. `bounds` are the number of the first
/// name, and the least and the greatest number.
fn numbers(text: &str, bounds: (u8, u16, u16), names: &[&str]) -> Result<u128, String> {
    let (first_name, least, greatest) = bounds;
    let base = if least >= 2_000 { least } else { 0 };
    let number = |text: &str| -> Result<u16, String> {
        let named = names.iter().position(|name| {
            text.len() >= name.len()
                && text.is_char_boundary(3)
                && text[..3].eq_ignore_ascii_case(name)
                && text.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
        let number = match named {
            Some(place) => place as u16 + u16::from(first_name),
            None => text.parse().map_err(|_| format!("`{text}` is no number and no name of it"))?,
        };
        if (least..=greatest).contains(&number) {
            return Ok(number);
        }
        Err(format!("{number} is not between {least} and {greatest}"))
    };
    let mut set = 0_u128;
    for part in text.split(',') {
        let part = part.trim();
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => match step.parse::<u16>() {
                Ok(step) if step > 0 => (range, Some(step)),
                Ok(_) | Err(_) => return Err(format!("`{step}` is no step: a number of at least 1")),
            },
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (least, greatest),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (_, None) => {
                let from = number(range)?;
                (from, if step.is_some() { greatest } else { from })
            }
        };
        if from > to {
            return Err(format!("`{range}` ends before it begins"));
        }
        for number in (from..=to).step_by(usize::from(step.unwrap_or(1))) {
            set |= 1 << (number - base);
        }
    }
    Ok(set)
}

/// Whether a number is in a set.
const fn has(set: u128, number: i64) -> bool {
    number >= 0 && number < 128 && set >> number & 1 == 1
}

/// The least number of a set that is not less than `from`.
const fn next_in(set: u128, from: u32) -> Option<u32> {
    if from >= 128 || set >> from == 0 {
        return None;
    }
    Some(from + (set >> from).trailing_zeros())
}

impl Calendar {
    /// The first of its times behind `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let first = after.0.div_euclid(1_000) + 1;
        let mut from = jiff::Timestamp::from_second(first).ok()?;
        loop {
            // The offset is the same until the next transition: there the clock goes on like a plain one.
            let offset = self.zone.to_offset(from);
            let until = self.zone.following(from).next().map(|transition| transition.timestamp());
            let civil = self.next_civil(offset.to_datetime(from));
            let found = civil.and_then(|civil| offset.to_timestamp(civil).ok());
            match (found, until) {
                (Some(found), None) => return Some(Timestamp(found.as_millisecond())),
                (Some(found), Some(until)) if found < until => {
                    return Some(Timestamp(found.as_millisecond()));
                }
                // A clock that is put back may show once more what lay behind the last year.
                (None, Some(until)) if year(until, offset) > i64::from(YEARS.2) => return None,
                (_, Some(until)) => from = until,
                (None, None) => return None,
            }
        }
    }

    /// Whether a time is one of its times.
    pub(super) fn matches(&self, at: Timestamp) -> bool {
        at.0 % 1_000 == 0 && self.next(Timestamp(at.0 - 1)) == Some(at)
    }

    /// The first of its times on a plain clock that is not before `from`.
    fn next_civil(&self, from: DateTime) -> Option<DateTime> {
        let (mut date, mut is_first) = (from.date(), true);
        loop {
            let year = i64::from(date.year()) - i64::from(YEARS.1);
            if year < 0 {
                (date, is_first) = (Date::new(YEARS.1 as i16, 1, 1).ok()?, false);
                continue;
            }
            if date.year() > YEARS.2 as i16 {
                return None;
            }
            if !has(self.years, year) {
                (date, is_first) = (Date::new(date.year() + 1, 1, 1).ok()?, false);
                continue;
            }
            if !has(self.months, i64::from(date.month())) {
                (date, is_first) = (date.last_of_month().tomorrow().ok()?, false);
                continue;
            }
            let weekday = i64::from(date.weekday().to_sunday_zero_offset());
            if has(self.days, i64::from(date.day())) && has(self.weekdays, weekday) {
                let clock = if is_first { (from.hour(), from.minute(), from.second()) } else { (0, 0, 0) };
                if let Some((hour, minute, second)) = self.next_of_day(clock) {
                    return Some(date.at(hour, minute, second, 0));
                }
            }
            (date, is_first) = (date.tomorrow().ok()?, false);
        }
    }

    /// The first of its times of a day that is not before `from`.
    fn next_of_day(&self, from: (i8, i8, i8)) -> Option<(i8, i8, i8)> {
        let [hour, minute, second] = [from.0, from.1, from.2].map(|part| u32::from(part.unsigned_abs()));
        let small = |number: u32| i8::try_from(number).ok();
        let first_minute = next_in(self.minutes, 0)?;
        let first_second = next_in(self.seconds, 0)?;
        if next_in(self.hours, hour)? == hour {
            if next_in(self.minutes, minute) == Some(minute)
                && let Some(second) = next_in(self.seconds, second)
            {
                return Some((small(hour)?, small(minute)?, small(second)?));
            }
            if let Some(minute) = next_in(self.minutes, minute + 1) {
                return Some((small(hour)?, small(minute)?, small(first_second)?));
            }
            let hour = next_in(self.hours, hour + 1)?;
            return Some((small(hour)?, small(first_minute)?, small(first_second)?));
        }
        let hour = next_in(self.hours, hour)?;
        Some((small(hour)?, small(first_minute)?, small(first_second)?))
    }
}

fn year(at: jiff::Timestamp, offset: Offset) -> i64 {
    i64::from(offset.to_datetime(at).year())
}
