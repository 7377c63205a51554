//! What it costs to be told things: one host that says nothing beside one that logs every fact and is
//! scraped, measured in turn so that both meet the same machine.

use std::time::Duration;

use super::Stage;
use super::figures::Figures;
use super::private_host::Settings;
use super::report::{Measured, Measurement};
use super::target::Target;
use super::throughput::{self, parameters};
use crate::cli::failure::Failure;

/// Orders of each turn.
const ORDERS: u64 = 10_000;
/// Requests in flight unless told otherwise.
const CONCURRENCY: u32 = 64;
/// Turns of each host.
const TURNS: usize = 2;
/// How often metrics are scraped; Prometheus asks every 15 s or every minute by default.
const SCRAPE_PERIOD: Duration = Duration::from_secs(1);

/// Measures a silent host and a watched one in turn.
pub(super) async fn observed(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let level = |level: &str| -> Settings { vec![("EVERFOLD_LOG", level.to_owned())] };
    let silent = Target::private(level("off"), &stage.component).await?;
    let watched = Target::private(level("info"), &stage.component).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.push(turn(stage, &silent).await?);
        with.push(tokio::select! {
            turn = turn(stage, &watched) => turn?,
            failure = scrape_for_ever(&watched) => return Err(failure),
        });
    }
    let without = together("silent", &without);
    let with = together("logged and scraped", &with);
    let ratio = |name: &str| {
        let pair = with.figures.get(name).zip(without.figures.get(name));
        pair.map(|(with, without)| with / without)
    };
    let mut ratios = Figures::default();
    for name in ["orders_per_second", "p50_us", "p99_us", "host_cpu_us_per_order"] {
        ratios.put(format!("{name}_ratio"), ratio(name));
    }
    let compared = Measurement {
        name: "watched to silent".to_owned(),
        parameters: parameters(&[("turns", TURNS as u64)]),
        figures: ratios,
        errors: Default::default(),
    };
    Ok(vec![without, with, compared])
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
