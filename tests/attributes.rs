//! Search attributes and memos: given at the start, changed by the workflow, carried over, found by, and removed; in a host
//! of this process and in the real binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{ApiError, ListRequest, Query, StartRequest};
use everfold_core::attributes::{AttributeValue, Details, Memo, SearchAttributes};
use everfold_core::ids::{Namespace, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use serde_json::{Value, json};
use support::server::{Server, text};
use support::{TestHost, lines, request, returned, root, run};

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_fn("noop", |_context, _input: Value| async { Ok(Value::Null) });
    registry
}

async fn open(folder: &std::path::Path) -> TestHost {
    let test = TestHost::open(folder, registry()).await;
    test.deploy("samples").await;
    test
}

/// A run of `described` to start.
fn described(id: &str, input: &Value, attributes: &Value, memo: &Value) -> StartRequest {
    let mut details = Details::new();
    let values = attributes.as_object().unwrap();
    let named = values.iter().map(|(name, value)| (name.as_str(), value));
    details.search_attributes.change(&SearchAttributes::read_changes(named).unwrap());
    let memo = memo.as_object().unwrap().iter();
    let memo = memo.map(|(name, value)| (name.clone(), Payload::json(value).unwrap()));
    details.memo.change(&Memo::read_changes(memo).unwrap());
    StartRequest { details, ..request("described", id, input) }
}

