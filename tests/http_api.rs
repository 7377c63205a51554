//! A fuzzer over the whole HTTP interface of the real binary, driven by the description that the binary
//! serves. Nothing that it sends may meet a fault, hang, or be answered otherwise than described.
//!
//! A failure prints its seed; `HTTP_API_SEED=SEED` sends the same requests again, and
//! `HTTP_API_REQUESTS` says how many.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

#[path = "http_api/document.rs"]
mod document;
#[path = "http_api/generate.rs"]
mod generate;
mod support;

use std::time::{Duration, Instant};

use document::{Document, Operation, codes};
use futures::future::join_all;
use generate::{Expects, Generator, Request};
use serde_json::{Value, json};
use support::root;
use support::server::{Server, order};

/// How long an answer may take. Requests ask for waits far below that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are under way at once.
const AT_ONCE: usize = 16;
/// How many are sent.
const REQUESTS: usize = 10_000;
/// How many complaints are printed.
const COMPLAINTS: usize = 12;

/// What came back.
struct Answer {
    status: u16,
    media_type: String,
    retry_after: Option<String>,
    body: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let deployed =
        server.everfold(&["deploy", root().join("target/components/samples.wasm").to_str().unwrap()]);
    assert!(deployed.status.success(), "{}", support::server::text(&deployed));
    let document = Document::new(server.get("/api/v1/openapi.json").await);
    let operations = document.operations();
    assert!(operations.len() >= 25, "the description lists {} operations", operations.len());

    let seed = setting("HTTP_API_SEED").unwrap_or_else(random_seed);
    eprintln!("HTTP_API_SEED={seed}");
    let mut generator = Generator::new(seed, known());
    let mut complaints = Vec::new();
    let mut sent = 0;
    let mut refused = 0;
    let wanted = setting("HTTP_API_REQUESTS").map_or(REQUESTS, |number| number as usize);
    while sent < wanted && complaints.len() < COMPLAINTS {
        // Each operation gets valid requests first, so that there is something to ask about.
        let batch: Vec<Request> = (sent..sent + AT_ONCE)
            .map(|number| match number < 2 * operations.len() {
                true => generator.plain(&document, &operations, number % operations.len()),
                false => generator.request(&document, &operations),
            })
            .collect();
        sent += batch.len();
        let answers = join_all(batch.iter().map(|request| send(&server, request))).await;
        for (request, answer) in batch.iter().zip(answers) {
            let operation = &operations[request.operation];
            let verdict = answer.and_then(|answer| {
                refused += usize::from(answer.status >= 400);
                let checked = check(&document, operation, request, &answer);
                checked.map_err(|wrong| format!("{wrong}\n  {} {}", answer.status, shown(&answer.body)))
            });
            match verdict {
                Ok(Some(body)) => generator.learn(&body),
                Ok(None) => {}
                Err(wrong) => complaints.push(complaint(operation, request, &wrong)),
            }
        }
    }
    assert!(complaints.is_empty(), "seed {seed}, {sent} requests:\n{}", complaints.join("\n"));
    assert!(refused > sent / 10 && refused < sent * 9 / 10, "{refused} of {sent} requests were refused");
    assert_eq!(server.get("/readyz").await["status"], "ready");
    let placed = server.order(&order("tok_ok", "10115")).await;
    server.end(&placed.workflow_id).await;
}

/// Values that mean something to the host, by the name of what takes them.
fn known() -> Value {
    let order = order("tok_ok", "10115");
    let remote = json!({ "activity": "work", "task_queue": "python", "start_to_close_ms": 60_000 });
    json!({
        "workflow_type": ["echo", "echo", "echo", "sleeper", "remote", "remote", "order-saga", "no-such-type"],
        "workflow_id": ["w-1", "w-2", "w-3", "none"],
        "request_id": ["r-1", "r-2", "r-3"],
        "input": [null, { "sleep_ms": 100 }, { "sleep_ms": 3_600_000 }, remote, order],
        "name": ["note", "status", "order-delivered"],
        "task_queue": ["default", "python"],
        "identity": ["w-1"],
        "activity_types": [[]],
        "scheduled_event_id": [1, 2, 3],
        "token": ["AQ"],
        "query": ["status = 'running'", "workflow_id starts_with 'w' order by start_time desc", "not blocked = true", "no query"],
        "namespace": ["default", "default", "default", "other"],
        // Long waits are another test's business.
        "wait": ["0s", "1ms", "20ms"],
        "payment_token": ["tok_ok", "tok_declined"],
        "currency": ["EUR", "USD"],
        "country": ["DE", "FR"],
        "postcode": ["10115", "REFUSED"],
        "sku": ["book"],
        "quantity": [1, 2],
        "unit_price_cents": [1_250],
        "customer_id": [100],
        "id": [],
        "order_id": [],
    })
}

