//! What is said to runs: queries, signals, and a run that is signalled so often that others might notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::Stage;
use super::calls::{Calls, Ids, Requests};
use super::connection::Call;
use super::figures::{Counted, Figures, Meter, millis, per_second};
use super::fleet::{Told, Work};
use super::report::Measurement;
use super::target::Target;
use super::throughput::{self, parameters};
use crate::cli::failure::Failure;

/// Queries unless told otherwise.
const QUERIES: u64 = 20_000;
/// Runs that are asked in turn unless told otherwise.
const RUNS: u64 = 1_000;
/// Signals to one run unless told otherwise: as many as the default limit allows.
const SIGNALS: u64 = 10_000;
/// Requests in flight unless told otherwise.
const CONCURRENCY: u32 = 16;
/// Orders beside a hot run, and without one.
const ORDERS: u64 = 10_000;
/// Connections that signal the hot run.
const HOT_CONCURRENCY: u32 = 16;

/// Measures queries to one run, and to many in turn.
pub(super) async fn query(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (runs, queries) = (stage.sizes.runs(RUNS), stage.sizes.requests(QUERIES));
    let target = stage.target(Vec::new()).await?;
    let (ids, calls) = (Ids::new("query"), target.calls().clone());
    let make = {
        let (ids, calls) = (ids.clone(), calls.clone());
        move |number| calls.start("signals", ids.id(number), json!({ "count": 1 }))
    };
    let told = Told { what: "starting".to_owned(), things: "runs", total: runs };
    let started = target.fleet(CONCURRENCY).await?.drive(Requests { count: runs, make }, told).await?;
    let mut measurements = Vec::new();
    for among in if runs > 1 { vec![1, runs] } else { vec![1] } {
        let (ids, calls) = (ids.clone(), calls.clone());
        let make = move |number: u64| calls.seen(&ids.id(number % among));
        let name = if among == 1 { "one run".to_owned() } else { format!("{among} runs") };
        let requests = Said { one: "query", many: "queries", count: queries, name };
        let concurrency = stage.sizes.concurrency(CONCURRENCY);
        measurements.push(said(&target, requests, concurrency, make).await?);
    }
    if let Some(first) = measurements.first_mut() {
        first.errors.extend(started.errors);
    }
    Ok(measurements)
}

/// Measures signals to one run, which ends with the last of them and has them all.
pub(super) async fn signals(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let signals = stage.sizes.requests(SIGNALS);
    let target = stage.target(room_for(signals)).await?;
    let (id, calls) = (Ids::new("signals").id(0), target.calls().clone());
    target.ask(&calls.start("signals", id.clone(), json!({ "count": signals }))?).await?;
    let make = {
        let (id, calls) = (id.clone(), calls.clone());
        move |number| calls.add(&id, number)
    };
    let began = Instant::now();
    let requests = Said { one: "signal", many: "signals", count: signals, name: "to one run".to_owned() };
    let mut measurement = said(&target, requests, stage.sizes.concurrency(CONCURRENCY), make).await?;
    let end = target.ask(&calls.end_of(&id)?).await?;
    measurement.figures.put("ended_ms", millis(began.elapsed()));
    let missing = signals - taken(&end, signals);
    if missing > 0 {
        measurement.errors.insert("signal_not_taken".to_owned(), missing);
    }
    Ok(vec![measurement])
}

/// How many of the numbers below `signals` a run returned, each counted once.
fn taken(end: &Value, signals: u64) -> u64 {
    let numbers = end["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut numbers: Vec<u64> =
        numbers.iter().filter_map(Value::as_u64).filter(|number| *number < signals).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len() as u64
}

/// Measures orders without and with a run that is signalled all the time.
pub(super) async fn hot(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (count, concurrency) = (stage.sizes.orders(ORDERS), stage.sizes.concurrency(CONCURRENCY));
    let target = stage.target(room_for(u64::from(u32::MAX))).await?;
    let orders = target.calls().orders(count)?;
    let (mut alone, _) = throughput::measure(&target, orders.clone(), concurrency).await?;
    alone.name = "alone".to_owned();

    let id = Ids::new("hot").id(0);
    target.ask(&target.calls().start("signals", id.clone(), json!({ "count": u32::MAX }))?).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let heat = Heat { calls: target.calls().clone(), id, is_over: Arc::clone(&is_over) };
    let told = Told { what: "heating".to_owned(), things: "signals", total: 0 };
    let mut heaters = target.fleet(HOT_CONCURRENCY).await?;
    let measuring = async {
        let measured = throughput::measure(&target, orders, concurrency).await;
        is_over.store(true, Ordering::Relaxed);
        measured
    };
    let began = Instant::now();
    let (beside, heated) = tokio::try_join!(measuring, heaters.drive(heat, told))?;
    let (mut beside, _) = beside;
    beside.name = "beside a hot run".to_owned();
    beside.figures.put("signals_per_second", per_second(heated.right(), began.elapsed()));
    for name in ["p50", "p99"] {
        let of = |measurement: &Measurement| measurement.figures.get(&format!("{name}_us"));
        let ratio = of(&beside).zip(of(&alone)).map(|(beside, alone)| beside / alone);
        beside.figures.put(format!("{name}_to_alone_ratio"), ratio);
    }
    for (kind, count) in heated.errors {
        *beside.errors.entry(kind).or_default() += count;
    }
    Ok(vec![alone, beside])
}

/// Signals to one run, until it is over.
struct Heat {
    calls: Calls,
    id: String,
    is_over: Arc<AtomicBool>,
}

impl Work for Heat {
    fn call(&self, number: u64) -> Option<Call> {
        let is_over = self.is_over.load(Ordering::Relaxed);
        if is_over { None } else { self.calls.add(&self.id, number).ok() }
    }
}

/// Limits for so many signals to one run.
fn room_for(signals: u64) -> super::Settings {
    vec![
        ("EVERFOLD_LIMITS_SIGNALS", signals.max(10_000).to_string()),
        ("EVERFOLD_LIMITS_HISTORY_EVENTS", (3 * signals).max(51_200).to_string()),
    ]
}

/// What is said, and how often.
struct Said {
    one: &'static str,
    many: &'static str,
    count: u64,
    name: String,
}

async fn said(
    target: &Target,
    said: Said,
    concurrency: u32,
    make: impl Fn(u64) -> Result<Call, Failure> + Send + Sync + 'static,
) -> Result<Measurement, Failure> {
    let Said { one, many, count, name } = said;
    let mut fleet = target.fleet(concurrency).await?;
    let told = Told { what: name.clone(), things: many, total: count };
    let meter = Meter::start(target).await?;
    let tally = fleet.drive(Requests { count, make }, told).await?;
    let cost = meter.stop(target).await?;
    let counted = Counted { one, many, count: tally.right(), steps: None };
    Ok(Measurement {
        name,
        parameters: parameters(&[(many, count), ("concurrency", concurrency.into())]),
        figures: Figures::of(counted, &tally, &cost),
        errors: tally.errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_once_and_only_if_it_was_sent() {
        assert_eq!(taken(&json!({ "result": [2, 0, 0, 7, "x"] }), 3), 2);
        assert_eq!(taken(&json!({ "status": "running" }), 3), 0);
    }
}
