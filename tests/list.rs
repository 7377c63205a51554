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

    let refused = server.everfold(&["list", "--query", "customer_id = 100"]);
    let said = text(&refused);
    assert!(
        !refused.status.success() && said.contains("at character 1: there is no field `customer_id`"),
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
            let query = format!("not blocked = true order by {order} {direction}");
            let (_, whole) = ask(&[("query", &query), ("limit", "100")]).await;
            assert_eq!((ids(&whole).len(), &whole["next_page_token"]), (8, &Value::Null), "{query}");
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
