//! One run with many steps: all at once, or one after the other.

use std::time::Duration;

use everfold::server::wire::History;
use everfold_core::ids::Timestamp;
use serde_json::{Value, json};

use super::Stage;
use super::calls::{Ends, Ids, Orders};
use super::figures::{Counted, Figures, Meter, per_second};
use super::fleet::Told;
use super::report::Measurement;
use super::target::Target;
use super::throughput::parameters;
use crate::cli::failure::{Exit, Failure};

/// Runs that fan out.
const WIDE_RUNS: u64 = 20;
/// Steps of each.
const WIDTH: u64 = 1_000;
/// Steps of the long run.
const LONG: u64 = 100_000;
/// Parts of a long run whose speeds are compared.
const PARTS: u64 = 10;
/// Events of a history beside two for each step.
const OTHER_EVENTS: u64 = 16;

/// Measures runs whose steps are all under way at once.
pub(super) async fn fan_out(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (runs, width) = (stage.sizes.runs(WIDE_RUNS), stage.sizes.steps(WIDTH));
    let target = stage.target(room_for(width)).await?;
    let run = target.calls().run_to_end("fan-out", None, json!({ "width": width }))?;
    let told = |what: &str, total| Told { what: what.to_owned(), things: "runs", total };
    let mut fleet = target.fleet(1).await?;
    fleet.drive(Orders::all(run.clone(), 1), told("warming up", 1)).await?;
    let meter = Meter::start(&target).await?;
    let tally = fleet.drive(Orders::all(run, runs), told("fanning out", runs)).await?;
    let cost = meter.stop(&target).await?;
    let counted =
        Counted { one: "run", many: "runs", count: tally.right(), steps: Some(tally.right() * width) };
    Ok(vec![Measurement {
        name: format!("{width} steps at once"),
        parameters: parameters(&[("runs", runs), ("steps", width)]),
        figures: Figures::of(counted, &tally, &cost),
        errors: tally.errors,
    }])
}

/// Measures one run with very many steps, and whether the last of them take as long as the first.
pub(super) async fn long(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let steps = stage.sizes.steps(LONG);
    let target = stage.target(room_for(steps)).await?;
    let (ids, calls) = (Ids::new("long"), target.calls());
    let start = calls.start("long", ids.id(0), json!({ "steps": steps }))?;
    let meter = Meter::start(&target).await?;
    target.ask(&start).await?;
    let mut fleet = target.fleet(1).await?;
    let told = |total| Told { what: "one long run".to_owned(), things: "runs", total };
    // A request waits a minute at most; the run may take longer.
    let mut tally = loop {
        let end = Ends { calls: calls.clone(), ids: ids.clone(), count: 1 };
        let tally = fleet.drive(end, told(1)).await?;
        if !tally.errors.contains_key("run_running") {
            break tally;
        }
    };
    let cost = meter.stop(&target).await?;
    let counted = Counted { one: "step", many: "steps", count: steps, steps: None };
    // One latency, of the last wait, says nothing.
    tally.latencies.reset();
    let mut figures = Figures::of(counted, &tally, &cost);
    if tally.errors.is_empty() {
        let speeds = speeds(&target, &ids.id(0), steps).await?;
        for (number, speed) in (1..).zip(&speeds) {
            figures.put(format!("tenth_{number}_steps_per_second"), *speed);
        }
        if let (Some(Some(first)), Some(Some(last))) = (speeds.first(), speeds.last()) {
            figures.put("last_to_first_tenth_ratio", last / first);
        }
    }
    Ok(vec![Measurement {
        name: format!("{steps} steps"),
        parameters: parameters(&[("steps", steps)]),
        figures,
        errors: tally.errors,
    }])
}

/// Limits for one run of so many steps.
fn room_for(steps: u64) -> super::Settings {
    vec![
        ("EVERFOLD_LIMITS_HISTORY_EVENTS", (2 * steps + OTHER_EVENTS).max(51_200).to_string()),
        ("EVERFOLD_LIMITS_PENDING_ACTIVITIES", steps.max(2_000).to_string()),
    ]
}

/// Steps a second in each tenth of a run, from the times of its own events.
async fn speeds(target: &Target, id: &str, steps: u64) -> Result<Vec<Option<f64>>, Failure> {
    let mut times = Vec::new();
    for part in 0..=PARTS {
        // Event 2 schedules the first step; event 2n + 1 closes the n-th.
        times.push(time_of(target, id, 2 * (steps * part / PARTS) + 1).await?);
    }
    let speeds = times.windows(2).map(|pair| {
        let took = pair[1].ms_since(pair[0]);
        per_second(steps / PARTS, Duration::from_millis(took))
    });
    Ok(speeds.collect())
}

async fn time_of(target: &Target, id: &str, event: u64) -> Result<Timestamp, Failure> {
    let page: Value = target.ask(&target.calls().event(id, event)?).await?;
    let page: History = serde_json::from_value(page).map_err(anyhow::Error::from)?;
    let found = page.events.first().map(|event| event.time);
    found.ok_or_else(|| Failure::new(Exit::Failed, format!("{id} has no event {event}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_leave_room_and_are_never_below_the_defaults() {
        let limits = |steps| room_for(steps).into_iter().map(|(_, limit)| limit).collect::<Vec<_>>();
        assert_eq!(limits(100_000), ["200016", "100000"]);
        assert_eq!(limits(10), ["51200", "2000"]);
    }
}
