//! What the pure part costs: folding a run of many steps, packing its history, and checking a replay of it.
//! The guest is a script, so that what is measured is the core and nothing else.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use everfold_core::command::{Command, WorkflowCompleted};
use everfold_core::decision::Decision;
use everfold_core::divergence::{Replaying, Strictness};
use everfold_core::event::{ActivityCompleted, Event, Input};
use everfold_core::fold::{Activated, Activation, Guest, activations};
use everfold_core::history::{pack, unpack};
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;
use everfold_core::replay::replay;
use fixtures::{scheduled, started};

/// Steps of the run: each is two events.
const STEPS: u64 = 1_000;
const DIGEST: Digest = Digest([7; 32]);
const T0: Timestamp = Timestamp(1_700_000_000_000);

/// A guest that takes one step after the other.
struct Steps {
    taken: u64,
}

impl Guest for Steps {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let call = if self.taken < STEPS { step(self.taken) } else { done() };
        self.taken += 1;
        activation.command(call).unwrap();
        Activated { activation, outcome: Ok(()), observations: () }
    }
}

fn step(number: u64) -> Command {
    Command::ActivityScheduled(Arc::new(scheduled("noop", Payload::json(&number).unwrap())))
}

fn done() -> Command {
    Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() })
}

/// The run's inputs: its start, and the end of each step.
fn inputs() -> impl Iterator<Item = Input> {
    let ends = (1..=STEPS).map(|step| {
        Input::ActivityCompleted(ActivityCompleted {
            scheduled_event_id: EventId(2 * step),
            attempt: 1,
            result: Payload::default(),
        })
    });
    std::iter::once(started()).chain(ends)
}

/// Folds the whole run as the runner does, decisions included.
fn fold() -> Vec<Event> {
    let key = RunKey { namespace: Namespace::default(), run_id: RunId([1; 16]) };
    let (mut guest, mut state, mut history) = (Steps { taken: 0 }, RunState::new(), Vec::new());
    for (now, input) in (0..).zip(inputs()) {
        let activation = Activation::live(state, T0.plus_ms(now), input, Limits::default()).unwrap();
        let Activated { activation, .. } = guest.activate(activation);
        let (decision, next) = Decision::of(key.clone(), activation.finish().unwrap());
        history.extend(decision.events.iter().cloned());
        state = next;
    }
    history
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let history = fold();
    let packed = pack(&history);
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements(history.len() as u64));
    group.bench_function("fold", |bencher| bencher.iter(fold));
    group.bench_function("pack", |bencher| bencher.iter(|| pack(&history)));
    group.bench_function("unpack", |bencher| {
        bencher.iter(|| {
            let mut events = Vec::with_capacity(history.len());
            unpack(&packed, &mut events).unwrap();
            events
        });
    });
    group.bench_function("replay check", |bencher| {
        let replaying = Replaying { digest: DIGEST, strictness: Strictness::Lenient };
        bencher.iter_batched(
            || history.clone(),
            |history| replay(&mut Steps { taken: 0 }, activations(history), replaying).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
