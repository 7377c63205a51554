//! Orders at a constant rate for a long time, whether or not the host keeps up: a latency counts from the
//! moment at which the order was to be sent. Each minute is a measurement of its own, and at the end every
//! order must have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use owo_colors::OwoColorize as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Stage;
use super::calls::{Calls, Ids, completed};
use super::connection::Connection;
use super::figures::{Counted, Figures, Meter, per_second, whole};
use super::fleet::{Tally, micros};
use super::report::Measurement;
use super::target::Target;
use super::throughput::parameters;
use crate::cli::failure::Failure;

/// How long unless told otherwise.
const DURATION: Duration = Duration::from_secs(20 * 60);
/// Orders a second unless told otherwise.
const RATE: u32 = 500;
/// Each is a measurement.
const MINUTE: Duration = Duration::from_secs(60);
/// Requests in flight at most; orders beyond them wait, and their latency says so.
const MOST_IN_FLIGHT: usize = 4_096;
/// Pause before a refused order is sent again where the refusal names none.
const PAUSE: Duration = Duration::from_millis(100);
/// Tries of one order.
const TRIES: u32 = 60;

/// What senders share.
struct Soak {
    calls: Calls,
    ids: Ids,
    idle: Mutex<Vec<Connection>>,
    minute: Mutex<Tally>,
    /// Orders that were not seen to complete.
    open: Mutex<Vec<u64>>,
}

/// Measures orders at a constant rate.
pub(super) async fn soak(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (rate, duration) = (stage.sizes.rate(RATE), stage.sizes.duration(DURATION));
    let target = stage.target(Vec::new()).await?;
    let soak = Arc::new(Soak {
        calls: target.calls().clone(),
        ids: Ids::new("soak"),
        idle: Mutex::default(),
        minute: Mutex::new(Tally::new()?),
        open: Mutex::default(),
    });
    let orders = (duration.as_secs_f64() * f64::from(rate)).ceil() as u64;
    let meter = Meter::start(&target).await?;
    let (mut measurements, whole_time) = send(&target, &soak, rate, orders).await?;
    let cost = meter.stop(&target).await?;
    let lost = soak.look_again(&target).await?;
    let counted = Counted { one: "order", many: "orders", count: whole_time.right(), steps: None };
    let mut errors = whole_time.errors.clone();
    if lost > 0 {
        errors.insert("order_not_ended".to_owned(), lost);
    }
    let mut figures = Figures::of(counted, &whole_time, &cost);
    figures.put("orders_sent", whole(orders));
    figures.put("orders_not_ended", whole(lost));
    figures.put("blocked_runs", target.scrape().await?.blocked());
    // What went wrong in a minute is counted once, here.
    measurements.iter_mut().for_each(|minute| minute.errors.clear());
    measurements.push(Measurement {
        name: "whole time".to_owned(),
        parameters: parameters(&[("rate", rate.into()), ("duration_s", duration.as_secs())]),
        figures,
        errors,
    });
    Ok(measurements)
}

/// Sends all orders, each at its time; gives each minute and the whole.
async fn send(
    target: &Target,
    soak: &Arc<Soak>,
    rate: u32,
    orders: u64,
) -> Result<(Vec<Measurement>, Tally), Failure> {
    let mut whole_time = Tally::new()?;
    let mut minutes = Vec::new();
    let mut under_way = JoinSet::new();
    let began = Instant::now();
    let mut minute_began = began;
    for number in 0..orders {
        let due = began + Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        while let Some(ended) = under_way.try_join_next() {
            flatten(ended)?;
        }
        if under_way.len() >= MOST_IN_FLIGHT
            && let Some(ended) = under_way.join_next().await
        {
            flatten(ended)?;
        }
        under_way.spawn(Arc::clone(soak).order(target.connecting(), number, due));
        if minute_began.elapsed() >= MINUTE {
            minutes.push(soak.minute(target, minutes.len(), minute_began.elapsed(), &mut whole_time)?);
            minute_began = Instant::now();
        }
    }
    while let Some(ended) = under_way.join_next().await {
        flatten(ended)?;
    }
    minutes.push(soak.minute(target, minutes.len(), minute_began.elapsed(), &mut whole_time)?);
    Ok((minutes, whole_time))
}

fn flatten(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    ended.map_err(|error| anyhow::Error::new(error).context("the driver failed"))?
}

impl Soak {
    /// Sends one order and waits for its end.
    async fn order(
        self: Arc<Self>,
        connecting: impl Future<Output = Result<Connection, Failure>>,
        number: u64,
        due: Instant,
    ) -> Result<(), Failure> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connecting.await?,
        };
        let call = self.calls.order(Some(self.ids.id(number)))?;
        let mut refused = 0;
        let end = loop {
            let Some(reply) = connection.send(&call).await? else {
                break Err("connection_broke".to_owned());
            };
            if !matches!(reply.status.as_u16(), 429 | 503) {
                break completed(&reply);
            }
            refused += 1;
            if refused == u64::from(TRIES) {
                break Err("refused_for_too_long".to_owned());
            }
            tokio::time::sleep(reply.retry_after.unwrap_or(PAUSE)).await;
        };
        self.idle.lock().push(connection);
        let mut minute = self.minute.lock();
        minute.refused += refused;
        match end {
            Ok(()) => minute.latencies.saturating_record(micros(due.elapsed())),
            Err(kind) => {
                *minute.errors.entry(kind).or_default() += 1;
                self.open.lock().push(number);
            }
        }
        Ok(())
    }

    /// Closes a minute: says its line, adds it to the whole, and begins the next.
    fn minute(
        &self,
        target: &Target,
        number: usize,
        took: Duration,
        whole_time: &mut Tally,
    ) -> Result<Measurement, Failure> {
        let tally = std::mem::replace(&mut *self.minute.lock(), Tally::new()?);
        let memory = target.process().and_then(|process| process.usage().memory_bytes);
        let mut figures = Figures::default();
        figures.put("orders", whole(tally.right()));
        figures.put("errors", whole(tally.wrong()));
        figures.put("refused", whole(tally.refused));
        figures.put("orders_per_second", per_second(tally.right(), took));
        figures.latencies(&tally);
        figures.put("host_memory_bytes", memory.map(whole));
        let name = format!("minute {}", number + 1);
        anstream::eprintln!("{}", crate::cli::render::bench::line(&name, &figures).dimmed());
        whole_time.add(&tally)?;
        Ok(Measurement { name, parameters: parameters(&[]), figures, errors: tally.errors })
    }

    /// Asks for the end of each order that was not seen to complete; gives the number of those that did not.
    async fn look_again(&self, target: &Target) -> Result<u64, Failure> {
        let open = std::mem::take(&mut *self.open.lock());
        let mut connection = target.connecting().await?;
        let mut lost = BTreeMap::new();
        for number in open {
            let reply = connection.send(&self.calls.end_of(&self.ids.id(number))?).await?;
            let end = reply.map_or_else(|| Err("connection_broke".to_owned()), |reply| completed(&reply));
            if let Err(kind) = end {
                lost.insert(number, kind);
            }
        }
        Ok(lost.len() as u64)
    }
}
