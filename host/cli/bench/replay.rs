//! Histories that are folded once more: a check replays them with a component that has the same code under
//! another digest.

use everfold::server::wire::{CheckReport, Deployed, Progress};
use serde_json::json;

use super::Stage;
use super::calls::Orders;
use super::figures::{Figures, Meter, whole};
use super::fleet::Told;
use super::report::Measurement;
use super::target::Target;
use super::throughput::{drive, parameters};
use crate::cli::client::{Long, Sent};
use crate::cli::failure::Failure;
use crate::cli::progress::Bar;

/// Short histories unless told otherwise.
const RUNS: u64 = 5_000;
/// Steps of the long history unless told otherwise.
const STEPS: u64 = 10_000;
/// Requests in flight.
const CONCURRENCY: u32 = 64;

/// Measures replays of many short histories and of a long one.
pub(super) async fn replay(stage: &Stage) -> Result<Vec<Measurement>, Failure> {
    let (runs, steps) = (stage.sizes.runs(RUNS), stage.sizes.steps(STEPS));
    let target = stage.target(Vec::new()).await?;
    let twin = twin(&stage.component.bytes);
    let twin: Deployed = target.client().post_wasm(&["components"], twin).await?;
    let twin = twin.digest.to_string();

    let orders =
        drive(&mut target.fleet(CONCURRENCY).await?, target.calls().orders(runs)?, "histories").await?;
    let run = target.calls().run_to_end("long", None, json!({ "steps": steps }))?;
    let told = Told { what: "a long history".to_owned(), things: "runs", total: 1 };
    let long = target.fleet(1).await?.drive(Orders::all(run, 1), told).await?;

    let mut short_histories = check(&target, &twin, "four-steps", "short histories").await?;
    short_histories.errors.extend(orders.errors);
    let mut long_history = check(&target, &twin, "long", "a long history").await?;
    long_history.errors.extend(long.errors);
    short_histories.parameters = parameters(&[("runs", runs)]);
    long_history.parameters = parameters(&[("steps", steps)]);
    Ok(vec![short_histories, long_history])
}

/// The same component with an empty custom section behind it: the same code, another digest.
fn twin(component: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"everfold-bench";
    // WebAssembly's binary format, custom section: id 0, size, length of the name, name.
    let length = NAME.len() as u8;
    [component, &[0, length + 1, length], NAME].concat()
}

async fn check(
    target: &Target,
    digest: &str,
    workflow_type: &str,
    name: &str,
) -> Result<Measurement, Failure> {
    let long = Long {
        path: vec!["components", digest, "check"],
        query: vec![("closed_days", "1".to_owned()), ("workflow_type", workflow_type.to_owned())],
        sent: Sent::Nothing,
    };
    let meter = Meter::start(target).await?;
    let bar = Bar::of("replaying");
    let report: CheckReport = target.client().follow(long, |progress: Progress| bar.tell(progress)).await??;
    let cost = meter.stop(target).await?;
    let closed = report.workflow_types.iter().map(|found| found.closed);
    let (looked_at, compatible) =
        closed.fold((0, 0), |(runs, compatible), tally| (runs + tally.runs, compatible + tally.compatible));
    let mut figures = Figures::default();
    let each = |ms: u64| (report.events > 0).then(|| whole(ms) * 1_000.0 / whole(report.events));
    figures.put("runs", whole(looked_at));
    figures.put("events", whole(report.events));
    figures.put("elapsed_ms", whole(report.duration_ms));
    let seconds = whole(report.duration_ms.max(1)) / 1_000.0;
    figures.put("events_per_second", whole(report.events) / seconds);
    figures.put("reading_us_per_event", each(report.spent.reading_ms));
    figures.put("instantiating_us_per_event", each(report.spent.instantiating_ms));
    figures.put("folding_us_per_event", each(report.spent.folding_ms));
    figures.cost_of_host(&cost);
    let broken = looked_at - compatible;
    let errors = (broken > 0).then(|| ("replay_does_not_hold".to_owned(), broken)).into_iter().collect();
    Ok(Measurement { name: name.to_owned(), parameters: parameters(&[]), figures, errors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_has_one_more_section() {
        let twin = twin(b"\0asm\x0d\0\x01\0");
        let sections = wasmparser::Parser::new(0).parse_all(&twin);
        let sections: Vec<_> = sections.collect::<Result<_, _>>().expect("a component");
        assert!(
            matches!(&sections[1], wasmparser::Payload::CustomSection(section) if section.name() == "everfold-bench")
        );
    }
}
