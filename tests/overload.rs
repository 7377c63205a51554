//! Floods beyond each bound of the real binary: what does not fit is refused with 503 `busy` and a
//! `Retry-After`, memory stays below a stated bound, what was acknowledged ends, and when the flood is over the
//! host serves as before.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::time::Duration;

use futures::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use support::PATIENCE;
use support::disk::Disk;
use support::load::refusal;
use support::server::{Server, order};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A flush on a disk that is so slow that a flood piles up.
const SLOW: Duration = Duration::from_millis(300);

/// The real binary with other bounds, and the disk that it stands on.
async fn serve(limits: &[(&str, &str)]) -> (tempfile::TempDir, Disk, Server) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let disk = Disk::below(&data);
    let environment = [&disk.environment(), limits].concat();
    let server = Server::start_with(&data, &environment).await;
    server.deploy("samples");
    (folder, disk, server)
}

/// Starts a run.
async fn start(server: &Server, workflow_type: &str, id: &str, input: &Value, query: &str) -> Response {
    let body = json!({ "workflow_type": workflow_type, "workflow_id": id, "input": input });
    server.http.post(server.url(&format!("/api/v1/workflows{query}"))).json(&body).send().await.unwrap()
}

/// Which of these were done; the others must be refusals.
async fn done(responses: Vec<Response>, status: u16) -> Vec<usize> {
    let mut done = Vec::new();
    for (number, response) in responses.into_iter().enumerate() {
        if response.status() == status {
            done.push(number);
        } else {
            refusal(response).await.unwrap();
        }
    }
    done
}

