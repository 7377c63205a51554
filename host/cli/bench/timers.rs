//! Many runs whose timers are due within the same second: how late they fire. A run tells the time before
//! and after its sleep, as its own events have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everfold_core::ids::Timestamp;
use serde_json::json;

use super::Stage;
use super::calls::{Calls, Ids, completed};
use super::connection::{Call, Reply};
use super::figures::{Counted, Figures, Meter, millis};
use super::fleet::{Tally, Told, Work};
use super::report::Measurement;
use super::target::Target;
use super::throughput::parameters;
use crate::cli::failure::Failure;

/// Runs unless told otherwise.
const RUNS: u64 = 10_000;
/// Requests in flight.
const CONCURRENCY: u32 = 64;
/// All timers are due within it.
const WINDOW: Duration = Duration::from_secs(1);
/// Runs that are surely started in a second: the window comes when all are.
const STARTED_PER_SECOND: u64 = 1_500;
/// Time beside that.
const LEAD: Duration = Duration::from_secs(4);
/// How long the last runs may take to end behind the window, beside what [`STARTED_PER_SECOND`] gives their number.
const PATIENCE: Duration = Duration::from_secs(60);

/// The runs' sleeps.
struct Sleeps {
    calls: Calls,
    ids: Ids,
    began: Instant,
    /// When the window opens, from the beginning.
    lead: Duration,
    /// What each run was told to sleep.
    asked_ms: Vec<AtomicU64>,
}

impl Sleeps {
    fn count(&self) -> u64 {
        self.asked_ms.len() as u64
    }

    /// When the timer of that number is due, from the beginning.
    fn due(&self, number: u64) -> Duration {
        let part = WINDOW.as_secs_f64() * number as f64 / self.asked_ms.len() as f64;
        self.lead + Duration::from_secs_f64(part)
    }

    fn asked_ms(&self, number: u64) -> Option<&AtomicU64> {
        self.asked_ms.get(usize::try_from(number).ok()?)
    }
}

/// Starting them.
struct Starting(Arc<Sleeps>);

impl Work for Starting {
    fn call(&self, number: u64) -> Option<Call> {
        let asked = self.0.asked_ms(number)?;
        let sleep = self.0.due(number).saturating_sub(self.0.began.elapsed());
        let sleep_ms = u64::try_from(sleep.as_millis()).unwrap_or(u64::MAX);
        asked.store(sleep_ms, Ordering::Relaxed);
        self.0.calls.start("sleeper", self.0.ids.id(number), json!({ "sleep_ms": sleep_ms })).ok()
    }

    fn judge(&self, _: u64, reply: &Reply) -> Result<(), String> {
        if !reply.status.is_success() {
            return Err(super::fleet::kind_of(reply));
        }
        // Its timer would fire beside the starts of others, which is something else.
        let is_late = self.0.began.elapsed() > self.0.lead;
        if is_late { Err("started_too_late".to_owned()) } else { Ok(()) }
    }
}

/// Reading how late each of them fired.
struct Reading {
    sleeps: Arc<Sleeps>,
    late: Arc<parking_lot::Mutex<Tally>>,
}

impl Work for Reading {
    fn call(&self, number: u64) -> Option<Call> {
        self.sleeps.asked_ms(number)?;
        self.sleeps.calls.end_of(&self.sleeps.ids.id(number)).ok()
    }

    fn judge(&self, number: u64, reply: &Reply) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Ended {
            result: Slept,
        }
        #[derive(serde::Deserialize)]
        struct Slept {
            before: i64,
            after: i64,
        }
        completed(reply)?;
        let Ok(Ended { result }) = serde_json::from_slice(&reply.body) else {
            return Err("unreadable_answer".to_owned());
        };
        let slept_ms = Timestamp(result.after).ms_since(Timestamp(result.before));
        let asked_ms = self.sleeps.asked_ms(number).map_or(0, |asked| asked.load(Ordering::Relaxed));
        if slept_ms < asked_ms {
            return Err("fired_early".to_owned());
        }
        self.late.lock().latencies.saturating_record((slept_ms - asked_ms) * 1_000);
        Ok(())
    }
}

/// Measures how late timers fire that are due within a second.
pub(super) async fn timers(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let runs = stage.sizes.runs(RUNS);
    let target = stage.target(Vec::new()).await?;
    let mut fleet = target.fleet(CONCURRENCY).await?;
    let before = target.scrape().await?.completed();
    let sleeps = Arc::new(Sleeps {
        calls: target.calls().clone(),
        ids: Ids::new("timers"),
        began: Instant::now(),
        lead: LEAD + at_the_pace_of_starts(runs),
        asked_ms: (0..runs).map(|_| AtomicU64::new(0)).collect(),
    });
    let told = |what: &str| Told { what: what.to_owned(), things: "runs", total: runs };
    let started = fleet.drive(Starting(Arc::clone(&sleeps)), told("starting")).await?;
    tokio::time::sleep_until((sleeps.began + sleeps.lead).into()).await;
    let meter = Meter::start(&target).await?;
    let all_ended = all_ended(&target, &sleeps, before).await?;
    let cost = meter.stop(&target).await?;

    let late = Arc::new(parking_lot::Mutex::new(Tally::new()?));
    let reading = Reading { sleeps: Arc::clone(&sleeps), late: Arc::clone(&late) };
    let read = fleet.drive(reading, told("reading how late")).await?;
    let mut tally = late.lock().clone();
    tally.refused = started.refused + read.refused;
    for (kind, count) in started.errors.into_iter().chain(read.errors) {
        *tally.errors.entry(kind).or_default() += count;
    }
    let counted = Counted { one: "run", many: "runs", count: tally.right(), steps: None };
    let mut figures = Figures::of(counted, &tally, &cost);
    figures.put("all_ended_ms", millis(all_ended));
    Ok(vec![Measurement {
        name: "late".to_owned(),
        parameters: parameters(&[("runs", sleeps.count())]),
        figures,
        errors: tally.errors,
    }])
}

/// Waits until all have ended; tells how long that was from the window's opening.
async fn all_ended(target: &Target, sleeps: &Sleeps, before: f64) -> Result<Duration, Failure> {
    let all = before + sleeps.count() as f64;
    let patience = PATIENCE + at_the_pace_of_starts(sleeps.count());
    target.until(patience, |scrape| scrape.completed() >= all).await?;
    Ok(sleeps.began.elapsed().saturating_sub(sleeps.lead))
}

/// How long so many runs take at the pace at which they are surely started.
fn at_the_pace_of_starts(runs: u64) -> Duration {
    Duration::from_millis(runs * 1_000 / STARTED_PER_SECOND)
}
