//! What the gateway and the carrier may answer, and the sandbox's scenarios.

use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;

use super::*;

#[tokio::test]
async fn a_token_steers_the_gateway_which_is_asked_three_times_in_one_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let unavailable = "failed: PaymentGatewayUnavailable: the payment gateway answered 503: the gateway is \
                       unavailable";
    let declined = "failed for good: PaymentDeclined: the card was declined";
    let unknown = "failed for good: PaymentRejected: the payment gateway answered 422: nobody issued the payment \
                   token `tok_nobody`";
    // How each attempt ends, and the pauses in it.
    let (none, once, all) = (vec![], vec![200], vec![200, 800]);
    let cases = [
        ("tok_declined", vec![(declined, &none), (declined, &none)]),
        ("tok_nobody", vec![(unknown, &none)]),
        ("tok_down", vec![(unavailable, &all), (unavailable, &all)]),
        ("tok_flaky_1", vec![("completed", &once)]),
        ("tok_flaky_2", vec![("completed", &all), ("completed", &none)]),
        ("tok_flaky_4", vec![(unavailable, &all), ("completed", &once), ("completed", &none)]),
    ];
    for (token, expected) in cases {
        for (number, (end, pauses)) in expected.into_iter().enumerate() {
            let input = charge("o1", 700, token);
            let attempt = attempt(&bench.attempts, "process-payment", token, &input);
            let (outcome, paused) = bench.paced(attempt).await;
            assert!(outcome.starts_with(end), "{token}, attempt {number}: {outcome}");
            assert_eq!(paused, *pauses, "{token}, attempt {number}");
        }
    }
    let input = charge("o1", 700, "tok_flaky_4");
    assert_eq!(bench.run("process-payment", "other", &input).await, unavailable, "counted by key");
    assert_eq!(
        bench.effects("payments").await,
        ["charge tok_flaky_1 700", "charge tok_flaky_2 700", "charge tok_flaky_4 700"]
    );
    drop(bench);

    let bench = Bench::open(&folder).await;
    let attempt = attempt(&bench.attempts, "process-payment", "other", &input);
    let (outcome, paused) = bench.paced(attempt).await;
    assert!(outcome.starts_with("completed"), "{outcome}");
    assert_eq!(paused, [200], "what the gateway counted outlives the process");
}

#[tokio::test]
async fn a_payment_that_is_asked_to_stop_begins_no_further_try() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let cancellation = CancellationToken::new();
    let asked = tokio::spawn({
        let (bench, cancellation) = (bench.clone(), cancellation.clone());
        let task = task("process-payment", "k", &charge("o1", 700, "tok_flaky_1"));
        async move { bench.attempts.run(task, cancellation, bench.attempts.heartbeats(None)).await }
    });
    while bench.time.next_wake() != Some(T0.plus_ms(200)) {
        tokio::task::yield_now().await;
    }
    cancellation.cancel();
    assert_eq!(
        line(asked.await.expect("it ends")),
        "canceled: Canceled: activity process-payment stopped on request"
    );
    assert!(bench.effects("payments").await.is_empty());
    let refunded = bench.result("refund-payment", "u", &undo("o1", "k")).await;
    assert_eq!(refunded, json!({"refunded_cents": 0}));
    assert_eq!(
        bench.run("process-payment", "k", &charge("o1", 700, "tok_flaky_1")).await,
        "failed for good: StepUndone: step k of process-payment was undone"
    );
}

#[tokio::test]
async fn a_postcode_steers_the_carrier() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let unavailable = "failed: CarrierUnavailable: the carrier answered 503: the carrier is unavailable";
    let cases: [(&str, &[&str]); 3] = [
        ("REFUSED", &["failed for good: ShipmentRefused: the carrier does not deliver to DE REFUSED"]),
        ("DOWN", &[unavailable, unavailable]),
        ("FLAKY_1", &[unavailable, "completed", "completed"]),
    ];
    for (postcode, expected) in cases {
        for (attempt, expected) in expected.iter().enumerate() {
            let outcome = bench.run("arrange-shipping", postcode, &ship(postcode, postcode)).await;
            assert!(outcome.starts_with(expected), "{postcode}, attempt {attempt}: {outcome}");
        }
    }
    assert_eq!(bench.effects("shipments").await, ["shipment FLAKY_1 0"]);
    let nothing = bench.result("cancel-shipment", "u", &undo("DOWN", "DOWN")).await;
    assert_eq!(
        nothing,
        json!({"canceled": false}),
        "a carrier that is down for a postcode still takes cancellations"
    );
}