async fn refused_by(server: &Server, bound: &str) -> bool {
    let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    metrics.contains(&format!("everfold_refused_total{{reason=\"{bound}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_beyond_the_bound_are_refused() {
    let (_folder, disk, server) = serve(&[("EVERFOLD_LIMITS_WRITES_UNDER_WAY", "40")]).await;
    assert_eq!(start(&server, "signals", "sum", &json!({ "count": 1_000 }), "").await.status(), 201);
    disk.flushes_take(SLOW);
    let ids: Vec<String> = (0..300).map(|n| format!("run-{n}")).collect();
    let noop = json!({ "activity": "noop" });
    let started =
        done(join_all(ids.iter().map(|id| start(&server, "four-steps", id, &noop, ""))).await, 201).await;
    assert!((1..300).contains(&started.len()), "{} of 300 were started", started.len());
    let signal = |n: usize| {
        let url = server.url("/api/v1/workflows/sum/signals/add");
        server.http.post(url).json(&json!({ "input": n })).send()
    };
    let sent = join_all((0..300).map(signal)).await.into_iter().map(Result::unwrap).collect();
    let sent = done(sent, 200).await;
    assert!((1..300).contains(&sent.len()), "{} of 300 were sent", sent.len());
    assert!(refused_by(&server, "writes_under_way").await);

    disk.flushes_take(Duration::ZERO);
    for number in started {
        assert_eq!(server.end(&ids[number]).await["status"], "completed");
    }
    let history = server.get("/api/v1/workflows/sum/history?limit=10000").await;
    let signals = history["events"].as_array().unwrap().iter();
    assert_eq!(signals.filter(|event| event["type"] == "SignalReceived").count(), sent.len());
    assert_eq!(start(&server, "four-steps", "after", &noop, "?wait=30s").await.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_bound_are_refused_and_memory_is_bounded() {
    const ROOM: u64 = 8 * 1024 * 1024;
    /// What a host makes of the bodies that are under way: read, decoded, folded, encoded, in the page cache.
    const MOST: u64 = 24 * ROOM;
    let (_folder, disk, server) =
        serve(&[("EVERFOLD_LIMITS_REQUEST_BYTES_UNDER_WAY", &ROOM.to_string())]).await;
    disk.flushes_take(SLOW);
    let before = server.resident_bytes();
    let input = json!("x".repeat(1_500_000));
    let mut most = before;
    let mut started = Vec::new();
    for round in 0..4 {
        let ids: Vec<String> = (0..50).map(|n| format!("large-{round}-{n}")).collect();
        let answers = join_all(ids.iter().map(|id| start(&server, "echo", id, &input, ""))).await;
        let accepted = done(answers, 201).await;
        started.extend(accepted.into_iter().map(|number| ids[number].clone()));
        most = most.max(server.resident_bytes());
    }
    assert!((1..200).contains(&started.len()), "{} of 200 were started", started.len());
    assert!(refused_by(&server, "request_bytes_under_way").await);
    eprintln!("{} of 200 were started; memory: {before} bytes before, at most {most}", started.len());
    assert!(most - before < MOST, "memory grew from {before} to {most} bytes");
    disk.flushes_take(Duration::ZERO);
    for id in &started {
        assert_eq!(server.end(id).await["status"], "completed");
    }
    assert_eq!(start(&server, "echo", "after", &input, "?wait=30s").await.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_counts_until_its_run_is_on_disk_also_where_its_sender_waits_for_the_end() {
    /// Room for two.
    const ROOM: u64 = 4 * 1024 * 1024;
    let (_folder, disk, server) =
        serve(&[("EVERFOLD_LIMITS_REQUEST_BYTES_UNDER_WAY", &ROOM.to_string())]).await;
    // Nothing reaches the disk until the test lets it.
    disk.flushes_take(Duration::from_secs(3_600));
    let input = json!("x".repeat(1_500_000));
    let url = server.url("/api/v1/workflows?wait=30s");
    let start = |n: usize| {
        let body = json!({ "workflow_type": "echo", "workflow_id": format!("large-{n}"), "input": input });
        tokio::spawn(server.http.post(&url).json(&body).send())
    };
    let starts: Vec<_> = (0..12).map(start).collect();
    // All but those that fit are answered without the disk.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while starts.iter().filter(|start| !start.is_finished()).count() > 2 {
        assert!(tokio::time::Instant::now() < deadline, "more wait than fit");
        let healthy = server.http.get(server.url("/healthz")).send().await.unwrap();
        assert_eq!(healthy.status(), 200);
    }
    let (answered, waiting): (Vec<_>, Vec<_>) = starts.into_iter().partition(|start| start.is_finished());
    assert!(!waiting.is_empty(), "one fits");
    let mut refused = Vec::new();
    for answer in answered {
        refused.push(answer.await.unwrap().unwrap());
    }
    assert!(done(refused, 201).await.is_empty());
    disk.flushes_take(Duration::ZERO);
    for start in waiting {
        let answer = start.await.unwrap().unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_beyond_the_activities_are_refused_until_some_have_ended() {
    let (_folder, _disk, server) = serve(&[("EVERFOLD_LIMITS_ACTIVITIES_UNDER_WAY", "10")]).await;
    let mut placed = Vec::new();
    let refused = loop {
        let response =
            server.http.post(server.url("/orders")).json(&order("tok_slow_2", "10115")).send().await;
        let response = response.unwrap();
        if response.status() != 201 {
            break refusal(response).await.unwrap();
        }
        let body: Value = response.json().await.unwrap();
        placed.push(body["workflow_id"].as_str().unwrap().to_owned());
        assert!(placed.len() < 200, "nothing is refused");
    };
    assert!(refused["detail"].as_str().unwrap().contains("activities"), "{refused}");
    assert!(placed.len() >= 10, "{} were taken", placed.len());
    assert!(refused_by(&server, "activities_under_way").await);
    for id in &placed {
        assert_eq!(server.end(id).await["status"], "completed");
    }
    server.order(&order("tok_ok", "10115")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_answered_and_closed() {
    let (_folder, _disk, server) = serve(&[("EVERFOLD_LIMITS_CONNECTIONS", "20")]).await;
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let (head, body) = ask(&address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: "), "{head}");
    assert!(head.contains("\r\nconnection: close"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "busy", "{body}");
    // The process lives: nobody should end it for being full.
    assert!(ask(&address, "/healthz").await.0.starts_with("HTTP/1.1 200 "));
    drop(idle);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ask(&address, "/readyz").await.0.starts_with("HTTP/1.1 200 ") {
        assert!(tokio::time::Instant::now() < deadline, "it does not serve again");
    }
    assert!(refused_by(&server, "connections").await);
}

/// Head and body of an answer on a connection of its own.
async fn ask(address: &str, path: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    (head.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_beyond_the_bound_are_refused_and_starts_are_not() {
    let (_folder, _disk, server) = serve(&[("EVERFOLD_LIMITS_WAITING_REQUESTS", "4")]).await;
    assert_eq!(start(&server, "sleeper", "long", &json!({ "sleep_ms": 3_600_000 }), "").await.status(), 201);
    let result = |wait: &str| {
        server.http.get(server.url(&format!("/api/v1/workflows/long/result?wait={wait}"))).send()
    };
    // One that finds a question below in its place asks again.
    let wait = |http: reqwest::Client, url: String| async move {
        while http.get(&url).send().await.is_ok_and(|response| response.status() == 503) {}
    };
    let url = server.url("/api/v1/workflows/long/result?wait=60s");
    let waiting: Vec<_> = (0..4).map(|_| tokio::spawn(wait(server.http.clone(), url.clone()))).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let response = result("1ms").await.unwrap();
        if response.status() != 202 {
            refusal(response).await.unwrap();
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing is refused");
    }
    // A run is on disk whatever becomes of the wait, which may end early.
    let started = start(&server, "sleeper", "other", &json!({ "sleep_ms": 3_600_000 }), "?wait=60s").await;
    assert_eq!(started.status(), 201);
    assert_eq!(started.json::<Value>().await.unwrap()["status"], "running");
    assert_eq!(result("0s").await.unwrap().status(), 202);
    assert!(refused_by(&server, "waiting_requests").await);
    for waiting in &waiting {
        waiting.abort();
    }
    while result("1ms").await.unwrap().status() != 202 {
        assert!(tokio::time::Instant::now() < deadline, "it does not wait again");
    }
}
