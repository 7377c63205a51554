//! Orders through the real binary, as a person would send them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::process::Stdio;

use serde_json::{Value, json};
use support::server::{Server, command, order, text};

/// The entries of the sandbox's books that belong to an order, as `kind amount`.
async fn books(server: &Server, book: &str, order_id: &str) -> Vec<String> {
    let entries = server.get(&format!("/sandbox/{book}")).await;
    let line = |entry: &Value| format!("{} {}", entry["kind"].as_str().unwrap(), entry["amount_cents"]);
    let entries = entries.as_array().unwrap().iter().filter(|entry| entry["order_id"] == order_id);
    entries.map(|entry| line(entry).trim_end_matches(" null").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_go_through_or_are_undone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let steps = ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"];

    let good = server.order(&order("tok_ok", "10115")).await;
    assert_eq!(server.end(&good.workflow_id).await["status"], "completed");
    assert_eq!(server.scheduled(&good.workflow_id).await, steps);
    assert_eq!(books(&server, "payments", &good.order_id).await, ["charge 2500"]);
    assert_eq!(books(&server, "shipments", &good.order_id).await.len(), 1);
    let shown = server.get(&format!("/orders/{}", good.order_id)).await;
    assert_eq!(shown["status"], "shipped", "{shown}");
    assert_eq!(shown["amount_cents"], 2_500);

    let flaky = server.order(&order("tok_flaky_1", "FLAKY_1")).await;
    assert_eq!(server.end(&flaky.workflow_id).await["status"], "completed");
    assert_eq!(server.scheduled(&flaky.workflow_id).await, steps, "an attempt is not an event");
    assert_eq!(books(&server, "payments", &flaky.order_id).await, ["charge 2500"]);

    let declined = server.order(&order("tok_declined", "10115")).await;
    let end = server.end(&declined.workflow_id).await;
    assert_eq!(end["status"], "failed");
    assert!(end["failure"].to_string().contains("PaymentDeclined"), "{end}");
    assert_eq!(
        server.scheduled(&declined.workflow_id).await,
        ["reserve-inventory", "process-payment", "release-inventory-reservation"],
        "a declined payment was not made: it is not undone"
    );
    assert_eq!(books(&server, "payments", &declined.order_id).await, [""; 0]);
    assert_eq!(server.get(&format!("/orders/{}", declined.order_id)).await["status"], "failed");

    let refused = server.order(&order("tok_ok", "REFUSED")).await;
    let end = server.end(&refused.workflow_id).await;
    assert!(end["failure"].to_string().contains("ShipmentRefused"), "{end}");
    let undone = ["restock-inventory", "refund-payment", "release-inventory-reservation"];
    assert_eq!(server.scheduled(&refused.workflow_id).await, [steps.as_slice(), undone.as_slice()].concat());
    assert_eq!(books(&server, "payments", &refused.order_id).await, ["charge 2500", "refund 2500"]);
    assert_eq!(books(&server, "shipments", &refused.order_id).await, [""; 0]);

    let mut sold_out = order("tok_ok", "10115");
    sold_out["items"][0]["sku"] = json!("sold-out");
    let sold_out = server.order(&sold_out).await;
    assert_eq!(server.end(&sold_out.workflow_id).await["status"], "failed");
    assert_eq!(server.scheduled(&sold_out.workflow_id).await, ["reserve-inventory"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_timed_out_is_undone_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    // Charged at once, answered after the step's five attempts of five seconds are over.
    let slow = server.order(&order("tok_slow_600", "10115")).await;
    let end = server.end(&slow.workflow_id).await;
    assert_eq!(end["status"], "failed", "{end}");
    assert_eq!(
        server.scheduled(&slow.workflow_id).await,
        ["reserve-inventory", "process-payment", "refund-payment", "release-inventory-reservation"]
    );
    assert_eq!(books(&server, "payments", &slow.order_id).await, ["charge 2500", "refund 2500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_replays_offline_and_a_changed_one_names_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let placed = server.order(&order("tok_ok", "REFUSED")).await;
    server.end(&placed.workflow_id).await;

    let exported = server.everfold(&["export", &placed.workflow_id]);
    assert!(exported.status.success(), "{}", text(&exported));
    let file = folder.path().join("history.json");
    std::fs::write(&file, &exported.stdout).unwrap();
    let replay = |file: &std::path::Path| {
        let wasm = support::root().join("target/components/order.wasm");
        // Offline: no server is named that could answer.
        command()
            .arg("replay")
            .arg(file)
            .arg("--with")
            .arg(wasm)
            .env("EVERFOLD_URL", "http://127.0.0.1:1")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let held = replay(&file);
    assert_eq!(held.status.code(), Some(0), "{}", text(&held));

    let renamed =
        String::from_utf8(exported.stdout).unwrap().replace("\"update-inventory\"", "\"renew-inventory\"");
    let changed = folder.path().join("changed.json");
    std::fs::write(&changed, renamed).unwrap();
    let diverged = replay(&changed);
    assert_eq!(diverged.status.code(), Some(1), "{}", text(&diverged));
    let said = text(&diverged);
    for part in ["event 6", "renew-inventory", "update-inventory"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }

    std::fs::write(&changed, "{").unwrap();
    let unreadable = replay(&changed);
    assert_ne!(unreadable.status.code(), Some(0));
    assert!(text(&unreadable).contains("not an exported history"), "{}", text(&unreadable));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_and_the_same_request_start_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let start = async |body: Value| {
        let response = server.http.post(server.url("/api/v1/workflows")).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let input = {
        let mut input = order("tok_slow_3", "10115");
        input["order_id"] = json!("o-7");
        input
    };
    let body =
        json!({ "workflow_type": "order-saga", "workflow_id": "w-7", "input": input, "request_id": "r-1" });
    let (status, first) = start(body.clone()).await;
    assert_eq!((status, &first["started"]), (201, &json!(true)), "{first}");
    let (status, again) = start(body.clone()).await;
    assert_eq!(again["run_id"], first["run_id"], "the same request names the same run");
    assert_eq!((status, &again["started"]), (200, &json!(false)), "{again}");
    let mut other = body;
    other["request_id"] = json!("r-3");
    other["id_conflict_policy"] = json!("use_existing");
    let (status, used) = start(other.clone()).await;
    assert_eq!((status, &used["started"], &used["run_id"]), (200, &json!(false), &first["run_id"]), "{used}");
    other["request_id"] = json!("r-2");
    other["id_conflict_policy"] = json!("fail");
    let (status, conflict) = start(other).await;
    assert_eq!((status, conflict["code"].as_str()), (409, Some("already_started")), "{conflict}");
    let (status, unknown) = start(json!({ "workflow_type": "nothing" })).await;
    assert_eq!(unknown["code"], "unknown_workflow_type", "{status} {unknown}");

    let bad =
        start(json!({ "workflow_type": "order-saga", "workflow_id": "w-8", "input": { "items": 7 } })).await;
    assert_eq!(bad.0, 201, "input is the workflow's business");
    let end = server.end("w-8").await;
    assert!(end["failure"].to_string().contains("InvalidInput"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _server = Server::start(&data).await;
    let second = command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().unwrap();
    assert!(!second.status.success());
    assert!(text(&second).contains("in use by another everfold process"), "{}", text(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_and_the_second_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data")).await;
    let placed = server.order(&order("tok_slow_2", "10115")).await;
    // Paying takes two seconds and has begun; its end is waited for.
    while server.scheduled(&placed.workflow_id).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    server.says("stopped in order").await;
    server.restart().await;
    assert_eq!(server.end(&placed.workflow_id).await["status"], "completed");
    let history = server.get(&format!("/api/v1/workflows/{}/history", placed.workflow_id)).await;
    let attempts: Vec<_> =
        history["events"].as_array().unwrap().iter().map(|event| &event["attributes"]["attempt"]).collect();
    assert!(!attempts.contains(&&json!(2)), "nothing was attempted twice: {history}");

    let stuck = server.order(&order("tok_slow_600", "10115")).await;
    while server.scheduled(&stuck.workflow_id).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    server.terminate();
    server.says("a second signal stops at once").await;
    server.terminate();
    assert_eq!(server.wait().code(), Some(143));
}
