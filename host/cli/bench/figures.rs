//! What is measured, as numbers with names. A name says its unit (`_ms`, `_us`, `_bytes`, `_per_second`),
//! and a figure that cannot be known is null, never nought.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::fleet::{Tally, micros};
use super::process::{Process, Usage};
use super::scrape::Scrape;
use super::target::Target;
use crate::cli::failure::Failure;

/// Figures in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct Figures(Vec<(Cow<'static, str>, Option<f64>)>);

/// What is counted, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// What one of them is called: `order`, say.
    pub(super) one: &'static str,
    /// What many of them are called.
    pub(super) many: &'static str,
    /// How many.
    pub(super) count: u64,
    /// Activities that all of them ran, where they run any.
    pub(super) steps: Option<u64>,
}

/// The machine's state when a measurement began.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    host: Option<Usage>,
    driver: Usage,
    scrape: Scrape,
}

/// What a measurement cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// How long it took.
    pub(super) elapsed: Duration,
    host_cpu_ms: Option<u64>,
    driver_cpu_ms: Option<u64>,
    host_peak_memory_bytes: Option<u64>,
    driver_peak_memory_bytes: Option<u64>,
    written_bytes: Option<u64>,
    flushes: f64,
    replays: f64,
}

impl Figures {
    /// What requests came to and what they cost.
    pub(super) fn of(counted: Counted, tally: &Tally, cost: &Cost) -> Self {
        let mut figures = Self::default();
        let many = counted.many;
        figures.put(many, whole(counted.count));
        figures.put("errors", whole(tally.wrong()));
        figures.put("refused", whole(tally.refused));
        figures.put("elapsed_ms", millis(cost.elapsed));
        figures.put(format!("{many}_per_second"), per_second(counted.count, cost.elapsed));
        if let Some(steps) = counted.steps {
            figures.put("steps_per_second", per_second(steps, cost.elapsed));
        }
        figures.latencies(tally);
        figures.cost(counted, cost);
        figures
    }

    /// Adds a figure.
    pub(super) fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Option<f64>>) {
        self.0.push((name.into(), value.into()));
    }

    /// A figure by its name.
    pub(in crate::cli) fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }

    /// All of them.
    pub(in crate::cli) fn iter(&self) -> impl Iterator<Item = (&str, Option<f64>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Adds the latencies, where there are any.
    pub(super) fn latencies(&mut self, tally: &Tally) {
        let found = |value: u64| (tally.right() > 0).then(|| whole(value));
        for (name, quantile) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99)] {
            self.put(name, found(tally.latencies.value_at_quantile(quantile)));
        }
        self.put("max_us", found(tally.latencies.max()));
    }

    /// Adds what it cost.
    pub(super) fn cost(&mut self, counted: Counted, cost: &Cost) {
        let Counted { one, many, count, .. } = counted;
        let each = |cpu_ms: Option<u64>| cpu_ms.filter(|_| count > 0).map(|ms| ratio(ms * 1_000, count));
        self.put("host_cpu_ms", cost.host_cpu_ms.map(whole));
        self.put("driver_cpu_ms", cost.driver_cpu_ms.map(whole));
        self.put(format!("host_cpu_us_per_{one}"), each(cost.host_cpu_ms));
        self.put(format!("driver_cpu_us_per_{one}"), each(cost.driver_cpu_ms));
        self.put("host_peak_memory_bytes", cost.host_peak_memory_bytes.map(whole));
        self.put("driver_peak_memory_bytes", cost.driver_peak_memory_bytes.map(whole));
        self.put("written_bytes", cost.written_bytes.map(whole));
        self.put("flushes", cost.flushes);
        self.put(format!("{many}_per_flush"), (cost.flushes > 0.0).then(|| whole(count) / cost.flushes));
        self.put("replays", cost.replays);
    }

    /// Adds what it cost the host, where the driver does nothing.
    pub(super) fn cost_of_host(&mut self, cost: &Cost) {
        self.put("host_cpu_ms", cost.host_cpu_ms.map(whole));
        self.put("host_peak_memory_bytes", cost.host_peak_memory_bytes.map(whole));
    }

    /// The median of each figure; of an even number, the mean of the middle two.
    pub(super) fn median(repeats: &[Self]) -> Self {
        let Some(first) = repeats.first() else { return Self::default() };
        let median = |name: &str| {
            let mut values: Vec<f64> =
                repeats.iter().map(|figures| figures.get(name)).collect::<Option<_>>()?;
            values.sort_by(f64::total_cmp);
            let (below, above) = ((values.len() - 1) / 2, values.len() / 2);
            Some((values[below] + values[above]) / 2.0)
        };
        Self(first.0.iter().map(|(name, _)| (name.clone(), median(name))).collect())
    }
}