/// The workflow ids that a query finds, and what each run is described by.
async fn found(test: &TestHost, query: &str) -> Vec<(String, Value, Value)> {
    let query = Query::parse(query).unwrap();
    let request = ListRequest { namespace: Namespace::default(), query, after: None, limit: 100 };
    let page = test.host.list(request).await.unwrap();
    let one = |details: &Details| (details.search_attributes.to_json().into(), details.memo.to_json().into());
    let runs = page.runs.iter().map(|run| {
        let (attributes, memo) = one(&run.details);
        (run.workflow_id.0.clone(), attributes, memo)
    });
    runs.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_is_described_by_is_changed_carried_over_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let test = open(folder.path()).await;
    let changes = json!([
        { "search_attributes": { "step": "paid", "total": 9.5, "gone": null }, "memo": { "note": null, "why": [1] } },
        { "search_attributes": { "due": "2026-01-31T09:00:00+01:00" }, "continues": true },
        { "search_attributes": { "tags": ["a", "b"], "step": "shipped" } },
    ]);
    let (attributes, memo) =
        (json!({ "customer_id": 100, "gone": true }), json!({ "note": 1, "kept": { "a": 2 } }));
    let input = json!({ "changes": changes, "waits": true });
    test.host.start(described("d", &input, &attributes, &memo)).await.unwrap();
    test.host
        .start(described("other", &json!({ "waits": true }), &json!({ "customer_id": 7 }), &json!({})))
        .await
        .unwrap();

    let last = test.until("d", |run| run.details.search_attributes.get("tags").is_some()).await;
    let now = json!({
        "customer_id": 100, "step": "shipped", "total": 9.5, "due": "2026-01-31T08:00:00.000Z", "tags": ["a", "b"],
    });
    let noted = json!({ "kept": { "a": 2 }, "why": [1] });
    assert_eq!(Value::from(last.details.search_attributes.to_json()), now);
    assert_eq!(Value::from(last.details.memo.to_json()), noted);
    let chain = test.chain("d").await;
    assert_eq!(
        lines(&chain[0].1)[3..],
        [
            "4 SearchAttributesUpserted",
            "5 MemoUpserted",
            "6 ActivityScheduled noop",
            "7 ActivityCompleted",
            "8 SearchAttributesUpserted",
            "9 WorkflowContinuedAsNew described",
        ],
    );
    // The example, and what the run before was when it closed.
    let query = "status = \"running\" and workflow_type = \"described\" and customer_id = 100 order by start_time desc";
    assert_eq!(found(&test, query).await, [("d".to_owned(), now.clone(), noted.clone())]);
    let before =
        found(&test, "status = 'continued_as_new' and step = 'paid' and due > '2026-01-01T00:00:00Z'").await;
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].1["total"], json!(9.5));
    assert_eq!(found(&test, "gone is not null").await, []);
    assert_eq!(found(&test, "customer_id in (7, 100) and step is null").await[0].0, "other");

    // A restart changes nothing, and the workflow sees what it is described by.
    test.kill().await;
    let test = TestHost::open(folder.path(), registry()).await;
    assert_eq!(found(&test, query).await, [("d".to_owned(), now.clone(), noted.clone())]);
    test.signal("d", "go", &json!(null)).await.unwrap();
    let seen = returned(&test.end("d").await);
    assert_eq!(seen, json!({ "search_attributes": now, "memo": noted }));
    assert_eq!(found(&test, query).await, []);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_described_by_what_its_parent_gives() {
    let folder = tempfile::tempdir().unwrap();
    let test = open(folder.path()).await;
    let (attributes, memo) =
        (json!({ "customer_id": 7, "tags": ["a", "b"] }), json!({ "note": { "deep": 1 } }));
    let child = json!({ "workflow_type": "signals", "workflow_id": "child", "input": { "count": 1 },
        "search_attributes": attributes, "memo": memo });
    test.start("family", "parent", &json!({ "children": [child], "then": "results" })).await;
    test.until("child", |_| true).await;
    assert_eq!(
        found(&test, "customer_id = 7 and tags = 'b'").await,
        [("child".to_owned(), attributes, memo)]
    );
    test.signal("child", "add", &json!(1)).await.unwrap();
    test.end("parent").await;
    // One that cannot be is a fault of the parent's code.
    let child = json!({ "workflow_type": "echo", "search_attributes": { "status": "new" } });
    test.start("family", "bad", &json!({ "children": [child], "then": "results" })).await;
    let blocked = test.until("bad", |run| run.blocked.is_some()).await;
    assert!(blocked.blocked.unwrap().reason.contains("`status` is a name of the host's own"));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_values_that_cannot_be_block_the_run_and_refuse_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let test = open(folder.path()).await;
    let cases = [
        (json!({ "status": "new" }), "`status` is a name of the host's own"),
        (json!({ "scheduled_by": "me" }), "`scheduled_by` is a name of the host's own"),
        (json!({ "order": 1 }), "`order` is a word of the query language"),
        (json!({ "a b": 1 }), "`a b` is no name of a search attribute"),
        (json!({ "a": { "b": 1 } }), "search attribute `a`: an object is no value"),
        (json!({ "a": "x".repeat(3_000) }), "search attribute `a`: a value has at most 2048 bytes"),
    ];
    for (number, (attributes, why)) in cases.into_iter().enumerate() {
        let id = format!("bad-{number}");
        test.start("described", &id, &json!({ "changes": [{ "search_attributes": attributes }] })).await;
        let blocked = test.until(&id, |run| run.blocked.is_some()).await.blocked.unwrap();
        assert!(blocked.reason.contains(why), "{blocked:?}");
    }
    let many: serde_json::Map<String, Value> = (0..60).map(|n| (format!("a{n}"), json!("x"))).collect();
    let more: serde_json::Map<String, Value> = (0..60).map(|n| (format!("b{n}"), json!("x"))).collect();
    let input = json!({ "changes": [{ "search_attributes": many }, { "search_attributes": more }] });
    test.start("described", "many", &input).await;
    let blocked = test.until("many", |run| run.blocked.is_some()).await;
    assert!(blocked.blocked.unwrap().reason.contains("at most 100 search attributes"));
    assert_eq!(blocked.details.search_attributes.iter().count(), 60, "what was committed stays");

    let mut start = request("described", "large", &json!({}));
    start.details.memo.change(&vec![("m".to_owned(), Some(Payload::json(&"x".repeat(40_000)).unwrap()))]);
    let refused = test.host.start(start).await;
    assert!(
        matches!(refused, Err(ApiError::InvalidInput(why)) if why.contains("a memo has at most 32768 bytes"))
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_runs_are_found_by_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
    let day = Duration::from_secs(24 * 60 * 60);
    let settings = HostSettings { closed_runs_kept: Some(day), ..HostSettings::default() };
    let clock = Clock::from_source(time.clone());
    let test =
        TestHost::open_at(folder.path(), registry(), &settings, EngineSettings::default(), clock).await;
    test.deploy("samples").await;
    let attributes = json!({ "customer_id": 100 });
    test.host.start(described("short", &json!({}), &attributes, &json!({ "m": 1 }))).await.unwrap();
    test.host.start(described("long", &json!({ "waits": true }), &attributes, &json!({}))).await.unwrap();
    test.end("short").await;
    assert_eq!(found(&test, "customer_id = 100").await.len(), 2);
    time.advance(2 * day);
    while found(&test, "customer_id = 100").await.len() > 1 {
        time.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let left = found(&test, "customer_id = 100").await;
    assert_eq!(left[0].0, "long");
    let value = AttributeValue::Integer(100);
    let long = test.host.describe(&run("long")).await.unwrap();
    assert_eq!(
        (long.status, long.details.search_attributes.get("customer_id")),
        (RunStatus::Running, Some(&value))
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_describes_runs_and_finds_them_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let samples = root().join("target/components/samples.wasm");
    assert!(server.everfold(&["deploy", samples.to_str().unwrap()]).status.success());
    let start = |id: &str, more: &[&str]| {
        let arguments = ["start", "signals", "--id", id, "--input", "{\"count\":1}"];
        server.everfold(&[&arguments[..], more].concat())
    };
    for (id, customer) in [("a", "customer_id=100"), ("b", "customer_id=100"), ("c", "customer_id=7")] {
        let more = [
            "--search-attribute",
            customer,
            "--search-attribute",
            "city=Ulm",
            "--memo",
            "note={\"by\":\"Ada\"}",
        ];
        let started = start(id, &more);
        assert!(started.status.success(), "{}", text(&started));
    }
    let query =
        "status = \"running\" and workflow_type = \"signals\" and customer_id = 100 order by start_time desc";
    let list = |query: &str| {
        let output = server.everfold(&["list", "--json", "--query", query]);
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let listed = list(query);
    let ids: Vec<&Value> = listed["runs"].as_array().unwrap().iter().map(|run| &run["workflow_id"]).collect();
    assert_eq!(ids, ["b", "a"]);
    assert_eq!(listed["runs"][0]["search_attributes"], json!({ "customer_id": 100, "city": "Ulm" }));
    assert_eq!(listed["runs"][0]["memo"], json!({ "note": { "by": "Ada" } }));
    let shown = text(&server.everfold(&["show", "a"]));
    assert!(shown.contains("city = \"Ulm\", customer_id = 100"), "{shown}");
    assert!(shown.contains("note = {\"by\":\"Ada\"}"), "{shown}");

    let batch = server.everfold(&["batch", "terminate", "--query", "customer_id = 100", "--yes"]);
    assert!(text(&batch).contains("2 runs terminated"), "{}", text(&batch));
    assert_eq!(list(query)["runs"], json!([]));
    assert_eq!(list("city = 'Ulm' and close_time is null")["runs"][0]["workflow_id"], json!("c"));

    for (argument, why) in [
        ("status=new", "`status` is a name of the host's own"),
        ("city", "has no `=` behind its name"),
        ("city={}", "an object is no value"),
    ] {
        let refused = start("d", &["--search-attribute", argument]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_by_their_customer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    server.deploy("order");
    let mut order = support::server::order("tok_ok", "10115");
    order["customer_id"] = json!(100);
    let placed = server.order(&order).await;
    order["customer_id"] = json!(7);
    server.order(&order).await;
    let url = reqwest::Url::parse_with_params(
        &server.url("/api/v1/workflows"),
        [("query", "workflow_type = \"order-saga\" and customer_id = 100 order by start_time desc")],
    );
    let found: Value = server.http.get(url.unwrap()).send().await.unwrap().json().await.unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["workflow_id"], json!(placed.workflow_id));
}
