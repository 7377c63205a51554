//! Bad requests against the real router: each one gets a problem that says what is wrong.

mod versions;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::get;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::access::Token;
use super::{ServeError, Server, ServerLimits, ServerSettings, router};
use crate::activity::{AttemptSettings, Attempts, Registry};
use crate::clock::Clock;
use crate::guest::{Engine, EngineSettings};
use crate::runner::{Host, HostParts, HostSettings};
use crate::store::SqliteStore;
use crate::telemetry::Telemetry;

const LISTEN: &str = "127.0.0.1:8233";
const HOST: &str = "localhost:8233";

/// A host without components, and its folder.
async fn host() -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::system();
    let store = SqliteStore::open(folder.path()).await.expect("a store");
    let parts = HostParts {
        store: Arc::new(store),
        engine: Engine::new(EngineSettings::default(), None).expect("an engine"),
        attempts: Attempts::new(Registry::default(), clock.clone(), AttemptSettings::default()),
        clock,
        telemetry: Telemetry::default(),
        on_fatal: Box::new(|reason| panic!("{reason}")),
    };
    (Host::open(parts, &HostSettings::default()), folder)
}

fn settings(listen: &str, token: Option<&str>) -> ServerSettings {
    ServerSettings {
        listen: listen.parse().expect("an address"),
        token: token.map(|token| Token::new(token).expect("a token")),
        allowed_hosts: vec!["orders.example".parse().expect("a host name")],
        payload_bytes: 1_024,
        component_bytes: 2_048,
        limits: ServerLimits::default(),
    }
}

/// A server's routes, to be asked without a connection.
struct Routes {
    router: Router,
    stopping: CancellationToken,
    host: Host,
    _folder: tempfile::TempDir,
}

impl Routes {
    async fn new(listen: &str, token: Option<&str>) -> Self {
        let (host, folder) = host().await;
        let (settings, stopping) = (settings(listen, token), CancellationToken::new());
        let application = Router::new().route("/panic", get(panics));
        let router = router(host.clone(), application, &settings, settings.listen, stopping.clone());
        Self { router, stopping, host, _folder: folder }
    }

    async fn ask(&self, text: &str) -> Response<Body> {
        self.router.clone().oneshot(request(text)).await.expect("a router does not fail")
    }
}

async fn panics() -> &'static str {
    panic!("a secret of the implementation")
}

/// `METHOD PATH`, header lines, an empty line, the body.
fn request(text: &str) -> Request<Body> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).expect("METHOD PATH");
    let mut request = Request::builder().method(method).uri(path);
    let mut has_host = false;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        has_host |= name == "Host";
        request = request.header(name, value);
    }
    if !has_host {
        request = request.header(header::HOST, HOST);
    }
    request.body(Body::from(body.to_owned())).expect("a request")
}

async fn problem(response: Response<Body>) -> Value {
    assert_eq!(
        response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()),
        Some(&b"application/problem+json"[..]),
        "{} is a problem",
        response.status()
    );
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let problem: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "code", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
    }
    problem
}

/// One line for each request: status, code, detail.
async fn refusals(requests: &[&str]) -> String {
    let routes = Routes::new(LISTEN, None).await;
    let mut lines = String::new();
    for text in requests {
        let problem = problem(routes.ask(text).await).await;
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        lines += &format!("{} {}: {}\n", problem["status"], text("code"), text("detail"));
    }
    lines
}

