//! The real binary and the Python worker of `examples/`, each a process of its own that may be killed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::server::{Server, text};
use support::{PATIENCE, root};

/// A worker in a process of its own.
struct Worker {
    child: Child,
    log: std::path::PathBuf,
}

impl Worker {
    fn start(server: &Server, folder: &Path, identity: &str) -> Self {
        let log = folder.join(format!("{identity}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("python3");
        command.arg("-u").arg(root().join("examples/worker.py"));
        command.args([
            "--queue",
            "python",
            "--threads",
            "2",
            "--identity",
            identity,
            "--url",
            &server.url(""),
        ]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().expect("python3 is installed: the test's worker is in Python");
        Self { child, log }
    }

    /// Kills the process as a power cut does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- {}\n{}",
                self.log.display(),
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

async fn served(folder: &Path) -> Server {
    let server = Server::start(&folder.join("data")).await;
    server.deploy("samples");
    server
}

async fn post(server: &Server, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = server.http.post(server.url(path)).json(body).send().await.unwrap();
    let (status, body) = (answer.status(), answer.bytes().await.unwrap());
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Starts the sample `remote` with an activity on the queue `python`.
async fn start(server: &Server, id: &str, activity: &str, input: Value, options: Value) {
    let mut remote = json!({
        "activity": activity,
        "input": input,
        "task_queue": "python",
        "start_to_close_ms": 60_000,
        "initial_interval_ms": 10,
    });
    if let (Value::Object(remote), Value::Object(options)) = (&mut remote, options) {
        remote.extend(options);
    }
    let body = json!({ "workflow_type": "remote", "workflow_id": id, "input": remote });
    let (status, answer) = post(server, "/api/v1/workflows", &body).await;
    assert_eq!(status, 201, "{answer}");
}

/// Waits until the run's open activity is as wanted.
async fn until(server: &Server, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let run = server.get(&format!("/api/v1/workflows/{id}")).await;
        let activity = &run["pending_activities"][0];
        if is_so(activity) {
            return activity.clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "{id}: {run}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn counted(activity: &Value) -> u64 {
    activity["heartbeat_details"]["counted"].as_u64().unwrap_or(0)
}

fn shown(server: &Server, id: &str) -> String {
    let shown = server.everfold(&["show", id]);
    assert!(shown.status.success(), "{}", text(&shown));
    text(&shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_worker_makes_attempts_and_another_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = served(folder.path()).await;
    let first = Worker::start(&server, folder.path(), "first");
    start(&server, "greet", "greet", json!("Ada"), json!({})).await;
    assert_eq!(server.end("greet").await["result"], "Hello, Ada!");
    start(&server, "flaky", "flaky", json!({ "failures": 2 }), json!({ "initial_interval_ms": 3_600_000 }))
        .await;
    assert_eq!(server.end("flaky").await["result"]["attempt"], 3, "the failures name their next tries");
    start(&server, "refused", "greet", json!(7), json!({})).await;
    let refused = server.end("refused").await;
    assert_eq!(
        (&refused["status"], &refused["failure"]["cause"]["kind"]["type"]),
        (&json!("failed"), &json!("InvalidName"))
    );

    let slowly = json!({ "to": 40, "pause_s": 0.05 });
    start(&server, "count", "count", slowly, json!({ "heartbeat_ms": 1_000 })).await;
    let activity = until(&server, "count", |activity| counted(activity) >= 3).await;
    assert_eq!((&activity["state"], &activity["lease"]["worker"]), (&json!("started"), &json!("first")));
    first.kill();
    let second = Worker::start(&server, folder.path(), "second");
    let activity = until(&server, "count", |activity| activity["lease"]["worker"] == "second").await;
    assert_eq!(activity["last_failure"]["kind"]["timeout_type"], "heartbeat", "{activity}");
    let result = server.end("count").await["result"].clone();
    assert_eq!((&result["counted"], &result["attempt"]), (&json!(40), &json!(2)));
    assert!(result["began_at"].as_u64().unwrap() >= 3, "{result}");
    second.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_killed_still_knows_what_it_leased() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = served(folder.path()).await;
    let _worker = Worker::start(&server, folder.path(), "worker");
    let slowly = json!({ "to": 20, "pause_s": 0.05 });
    start(&server, "count", "count", slowly, json!({ "heartbeat_ms": 30_000 })).await;
    until(&server, "count", |activity| activity["lease"]["worker"] == "worker").await;
    server.kill();
    server.restart().await;
    let result = server.end("count").await["result"].clone();
    assert_eq!(result, json!({ "counted": 20, "began_at": 0, "attempt": 1 }), "no attempt was lost");
    assert_eq!(server.scheduled("count").await, ["count"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_a_python_worker_through_its_heartbeats() {
    let folder = tempfile::tempdir().unwrap();
    let server = served(folder.path()).await;
    let _worker = Worker::start(&server, folder.path(), "worker");
    start(&server, "count", "count", json!({ "to": 1_000_000, "pause_s": 0.01 }), json!({})).await;
    until(&server, "count", |activity| activity["lease"]["worker"] == "worker").await;
    let canceled = server.everfold(&["cancel", "count"]);
    assert!(canceled.status.success(), "{}", text(&canceled));
    assert_eq!(server.end("count").await["status"], "canceled");
    let history = server.get("/api/v1/workflows/count/history").await;
    let types: Vec<&str> =
        history["events"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert!(types.contains(&"ActivityCanceled"), "{types:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn show_says_what_an_activity_waits_for_and_operators_change_that() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &[("EVERFOLD_LOG", "debug")]).await;
    server.deploy("samples");
    start(&server, "greet", "greet", json!("Ada"), json!({})).await;
    until(&server, "greet", |activity| activity["state"] == "waiting_for_worker").await;
    let said = shown(&server, "greet");
    assert!(said.contains("It waits for greet: attempt 1 waits for a worker on task queue python"), "{said}");

    let operate = |arguments: &[&str]| {
        let done = server.everfold(&[&["activity"], arguments].concat());
        (done.status.code(), text(&done))
    };
    let (code, said) = operate(&["pause", "greet", "2"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the activity of event 2 of greet is paused"), "{said}");
    let said = shown(&server, "greet");
    assert!(said.contains("It waits for greet: it was paused"), "{said}");
    let poll = json!({ "identity": "curl" });
    let (status, _) = post(&server, "/api/v1/task-queues/python/poll", &poll).await;
    assert_eq!(status, 204);
    assert_eq!(operate(&["resume", "greet", "2"]).0, Some(0));
    let (status, task) = post(&server, "/api/v1/task-queues/python/poll?wait=30s", &poll).await;
    assert_eq!((status.as_u16(), &task["activity_id"], &task["input"]), (200, &json!(2), &json!("Ada")));
    let said = shown(&server, "greet");
    assert!(said.contains("attempt 1 was leased by worker curl"), "{said}");
    assert_eq!(operate(&["reset", "greet", "2", "--keep-paused"]).0, Some(0));
    assert_eq!(operate(&["pause", "greet", "1"]).0, Some(3), "event 1 scheduled no activity");
    assert_eq!(operate(&["pause", "nobody", "1"]).0, Some(3));
    assert_eq!(operate(&["pause", "greet", "0"]).0, Some(2));

    let token = task["token"].as_str().unwrap();
    let report = |how: &str| format!("/api/v1/activities/{token}/{how}");
    let (status, wishes) = post(&server, &report("heartbeat"), &json!({ "details": 1 })).await;
    let expected = json!({ "cancel_requested": false, "paused": false, "reset": true });
    assert_eq!((status.as_u16(), wishes), (200, expected));
    let (status, problem) = post(&server, &report("cancel"), &json!({})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("cancel_not_requested")));
    let bad = json!({ "failure": { "type": "X", "message": "", "next_retry_delay": "soon" } });
    let (status, problem) = post(&server, &report("fail"), &bad).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_input")));
    for _ in 0..2 {
        let (status, problem) = post(&server, &report("complete"), &json!({ "result": "Hello" })).await;
        assert_eq!(status, 204, "{problem}");
    }
    assert_eq!(server.end("greet").await["result"], "Hello");
    let (status, problem) = post(&server, &report("complete"), &json!({ "result": "else" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("attempt_over")));
    let (status, problem) = post(&server, "/api/v1/activities/nonsense/complete", &json!({})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")));
    let log = server.log();
    assert!(
        log.contains("/api/v1/activities/{token}/complete") && !log.contains(token),
        "a token is in no log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_wait_are_bounded_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let limits = [("EVERFOLD_LIMITS_WAITING_REQUESTS", "1")];
    let server = Server::start_with(&folder.path().join("data"), &limits).await;
    server.deploy("samples");
    let poll = json!({ "identity": "one", "activity_types": ["greet"] });
    let path = "/api/v1/task-queues/python/poll?wait=30s";
    let waiting = tokio::spawn(server.http.post(server.url(path)).json(&poll).send());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !metrics(&server).await.contains("everfold_task_queue_polls_waiting 1\n") {
        assert!(tokio::time::Instant::now() < deadline, "the poll does not wait");
    }
    let (status, problem) = post(&server, path, &poll).await;
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("busy")));
    start(&server, "greet", "greet", json!("Ada"), json!({})).await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    let metrics = metrics(&server).await;
    assert!(metrics.contains("everfold_task_queue_polls_total{outcome=\"task\"} 1\n"), "{metrics}");
    assert!(metrics.contains("everfold_activity_leases_total{activity_type=\"other\"} 1\n"), "{metrics}");
}

async fn metrics(server: &Server) -> String {
    server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap()
}
