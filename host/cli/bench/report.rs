//! The benchmark's JSON: docs/benchmark.md says what stands where. Names are never reused for something else.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Figures;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    /// The version of this executable.
    everfold: &'static str,
    /// The address of the host that was named; null for hosts of the benchmark's own.
    server: Option<String>,
    /// Processors of this machine, shared by driver and host.
    cores: Option<usize>,
    /// How often each measurement was made.
    repeat: u32,
    /// In the order in which they were measured.
    pub(in crate::cli) scenarios: Vec<ScenarioReport>,
}

/// What a scenario came to.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ScenarioReport {
    /// Its name.
    pub(in crate::cli) scenario: String,
    /// One for each setting that was tried.
    pub(in crate::cli) measurements: Vec<Measured>,
}

/// A measurement, as often as it was made.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Measured {
    /// Its name within the scenario.
    pub(in crate::cli) name: String,
    /// What was chosen.
    parameters: Map<String, Value>,
    /// The median of each figure.
    pub(in crate::cli) figures: Figures,
    /// The figures of each time.
    pub(in crate::cli) repeats: Vec<Figures>,
    /// What went wrong over all times, by kind.
    pub(in crate::cli) errors: BTreeMap<String, u64>,
}

/// A measurement that was made once.
#[derive(Debug)]
pub(super) struct Measurement {
    /// Its name within the scenario.
    pub(super) name: String,
    /// What was chosen.
    pub(super) parameters: Map<String, Value>,
    /// What came of it.
    pub(super) figures: Figures,
    /// What went wrong, by kind.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Report {
    /// An empty one.
    pub(super) fn new(server: Option<&str>, repeat: u32) -> Self {
        Self {
            everfold: env!("CARGO_PKG_VERSION"),
            server: server.map(str::to_owned),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            repeat,
            scenarios: Vec::new(),
        }
    }

    /// Whatever went wrong, in all scenarios.
    pub(super) fn errors(&self) -> u64 {
        let measured = self.scenarios.iter().flat_map(|scenario| &scenario.measurements);
        measured.flat_map(|measured| measured.errors.values()).sum()
    }
}

impl From<Measured> for Measurement {
    fn from(measured: Measured) -> Self {
        let Measured { name, parameters, figures, repeats: _, errors } = measured;
        Self { name, parameters, figures, errors }
    }
}

impl Measured {
    /// The same measurement, made several times.
    pub(super) fn of(times: &[&Measurement]) -> Option<Self> {
        let first = times.first()?;
        let repeats: Vec<Figures> = times.iter().map(|time| time.figures.clone()).collect();
        let mut errors = BTreeMap::new();
        for (kind, count) in times.iter().flat_map(|time| &time.errors) {
            *errors.entry(kind.clone()).or_default() += count;
        }
        Some(Self {
            name: first.name.clone(),
            parameters: first.parameters.clone(),
            figures: Figures::median(&repeats),
            repeats,
            errors,
        })
    }
}
