//! Each step of the order saga made to fail: exactly what was done, or may have been done, is undone,
//! in reverse order. Time is virtual.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::future::pending;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold_core::decision::Outcome;
use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use serde_json::Value;
use support::{SAGA_ANSWERS, TestHost, saga_input, scheduled};
use tokio::sync::mpsc;

const STEPS: [&str; 4] = ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"];
const UNDOINGS: [&str; 4] =
    ["release-inventory-reservation", "refund-payment", "restock-inventory", "cancel-shipment"];

/// All activities answer well, but for one.
fn all_but(failing: &str) -> Registry {
    let mut registry = Registry::default();
    for (name, answer) in SAGA_ANSWERS.into_iter().filter(|(name, _)| *name != failing) {
        registry.register_fn(name, move |_: ActivityContext, _: Value| async move { Ok(answer()) });
    }
    registry
}

/// The steps up to the failing one, then the undoings of the first `undone` steps, last first.
fn expected(failing: usize, undone: usize) -> Vec<&'static str> {
    let undoings = UNDOINGS[..undone].iter().rev();
    STEPS[..=failing].iter().chain(undoings).copied().collect()
}

async fn failure(test: &TestHost) -> Failure {
    let end = test.end("order").await;
    assert_eq!(end.status, RunStatus::Failed);
    match end.outcome {
        Some(Outcome::Failure(failure)) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_for_good_undoes_the_steps_before_it() {
    for (failing, step) in STEPS.into_iter().enumerate() {
        let mut registry = all_but(step);
        registry.register_fn(step, |_: ActivityContext, _: Value| async {
            Err::<Value, _>(Failure::non_retryable("Refused", "never"))
        });
        let folder = tempfile::tempdir().unwrap();
        let test = TestHost::open(folder.path(), registry).await;
        test.deploy("order").await;
        test.start("order-saga", "order", &saga_input()).await;
        let failure = failure(&test).await;
        assert_eq!(failure.type_name(), "OrderFailed");
        assert!(failure.chain().any(|cause| cause.type_name() == "Refused"), "{failure}");
        assert_eq!(scheduled(&test.events("order").await), expected(failing, failing), "{step} was refused");
        test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_times_out_is_undone_itself_too() {
    // Seconds until an attempt runs out of time: by start-to-close, the last step's for want of heartbeats.
    let patience = [5, 30, 5, 10];
    for (failing, (step, seconds)) in STEPS.into_iter().zip(patience).enumerate() {
        let (begun, mut begins) = mpsc::unbounded_channel();
        let mut registry = all_but(step);
        registry.register_fn(step, move |context: ActivityContext, _: Value| {
            let _ = begun.send(context.info().attempt);
            pending::<Result<Value, Failure>>()
        });
        let folder = tempfile::tempdir().unwrap();
        let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
        let clock = Clock::from_source(time.clone());
        let test = TestHost::open_at(
            folder.path(),
            registry,
            &HostSettings::default(),
            EngineSettings::default(),
            clock,
        )
        .await;
        test.deploy("order").await;
        test.start("order-saga", "order", &saga_input()).await;
        for attempt in 1..=5 {
            // Nothing but the pause before this attempt can pass meanwhile.
            let number = loop {
                tokio::select! {
                    number = begins.recv() => break number,
                    () = tokio::time::sleep(Duration::from_millis(1)), if attempt > 1 => {
                        time.advance(Duration::from_millis(100));
                    }
                }
            };
            assert_eq!(number, Some(attempt));
            time.advance(Duration::from_secs(seconds));
        }
        let failure = failure(&test).await;
        assert!(failure.chain().any(|cause| cause.type_name() == "TimedOut"), "{failure}");
        assert_eq!(
            scheduled(&test.events("order").await),
            expected(failing, failing + 1),
            "{step} timed out"
        );
        test.stop().await;
    }
}
