//! What it costs to be told things: one host that says nothing, one that logs every fact and is scraped, and
//! one that sends every span to a collector, measured in turn so that all meet the same machine.

use std::time::Duration;

use super::Stage;
use super::collector::Collector;
use super::figures::Figures;
use super::report::{Measured, Measurement};
use super::target::Target;
use super::throughput::{self, parameters};
use crate::cli::failure::Failure;

/// Orders of each turn.
const ORDERS: u64 = 10_000;
/// Requests in flight unless told otherwise.
const CONCURRENCY: u32 = 64;
/// Turns of each host.
const TURNS: usize = 3;
/// How often metrics are scraped; Prometheus asks every 15 s or every minute by default.
const SCRAPE_PERIOD: Duration = Duration::from_secs(1);

/// Measures a silent host, one that is logged and scraped, and one that sends traces, in turn.
pub(super) async fn observed(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let level = |level: &str| ("EVERFOLD_LOG", level.to_owned());
    let collector = Collector::start().await?;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().to_owned());
    let silent = Target::private(vec![level("off")], &stage.component).await?;
    let watched = Target::private(vec![level("info")], &stage.component).await?;
    let traced = Target::private(vec![level("off"), endpoint], &stage.component).await?;
    let (mut of_silent, mut of_watched, mut of_traced) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        of_silent.push(turn(stage, &silent).await?);
        of_watched.push(tokio::select! {
            turn = turn(stage, &watched) => turn?,
            failure = scrape_for_ever(&watched) => return Err(failure),
        });
        of_traced.push(turn(stage, &traced).await?);
    }
    let silent = together("silent", &of_silent);
    let watched = together("logged and scraped", &of_watched);
    let dropped = traced.scrape().await?.spans_dropped();
    let mut traced = together("traced", &of_traced);
    traced.figures.put("spans_dropped", dropped);
    let compared = [
        compared("logged and scraped to silent", &watched, &silent),
        compared("traced to silent", &traced, &silent),
    ];
    Ok([silent, watched, traced].into_iter().chain(compared).collect())
}

/// What one host costs beside another.
fn compared(name: &str, with: &Measurement, without: &Measurement) -> Measurement {
    let mut ratios = Figures::default();
    for name in ["orders_per_second", "p50_us", "p99_us", "host_cpu_us_per_order"] {
        let pair = with.figures.get(name).zip(without.figures.get(name));
        ratios.put(format!("{name}_ratio"), pair.map(|(with, without)| with / without));
    }
    let parameters = parameters(&[("turns", TURNS as u64)]);
    Measurement { name: name.to_owned(), parameters, figures: ratios, errors: Default::default() }
}

async fn turn(stage: &Stage, target: &Target) -> Result<Measurement, Failure> {
    let orders = target.calls().orders(stage.sizes.orders(ORDERS))?;
    let (measurement, _) = throughput::measure(target, orders, stage.sizes.concurrency(CONCURRENCY)).await?;
    Ok(measurement)
}

/// The median of a host's turns.
fn together(name: &str, turns: &[Measurement]) -> Measurement {
    let turns: Vec<&Measurement> = turns.iter().collect();
    match Measured::of(&turns) {
        Some(measured) => Measurement { name: name.to_owned(), ..Measurement::from(measured) },
        None => unreachable!("each host has its turns"),
    }
}

async fn scrape_for_ever(target: &Target) -> Failure {
    loop {
        if let Err(failure) = target.scrape().await {
            return failure;
        }
        tokio::time::sleep(SCRAPE_PERIOD).await;
    }
}
