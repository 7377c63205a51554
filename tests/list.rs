//! The list of runs in the real binary: queries by the command line and over HTTP, pages, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use support::root;
use support::server::{Server, text};

/// A server with runs `echo-0` … `echo-4`, which are closed, and `sum-0` … `sum-2`, which wait.
async fn with_runs(folder: &std::path::Path) -> Server {
    let server = Server::start(&folder.join("data")).await;
    let samples = root().join("target/components/samples.wasm");
    assert!(server.everfold(&["deploy", samples.to_str().unwrap()]).status.success());
    let start = async |workflow_type: &str, id: String, input: Value| {
        let body = json!({ "workflow_type": workflow_type, "workflow_id": id, "input": input });
        let url = server.url("/api/v1/workflows?wait=10ms");
        assert_eq!(server.http.post(url).json(&body).send().await.unwrap().status(), 201);
    };
    for number in 0..5 {
        start("echo", format!("echo-{number}"), json!(number)).await;
    }
    for number in 0..3 {
        start("signals", format!("sum-{number}"), json!({ "count": 1 })).await;
    }
    for number in 0..5 {
        server.get(&format!("/api/v1/workflows/echo-{number}/result?wait=30s")).await;
    }
    server
}

fn ids(list: &Value) -> Vec<&str> {
    list["runs"].as_array().unwrap().iter().map(|run| run["workflow_id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_what_a_query_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_runs(folder.path()).await;
    let list = |arguments: &[&str]| {
        let output = server.everfold(&[&["list", "--json"][..], arguments].concat());
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let open = list(&["--query", "status = \"running\" order by workflow_id"]);
    assert_eq!(ids(&open), ["sum-0", "sum-1", "sum-2"]);
    let some = list(&["--query", "workflow_id in ('echo-1', 'sum-1', 'echo-9') order by start_time desc"]);
    assert_eq!(ids(&some), ["sum-1", "echo-1"]);
    let narrowed = list(&["--query", "close_time is not null order by workflow_id desc", "--id", "echo-3"]);
    assert_eq!(ids(&narrowed), ["echo-3"]);
    let latest = list(&["--query", "workflow_type = 'echo'", "--limit", "2"]);
    assert_eq!(ids(&latest), ["echo-4", "echo-3"]);

    let refused = server.everfold(&["list", "--query", "status = running"]);
    let said = text(&refused);
    assert!(
        !refused.status.success() && said.contains("at character 10: a status in quotes for `status`"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_a_token_belongs_to_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_runs(folder.path()).await;
    let ask = async |parameters: &[(&str, &str)]| {
        let mut url = reqwest::Url::parse(&server.url("/api/v1/workflows")).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        let response = server.http.get(url).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    for order in ["workflow_id", "start_time", "close_time", "workflow_type", "run_id"] {
        for direction in ["asc", "desc"] {
            let (which, found) = match order {
                "close_time" => ("close_time is not null", 5),
                _ => ("not blocked = true", 8),
            };
            let query = format!("{which} order by {order} {direction}");
            let (_, whole) = ask(&[("query", &query), ("limit", "100")]).await;
            assert_eq!((ids(&whole).len(), &whole["next_page_token"]), (found, &Value::Null), "{query}");
            let (mut paged, mut token) = (Vec::<String>::new(), None::<String>);
            loop {
                let mut parameters = vec![("query", query.as_str()), ("limit", "3")];
                parameters.extend(token.as_deref().map(|token| ("page_token", token)));
                let (status, page) = ask(&parameters).await;
                assert_eq!(status, 200, "{page}");
                paged.extend(ids(&page).into_iter().map(str::to_owned));
                token = page["next_page_token"].as_str().map(str::to_owned);
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(paged, ids(&whole), "{query}");
        }
    }
    let (_, page) = ask(&[("query", "order by workflow_id"), ("limit", "1")]).await;
    let token = page["next_page_token"].as_str().unwrap();
    for other in ["order by workflow_id desc", "blocked = true order by workflow_id", ""] {
        let (status, problem) = ask(&[("query", other), ("page_token", token)]).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_input")), "{other}: {problem}");
    }
    let (status, problem) = ask(&[("query", "status = 'done'")]).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_input")));
    assert!(problem["detail"].as_str().unwrap().contains("at character 10"), "{problem}");
}

/// Runs that wait, how many of which a query finds.
fn count(server: &Server, query: &str) -> usize {
    let output = server.everfold(&["list", "--json", "--limit", "1000", "--query", query]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    list["runs"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_does_one_thing_to_every_open_run_that_a_query_finds() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_runs(folder.path()).await;
    let batch = |arguments: &[&str]| server.everfold(&[&["batch"][..], arguments].concat());
    let query = "workflow_id starts_with 'sum-'";
    let only_seen = batch(&["terminate", "--query", query, "--dry-run"]);
    assert!(
        only_seen.status.success() && text(&only_seen).contains("3 open runs; nothing was done"),
        "{only_seen:?}"
    );
    let unsure = batch(&["terminate", "--query", query]);
    assert_eq!(unsure.status.code(), Some(2), "{}", text(&unsure));
    assert_eq!(count(&server, "status = 'running'"), 3);

    let first = ["signal", "add", "1", "--query", "workflow_id = 'sum-0'", "--yes", "--json"];
    let told: Value = serde_json::from_slice(&batch(&first).stdout).unwrap();
    assert_eq!(
        (&told["matched"], &told["done"], &told["refused"]),
        (&json!(1), &json!(1), &json!(0)),
        "{told}"
    );
    assert_eq!(server.get("/api/v1/workflows/sum-0/result?wait=30s").await["result"], json!([1]));
    let canceled = batch(&["cancel", "--query", "workflow_id = 'sum-1'", "--yes", "--reason", "spring"]);
    assert!(text(&canceled).contains("1 run asked to cancel"), "{}", text(&canceled));
    server.get("/api/v1/workflows/sum-1/result?wait=30s").await;
    assert_eq!(count(&server, "status = 'canceled'"), 1);
    let rest = batch(&["terminate", "--query", "", "--yes"]);
    assert!(text(&rest).contains("1 run terminated"), "{}", text(&rest));
    assert_eq!(count(&server, "status = 'terminated'"), 1);

    let wrong = batch(&["cancel", "--query", "nonsense", "--yes"]);
    assert!(
        !wrong.status.success() && text(&wrong).contains("at character 9: `=`, `!=`"),
        "{}",
        text(&wrong)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_signals_nobody_twice() {
    const RUNS: usize = 1_200;
    let folder = tempfile::tempdir().unwrap();
    let server = with_runs(folder.path()).await;
    let start = |number: usize| {
        let id = format!("many-{number}");
        let body = json!({ "workflow_type": "signals", "workflow_id": id, "input": { "count": 2 } });
        let sending = server.http.post(server.url("/api/v1/workflows")).json(&body).send();
        async move { assert_eq!(sending.await.unwrap().status(), 201) }
    };
    for group in (0..RUNS).collect::<Vec<_>>().chunks(100) {
        futures::future::join_all(group.iter().copied().map(start)).await;
    }
    let query = "workflow_id starts_with 'many-'";
    let signal = |id: &str| {
        let arguments =
            ["batch", "signal", "add", "5", "--query", query, "--yes", "--json", "--batch-id", id];
        let output = server.everfold(&arguments);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
    };
    for _ in 0..2 {
        assert_eq!(signal("spring")["done"], json!(RUNS), "more than a page of them");
    }
    assert_eq!(
        count(&server, &format!("{query} and status = 'completed'")),
        0,
        "the second one changed nothing"
    );
    assert_eq!(signal("summer")["done"], json!(RUNS));
    let result = server.get("/api/v1/workflows/many-7/result?wait=30s").await;
    assert_eq!(result["result"], json!([5, 5]));
}
