//! A carrier that takes its time.

use std::time::Duration;

use super::*;
use crate::activity::Heartbeats;

impl Bench {
    /// One attempt at shipping `o1` under the key `s`, after one that left `details`.
    async fn ship(&self, postcode: &str, details: Option<Value>) -> (AttemptOutcome, Vec<u64>, Heartbeats) {
        let details = details.map(|details| Payload::json(&details).expect("JSON"));
        let heartbeats = self.attempts.heartbeats(details);
        let task = task("arrange-shipping", "s", &ship("o1", postcode));
        let attempt = self.attempts.run(task, CancellationToken::new(), heartbeats.clone());
        let (outcome, pauses) = self.paced(attempt).await;
        (outcome, pauses, heartbeats)
    }
}

/// What the last heartbeat said.
fn said(heartbeats: &Heartbeats) -> Option<Value> {
    heartbeats.last().details.map(|details| details.to_value())
}

#[tokio::test]
async fn the_carrier_is_asked_with_growing_pauses_until_it_confirms() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let (outcome, pauses, heartbeats) = bench.ship("SLOW_7", None).await;
    assert!(line(outcome).starts_with("completed: {\"shipment_id\":\"shp_"));
    assert_eq!(pauses, [500, 1_000, 2_000, 2_000, 2_000]);
    assert_eq!(said(&heartbeats), Some(json!({"stage": "confirming", "polls": 4})));
    assert_eq!(bench.effects("shipments").await, ["shipment s 0"]);

    let (outcome, pauses, heartbeats) = bench.ship("SLOW_7", None).await;
    assert!(line(outcome).starts_with("completed"), "the result is kept");
    assert_eq!((pauses, said(&heartbeats)), (vec![], None));
    assert_eq!(bench.count("shipments").await, 1);

    let quick = bench.result("arrange-shipping", "q", &ship("o2", "80331")).await;
    assert!(text(&quick, "shipment_id").starts_with("shp_"));
}

#[tokio::test]
async fn an_attempt_goes_on_from_where_the_one_before_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let left = json!({"stage": "confirming", "polls": 6});
    let (outcome, pauses, heartbeats) = bench.ship("SLOW_3", Some(left)).await;
    assert!(line(outcome).starts_with("completed"));
    assert_eq!(pauses, [2_000, 2_000], "it does not hurry anew");
    assert_eq!(said(&heartbeats), Some(json!({"stage": "confirming", "polls": 8})));

    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let (outcome, pauses, _) = bench.ship("SLOW_1", Some(json!("what another version said"))).await;
    assert!(line(outcome).starts_with("completed"));
    assert_eq!(pauses, [500, 1_000]);
}

/// An attempt at shipping that sleeps before its second poll, and what asks it to stop.
async fn half_way(bench: &Bench) -> (tokio::task::JoinHandle<AttemptOutcome>, CancellationToken, Heartbeats) {
    let (cancellation, heartbeats) = (CancellationToken::new(), bench.attempts.heartbeats(None));
    let shipping = tokio::spawn({
        let (bench, stop, heartbeats) = (bench.clone(), cancellation.clone(), heartbeats.clone());
        let task = task("arrange-shipping", "s", &ship("o1", "SLOW_5"));
        async move { bench.attempts.run(task, stop, heartbeats).await }
    });
    for wake in [500, 1_500] {
        while bench.time.next_wake() != Some(T0.plus_ms(wake)) {
            tokio::task::yield_now().await;
        }
        if wake == 500 {
            bench.time.advance(Duration::from_millis(500));
        }
    }
    (shipping, cancellation, heartbeats)
}

#[tokio::test]
async fn asked_to_stop_it_leaves_the_booking_to_its_undo() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let (shipping, cancellation, heartbeats) = half_way(&bench).await;
    assert_eq!(said(&heartbeats), Some(json!({"stage": "confirming", "polls": 1})));
    cancellation.cancel();
    assert_eq!(
        line(shipping.await.expect("it ends")),
        "canceled: Canceled: activity arrange-shipping stopped on request"
    );
    for key in ["u", "u", "v"] {
        let canceled = bench.result("cancel-shipment", key, &undo("o1", "s")).await;
        assert_eq!(canceled, json!({"canceled": true}), "the booking is called off");
    }
    bench.time.advance(Duration::from_secs(60));
    assert!(bench.effects("shipments").await.is_empty(), "it is never confirmed");
    assert_eq!(
        bench.run("arrange-shipping", "s", &ship("o1", "SLOW_5")).await,
        "failed for good: StepUndone: step s of arrange-shipping was undone"
    );
}

#[tokio::test]
async fn a_shipment_that_was_confirmed_unheard_is_canceled_by_its_undo() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let (shipping, cancellation, _) = half_way(&bench).await;
    cancellation.cancel();
    shipping.await.expect("it ends");
    bench.time.advance(Duration::from_secs(60));
    assert_eq!(bench.effects("shipments").await, ["shipment s 0"], "nobody asked again");
    assert_eq!(bench.count("shipments").await, 0);
    for key in ["u", "v"] {
        let canceled = bench.result("cancel-shipment", key, &undo("o1", "s")).await;
        assert_eq!(canceled, json!({"canceled": true}));
    }
    assert_eq!(bench.effects("shipments").await, ["shipment s 0", "shipment_cancellation s 0"]);
}

#[tokio::test]
async fn an_attempt_that_was_lost_finds_its_booking_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let (shipping, _, heartbeats) = half_way(&bench).await;
    // As if killed here.
    shipping.abort();
    assert!(shipping.await.expect_err("it was dropped").is_cancelled());
    bench.time.advance(Duration::from_secs(4));
    let (outcome, pauses, _) = bench.ship("SLOW_5", said(&heartbeats)).await;
    assert!(line(outcome).starts_with("completed"));
    assert_eq!(pauses, [2_000], "five seconds from the first call, not from this one");
    assert_eq!(bench.effects("shipments").await, ["shipment s 0"]);
}
