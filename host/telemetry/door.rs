//! The one door through which workflows' and activities' own measurements come. It bounds names, labels
//! and the number of series, so that no code can fill the host's memory or the collector's.

use std::collections::HashMap;

use metrics::{Counter, Histogram, Key, Label, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;
use parking_lot::Mutex;

use super::metrics::METADATA;
use crate::guest::MetricKind;

/// Series of all workflows and activities together.
const SERIES: usize = 1_000;
/// Attributes of one measurement.
const ATTRIBUTES: usize = 5;
/// Bytes of an attribute's value, and of a name.
const TEXT_BYTES: usize = 64;
/// The host's own names begin so.
const RESERVED: &str = "everfold";
/// What a histogram's series are called behind its name.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Something measured by a workflow or an activity.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// What becomes of it.
    pub kind: MetricKind,
    /// What is measured, with its unit.
    pub name: String,
    /// How much.
    pub value: f64,
    /// By what it is told apart.
    pub attributes: Vec<(String, String)>,
}

/// Why a measurement is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its name is not `[a-z][a-z0-9_]*`, is reserved, or is too long.
    Name,
    /// It has too many attributes, a bad one, or a value that is too long.
    Attributes,
    /// It is not a number that its kind can take.
    Value,
    /// The name was first used with another kind.
    Kind,
    /// There are too many series.
    Series,
}

impl Refused {
    /// Its name as a label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Attributes => "attributes",
            Self::Value => "value",
            Self::Kind => "kind",
            Self::Series => "series",
        }
    }
}

/// The series that are open.
#[derive(Default)]
pub(super) struct Door {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    kinds: HashMap<String, MetricKind>,
    series: HashMap<Key, Series>,
}

enum Series {
    /// The exporter counts whole numbers; the sum keeps the fractions.
    Counter {
        counter: Counter,
        sum: f64,
    },
    Histogram(Histogram),
}

impl Door {
    /// Takes a measurement; `source` says whose it is, as a label.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn take(
        &self,
        recorder: &PrometheusRecorder,
        source: (&'static str, &str),
        measurement: &Measurement,
    ) -> Result<(), Refused> {
        let Measurement { kind, name, value, attributes } = measurement;
        check(source.0, *kind, name, *value, attributes)?;
        let mut labels: Vec<Label> =
            attributes.iter().map(|(key, value)| Label::new(key.clone(), value.clone())).collect();
        // One set of attributes is one series, in whatever order they come.
        labels.sort();
        labels.push(Label::new(source.0, source.1.to_owned()));
        let key = Key::from_parts(name.clone(), labels);

        let mut open = self.open.lock();
        if !open.series.contains_key(&key) {
            open.check_new(name, *kind)?;
            let series = match kind {
                MetricKind::Counter => {
                    Series::Counter { counter: recorder.register_counter(&key, &METADATA), sum: 0.0 }
                }
                MetricKind::Histogram => Series::Histogram(recorder.register_histogram(&key, &METADATA)),
            };
            open.kinds.insert(name.clone(), *kind);
            open.series.insert(key.clone(), series);
        }
        match (open.series.get_mut(&key), kind) {
            (Some(Series::Counter { counter, sum }), MetricKind::Counter) => {
                *sum += value;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
                counter.absolute(sum.floor() as u64);
                Ok(())
            }
            (Some(Series::Histogram(histogram)), MetricKind::Histogram) => {
                histogram.record(*value);
                Ok(())
            }
            (Some(Series::Counter { .. } | Series::Histogram(_)) | None, _) => Err(Refused::Kind),
        }
    }
}

impl Open {
    fn check_new(&self, name: &str, kind: MetricKind) -> Result<(), Refused> {
        let is_histogram = |name: &str| self.kinds.get(name) == Some(&MetricKind::Histogram);
        if self.kinds.get(name).is_some_and(|first| *first != kind)
            || SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(is_histogram))
            || kind == MetricKind::Histogram
                && SUFFIXES.iter().any(|suffix| self.kinds.contains_key(&format!("{name}{suffix}")))
        {
            return Err(Refused::Kind);
        }
        if self.series.len() >= SERIES { Err(Refused::Series) } else { Ok(()) }
    }
}

