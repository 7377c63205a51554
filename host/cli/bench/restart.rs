//! A host that is killed among runs that are under way: how soon it is ready again, how soon each of them
//! goes on, and that each of them ends.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Stage;
use super::calls::{Ends, Ids, Requests};
use super::figures::{Figures, millis, whole};
use super::fleet::Told;
use super::report::Measurement;
use super::throughput::parameters;
use crate::cli::failure::Failure;

/// Runs unless told otherwise.
const RUNS: u64 = 1_000;
/// Steps of each unless told otherwise: enough that none ends before the kill.
const STEPS: u64 = 100;
/// Requests in flight.
const CONCURRENCY: u32 = 64;
/// How long it may take until all go on, and until all have ended.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures a restart among runs that are under way.
pub(super) async fn restart(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (runs, steps) = (stage.sizes.runs(RUNS), stage.sizes.steps(STEPS));
    let mut target = stage.target(Vec::new()).await?;
    let (ids, calls) = (Ids::new("restart"), target.calls().clone());
    let told = |what: &str| Told { what: what.to_owned(), things: "runs", total: runs };
    let make = {
        let (ids, calls) = (ids.clone(), calls.clone());
        move |number| calls.start("long", ids.id(number), json!({ "steps": steps }))
    };
    let mut tally =
        target.fleet(CONCURRENCY).await?.drive(Requests { count: runs, make }, told("starting")).await?;

    let host = target.host_mut()?;
    host.kill();
    let ready = host.restart().await?;
    let began = Instant::now();
    // The first scrape counts what is open in the store; some may have closed since the start.
    let first = target.scrape().await?;
    let open = first.open() + first.closed();
    let all_go_on = target.until(PATIENCE, |scrape| scrape.replays() >= open).await?;
    let going_on = ready + began.elapsed();
    target.until(PATIENCE, |scrape| scrape.closed() >= open).await?;
    let all_ended = ready + began.elapsed();
    let usage = target.process().map(|process| process.usage()).unwrap_or_default();

    let ends = Ends { calls, ids, count: runs };
    let ended = target.fleet(CONCURRENCY).await?.drive(ends, told("looking at their ends")).await?;
    for (kind, count) in ended.errors {
        *tally.errors.entry(kind).or_default() += count;
    }
    let mut figures = Figures::default();
    figures.put("runs", whole(runs));
    figures.put("errors", whole(tally.wrong()));
    figures.put("open_runs", open);
    figures.put("ready_ms", millis(ready));
    figures.put("all_going_on_ms", all_go_on.then(|| millis(going_on)));
    figures.put("all_ended_ms", millis(all_ended));
    figures.put("host_cpu_ms", usage.cpu_ms.map(whole));
    figures.put("host_peak_memory_bytes", usage.peak_memory_bytes.map(whole));
    Ok(vec![Measurement {
        name: "killed under way".to_owned(),
        parameters: parameters(&[("runs", runs), ("steps", steps)]),
        figures,
        errors: tally.errors,
    }])
}
