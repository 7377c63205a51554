//! Orders of four steps, a number of them in flight: each is one request that starts a run and waits for its end.

use serde_json::{Map, Value, json};

use super::Stage;
use super::connection::{Call, Reply};
use super::figures::{Counted, Figures, Meter};
use super::fleet::{Fleet, Tally, Told, Work, kind_of};
use super::report::Measurement;
use super::target::Target;
use crate::cli::failure::Failure;

/// The workflow type of an order.
const ORDER: &str = "four-steps";
/// Steps of an order.
pub(super) const STEPS: u64 = 4;
/// Requests in flight unless told otherwise.
const CONCURRENCIES: [u32; 4] = [1, 16, 64, 256];
/// Orders for each request in flight, up to the most: each measurement takes a few seconds.
const ORDERS_EACH: u64 = 2_000;
const MOST_ORDERS: u64 = 20_000;
/// One order that is not counted for so many that are; more where every connection needs its first.
const WARM_UP: u64 = 10;

/// Orders, all the same.
#[derive(Debug)]
pub(super) struct Orders {
    call: Call,
    count: u64,
}

impl Orders {
    /// So many orders.
    ///
    /// # Errors
    /// None that happens.
    pub(super) fn new(target: &Target, count: u64) -> Result<Self, Failure> {
        Ok(Self { call: target.run_to_end(ORDER, input())?, count })
    }

    /// The same order, another number of times.
    pub(super) fn times(&self, count: u64) -> Self {
        Self { call: self.call.clone(), count }
    }
}

/// What every order says.
pub(super) fn input() -> Value {
    json!({ "activity": "noop" })
}

impl Work for Orders {
    fn call(&self, number: u64) -> Option<Call> {
        (number < self.count).then(|| self.call.clone())
    }

    fn judge(&self, _: u64, reply: &Reply) -> Result<(), String> {
        completed(reply)
    }
}

/// Whether a run that was waited for has completed.
pub(super) fn completed(reply: &Reply) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Ended<'a> {
        status: &'a str,
    }
    if !reply.status.is_success() {
        return Err(kind_of(reply));
    }
    match serde_json::from_slice(&reply.body) {
        Ok(Ended { status: "completed" }) => Ok(()),
        Ok(Ended { status }) => Err(format!("run_{status}")),
        Err(_) => Err("unreadable_answer".to_owned()),
    }
}

/// Measures orders at several numbers of requests in flight.
pub(super) async fn throughput(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let target = stage.target(Vec::new()).await?;
    at_each(stage, &target, &CONCURRENCIES).await
}

/// Measures orders that come one at a time.
pub(super) async fn latency(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let target = stage.target(Vec::new()).await?;
    at_each(stage, &target, &[1]).await
}

/// Measures the same orders at each number of requests in flight.
pub(super) async fn at_each(
    stage: &Stage,
    target: &Target,
    otherwise: &[u32],
) -> Result<Vec<Measurement>, Failure> {
    let mut measurements = Vec::new();
    for concurrency in stage.sizes.concurrencies(otherwise) {
        let count = stage.sizes.orders((u64::from(concurrency) * ORDERS_EACH).min(MOST_ORDERS));
        let orders = Orders::new(target, count)?;
        measurements.push(measure(target, orders, concurrency).await?);
    }
    Ok(measurements)
}

/// Measures these orders behind a warm-up that is not counted.
pub(super) async fn measure(
    target: &Target,
    orders: Orders,
    concurrency: u32,
) -> Result<Measurement, Failure> {
    let count = orders.count;
    let mut fleet = target.fleet(usize::try_from(concurrency).unwrap_or(usize::MAX)).await?;
    let warm_up = (count / WARM_UP).max(u64::from(concurrency));
    drive(&mut fleet, orders.times(warm_up), "warming up".to_owned()).await?;
    let meter = Meter::start(target).await?;
    let name = format!("{concurrency} in flight");
    let tally = drive(&mut fleet, orders, name.clone()).await?;
    let cost = meter.stop(target).await?;
    let counted = Counted { one: "order", count: tally.right(), steps: Some(tally.right() * STEPS) };
    Ok(Measurement {
        name,
        parameters: Map::from_iter([
            ("orders".to_owned(), json!(count)),
            ("concurrency".to_owned(), json!(concurrency)),
        ]),
        figures: Figures::of(counted, &tally, &cost),
        errors: tally.errors,
    })
}

async fn drive(fleet: &mut Fleet, orders: Orders, what: String) -> Result<Tally, Failure> {
    let told = Told { what, things: "orders", total: orders.count };
    fleet.drive(orders, told).await
}
