//! Orders of four steps, a number of them in flight: each is one request that starts a run and waits for
//! its end. The scenarios differ in the host's settings and in what the orders carry.

use serde_json::{Map, Value, json};

use super::Stage;
use super::calls::{ORDER_STEPS, Orders};
use super::figures::{Counted, Figures, Meter, per_second};
use super::fleet::{Fleet, Tally, Told};
use super::report::Measurement;
use super::target::Target;
use crate::cli::failure::Failure;

/// Requests in flight unless told otherwise.
const CONCURRENCIES: [u32; 4] = [1, 16, 64, 256];
/// Orders for each request in flight, up to the most: each measurement takes a few seconds.
const ORDERS_EACH: u64 = 2_000;
const MOST_ORDERS: u64 = 20_000;
/// One order that is not counted for so many that are; more where every connection needs its first.
const WARM_UP: u64 = 10;
/// Orders of the size of a payload.
const LARGE_ORDERS: u64 = 200;
/// Bytes of a large order's text: the default limit of a payload, less what else the order says.
const LARGE_BYTES: usize = 2 * 1024 * 1024 - 1024;

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

/// Measures orders on a host that keeps one instance: every other run is rebuilt for its next step.
pub(super) async fn evicted(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let target = stage.target(vec![("EVERFOLD_LIMITS_LIVE_INSTANCES", "1".to_owned())]).await?;
    at_each(stage, &target, &[64]).await
}

/// Measures orders that are as large as a payload may be.
pub(super) async fn payload(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let target = stage.target(Vec::new()).await?;
    let count = stage.sizes.orders(LARGE_ORDERS);
    let orders = Orders::all(target.calls().large_order(LARGE_BYTES)?, count);
    let (mut measurement, elapsed) = measure(&target, orders, stage.sizes.concurrency(4)).await?;
    let bytes = count.saturating_mul(u64::try_from(LARGE_BYTES).unwrap_or(u64::MAX));
    measurement.figures.put("input_bytes_per_second", per_second(bytes, elapsed));
    Ok(vec![measurement])
}

async fn at_each(stage: &Stage, target: &Target, otherwise: &[u32]) -> Result<Vec<Measurement>, Failure> {
    let mut measurements = Vec::new();
    for concurrency in stage.sizes.concurrencies(otherwise) {
        let count = stage.sizes.orders((u64::from(concurrency) * ORDERS_EACH).min(MOST_ORDERS));
        let (measurement, _) = measure(target, target.calls().orders(count)?, concurrency).await?;
        measurements.push(measurement);
    }
    Ok(measurements)
}

/// Measures these orders behind a warm-up that is not counted; tells how long they took.
pub(super) async fn measure(
    target: &Target,
    orders: Orders,
    concurrency: u32,
) -> Result<(Measurement, std::time::Duration), Failure> {
    let mut fleet = warm(target, &orders, concurrency).await?;
    let name = format!("{concurrency} in flight");
    let parameters = parameters(&[("orders", orders.count), ("concurrency", concurrency.into())]);
    let meter = Meter::start(target).await?;
    let tally = drive(&mut fleet, orders, &name).await?;
    let cost = meter.stop(target).await?;
    let figures = Figures::of(counted(&tally), &tally, &cost);
    Ok((Measurement { name, parameters, figures, errors: tally.errors }, cost.elapsed))
}

/// Connections on which orders have been sent already.
pub(super) async fn warm(target: &Target, orders: &Orders, concurrency: u32) -> Result<Fleet, Failure> {
    let mut fleet = target.fleet(concurrency).await?;
    let warm_up = (orders.count / WARM_UP).max(u64::from(concurrency));
    drive(&mut fleet, orders.times(warm_up), "warming up").await?;
    Ok(fleet)
}

/// Sends these orders.
pub(super) async fn drive(fleet: &mut Fleet, orders: Orders, what: &str) -> Result<Tally, Failure> {
    let told = Told { what: what.to_owned(), things: "orders", total: orders.count };
    fleet.drive(orders, told).await
}

/// Orders that were right, and their steps.
pub(super) fn counted(tally: &Tally) -> Counted {
    Counted { one: "order", many: "orders", count: tally.right(), steps: Some(tally.right() * ORDER_STEPS) }
}

/// What was chosen, for the report.
pub(super) fn parameters(chosen: &[(&str, u64)]) -> Map<String, Value> {
    chosen.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}
