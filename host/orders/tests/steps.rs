//! Every step is taken once and taken back once.

use super::*;

/// The steps, each with its undo: activity, input, undo, the undo's result after the step, and
/// without it.
fn steps() -> Vec<(&'static str, Value, &'static str, Value, Value)> {
    vec![
        (
            "reserve-inventory",
            reserve("o1", "book", 2),
            "release-inventory-reservation",
            json!({"released": true}),
            json!({"released": false}),
        ),
        (
            "process-payment",
            charge("o1", 2_500, "tok_ok"),
            "refund-payment",
            json!({"refunded_cents": 2_500}),
            json!({"refunded_cents": 0}),
        ),
        (
            "arrange-shipping",
            ship("o1", "80331"),
            "cancel-shipment",
            json!({"canceled": true}),
            json!({"canceled": false}),
        ),
    ]
}

#[tokio::test]
async fn a_repeated_step_gets_the_first_result_and_a_repeated_undo_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    for (step, input, undo_type, undone, _) in steps() {
        let first = bench.result(step, step, &input).await;
        assert_eq!(bench.result(step, step, &input).await, first, "{step}");
        let undo = undo("o1", step);
        assert_eq!(bench.result(undo_type, undo_type, &undo).await, undone, "{undo_type}");
        assert_eq!(bench.result(undo_type, undo_type, &undo).await, undone, "{undo_type} again");
        assert_eq!(bench.result(undo_type, "another key", &undo).await, undone, "another undo of it");
        assert_eq!(
            bench.run(step, step, &input).await,
            format!("failed for good: StepUndone: step {step} of {step} was undone")
        );
    }
    assert_eq!(
        bench.effects("payments").await,
        ["charge process-payment 2500", "refund process-payment 2500"]
    );
    assert_eq!(
        bench.effects("shipments").await,
        ["shipment arrange-shipping 0", "shipment_cancellation arrange-shipping 0"]
    );
    assert_eq!(bench.stock("book").await, (1_000_000, 0));
    assert_eq!(bench.count("payments WHERE state = 'refunded'").await, 1);
    assert_eq!(bench.count("shipments WHERE state = 'canceled'").await, 1);
}

#[tokio::test]
async fn an_undo_that_comes_first_does_nothing_and_refuses_the_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    for (step, input, undo_type, _, nothing) in steps() {
        let undo = undo("o1", step);
        assert_eq!(bench.result(undo_type, undo_type, &undo).await, nothing, "{undo_type}");
        assert_eq!(bench.result(undo_type, undo_type, &undo).await, nothing, "{undo_type} again");
        assert_eq!(
            bench.run(step, step, &input).await,
            format!("failed for good: StepUndone: step {step} of {step} was undone")
        );
    }
    assert!(bench.effects("payments").await.is_empty());
    assert!(bench.effects("shipments").await.is_empty());
    assert_eq!(bench.stock("book").await, (1_000_000, 0));
}

#[tokio::test]
async fn the_remote_refuses_what_it_was_told_to_void_even_if_the_tables_know_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    // An undo whose host stopped before it could write its own row.
    let body = activities::payment::Refund { order_id: "o1".to_owned(), charge_key: "k".to_owned() };
    let refunded: Value = bench.shop.gateway.post("/refunds", "undo", &[], &body).await.expect("it answers");
    assert_eq!(refunded, json!({"refunded_cents": 0}));
    assert_eq!(
        bench.run("process-payment", "k", &charge("o1", 2_500, "tok_ok")).await,
        "failed for good: StepUndone: it was taken back before it arrived, or since"
    );
}

#[tokio::test]
async fn a_host_that_stopped_between_the_call_and_its_own_row_asks_again_and_charges_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let input = charge("o1", 2_500, "tok_ok");
    let charged: Value = bench.shop.gateway.post("/charges", "k", &[], &input).await.expect("it is charged");
    assert_eq!(bench.count("payments").await, 0, "as if killed here");
    drop(bench);

    let bench = Bench::open(&folder).await;
    assert_eq!(bench.result("process-payment", "k", &input).await, charged);
    assert_eq!(bench.effects("payments").await, ["charge k 2500"]);
    // The refund likewise: the gateway's answer is the same, the row follows.
    let body = activities::payment::Refund { order_id: "o1".to_owned(), charge_key: "k".to_owned() };
    let refunded: Value = bench.shop.gateway.post("/refunds", "u", &[], &body).await.expect("it is refunded");
    drop(bench);

    let bench = Bench::open(&folder).await;
    assert_eq!(bench.result("refund-payment", "u", &undo("o1", "k")).await, refunded);
    assert_eq!(bench.effects("payments").await, ["charge k 2500", "refund k 2500"]);
    assert_eq!(bench.count("payments WHERE state = 'refunded'").await, 1);
}

#[tokio::test]
async fn attempts_at_one_time_have_one_effect() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    for (step, input, ..) in steps() {
        let attempts = (0..16).map(|_| bench.result(step, step, &input));
        let results = futures::future::join_all(attempts).await;
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{step}: {results:?}");
    }
    assert_eq!(bench.effects("payments").await, ["charge process-payment 2500"]);
    assert_eq!(bench.effects("shipments").await, ["shipment arrange-shipping 0"]);
    assert_eq!(bench.stock("book").await, (1_000_000, 2));
}

#[tokio::test]
async fn a_key_belongs_to_one_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    bench.result("reserve-inventory", "k", &reserve("o1", "book", 2)).await;
    assert_eq!(
        bench.run("process-payment", "k", &charge("o1", 1, "tok_ok")).await,
        "failed for good: IdempotencyKeyReused: key k is that of a step of reserve-inventory, not of \
         process-payment"
    );
    assert_eq!(
        bench.run("refund-payment", "u", &undo("o1", "k")).await,
        "failed for good: IdempotencyKeyReused: key k is that of a step of reserve-inventory, not of \
         process-payment"
    );
    assert_eq!(
        bench.run("process-payment", "\u{1}", &charge("o1", 1, "tok_ok")).await,
        "failed for good: PaymentRejected: not an idempotency key for HTTP: \"\\u{1}\""
    );
    assert!(bench.effects("payments").await.is_empty());
}