#[tokio::test]
async fn a_slow_charge_is_made_at_once_and_undone_though_its_answer_never_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let input = charge("o1", 900, "tok_slow_7");
    for _ in 0..2 {
        let slow = tokio::spawn({
            let (bench, input) = (bench.clone(), input.clone());
            async move { attempt(&bench.attempts, "process-payment", "k", &input).await }
        });
        // The attempt's own time-out, the try's, and the gateway's delay.
        bench.time.until_sleeping(3).await;
        assert_eq!(bench.effects("payments").await, ["charge k 900"]);
        while !slow.is_finished() {
            let now = bench.shop.clock.now();
            let within_a_try = |at: &Timestamp| at.ms_since(now) <= 3_000;
            if let Some(at) = bench.time.next_wake().filter(within_a_try) {
                bench.time.advance_to(at);
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(
            slow.await.expect("it ends"),
            "failed: PaymentGatewayUnavailable: the payment gateway did not answer within 3000 ms"
        );
        bench.time.advance(Duration::from_secs(10));
    }
    assert_eq!(bench.count("payments").await, 0);
    let refunded = bench.result("refund-payment", "u", &undo("o1", "k")).await;
    assert_eq!(refunded, json!({"refunded_cents": 900}));
    assert_eq!(
        bench.run("process-payment", "k", &input).await,
        "failed for good: StepUndone: step k of process-payment was undone"
    );
    assert_eq!(bench.effects("payments").await, ["charge k 900", "refund k 900"]);

    let slow = tokio::spawn({
        let (bench, input) = (bench.clone(), charge("o1", 900, "tok_slow_2"));
        async move { attempt(&bench.attempts, "process-payment", "k2", &input).await }
    });
    bench.time.until_sleeping(3).await;
    bench.time.advance(Duration::from_secs(2));
    assert!(slow.await.expect("it ends").starts_with("completed"), "in time after all");
}

#[tokio::test]
async fn what_the_sandbox_did_can_be_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let charged = bench.result("process-payment", "k", &charge("o1", 900, "tok_ok")).await;
    bench.result("process-payment", "k2", &charge("o2", 100, "tok_ok")).await;
    let shipped = bench.result("arrange-shipping", "s", &ship("o1", "80331")).await;
    let url = serve(bench.sandbox.router()).await;
    assert_eq!(
        get(&format!("{url}/sandbox/payments?order_id=o1")).await,
        json!([{
            "idempotency_key": "k",
            "order_id": "o1",
            "kind": "charge",
            "step_key": "k",
            "reference": charged["payment_id"],
            "amount_cents": 900,
            "currency": "EUR",
            "at": "2023-11-14T22:13:20.000Z",
        }])
    );
    let shipments = get(&format!("{url}/sandbox/shipments")).await;
    assert_eq!(shipments[0]["reference"], shipped["shipment_id"]);
    assert_eq!(shipments[0]["tracking_number"], shipped["tracking_number"]);
    assert_eq!(
        bench
            .shop
            .gateway
            .post::<Value>("/charges", "k", &charge("o1", 901, "tok_ok"))
            .await
            .expect_err("refused")
            .to_string(),
        "PaymentRejected: the payment gateway answered 400: the idempotency key was used for another request"
    );
}

/// A bench whose gateway and carrier are at `url`.
async fn bench_with(folder: &TempDir, url: Option<&str>) -> Bench {
    let settings = OrdersSettings {
        gateway_url: url.map(str::to_owned),
        carrier_url: url.map(str::to_owned),
        ..OrdersSettings::default()
    };
    let bench = Bench::open(folder).await;
    let clock = Clock::from_source(bench.time.clone());
    let (shop, attempts) = open_app(folder.path(), settings, clock).await;
    Bench { shop, attempts, ..bench }
}

