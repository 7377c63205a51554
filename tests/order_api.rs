//! The order API on the real binary: what needs the runner's signals, cancellation and list.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::PATIENCE;
use support::server::{Placed, Server, order};

/// Sends a request; gives status and body.
async fn send(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn cancel(server: &Server, placed: &Placed) -> (u16, Value) {
    send(server.http.delete(server.url(&format!("/orders/{}", placed.order_id)))).await
}

async fn delivered(server: &Server, placed: &Placed, body: &Value) -> (u16, Value) {
    let url = server.url(&format!("/orders/{}/delivered", placed.order_id));
    send(server.http.post(url).json(body)).await
}

/// Waits until an order stands so.
async fn stands(server: &Server, placed: &Placed, status: &str) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let shown = server.get(&format!("/orders/{}", placed.order_id)).await;
        if shown["status"] == status {
            return shown;
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not become {status}: {shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a run has scheduled an activity.
async fn scheduled(server: &Server, placed: &Placed, activity: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !server.scheduled(&placed.workflow_id).await.iter().any(|name| name == activity) {
        assert!(tokio::time::Instant::now() < deadline, "{activity} is not scheduled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the sandbox did for an order, by kind.
async fn kinds(server: &Server, book: &str, placed: &Placed) -> Vec<String> {
    let entries = server.get(&format!("/sandbox/{book}?order_id={}", placed.order_id)).await;
    entries.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_canceled_while_the_carrier_takes_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let slow = server.order(&order("tok_ok", "SLOW_600")).await;
    scheduled(&server, &slow, "arrange-shipping").await;
    let (status, body) = cancel(&server, &slow).await;
    assert_eq!(status, 202, "{body}");
    let end = server.end(&slow.workflow_id).await;
    assert_eq!(end["status"], "canceled", "{end}");
    assert_eq!(kinds(&server, "payments", &slow).await, ["charge", "refund"]);
    assert_eq!(kinds(&server, "shipments", &slow).await, [""; 0], "the booking was called off");
    let (status, body) = cancel(&server, &slow).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("canceled")), "{body}");

    let declined = server.order(&order("tok_declined", "10115")).await;
    server.end(&declined.workflow_id).await;
    let (status, body) = cancel(&server, &declined).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("order_closed")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_reaches_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let placed = server.order(&order("tok_ok", "10115")).await;
    server.end(&placed.workflow_id).await;
    stands(&server, &placed, "shipped").await;
    let (status, body) =
        delivered(&server, &placed, &json!({ "delivered_at": "2999-01-01T00:00:00Z" })).await;
    assert!(matches!(status, 200 | 202), "{status} {body}");
    let shown = stands(&server, &placed, "delivered").await;
    assert_eq!(shown["delivered_at"], "2999-01-01T00:00:00.000Z");
    let (status, again) = delivered(&server, &placed, &json!({})).await;
    assert_eq!((status, &again["delivered_at"]), (200, &shown["delivered_at"]), "{again}");
    let (status, body) = cancel(&server, &placed).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("already_shipped")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_address_is_where_the_order_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    // Paying takes two seconds; until then the address is open.
    let mut body = order("tok_slow_2", "REFUSED");
    body["request_id"] = json!("r-1");
    let placed = server.order(&body).await;
    let url = server.url(&format!("/orders/{}", placed.order_id));
    let read = server.http.get(&url).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let patch = async || {
        let change = json!({ "ship_to": { "postcode": "10115" } });
        send(server.http.patch(&url).header("if-match", &tag).json(&change)).await.0
    };
    let (one, other) = tokio::join!(patch(), patch());
    assert_eq!([one.min(other), one.max(other)], [200, 412], "exactly one wins");
    let again = server.order(&body).await;
    assert_eq!(again.order_id, placed.order_id, "the order as placed is still the same request");

    let end = server.end(&placed.workflow_id).await;
    assert_eq!(end["status"], "completed", "{end}");
    assert_eq!(kinds(&server, "shipments", &placed).await, ["shipment"]);
    let late = json!({ "ship_to": { "postcode": "DOWN" } });
    let (status, body) = send(server.http.patch(&url).header("if-match", "*").json(&late)).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("already_shipped")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_lost_is_written_again_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data).await;
    let kept = server.order(&order("tok_ok", "10115")).await;
    let lost = server.order(&order("tok_ok", "10115")).await;
    for placed in [&kept, &lost] {
        server.end(&placed.workflow_id).await;
    }
    server.kill();
    let tables = rusqlite::Connection::open(data.join("orders.db")).unwrap();
    let deleted = tables.execute("DELETE FROM orders WHERE order_id = ?1", [&lost.order_id]).unwrap();
    assert_eq!(deleted, 1);
    drop(tables);

    server.restart().await;
    server.says("an order's row was missing and is written now").await;
    let listed = server.get("/orders?status=shipped").await;
    let ids: Vec<_> = listed["orders"].as_array().unwrap().iter().map(|order| &order["order_id"]).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    assert!(ids.contains(&&json!(kept.order_id)) && ids.contains(&&json!(lost.order_id)), "{listed}");
}
