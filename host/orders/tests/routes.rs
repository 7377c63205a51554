//! The routes on a real host that has no component: orders as rows, whose runs are gone.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use tower::ServiceExt as _;

use super::changes::record;
use super::*;
use crate::guest::{Engine, EngineSettings};
use crate::runner::{HostParts, HostSettings};
use crate::store::SqliteStore;

/// The routes, and the tables behind them.
struct Front {
    bench: Bench,
    host: Host,
    router: axum::Router,
}

impl Front {
    async fn open(folder: &TempDir) -> Self {
        let bench = Bench::open(folder).await;
        let clock = Clock::from_source(bench.time.clone());
        let parts = HostParts {
            store: Arc::new(SqliteStore::open(folder.path()).await.expect("the store opens")),
            engine: Engine::new(EngineSettings::default(), None).expect("the engine starts"),
            attempts: Attempts::new(Registry::default(), clock.clone(), AttemptSettings::default()),
            clock,
            telemetry: crate::telemetry::Telemetry::default(),
            on_fatal: Box::new(|reason| panic!("the host cannot go on: {reason}")),
        };
        let host = Host::open(parts, &HostSettings::default());
        let router = OrdersApp { shop: Arc::clone(&bench.shop) }.router(host.clone());
        Self { bench, host, router }
    }

    /// Writes the row of order number `number`, placed so many seconds after the first; its id.
    async fn keep(&self, number: u64, customer_id: i64) -> String {
        let order_id = uuid::Uuid::from_u64_pair(7, number).to_string();
        let record = record(&order_id, customer_id, T0.plus_ms(number * 1_000));
        self.bench.shop.keep(&record).await.expect("it is kept");
        order_id
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("it answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        Reply { status, headers, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// The numbers of the listed orders, and the next page's token.
    async fn listed(&self, query: &str) -> (Vec<u64>, Option<String>) {
        let reply = self.get(&format!("/orders?{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.body);
        let number = |order: &Value| {
            text(order, "order_id").parse::<uuid::Uuid>().expect("a UUID").as_u64_pair().1 & 0xFFFF
        };
        let orders = reply.body["orders"].as_array().expect("a list").iter().map(number).collect();
        (orders, reply.body["next_page_token"].as_str().map(str::to_owned))
    }
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    /// Status and code of a refusal, which is a problem.
    fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.body);
        (self.status.as_u16(), text(&self.body, "code"))
    }

    fn etag(&self) -> &str {
        self.headers[header::ETAG].to_str().expect("text")
    }
}

const MOVE: &str = r#"{"ship_to": {"postcode": "10115"}}"#;

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    assert_eq!(front.listed("").await, (vec![], None));
    for number in 1..=7 {
        front.keep(number, i64::try_from(number % 2).expect("it is small")).await;
    }
    assert_eq!(front.listed("").await, (vec![7, 6, 5, 4, 3, 2, 1], None));
    assert_eq!(front.listed("customer_id=0").await.0, [6, 4, 2]);
    assert_eq!(front.listed("status=accepted&limit=200").await.0.len(), 7);
    assert_eq!(front.listed("status=paid").await, (vec![], None));
    let (from, before) = (T0.plus_ms(3_000), T0.plus_ms(5_000));
    assert_eq!(front.listed(&format!("created_after={from}&created_before={before}")).await.0, [4, 3]);

    let mut pages = Vec::new();
    let mut query = "limit=3".to_owned();
    loop {
        let (page, next) = front.listed(&query).await;
        pages.push(page);
        let Some(token) = next else { break };
        // A newer order does not shift the pages that follow.
        front.keep(100 + u64::try_from(pages.len()).expect("it is small"), 1).await;
        query = format!("limit=3&page_token={token}");
    }
    assert_eq!(pages, [vec![7, 6, 5], vec![4, 3, 2], vec![1]]);

    let faulty = front.get("/orders?limit=0&colour=red&limit=2&page_token=!").await;
    assert_eq!(faulty.refusal(), (400, "invalid_input"));
    let fields: Vec<_> =
        faulty.body["errors"].as_array().expect("a list").iter().map(|fault| text(fault, "field")).collect();
    assert_eq!(fields, ["colour", "limit", "limit", "page_token"]);
}

#[tokio::test]
async fn a_rare_status_is_found_over_several_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    let mut first = String::new();
    for number in 1..=601 {
        let order_id = front.keep(number, 1).await;
        if number == 1 {
            first = order_id;
        }
    }
    let input = charge(&first, 2_500, "tok_ok");
    front.bench.result("process-payment", "k", &input).await;
    let (page, next) = front.listed("status=paid").await;
    assert!(page.is_empty(), "a request looks at so many rows and no more");
    let (page, next) =
        front.listed(&format!("status=paid&page_token={}", next.expect("there is more"))).await;
    assert_eq!((page, next), (vec![1], None));
}