#[tokio::test]
async fn a_remote_that_is_not_configured_or_not_there_is_named_and_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = bench_with(&folder, None).await;
    assert_eq!(
        bench.run("process-payment", "k", &charge("o1", 1, "tok_ok")).await,
        "failed: PaymentGatewayUnavailable: no payment gateway is configured: set orders.gateway_url, or start the \
         host with --sandbox"
    );
    assert_eq!(
        bench.run("cancel-shipment", "u", &undo("o1", "k")).await,
        "failed: CarrierUnavailable: no carrier is configured: set orders.carrier_url, or start the host with \
         --sandbox"
    );

    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let url = format!("http://{}", closed.local_addr().expect("it has an address"));
    drop(closed);
    let bench = bench_with(&folder, Some(&url)).await;
    let refused = bench.run("process-payment", "k", &charge("o1", 1, "tok_ok")).await;
    assert!(
        refused.starts_with("failed: PaymentGatewayUnavailable: the payment gateway cannot be reached: "),
        "{refused}"
    );
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let cases = [
        (500, "oops", "failed: PaymentGatewayUnavailable: the payment gateway answered 500: oops"),
        (
            409,
            "{\"detail\":\"under way\"}",
            "failed: PaymentGatewayUnavailable: the payment gateway answered 409: under way",
        ),
        (409, "{\"detail\":\"void\",\"code\":\"voided\"}", "failed for good: StepUndone: void"),
        (410, "{\"title\":\"Gone\"}", "failed for good: StepUndone: Gone"),
        (410, "{\"title\":\"Gone\",\"detail\":\"too late\"}", "failed for good: StepUndone: too late"),
        (402, "{\"detail\":\"no\"}", "failed for good: PaymentDeclined: no"),
        (429, "", "failed: PaymentGatewayUnavailable: the payment gateway answered 429: "),
        (403, "who?", "failed for good: PaymentRejected: the payment gateway answered 403: who?"),
        (302, "", "failed for good: PaymentRejected: the payment gateway answered 302: "),
        (
            200,
            "{}",
            "failed: PaymentGatewayUnavailable: the payment gateway's answer cannot be read: missing field \
             `payment_id` at line 1 column 2",
        ),
        (200, "{\"payment_id\":\"p\"}", "completed: {\"payment_id\":\"p\"}"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (status, body, expected) in cases {
        let answer = (StatusCode::from_u16(status).expect("a status"), body);
        let url = serve(axum::Router::new().route("/charges", post(move || async move { answer }))).await;
        let bench = bench_with(&folder, Some(&url)).await;
        assert_eq!(bench.run("process-payment", "k", &charge("o1", 1, "t")).await, expected);
    }
}

#[tokio::test]
async fn a_call_carries_the_trace_of_its_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let (seen, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let charges = post(move |headers: axum::http::HeaderMap| async move {
        let _ = seen.send(headers.get("traceparent").map(|value| value.to_str().expect("text").to_owned()));
        let key = headers["idempotency-key"].to_str().expect("text");
        json!({ "payment_id": key }).to_string()
    });
    let url = serve(axum::Router::new().route("/charges", charges)).await;
    let bench = bench_with(&folder, Some(&url)).await;
    for key in ["a", "b"] {
        let task = task("process-payment", key, &charge("o1", 1, "t"));
        let trace = task.key.run_id.to_string().replace('-', "");
        let heartbeats = bench.attempts.heartbeats(None);
        let outcome = bench.attempts.run(task, CancellationToken::new(), heartbeats).await;
        assert_eq!(line(outcome), format!("completed: {{\"payment_id\":\"{key}\"}}"));
        let carried = calls.recv().await.expect("it was called").expect("it carries a trace");
        assert!(carried.starts_with(&format!("00-{trace}-")) && carried.ends_with("-01"), "{carried}");
    }
}