async fn send(server: &Server, request: &Request) -> Result<Answer, String> {
    let method = request.method.parse().unwrap();
    let mut sending = server.http.request(method, server.url(&request.target)).body(request.body.clone());
    for (name, value) in &request.headers {
        sending = sending.header(*name, value.as_bytes());
    }
    let began = Instant::now();
    let answered = tokio::time::timeout(PATIENCE, async {
        let response = sending.send().await?;
        let header = |name: &str| {
            response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let media_type = header("content-type").unwrap_or_default();
        let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
        let body = response.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(Answer { status, media_type, retry_after, body })
    })
    .await;
    match answered {
        Err(_) => Err(format!("no answer within {:?}", began.elapsed())),
        Ok(Err(error)) => Err(format!("no answer: {error:?}")),
        Ok(Ok(answer)) => Ok(answer),
    }
}

/// Gives the body of a good answer.
fn check(
    document: &Document,
    operation: &Operation,
    request: &Request,
    answer: &Answer,
) -> Result<Option<Value>, String> {
    let described = operation.response(answer.status);
    if answer.status < 400 {
        if matches!(request.expects, Expects::Refusal | Expects::Exactly(..)) {
            return Err(format!("it should have been refused: {:?}", request.expects));
        }
        return match (described, request.expects) {
            (None, Expects::Anything) => Ok(None),
            (None, _) => Err(format!("{} is not described", answer.status)),
            (Some(_), Expects::Anything) if request.method != operation.method => Ok(None),
            (Some(response), _) => fits(document, response, answer),
        };
    }
    let problem = problem(answer)?;
    let code = problem["code"].as_str().unwrap();
    if !document.codes().contains(&code) {
        return Err(format!("`{code}` is no code that the description knows"));
    }
    if answer.status >= 500 && answer.status != 503 {
        return Err("a fault".to_owned());
    }
    if answer.status == 503 && (request.expects == Expects::Described || answer.retry_after.is_none()) {
        return Err("busy".to_owned());
    }
    match (request.expects, described) {
        (Expects::Anything, _) => Ok(None),
        (Expects::Exactly(status, expected), _) if (status, expected) != (answer.status, code) => {
            Err(format!("it should have been {status} {expected}"))
        }
        (_, Some(response)) if codes(document.resolve(response)).contains(&code) => Ok(None),
        _ => Err(format!("{} {code} is not described", answer.status)),
    }
}

/// The body of a refusal.
fn problem(answer: &Answer) -> Result<Value, String> {
    if answer.media_type != "application/problem+json" {
        return Err(format!("a refusal of type `{}`", answer.media_type));
    }
    let problem: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let is_whole =
        problem["code"].is_string() && problem["title"].is_string() && problem["detail"].is_string();
    if !is_whole || problem["status"] != answer.status {
        return Err("an incomplete problem".to_owned());
    }
    Ok(problem)
}

fn fits(document: &Document, response: &Value, answer: &Answer) -> Result<Option<Value>, String> {
    let contents = document.resolve(response)["content"].as_object();
    let Some((media_type, content)) = contents.and_then(|contents| contents.iter().next()) else {
        return answer
            .body
            .is_empty()
            .then_some(None)
            .ok_or_else(|| "a body that is not described".to_owned());
    };
    if !answer.media_type.starts_with(media_type.as_str()) {
        return Err(format!("the body is {}, not {media_type}", answer.media_type));
    }
    if media_type != "application/json" {
        return Ok(None);
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    document.fits(&content["schema"], &body)?;
    Ok(Some(body))
}

fn complaint(operation: &Operation, request: &Request, wrong: &str) -> String {
    let Request { method, target, headers, body, .. } = request;
    format!(
        "{}: {wrong}\n  {method} {}\n  {headers:?}\n  {}\n",
        operation.id,
        shown(target.as_bytes()),
        shown(body)
    )
}

/// The beginning of a text.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().take(600).collect();
    if shown.len() < text.len() { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn random_seed() -> u64 {
    let id = everfold::clock::Clock::system().new_uuid();
    id.as_u64_pair().1
}
