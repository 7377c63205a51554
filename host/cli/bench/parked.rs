//! Many runs that wait for a signal: how fast they start, what they weigh, how soon a host that was killed
//! is ready with all of them, and how fast they end when each gets its signal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Stage;
use super::calls::{Calls, Ids, Requests};
use super::connection::Call;
use super::figures::{Counted, Figures, Meter, millis, whole};
use super::fleet::{Tally, Told};
use super::private_host::PrivateHost;
use super::report::Measurement;
use super::target::Target;
use super::throughput::parameters;
use crate::cli::failure::Failure;

/// Runs unless told otherwise.
const RUNS: u64 = 100_000;
/// Requests in flight unless told otherwise.
const CONCURRENCY: u32 = 64;
/// How long the last runs may take to end behind the last signal.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures runs that wait for a signal.
pub(super) async fn parked(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (runs, concurrency) = (stage.sizes.runs(RUNS), stage.sizes.concurrency(CONCURRENCY));
    let mut target = stage.target(Vec::new()).await?;
    let parked = Parked { ids: Ids::new("parked"), runs, concurrency };
    let started = parked.start(&target).await?;
    let restarted = match target.host_mut() {
        Ok(host) => Some(parked.restart(host).await?),
        // Somebody else's host is not killed.
        Err(_) => None,
    };
    let signalled = parked.signal(&target).await?;
    Ok([Some(started), restarted, Some(signalled)].into_iter().flatten().collect())
}

/// The runs.
struct Parked {
    ids: Ids,
    runs: u64,
    concurrency: u32,
}

impl Parked {
    async fn start(&self, target: &Target) -> Result<Measurement, Failure> {
        let before = target.host().and_then(PrivateHost::disk_bytes);
        let mut measurement = self
            .drive(target, "started", |calls, id, _| calls.start("signals", id, json!({ "count": 1 })))
            .await?;
        let after = target.host().and_then(PrivateHost::disk_bytes);
        let grown = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        let memory = target.process().and_then(|process| process.usage().memory_bytes);
        measurement.figures.put("disk_bytes_per_run", grown.map(|grown| whole(grown) / whole(self.runs)));
        measurement.figures.put("host_memory_bytes", memory.map(whole));
        Ok(measurement)
    }

    async fn restart(&self, host: &mut PrivateHost) -> Result<Measurement, Failure> {
        host.kill();
        let ready = host.restart().await?;
        let usage = host.process().usage();
        let mut figures = Figures::default();
        figures.put("runs", whole(self.runs));
        figures.put("ready_ms", millis(ready));
        figures.put("host_cpu_ms", usage.cpu_ms.map(whole));
        figures.put("host_memory_bytes", usage.memory_bytes.map(whole));
        let errors = BTreeMap::new();
        Ok(Measurement {
            name: "killed and restarted".to_owned(),
            parameters: self.parameters(),
            figures,
            errors,
        })
    }

    async fn signal(&self, target: &Target) -> Result<Measurement, Failure> {
        let before = target.scrape().await?.completed();
        let began = Instant::now();
        let mut measurement =
            self.drive(target, "signalled", |calls, id, number| calls.add(&id, number)).await?;
        let all = before + measurement.figures.get("runs").unwrap_or_default();
        target.until(PATIENCE, |scrape| scrape.completed() >= all).await?;
        measurement.figures.put("all_ended_ms", millis(began.elapsed()));
        let missing = all - target.scrape().await?.completed();
        if missing > 0.0 {
            measurement.errors.insert("run_not_ended".to_owned(), missing as u64);
        }
        Ok(measurement)
    }

    /// Sends one request for each run.
    async fn drive(
        &self,
        target: &Target,
        what: &str,
        make: fn(&Calls, String, u64) -> Result<Call, Failure>,
    ) -> Result<Measurement, Failure> {
        let (calls, ids) = (target.calls().clone(), self.ids.clone());
        let make = move |number| make(&calls, ids.id(number), number);
        let mut fleet = target.fleet(self.concurrency).await?;
        let told = Told { what: what.to_owned(), things: "runs", total: self.runs };
        let meter = Meter::start(target).await?;
        let tally: Tally = fleet.drive(Requests { count: self.runs, make }, told).await?;
        let cost = meter.stop(target).await?;
        let counted = Counted { one: "run", many: "runs", count: tally.right(), steps: None };
        Ok(Measurement {
            name: what.to_owned(),
            parameters: self.parameters(),
            figures: Figures::of(counted, &tally, &cost),
            errors: tally.errors,
        })
    }

    fn parameters(&self) -> serde_json::Map<String, serde_json::Value> {
        parameters(&[("runs", self.runs), ("concurrency", self.concurrency.into())])
    }
}
