//! Measurements of a workflow: observations, which come out once, after the activation is committed.
//!
//! A name names its unit and does not begin with `everfold`; attributes have few values. What passes
//! the host's bounds is dropped there.

use std::fmt;
use std::rc::Rc;

use crate::host::MetricKind;
use crate::run::Run;

/// A sum that only grows, as `orders_total`.
#[derive(Debug)]
#[must_use = "nothing is measured before `add`"]
pub struct Counter(Measurement);

impl Counter {
    pub(crate) fn new(run: Rc<Run>, name: &str) -> Self {
        Self(Measurement::new(run, name))
    }

    /// Tells this measurement from others of its name.
    pub fn attribute(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.attribute(key, &value);
        self
    }

    /// Adds to the sum; a negative value is dropped by the host.
    pub fn add(self, value: f64) {
        self.0.record(MetricKind::Counter, value);
    }
}

/// A value counted among others, as `order_processing_seconds`.
#[derive(Debug)]
#[must_use = "nothing is measured before `record`"]
pub struct Histogram(Measurement);

impl Histogram {
    pub(crate) fn new(run: Rc<Run>, name: &str) -> Self {
        Self(Measurement::new(run, name))
    }

    /// Tells this measurement from others of its name.
    pub fn attribute(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.attribute(key, &value);
        self
    }

    /// Counts the value.
    pub fn record(self, value: f64) {
        self.0.record(MetricKind::Histogram, value);
    }
}

struct Measurement {
    run: Rc<Run>,
    name: String,
    attributes: Vec<(String, String)>,
}

impl Measurement {
    fn new(run: Rc<Run>, name: &str) -> Self {
        Self { run, name: name.to_owned(), attributes: Vec::new() }
    }

    fn attribute(&mut self, key: &str, value: &dyn fmt::Display) {
        self.attributes.push((key.to_owned(), value.to_string()));
    }

    fn record(self, kind: MetricKind, value: f64) {
        self.run.host.record_metric(kind, &self.name, value, &self.attributes);
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measurement")
            .field("name", &self.name)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}