/// A number where it is whole, else with three decimals.
impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            match value.map(|value| (value * 1_000.0).round() / 1_000.0) {
                Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                    map.serialize_entry(name, &(value as i64))?;
                }
                value => map.serialize_entry(name, &value)?,
            }
        }
        map.end()
    }
}

impl Meter {
    /// Begins a measurement.
    ///
    /// # Errors
    /// When the host is away.
    pub(super) async fn start(target: &Target) -> Result<Self, Failure> {
        let scrape = target.scrape().await?;
        let (host, driver) = (target.process(), Process::this());
        host.iter().for_each(Process::reset_peak);
        driver.reset_peak();
        let (host, driver) = (host.map(|host| host.usage()), driver.usage());
        Ok(Self { began: Instant::now(), host, driver, scrape })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the host is away.
    pub(super) async fn stop(self, target: &Target) -> Result<Cost, Failure> {
        let elapsed = self.began.elapsed();
        let host = target.process().map(|host| host.usage()).unwrap_or_default();
        let driver = Process::this().usage();
        let before = self.host.unwrap_or_default();
        let scrape = target.scrape().await?;
        Ok(Cost {
            elapsed,
            host_cpu_ms: since(host.cpu_ms, before.cpu_ms),
            driver_cpu_ms: since(driver.cpu_ms, self.driver.cpu_ms),
            host_peak_memory_bytes: host.peak_memory_bytes,
            driver_peak_memory_bytes: driver.peak_memory_bytes,
            written_bytes: since(host.written_bytes, before.written_bytes),
            flushes: scrape.flushes() - self.scrape.flushes(),
            replays: scrape.replays() - self.scrape.replays(),
        })
    }
}

fn since(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(before?))
}

/// A count as a figure; beyond 2⁵³ it is rounded.
pub(super) fn whole(count: u64) -> f64 {
    count as f64
}

/// A span of time as a figure.
pub(super) fn millis(took: Duration) -> f64 {
    whole(micros(took)) / 1_000.0
}

/// One number for each of another.
pub(super) fn ratio(of: u64, each: u64) -> f64 {
    whole(of) / whole(each)
}

/// How often a second.
pub(super) fn per_second(count: u64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| whole(count) / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: [Option<f64>; 2]) -> Figures {
        Figures(vec![("a_ms".into(), values[0]), ("b_bytes".into(), values[1])])
    }

    #[test]
    fn a_median_is_of_each_figure_and_unknown_stays_unknown() {
        let three =
            [figures([Some(3.0), Some(1.0)]), figures([Some(1.0), None]), figures([Some(2.0), Some(1.0)])];
        assert_eq!(Figures::median(&three), figures([Some(2.0), None]));
        let two = [figures([Some(1.0), Some(4.0)]), figures([Some(2.0), Some(4.0)])];
        assert_eq!(Figures::median(&two), figures([Some(1.5), Some(4.0)]));
        assert_eq!(Figures::median(&[]), Figures::default());
    }

    #[test]
    fn figures_are_an_object_of_numbers() {
        let text = serde_json::to_string(&figures([Some(1.23456), Some(4096.0)])).expect("JSON");
        assert_eq!(text, r#"{"a_ms":1.235,"b_bytes":4096}"#);
        let text = serde_json::to_string(&figures([None, Some(0.0)])).expect("JSON");
        assert_eq!(text, r#"{"a_ms":null,"b_bytes":0}"#);
    }
}
