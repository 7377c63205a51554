//! What the gateway and the carrier may answer, and the sandbox's scenarios.

use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;

use super::*;

#[tokio::test]
async fn a_token_steers_the_gateway() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let unavailable = "failed: PaymentGatewayUnavailable: the payment gateway answered 503: the gateway is \
                       unavailable";
    let declined = "failed for good: PaymentDeclined: the card was declined";
    let unknown = "failed for good: PaymentRejected: the payment gateway answered 422: nobody issued the payment \
                   token `tok_nobody`";
    let cases: [(&str, &[&str]); 4] = [
        ("tok_declined", &[declined, declined]),
        ("tok_down", &[unavailable, unavailable, unavailable]),
        ("tok_nobody", &[unknown]),
        ("tok_flaky_2", &[unavailable, unavailable, "completed", "completed"]),
    ];
    for (token, expected) in cases {
        for (attempt, expected) in expected.iter().enumerate() {
            let outcome = bench.run("process-payment", token, &charge("o1", 700, token)).await;
            assert!(outcome.starts_with(expected), "{token}, attempt {attempt}: {outcome}");
        }
    }
    let other_key = bench.run("process-payment", "other", &charge("o1", 700, "tok_flaky_2")).await;
    assert_eq!(other_key, unavailable, "failures are counted by key");
    assert_eq!(bench.effects("payments").await, ["charge tok_flaky_2 700"]);
    drop(bench);

    let bench = Bench::open(&folder).await;
    let input = charge("o1", 700, "tok_flaky_2");
    assert_eq!(bench.run("process-payment", "other", &input).await, unavailable, "and outlive the process");
    bench.result("process-payment", "other", &input).await;
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
            let outcome = bench.run("arrange-shipping", postcode, &ship("o1", postcode)).await;
            assert!(outcome.starts_with(expected), "{postcode}, attempt {attempt}: {outcome}");
        }
    }
    assert_eq!(bench.effects("shipments").await, ["shipment FLAKY_1 0"]);
    let nothing = bench.result("cancel-shipment", "u", &undo("o1", "DOWN")).await;
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
            async move { bench.run("process-payment", "k", &input).await }
        });
        // The attempt's own time-out and the gateway's delay.
        bench.time.until_sleeping(2).await;
        assert_eq!(bench.effects("payments").await, ["charge k 900"]);
        bench.time.advance(Duration::from_secs(5));
        assert_eq!(slow.await.expect("it ends"), "failed: TimedOut: the attempt took longer than 5000 ms");
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
        let (bench, input) = (bench.clone(), charge("o1", 900, "tok_slow_3"));
        async move { bench.run("process-payment", "k2", &input).await }
    });
    bench.time.until_sleeping(2).await;
    bench.time.advance(Duration::from_secs(3));
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

/// An application whose gateway and carrier are at `url`.
async fn app_with(folder: &TempDir, url: Option<&str>) -> Arc<Attempts> {
    let settings = OrdersSettings {
        gateway_url: url.map(str::to_owned),
        carrier_url: url.map(str::to_owned),
        ..OrdersSettings::default()
    };
    open_app(folder.path(), settings, Clock::from_source(VirtualTime::starting_at(T0))).await.1
}

#[tokio::test]
async fn a_remote_that_is_not_configured_or_not_there_is_named_and_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let attempts = app_with(&folder, None).await;
    assert_eq!(
        attempt(&attempts, "process-payment", "k", &charge("o1", 1, "tok_ok")).await,
        "failed: PaymentGatewayUnavailable: no payment gateway is configured: set orders.gateway_url, or start the \
         host with --sandbox"
    );
    assert_eq!(
        attempt(&attempts, "cancel-shipment", "u", &undo("o1", "k")).await,
        "failed: CarrierUnavailable: no carrier is configured: set orders.carrier_url, or start the host with \
         --sandbox"
    );

    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let url = format!("http://{}", closed.local_addr().expect("it has an address"));
    drop(closed);
    let attempts = app_with(&folder, Some(&url)).await;
    let refused = attempt(&attempts, "process-payment", "k", &charge("o1", 1, "tok_ok")).await;
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
        let attempts = app_with(&folder, Some(&url)).await;
        assert_eq!(attempt(&attempts, "process-payment", "k", &charge("o1", 1, "t")).await, expected);
    }
}
