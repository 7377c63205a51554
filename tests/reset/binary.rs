//! The real binary: an order reset by hand, and a batch that is killed.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::server::{self, Server, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_resets_an_order_and_says_what_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let placed = server.order(&server::order("tok_declined", "10115")).await;
    let id = placed.workflow_id.as_str();
    let path = format!("/api/v1/workflows/{id}");
    assert_eq!(server.get(&format!("{path}/result?wait=30s")).await["status"], "failed");
    let old = server.get(&path).await;

    let refused = |arguments: &[&str], code: i32, said: &str| {
        let output = server.everfold(&[&["reset", id][..], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
    };
    refused(&["--to", "soon"], 2, "expected the number of an event, `start` or `last`");
    refused(&["--to", "3"], 2, "event 3 is within a step: a run is reset to the end of one, here 2 or 4");
    refused(&["--to", "last", "--version", "abcd"], 3, "no version of order-saga begins with abcd");
    let dry = server.everfold(&["reset", id, "--to", "4", "--dry-run"]);
    let said = text(&dry);
    assert!(dry.status.success() && said.contains("; nothing was done"), "{said}");
    assert!(said.contains("4  ActivityScheduled") && said.contains("begins anew under its key"), "{said}");
    assert_eq!(server.get(&path).await, old);

    // What was reserved was released since, and under its key it is not reserved again; from the start it is, under another.
    let reset = server.everfold(&["reset", id, "--to", "2"]);
    assert!(
        reset.status.success() && text(&reset).contains("goes on from event 2 as run "),
        "{}",
        text(&reset)
    );
    let end = server.get(&format!("{path}/result?wait=30s")).await;
    assert!(end["failure"].to_string().contains("StepUndone"), "{end}");
    let second = end["run_id"].as_str().unwrap().to_owned();
    let reset = server.everfold(&["reset", id, "--to", "start", "--reason", "try again"]);
    assert!(
        reset.status.success() && text(&reset).contains("goes on from the start as run "),
        "{}",
        text(&reset)
    );
    let end = server.get(&format!("{path}/result?wait=30s")).await;
    assert!(end["failure"].to_string().contains("declined"), "the card is declined again: {end}");
    assert!(![&old["run_id"], &json!(second)].contains(&&end["run_id"]));
    assert_eq!(server.scheduled(id).await.len(), 3, "reserved, not paid, released");

    // Only its last run can be reset, and that once for a request.
    let answer = async |run_id: &str, body: Value| {
        let url = server.url(&format!("{path}/reset?run_id={run_id}"));
        let answer = server.http.post(&url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, problem) = answer(&second, json!({ "to": "start" })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{problem}");
    let last = end["run_id"].as_str().unwrap();
    let once = json!({ "to": "start", "request_id": "once" });
    let (first, again) = (answer(last, once.clone()).await, answer(last, once).await);
    assert_eq!((first.0, &first.1), (200, &again.1));
    assert_eq!(first.1["to_event_id"], 0);
    let (status, problem) = answer(last, json!({ "to": "soon" })).await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("expected the number of an event"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_killed_resets_each_run_once() {
    const RUNS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data")).await;
    server.deploy("samples");
    let starts = (0..RUNS).map(|number| {
        let body =
            json!({ "workflow_type": "signals", "workflow_id": format!("run-{number}"), "input": { "count": 1 } });
        server.http.post(server.url("/api/v1/workflows")).json(&body).send()
    });
    for answer in futures::future::join_all(starts).await {
        assert_eq!(answer.unwrap().status(), 201);
    }
    let count = |server: &Server, query: &str| {
        let output = server.everfold(&["list", "--json", "--limit", "1000", "--query", query]);
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        list["runs"].as_array().unwrap().len()
    };
    assert!(server.everfold(&["batch", "cancel", "--query", "", "--yes"]).status.success());
    while count(&server, "status = 'canceled'") < RUNS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let canceled = "status = 'canceled'";
    let arguments = ["batch", "reset", "--to", "start", "--query", canceled, "--batch-id", "again"];
    let dry = server.everfold(&[&arguments[..], &["--dry-run"]].concat());
    assert!(text(&dry).contains("200 runs") && text(&dry).contains("nothing was done"), "{}", text(&dry));
    let unsure = server.everfold(&arguments);
    assert_eq!(unsure.status.code(), Some(2));
    assert!(text(&unsure).contains("200 runs would be reset"), "{}", text(&unsure));

    let yes = [&arguments[..], &["--yes"]].concat();
    let mut batch = server::command()
        .args(["--server", &server.url("")])
        .args(&yes)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while count(&server, "status = 'running'") < RUNS / 10 {
        assert!(batch.try_wait().unwrap().is_none() || count(&server, "status = 'running'") >= RUNS / 10);
    }
    server.kill();
    batch.kill().unwrap();
    batch.wait().unwrap();
    server.restart().await;
    let rest = server.everfold(&yes);
    assert!(rest.status.success() && text(&rest).contains("200 runs reset"), "{}", text(&rest));
    // Another batch passes over what has been reset.
    let other = server.everfold(&["batch", "reset", "--to", "start", "--query", canceled, "--yes"]);
    let said = text(&other);
    assert!(
        other.status.success() && said.contains("0 runs reset; 200 runs had others behind them"),
        "{said}"
    );
    // Once more under the same id, over all runs: what the batch began is not counted.
    let all = ["batch", "reset", "--to", "start", "--query", "", "--batch-id", "again", "--yes"];
    let again = server.everfold(&all);
    assert!(again.status.success() && text(&again).contains("200 runs reset\n"), "{}", text(&again));
    assert_eq!(count(&server, "status = 'running'"), RUNS);
    assert_eq!(count(&server, ""), 2 * RUNS, "each was reset once");
    let signal = ["batch", "signal", "add", "7", "--query", "", "--yes"];
    assert!(server.everfold(&signal).status.success());
    for number in [0, RUNS - 1] {
        let end = server.get(&format!("/api/v1/workflows/run-{number}/result?wait=30s")).await;
        assert_eq!(end["result"], json!([7]));
    }
}
