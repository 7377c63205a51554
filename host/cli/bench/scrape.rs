//! The host's metrics, read back from Prometheus' text format: sums over the label sets of a name.

use std::collections::BTreeMap;

/// Transactions that committed decisions; each is one flush of the store.
const COMMITS: &str = "everfold_commit_duration_seconds_count";
/// Runs that closed, by how.
const RUNS_CLOSED: &str = "everfold_runs_closed_total";
/// Instances that were rebuilt from a history.
const REPLAYS: &str = "everfold_replays_total";
/// Runs that are not closed.
const RUNS_OPEN: &str = "everfold_runs_open";
/// Open runs that a fault of their code blocks.
const RUNS_BLOCKED: &str = "everfold_runs_blocked";
/// Spans that no collector took.
const SPANS_DROPPED: &str = "everfold_spans_dropped_total";

/// Metrics as they stood.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrape {
    /// Each sample's name with its labels, and its value.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the text.
    pub(super) fn new(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.filter_map(sample).collect() }
    }

    /// Flushes of the store.
    pub(super) fn flushes(&self) -> f64 {
        self.sum(COMMITS, "")
    }

    /// Runs that completed.
    pub(super) fn completed(&self) -> f64 {
        self.sum(RUNS_CLOSED, "outcome=\"completed\"")
    }

    /// Runs that closed in any way.
    pub(super) fn closed(&self) -> f64 {
        self.sum(RUNS_CLOSED, "")
    }

    /// Open runs; the host counts them anew at its first scrape, later not every time.
    pub(super) fn open(&self) -> f64 {
        self.sum(RUNS_OPEN, "")
    }

    /// Instances that were rebuilt.
    pub(super) fn replays(&self) -> f64 {
        self.sum(REPLAYS, "")
    }

    /// Spans that were dropped.
    pub(super) fn spans_dropped(&self) -> f64 {
        self.sum(SPANS_DROPPED, "")
    }

    /// Blocked runs.
    pub(super) fn blocked(&self) -> f64 {
        self.sum(RUNS_BLOCKED, "")
    }

    /// A name that was never counted is nought.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let from_name = self.samples.range(name.to_owned()..);
        let named = from_name.take_while(|(sample, _)| sample.starts_with(name));
        let wanted = named.filter(|(sample, _)| {
            let labels = &sample[name.len()..];
            (labels.is_empty() || labels.starts_with('{')) && labels.contains(label)
        });
        wanted.map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_summed_and_longer_names_are_others() {
        let text = "# HELP everfold_runs_closed_total x.\n\
                    everfold_runs_closed_total{type=\"a\",outcome=\"completed\"} 3\n\
                    everfold_runs_closed_total{type=\"b\",outcome=\"completed\"} 4\n\
                    everfold_runs_closed_total{type=\"b\",outcome=\"failed\"} 1\n\
                    everfold_runs_closed_totality 9\n\
                    everfold_commit_duration_seconds_count 17\n";
        let scrape = Scrape::new(text);
        let found = (scrape.completed(), scrape.closed(), scrape.flushes(), scrape.replays());
        assert_eq!(found, (7.0, 8.0, 17.0, 0.0));
    }
}