#[tokio::test]
async fn a_bad_path_method_or_query_is_a_problem() {
    let lines = refusals(&[
        "GET /nowhere",
        "GET /api/v1/workflows/",
        "DELETE /api/v1/components",
        "GET /api/v1/workflows/%ff",
        "GET /api/v1/workflows/a?run_id=7",
        "GET /api/v1/workflows/a?namespace=",
        "GET /api/v1/workflows/a?unknown=1",
        "GET /api/v1/workflows/a/history?after=x",
        "GET /api/v1/workflows/a/history?after=-1",
        "GET /api/v1/workflows/a/history?limit=0",
        "GET /api/v1/workflows/a/result?wait=soon",
        "GET /api/v1/workflows/a/result?wait=-3s",
        "GET /api/v1/workflows/a/result?wait=30",
        "GET /panic",
    ])
    .await;
    insta::assert_snapshot!(lines, @r"
    404 not_found: there is nothing at GET /nowhere
    404 not_found: there is nothing at GET /api/v1/workflows/
    405 method_not_allowed: /api/v1/components does not take DELETE; see the Allow header
    400 invalid_input: Invalid URL: Invalid UTF-8 in `workflow_id`
    400 invalid_input: query: run_id: not a run id: invalid length: found 1
    400 invalid_input: query: namespace: a name has 1 to 64 letters, digits, `-`, `_` or `.`
    400 invalid_input: query: unknown: unknown field `unknown`, expected `namespace` or `run_id`
    400 invalid_input: query: after: invalid digit found in string
    400 invalid_input: query: after: invalid digit found in string
    400 invalid_input: query: limit: at least 1
    400 invalid_input: query: wait: `soon` is not a duration such as 30s, 500ms or 2m
    400 invalid_input: query: wait: `-3s` is not a duration such as 30s, 500ms or 2m
    400 invalid_input: query: wait: `30` is not a duration such as 30s, 500ms or 2m
    500 internal: the request met a fault of the host; its log says more
    ");
}

#[tokio::test]
async fn a_bad_body_is_a_problem() {
    let json = |body: &str| format!("POST /api/v1/workflows\nContent-Type: application/json\n\n{body}");
    let long_id = format!(r#"{{"workflow_type":"t","workflow_id":"{}"}}"#, "i".repeat(1_001));
    let bodies = [
        "",
        "{",
        "[]",
        "{}",
        r#"{"workflow_type":7}"#,
        r#"{"workflow_type":"t","wait":true}"#,
        r#"{"workflow_type":"t","digest":"abc"}"#,
        r#"{"workflow_type":""}"#,
        r#"{"workflow_type":"t","workflow_id":".."}"#,
        r#"{"workflow_type":"t","request_id":"a\nb"}"#,
        &long_id,
    ];
    let requests: Vec<String> = bodies.into_iter().map(json).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    insta::assert_snapshot!(refusals(&requests).await, @r"
    400 invalid_input: the body is not JSON: EOF while parsing a value at line 1 column 0
    400 invalid_input: the body is not JSON: EOF while parsing an object at line 1 column 1
    422 invalid_input: invalid length 0, expected an object with at least `workflow_type` at line 1 column 2
    422 invalid_input: missing field `workflow_type` at line 1 column 2
    422 invalid_input: workflow_type: invalid type: integer `7`, expected a string at line 1 column 18
    422 invalid_input: wait: unknown field `wait`, expected one of `workflow_type`, `workflow_id`, `input`, `request_id`, `digest`, `headers`, `id_reuse_policy`, `id_conflict_policy`, `signal`, `execution_timeout_ms`, `run_timeout_ms`, `start_delay_ms`, `retry_policy`, `search_attributes`, `memo`, `update` at line 1 column 27
    422 invalid_input: digest: not a digest of 64 hexadecimal digits: Odd number of digits at line 1 column 36
    422 invalid_input: workflow_type: 1 to 1000 bytes without control characters, and not `.` or `..`
    422 invalid_input: workflow_id: 1 to 1000 bytes without control characters, and not `.` or `..`
    422 invalid_input: request_id: 1 to 1000 bytes without control characters, and not `.` or `..`
    422 invalid_input: workflow_id: 1 to 1000 bytes without control characters, and not `.` or `..`
    ");
}

#[tokio::test]
async fn a_body_of_the_wrong_type_or_size_is_a_problem() {
    let large =
        format!("POST /api/v1/workflows\nContent-Type: application/json\n\n\"{}\"", "x".repeat(70_000));
    let large_component =
        format!("POST /api/v1/components\nContent-Type: application/wasm\n\n{}", "x".repeat(2_049));
    let lines = refusals(&[
        "POST /api/v1/workflows\n\n{}",
        "POST /api/v1/workflows",
        "POST /api/v1/workflows\nContent-Type: text/plain\n\n{}",
        "POST /api/v1/workflows\nContent-Type: Text/Plain; charset=utf-8\n\n{}",
        "POST /api/v1/workflows\nContent-Type: application/x-www-form-urlencoded\n\na=b",
        "POST /api/v1/workflows\nContent-Type: multipart/form-data; boundary=b\n\n{}",
        "POST /api/v1/workflows\nContent-Type: application/xml\n\n{}",
        "POST /api/v1/workflows\nContent-Type: application/wasm\n\n{}",
        "POST /api/v1/components\nContent-Type: application/json\n\n{}",
        "POST /api/v1/components\nContent-Type: application/wasm",
        &large,
        &large_component,
    ])
    .await;
    insta::assert_snapshot!(lines, @r"
    415 unsupported_media_type: a body needs a Content-Type: application/json, or application/wasm for a component
    415 unsupported_media_type: this path takes JSON: send it with `Content-Type: application/json`
    415 unsupported_media_type: content type `text/plain` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: content type `Text/Plain; charset=utf-8` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: content type `application/x-www-form-urlencoded` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: content type `multipart/form-data; boundary=b` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: content type `application/xml` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: this path takes JSON: send it with `Content-Type: application/json`
    415 unsupported_media_type: a component is sent as the bytes of its .wasm file with `Content-Type: application/wasm`
    422 invalid_component: the body is empty; send the bytes of a .wasm file
    413 payload_too_large: the body is larger than limits.payload_bytes allows
    422 invalid_component: the component is larger than limits.component_bytes allows
    ");
}

#[tokio::test]
async fn a_bad_word_to_a_run_is_a_problem() {
    let post = |path: &str, body: &str| {
        format!("POST /api/v1/workflows/a/{path}\nContent-Type: application/json\n\n{body}")
    };
    let long = format!("signals/{}", "n".repeat(1_001));
    let requests = [
        post("signals/%2E%2E", "{}"),
        post("signals/a%00b", "{}"),
        post(&long, "{}"),
        post("signals/note", " "),
        post("signals/note", "null"),
        post("signals/note", r#"{"inputs":1}"#),
        post("signals/note", r#"{"request_id":""}"#),
        post("signals/note?wait=1s", "{}"),
        post("queries/status", r#"{"request_id":"r"}"#),
        post("queries/%ff", "{}"),
        post("cancel", r#"{"reason":7}"#),
        post("terminate", r#"{"request_id":"a\nb"}"#),
        post("terminate?run_id=1", "{}"),
        "POST /api/v1/workflows/a/cancel\nContent-Type: text/plain\n\nreason".to_owned(),
        "POST /api/v1/workflows/a/cancel\nContent-Type: application/wasm\n\nreason".to_owned(),
        "POST /api/v1/workflows/a/cancel\n\n{}".to_owned(),
        "GET /api/v1/workflows/a/cancel".to_owned(),
    ];
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    insta::assert_snapshot!(refusals(&requests).await, @r"
    422 invalid_input: the signal's name: 1 to 1000 bytes without control characters, and not `.` or `..`
    422 invalid_input: the signal's name: 1 to 1000 bytes without control characters, and not `.` or `..`
    422 invalid_input: the signal's name: 1 to 1000 bytes without control characters, and not `.` or `..`
    400 invalid_input: the body is not JSON: EOF while parsing a value at line 1 column 1
    422 invalid_input: invalid type: null, expected an object with `input`, `headers`, `request_id`, or nothing at line 1 column 4
    422 invalid_input: inputs: unknown field `inputs`, expected one of `input`, `headers`, `request_id` at line 1 column 9
    422 invalid_input: request_id: 1 to 1000 bytes without control characters, and not `.` or `..`
    400 invalid_input: query: wait: unknown field `wait`, expected `namespace` or `run_id`
    422 invalid_input: request_id: unknown field `request_id`, expected `input` at line 1 column 13
    400 invalid_input: Invalid URL: Invalid UTF-8 in `name`
    422 invalid_input: reason: invalid type: integer `7`, expected a string at line 1 column 11
    422 invalid_input: request_id: 1 to 1000 bytes without control characters, and not `.` or `..`
    400 invalid_input: query: run_id: not a run id: invalid length: found 1
    415 unsupported_media_type: content type `text/plain` is refused; send application/json, or application/wasm for a component
    415 unsupported_media_type: this path takes JSON: send it with `Content-Type: application/json`
    415 unsupported_media_type: a body needs a Content-Type: application/json, or application/wasm for a component
    405 method_not_allowed: /api/v1/workflows/a/cancel does not take GET; see the Allow header
    ");
}

#[tokio::test]
async fn a_bad_filter_of_the_list_is_a_problem() {
    let lines = refusals(&[
        "GET /api/v1/workflows?status=gone",
        "GET /api/v1/workflows?blocked=maybe",
        "GET /api/v1/workflows?digest=abc",
        "GET /api/v1/workflows?started_from=yesterday",
        "GET /api/v1/workflows?limit=0",
        "GET /api/v1/workflows?limit=99999999999999999999",
        "GET /api/v1/workflows?page_token=abc",
        "GET /api/v1/workflows?page_token=",
        "GET /api/v1/workflows?query=x",
    ])
    .await;
    for line in lines.lines() {
        assert!(line.starts_with("400 invalid_input: query: "), "{line}");
    }
    assert!(lines.contains("page_token: this is no `next_page_token` of this host"), "{lines}");
}

#[tokio::test]
async fn a_word_to_nobody_may_have_no_body() {
    let routes = Routes::new(LISTEN, None).await;
    for (path, body) in [
        ("signals/note", ""),
        (
            "signals/note",
            "\nContent-Type: application/json\n\n{\"input\":{},\"headers\":{\"a\":1},\"request_id\":\"r\"}",
        ),
        ("queries/status", ""),
        ("queries/status", "\nContent-Type: application/json"),
        ("cancel", ""),
        ("terminate", "\nContent-Type: application/json; charset=utf-8\n\n{\"reason\":\"no\"}"),
    ] {
        let response = routes.ask(&format!("POST /api/v1/workflows/a/{path}{body}")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}{body}");
        assert_eq!(problem(response).await["code"], "not_found");
    }
    let listed = routes.ask("GET /api/v1/workflows?status=timed_out&blocked=false&limit=5").await;
    assert_eq!(listed.status(), StatusCode::OK);
    let body = to_bytes(listed.into_body(), usize::MAX).await.expect("a body");
    assert_eq!(body, r#"{"runs":[],"next_page_token":null}"#);
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused() {
    let lines = refusals(&[
        "GET /healthz\nHost: evil.example",
        "GET /healthz\nHost: evil.example:8233",
        "GET /healthz\nHost: localhost:80",
        "GET /healthz\nHost: localhost",
        "GET /healthz\nHost: 192.168.1.1:8233",
        "GET /healthz\nHost: ",
        "GET http://evil.example/healthz",
        "GET /healthz\nOrigin: http://evil.example",
        "GET /healthz\nOrigin: http://localhost:3000",
        "GET /healthz\nOrigin: null",
        "POST /api/v1/workflows\nOrigin: https://evil.example\nContent-Type: application/json\n\n{}",
    ])
    .await;
    insta::assert_snapshot!(lines, @r"
    403 forbidden_host: `evil.example` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_host: `evil.example:8233` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_host: `localhost:80` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_host: `localhost` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_host: `192.168.1.1:8233` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_host: the request has no readable Host header
    403 forbidden_host: `evil.example` is no name of this server; add it to server.allowed_hosts if it is
    403 forbidden_origin: requests of web pages at http://evil.example are refused
    403 forbidden_origin: requests of web pages at http://localhost:3000 are refused
    403 forbidden_origin: requests of web pages at null are refused
    403 forbidden_origin: requests of web pages at https://evil.example are refused
    ");
}

#[tokio::test]
async fn own_hosts_and_origins_are_let_in() {
    let routes = Routes::new(LISTEN, None).await;
    for text in [
        "GET /healthz",
        "GET /healthz\nHost: 127.0.0.1:8233",
        "GET /healthz\nHost: [::1]:8233",
        "GET /healthz\nHost: LOCALHOST:8233",
        "GET /healthz\nHost: orders.example",
        "GET /healthz\nHost: orders.example:9000",
        "GET /healthz\nOrigin: http://localhost:8233",
        "GET /healthz\nOrigin: http://127.0.0.1:8233",
        "GET /healthz\nHost: orders.example\nOrigin: https://orders.example",
    ] {
        assert_eq!(routes.ask(text).await.status(), StatusCode::OK, "{text}");
    }
}

#[tokio::test]
async fn a_listener_on_all_addresses_is_reached_by_each_of_them_but_by_no_foreign_name() {
    let routes = Routes::new("0.0.0.0:8233", Some("secret")).await;
    for (text, status) in [
        ("GET /healthz\nHost: 192.168.1.1:8233", StatusCode::OK),
        ("GET /healthz\nHost: [2001:db8::1]:8233", StatusCode::OK),
        ("GET /healthz\nHost: 192.168.1.1:80", StatusCode::FORBIDDEN),
        ("GET /healthz\nHost: evil.example:8233", StatusCode::FORBIDDEN),
        ("GET /healthz\nHost: 192.168.1.1:8233\nOrigin: http://192.168.1.1:8233", StatusCode::OK),
        ("GET /healthz\nHost: 192.168.1.1:8233\nOrigin: http://192.0.2.1:8233", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(routes.ask(text).await.status(), status, "{text}");
    }
}

#[tokio::test]
async fn the_token_guards_all_paths_but_the_probes() {
    let routes = Routes::new(LISTEN, Some("secret")).await;
    for (text, status) in [
        ("GET /nowhere", StatusCode::UNAUTHORIZED),
        ("GET /nowhere\nAuthorization: Bearer wrong!", StatusCode::UNAUTHORIZED),
        ("GET /nowhere\nAuthorization: Basic secret", StatusCode::UNAUTHORIZED),
        ("GET /nowhere\nAuthorization: Bearer secretly", StatusCode::UNAUTHORIZED),
        ("GET /nowhere\nAuthorization: Bearer ", StatusCode::UNAUTHORIZED),
        ("GET /nowhere\nAuthorization: Bearer secret", StatusCode::NOT_FOUND),
        ("GET /nowhere\nAuthorization: bearer secret", StatusCode::NOT_FOUND),
        ("GET /healthz", StatusCode::OK),
        ("GET /readyz", StatusCode::OK),
    ] {
        let response = routes.ask(text).await;
        assert_eq!(response.status(), status, "{text}");
        if status == StatusCode::UNAUTHORIZED {
            assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
            assert_eq!(problem(response).await["code"], "unauthorized");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_may_be_done_instead() {
    let routes = Routes::new(LISTEN, None).await;
    let not_allowed = routes.ask("DELETE /api/v1/workflows").await;
    assert_eq!(
        not_allowed.headers().get(header::ALLOW).map(|value| value.as_bytes()),
        Some(&b"POST,GET,HEAD"[..])
    );
    assert_eq!(routes.ask("GET /readyz").await.status(), StatusCode::OK);
    routes.stopping.cancel();
    let not_ready = routes.ask("GET /readyz").await;
    assert!(not_ready.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(problem(not_ready).await["code"], "busy");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let component = "POST /api/v1/components\nContent-Type: application/wasm\n\nwasm";
    let lines = refusals(&[
        "GET /api/v1/workflows/a",
        "GET /api/v1/workflows/a?run_id=00000000-0000-0000-0000-000000000000",
        "GET /api/v1/workflows/a%2Fb/history",
        "GET /api/v1/workflows/a/result?wait=2m",
        "GET /api/v1/workflows/a/export?namespace=other",
        "POST /api/v1/workflows\nContent-Type: application/json\n\n{\"workflow_type\":\"t\"}",
        component,
    ])
    .await;
    insta::assert_snapshot!(lines, @r"
    404 not_found: there is no workflow a
    404 not_found: workflow a has no run 00000000-0000-0000-0000-000000000000
    404 not_found: there is no workflow a/b
    404 not_found: there is no workflow a
    404 not_found: there is no workflow a
    422 unknown_workflow_type: no component with workflow type t is deployed
    422 invalid_component: this is not a WebAssembly binary: it does not begin with \0asm
    ");
}

#[tokio::test]
async fn listening_beyond_loopback_needs_a_token() {
    let refused = Server::bind(settings("0.0.0.0:0", None)).await;
    assert!(matches!(refused, Err(ServeError::TokenNeeded(_))));
    let bound = Server::bind(settings("127.0.0.1:0", None)).await.expect("loopback needs none");
    assert!(bound.address().ip().is_loopback());
    let taken =
        Server::bind(ServerSettings { listen: bound.address(), ..settings("127.0.0.1:0", None) }).await;
    assert!(matches!(taken, Err(ServeError::Bind { .. })));
}

#[tokio::test]
async fn a_stopping_server_answers_and_ends() {
    let settings = settings("127.0.0.1:0", None);
    let server = Server::bind(settings).await.expect("a free port");
    let address = server.address();
    let stopping = CancellationToken::new();
    let (host, _folder) = host().await;
    let serving = tokio::spawn(server.serve(host, Router::new(), stopping.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it accepts");
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stopping.cancel();
    serving.await.expect("no panic");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
