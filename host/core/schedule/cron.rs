//! Cron expressions, as Temporal reads them: `[CRON_TZ=ZONE] MINUTE HOUR DAY MONTH WEEKDAY [YEAR]`, with a second before them where
//! there are seven fields, a name (`@daily`), or `@every 1h/5m`; behind a `#` stands a comment.
//!
//! Each becomes calendar times or an interval. A day has to be both the day of the month and the day of the week that are asked for.

use super::calendar::CalendarSpec;
use super::spec::IntervalSpec;

/// What an expression means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cron {
    /// Calendar times, in a time zone of its own where it names one.
    Calendar(Option<String>, CalendarSpec),
    /// An interval.
    Interval(IntervalSpec),
}

/// Reads an expression.
///
/// # Errors
/// Why it is none.
pub(super) fn parse(text: &str) -> Result<Cron, String> {
    let without_comment = text.split_once('#').map_or(text, |(expression, _)| expression);
    let mut fields: Vec<&str> = without_comment.split_whitespace().collect();
    let zone = fields.first().and_then(|first| {
        first.strip_prefix("CRON_TZ=").or_else(|| first.strip_prefix("TZ=")).map(str::to_owned)
    });
    if zone.is_some() {
        fields.remove(0);
    }
    let some = |text: &str| Some(text.to_owned());
    let calendar = match fields.as_slice() {
        ["@every", interval @ ..] if !interval.is_empty() => {
            if zone.is_some() {
                return Err("an interval has no time zone".to_owned());
            }
            return every(&interval.concat()).map(Cron::Interval);
        }
        ["@yearly" | "@annually"] => {
            CalendarSpec { day_of_month: some("1"), month: some("1"), ..CalendarSpec::default() }
        }
        ["@monthly"] => CalendarSpec { day_of_month: some("1"), ..CalendarSpec::default() },
        ["@weekly"] => CalendarSpec { day_of_week: some("0"), ..CalendarSpec::default() },
        ["@daily" | "@midnight"] => CalendarSpec::default(),
        ["@hourly"] => CalendarSpec { hour: some("*"), ..CalendarSpec::default() },
        [name] if name.starts_with('@') => {
            return Err(format!(
                "`{name}` is none of @yearly, @monthly, @weekly, @daily, @hourly, @every INTERVAL"
            ));
        }
        [minute, hour, day, month, weekday, year @ ..] if year.len() < 2 => CalendarSpec {
            minute: some(minute),
            hour: some(hour),
            day_of_month: some(day),
            month: some(month),
            day_of_week: some(weekday),
            year: year.first().map(|year| (*year).to_owned()),
            ..CalendarSpec::default()
        },
        [second, minute, hour, day, month, weekday, year] => CalendarSpec {
            second: some(second),
            minute: some(minute),
            hour: some(hour),
            day_of_month: some(day),
            month: some(month),
            day_of_week: some(weekday),
            year: some(year),
            comment: None,
        },
        other => return Err(format!("a cron expression has 5, 6 or 7 fields, not {}", other.len())),
    };
    Ok(Cron::Calendar(zone, calendar))
}

/// `1h`, or `1h/5m` with an offset.
fn every(text: &str) -> Result<IntervalSpec, String> {
    let (every, offset) = match text.split_once('/') {
        Some((every, offset)) => (every.parse()?, Some(offset.parse()?)),
        None => (text.parse()?, None),
    };
    Ok(IntervalSpec { every, offset })
}