#[tokio::test]
async fn an_order_is_shown_with_a_tag_that_follows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    let order_id = front.keep(1, 7).await;
    let path = format!("/orders/{order_id}");
    let shown = front.get(&path).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert_eq!(shown.body["status"], "accepted");
    assert_eq!(shown.body["ship_to"], json!({"name": "Ada", "country": "DE", "postcode": "REFUSED"}));
    let etag = shown.etag().to_owned();
    assert_eq!(front.get(&path).await.etag(), etag, "nothing changed");
    for known in [&etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), &"*".to_owned()] {
        let reply = front.send("GET", &path, &[("if-none-match", known)], "").await;
        assert_eq!((reply.status, reply.etag()), (StatusCode::NOT_MODIFIED, etag.as_str()), "{known}");
    }
    front.bench.result("process-payment", "k", &charge(&order_id, 2_500, "tok_ok")).await;
    let paid = front.send("GET", &path, &[("if-none-match", &etag)], "").await;
    assert_eq!((paid.status, &paid.body["status"]), (StatusCode::OK, &json!("paid")));
    assert_ne!(paid.etag(), etag);

    for unknown in ["7", "%FF", "00000000-0000-0000-0000-000000000009", &order_id.replace('-', "")] {
        let expected = if unknown == "%FF" { (400, "invalid_input") } else { (404, "not_found") };
        assert_eq!(front.get(&format!("/orders/{unknown}")).await.refusal(), expected, "{unknown}");
    }
}

#[tokio::test]
async fn a_change_needs_the_state_that_it_is_meant_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    let order_id = front.keep(1, 7).await;
    let path = format!("/orders/{order_id}");
    let read = front.get(&path).await.etag().to_owned();
    let patch = async |tag: &str, body: &str| front.send("PATCH", &path, &[("if-match", tag)], body).await;

    assert_eq!(front.send("PATCH", &path, &[], MOVE).await.refusal(), (428, "precondition_required"));
    assert_eq!(patch("1", MOVE).await.refusal(), (400, "invalid_input"));
    assert_eq!(patch(&read, "{").await.refusal(), (400, "invalid_input"));
    let faulty = patch(&read, r#"{"ship_to": {"country": "xx", "town": 1}, "items": []}"#).await;
    assert_eq!(faulty.refusal(), (422, "invalid_input"));
    assert_eq!(faulty.body["errors"].as_array().expect("a list").len(), 3, "{}", faulty.body);

    // That it was paid meanwhile is nothing that a change of address would lose.
    front.bench.result("process-payment", "k", &charge(&order_id, 2_500, "tok_ok")).await;
    let (one, other) = tokio::join!(patch(&read, MOVE), patch(&read, MOVE));
    let (won, lost) = if one.status == StatusCode::OK { (one, other) } else { (other, one) };
    assert_eq!(won.status, StatusCode::OK, "{}", won.body);
    assert_eq!(won.body["ship_to"], json!({"name": "Ada", "country": "DE", "postcode": "10115"}));
    assert_eq!(lost.refusal(), (412, "precondition_failed"));
    assert_eq!(front.get(&path).await.etag(), won.etag());

    let whole = r#"{"ship_to": {"name": "Eve", "country": "AT", "postcode": "1010"}}"#;
    let changed = patch(won.etag(), whole).await;
    assert_eq!(changed.body["ship_to"], json!({"name": "Eve", "country": "AT", "postcode": "1010"}));
    assert_eq!(patch(won.etag(), MOVE).await.refusal(), (412, "precondition_failed"));
    assert_eq!(patch("*", MOVE).await.status, StatusCode::OK);

    front.bench.result("arrange-shipping", "s", &ship(&order_id, "REFUSED")).await;
    assert_eq!(patch("*", MOVE).await.refusal(), (409, "already_shipped"));
    let unknown = "/orders/00000000-0000-0000-0000-000000000009";
    assert_eq!(front.send("PATCH", unknown, &[], MOVE).await.refusal(), (404, "not_found"));
}

