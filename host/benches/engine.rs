//! What a real guest costs: an instance and its first activation, a further activation, dropping it, and
//! one replayed event, with the sample workflow of four steps and the long one.
//!
//! Needs `cargo xtask guests`.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use everfold::guest::{Allocation, Engine, EngineSettings, Instance, LoadedComponent};
use everfold_core::attributes::{Memo, SearchAttributes};
use everfold_core::divergence::{Replaying, Strictness};
use everfold_core::event::{ActivityCompleted, Event, Input, WorkflowStarted};
use everfold_core::fold::{Activated, Activation, Guest as _, activations};
use everfold_core::ids::{EventId, Namespace, RunId, Seed, Timestamp, WorkflowId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;
use everfold_core::replay::replay;
use serde_json::{Value, json};

/// Steps of the replayed run: each is two events.
const STEPS: u64 = 1_000;
/// Instances alive at once; the pool has room for more.
const BATCH: BatchSize = BatchSize::NumIterations(64);
const T0: Timestamp = Timestamp(1_700_000_000_000);

fn component() -> LoadedComponent {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components/samples.wasm");
    let wasm = match std::fs::read(&path) {
        Ok(wasm) => wasm,
        Err(error) => panic!("{}: {error}; build the guests with `cargo xtask guests`", path.display()),
    };
    // From a pool, as the server has it.
    let allocation = Allocation::Pooled { instances: 256 };
    let settings = EngineSettings { allocation, ..EngineSettings::default() };
    Engine::new(settings, None).unwrap().load(&wasm).unwrap()
}

fn started(component: &LoadedComponent, workflow_type: &str, input: &Value) -> Input {
    Input::WorkflowStarted(Arc::new(WorkflowStarted {
        workflow_type: workflow_type.to_owned(),
        workflow_id: WorkflowId("w".to_owned()),
        namespace: Namespace::default(),
        run_id: RunId([7; 16]),
        original_run_id: RunId([7; 16]),
        digest: component.digest(),
        input: Payload::json(input).unwrap(),
        headers: Vec::new(),
        seed: Seed([3; 32]),
        attempt: 1,
        continued_from_run_id: None,
        parent: None,
        lifetime: None,
        reset: None,
        search_attributes: SearchAttributes::default(),
        memo: Memo::default(),
    }))
}

/// The end of the only open step.
fn completed(state: &RunState) -> Input {
    let (scheduled_event_id, _) = state.activities().iter().next().unwrap();
    let result = Payload::json(&Value::Null).unwrap();
    Input::ActivityCompleted(ActivityCompleted { scheduled_event_id, attempt: 1, result })
}

fn activate(instance: &mut Instance, state: RunState, input: Input) -> (RunState, Vec<Event>) {
    let now = T0.plus_ms(state.next().0);
    let activation = Activation::live(state, now, input, Limits::default()).unwrap();
    let Activated { activation, outcome, .. } = instance.activate(activation);
    outcome.unwrap();
    let folded = activation.finish().unwrap();
    (folded.state, folded.events)
}

/// An instance that waits for its first step.
fn waiting(component: &LoadedComponent) -> (Instance, RunState) {
    let mut instance = component.instantiate().unwrap();
    let first = started(component, "four-steps", &json!({ "activity": "noop" }));
    let (state, _) = activate(&mut instance, RunState::new(), first);
    (instance, state)
}

/// The history of a run of many steps.
fn history(component: &LoadedComponent) -> Vec<Event> {
    let mut instance = component.instantiate().unwrap();
    let first = started(component, "long", &json!({ "steps": STEPS }));
    let (mut state, mut history) = activate(&mut instance, RunState::new(), first);
    while state.next() <= EventId(2 * STEPS + 1) {
        let input = completed(&state);
        let (next, events) = activate(&mut instance, state, input);
        history.extend(events);
        state = next;
    }
    history
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let component = component();
    let mut group = criterion.benchmark_group("engine");
    group.bench_function("instantiate and first activation", |bencher| {
        // Instances are dropped outside of the measurement.
        bencher.iter_batched(|| (), |()| waiting(&component), BATCH);
    });
    group.bench_function("further activation", |bencher| {
        bencher.iter_batched(
            || {
                let (instance, state) = waiting(&component);
                let input = completed(&state);
                (instance, state, input)
            },
            |(mut instance, state, input)| {
                let folded = activate(&mut instance, state, input);
                (instance, folded)
            },
            BATCH,
        );
    });
    group.bench_function("drop", |bencher| {
        bencher.iter_batched(|| waiting(&component), drop, BATCH);
    });
    let history = history(&component);
    group.throughput(Throughput::Elements(history.len() as u64));
    group.bench_function("replay", |bencher| {
        let replaying = Replaying { digest: component.digest(), strictness: Strictness::Lenient };
        bencher.iter_batched(
            || (component.instantiate().unwrap(), history.clone()),
            |(mut instance, history)| {
                replay(&mut instance, activations(history), replaying).unwrap();
                instance
            },
            BATCH,
        );
    });
    group.finish();
    criterion.final_summary();
}
