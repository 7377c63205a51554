//! Counting open runs for the metrics: one query, asked when somebody scrapes, and not too often.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{Host, Parts};
use crate::store::StoreError;
use crate::telemetry::{OpenRuns, Telemetry};

/// How long a count is good at least.
const FRESH: Duration = Duration::from_secs(1);
/// A count is good for so many times as long as it took: counting never takes more than a hundredth of
/// a reader's time.
const FRESH_FACTOR: u32 = 100;

/// The last count.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    fresh: Duration,
    runs: Vec<OpenRuns>,
}

impl Host {
    /// What the host tells of itself.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.parts.telemetry
    }

    /// All metrics in Prometheus' text format. Counts of open runs may be a few seconds old.
    pub async fn metrics(&self) -> String {
        let parts = &self.parts;
        let mut last = parts.survey.last.lock().await;
        let before = last.as_ref().map(|last| last.runs.clone()).unwrap_or_default();
        let is_fresh = last.as_ref().is_some_and(|last| last.at.elapsed() < last.fresh);
        if !is_fresh {
            let began = Instant::now();
            match survey(parts).await {
                Ok(runs) => {
                    let fresh = FRESH.max(began.elapsed() * FRESH_FACTOR);
                    *last = Some(Last { at: Instant::now(), fresh, runs });
                }
                Err(error) => tracing::warn!(%error, "open runs cannot be counted"),
            }
        }
        let runs = last.as_ref().map(|last| with_live(parts, last.runs.clone())).unwrap_or_default();
        parts.telemetry.surveyed(&before, &runs, parts.residents.len());
        let (attempts, workers) = parts.dispatcher.queues.waiting();
        parts.telemetry.waiting(attempts, workers);
        parts.telemetry.components_loaded(parts.versions.loaded().count());
        drop(last);
        parts.telemetry.render()
    }
}

async fn survey(parts: &Parts) -> Result<Vec<OpenRuns>, StoreError> {
    let counts = parts.store.survey().await?;
    Ok(counts
        .into_iter()
        .map(|count| OpenRuns {
            workflow_type: count.workflow_type,
            digest: count.digest.short(),
            open: count.open,
            blocked: count.blocked,
            live: 0,
        })
        .collect())
}

fn with_live(parts: &Parts, mut runs: Vec<OpenRuns>) -> Vec<OpenRuns> {
    for kind in parts.residents.kinds() {
        let digest = kind.digest.short();
        let of_kind =
            |runs: &&mut OpenRuns| runs.workflow_type == kind.workflow_type && runs.digest == digest;
        if let Some(runs) = runs.iter_mut().find(of_kind) {
            runs.live = kind.live as u64;
        }
    }
    runs
}