fn check(
    source: &str,
    kind: MetricKind,
    name: &str,
    value: f64,
    attributes: &[(String, String)],
) -> Result<(), Refused> {
    if !is_name(name) || name.starts_with(RESERVED) {
        return Err(Refused::Name);
    }
    let is_bad = |(at, (key, value)): (usize, &(String, String))| {
        let is_repeated = attributes[..at].iter().any(|(earlier, _)| earlier == key);
        !is_name(key) || is_repeated || key == "le" || key == source || value.len() > TEXT_BYTES
    };
    if attributes.len() > ATTRIBUTES || attributes.iter().enumerate().any(is_bad) {
        return Err(Refused::Attributes);
    }
    if !value.is_finite() || kind == MetricKind::Counter && value < 0.0 {
        return Err(Refused::Value);
    }
    Ok(())
}

/// Whether a text is `[a-z][a-z0-9_]*` and not too long.
fn is_name(text: &str) -> bool {
    text.len() <= TEXT_BYTES
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn measure(
        door: &Door,
        recorder: &PrometheusRecorder,
        kind: MetricKind,
        name: &str,
        value: f64,
        attributes: &[(&str, &str)],
    ) -> Result<(), Refused> {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let measurement = Measurement { kind, name: name.to_owned(), value, attributes };
        door.take(recorder, ("workflow_type", "order"), &measurement)
    }

    #[test]
    fn what_passes_the_bounds_is_refused() {
        let (door, recorder) = (Door::default(), PrometheusBuilder::new().build_recorder());
        let counter = |name: &str, value, attributes: &[(&str, &str)]| {
            measure(&door, &recorder, MetricKind::Counter, name, value, attributes)
        };
        assert_eq!(counter("orders_total", 1.5, &[("b", "2"), ("a", "1")]), Ok(()));
        assert_eq!(counter("orders_total", 1.5, &[("a", "1"), ("b", "2")]), Ok(()));
        for name in ["", "Orders", "1st", "_x", "a-b", "everfold_runs", "é", &"x".repeat(65)] {
            assert_eq!(counter(name, 1.0, &[]), Err(Refused::Name), "{name}");
        }
        let long = "x".repeat(65);
        let six = [("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", ""), ("f", "")];
        for attributes in [
            &[("Bad", "1")][..],
            &[("a", &long)],
            &[("a", "1"), ("a", "2")],
            &[("le", "1")],
            &[("workflow_type", "x")],
            &six,
        ] {
            assert_eq!(counter("orders_total", 1.0, attributes), Err(Refused::Attributes), "{attributes:?}");
        }
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(counter("orders_total", value, &[]), Err(Refused::Value), "{value}");
        }
        let text = recorder.handle().render();
        assert!(text.contains("orders_total{a=\"1\",b=\"2\",workflow_type=\"order\"} 3\n"), "{text}");
    }

    #[test]
    fn a_name_keeps_its_kind_and_series_are_counted() {
        let (door, recorder) = (Door::default(), PrometheusBuilder::new().build_recorder());
        let histogram = |name: &str| measure(&door, &recorder, MetricKind::Histogram, name, 1.0, &[]);
        let counter =
            |name: &str, n: &str| measure(&door, &recorder, MetricKind::Counter, name, 1.0, &[("n", n)]);
        assert_eq!(counter("a", "0"), Ok(()));
        assert_eq!(histogram("a"), Err(Refused::Kind));
        assert_eq!(histogram("b_seconds"), Ok(()));
        assert_eq!(counter("b_seconds", "0"), Err(Refused::Kind));
        assert_eq!(counter("b_seconds_sum", "0"), Err(Refused::Kind), "it is a series of the histogram");
        assert_eq!(counter("c_count", "0"), Ok(()));
        assert_eq!(histogram("c"), Err(Refused::Kind));
        let taken = (0..SERIES).filter(|n| counter("d", &n.to_string()).is_ok()).count();
        assert_eq!(taken, SERIES - 3);
        assert_eq!(counter("e", "0"), Err(Refused::Series));
        assert_eq!(counter("d", "0"), Ok(()), "a series that is open stays so");
    }
}