#[tokio::test]
async fn what_is_settled_is_answered_from_the_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    let order_id = front.keep(1, 7).await;
    let path = format!("/orders/{order_id}");
    let delivered = format!("{path}/delivered");
    assert_eq!(front.send("POST", &delivered, &[], "").await.refusal(), (409, "not_shipped"));
    assert_eq!(front.send("POST", &delivered, &[], "[]").await.refusal(), (422, "invalid_input"));
    assert_eq!(
        front.send("DELETE", &format!("{path}?why=x"), &[], "").await.refusal(),
        (400, "invalid_input")
    );

    assert_eq!(front.send("PATCH", &path, &[("if-match", "*")], MOVE).await.status, StatusCode::OK);
    let shipped = front.bench.result("arrange-shipping", "s", &ship(&order_id, "REFUSED")).await;
    let refused = front.send("DELETE", &path, &[], "").await;
    assert_eq!(refused.refusal(), (409, "already_shipped"));
    let delivery = json!({
        "order_id": order_id, "shipment_id": shipped["shipment_id"], "delivered_at_ms": T0.0 + 60_000
    });
    front.bench.result("record-delivery", "d", &delivery).await;
    let again = front.send("POST", &delivered, &[], "").await;
    assert_eq!((again.status, &again.body["status"]), (StatusCode::OK, &json!("delivered")));
    assert_eq!(again.body["delivered_at"], "2023-11-14T22:14:20.000Z");

    let canceled = front.keep(2, 7).await;
    let path = format!("/orders/{canceled}");
    let reason = json!({"order_id": canceled, "reason": "no payment"});
    front.bench.result("cancel-order", "c", &reason).await;
    let again = front.send("DELETE", &path, &[], "").await;
    assert_eq!((again.status, &again.body["status"]), (StatusCode::OK, &json!("canceled")));
    assert_eq!(again.body["cancel_reason"], "no payment");
    let late = front.send("POST", &format!("{path}/delivered"), &[], "").await;
    assert_eq!(late.refusal(), (409, "order_closed"));
    let late = front.send("PATCH", &path, &[("if-match", "*")], MOVE).await;
    assert_eq!(late.refusal(), (409, "order_closed"));
    assert_eq!(front.listed("status=canceled").await.0, [2]);

    let order = json!({
        "customer_id": 1,
        "items": [{"sku": "book", "quantity": 1, "unit_price_cents": 5}],
        "currency": "EUR",
        "payment_token": "tok_ok",
        "ship_to": {"name": "Ada", "country": "DE", "postcode": "80331"},
    });
    let closed_shop = front.send("POST", "/orders", &[], &order.to_string()).await;
    assert_eq!(closed_shop.refusal(), (503, "unknown_workflow_type"));
    front.host.drain(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_request_is_known_by_its_order_when_its_run_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let front = Front::open(&folder).await;
    // Which order a request_id names is the same for ever.
    let names = uuid::Uuid::from_u128(0x6d3f_1f0b_2c86_4c52_9d0e_7f58_1b5a_e4c7);
    let order_id = uuid::Uuid::new_v5(&names, b"again").to_string();
    front.bench.shop.keep(&record(&order_id, 7, T0)).await.expect("it is kept");
    let order = |request_id: &str| {
        json!({
            "customer_id": 1,
            "items": [{"sku": "book", "quantity": 1, "unit_price_cents": 5}],
            "currency": "EUR",
            "payment_token": "tok_ok",
            "ship_to": {"name": "Ada", "country": "DE", "postcode": "80331"},
            "request_id": request_id,
        })
        .to_string()
    };
    let again = front.send("POST", "/orders", &[], &order("again")).await;
    assert_eq!(again.refusal(), (409, "request_id_reused"), "it is another order, and none is begun");
    let other = front.send("POST", "/orders", &[], &order("other")).await;
    assert_eq!(other.refusal(), (503, "unknown_workflow_type"));
    front.host.drain(std::time::Duration::ZERO).await;
}
