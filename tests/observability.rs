//! One order seen in its log lines, its trace and the metrics that moved; the trace goes on over
//! `kill -9`; and a replay adds nothing to any of them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use everfold::activity::Registry;
use everfold::runner::api::SignalRequest;
use everfold::telemetry::WORKFLOW_TARGET;
use everfold_core::payload::Payload;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use support::server::{Placed, Server, order};
use support::{PATIENCE, TestHost, run};
use tokio::sync::Notify;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// A collector of traces: takes OTLP over HTTP and keeps all spans.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    came: Arc<Notify>,
}

impl Collector {
    /// Listens; gives its address too.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(collect)).with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, address)
    }

    /// The spans of a trace, once there are all that `complete` wants.
    async fn trace(&self, trace_id: &str, complete: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let waiting = async {
            loop {
                let came = self.came.notified();
                let spans = self.of(trace_id);
                if complete(&spans) {
                    return spans;
                }
                came.await;
            }
        };
        let Ok(spans) = tokio::time::timeout(PATIENCE, waiting).await else {
            panic!("the trace is not complete: {:?}", tree(&self.of(trace_id)));
        };
        spans
    }

    fn of(&self, trace_id: &str) -> Vec<Span> {
        self.spans.lock().iter().filter(|span| hex::encode(&span.trace_id) == trace_id).cloned().collect()
    }
}

async fn collect(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        for attribute in resource.resource.unwrap_or_default().attributes {
            if attribute.key == "service.name"
                && let Some(Any::StringValue(name)) = attribute.value.and_then(|value| value.value)
            {
                collector.services.lock().push(name);
            }
        }
        for scope in resource.scope_spans {
            collector.spans.lock().extend(scope.spans);
        }
    }
    collector.came.notify_waiters();
    ExportTraceServiceResponse::default().encode_to_vec()
}

/// Each span as `parent > name`, sorted; where the parent is not in the trace, as `(its id) > name`.
fn tree(spans: &[Span]) -> Vec<String> {
    let names: BTreeMap<&[u8], &str> =
        spans.iter().map(|span| (&span.span_id[..], span.name.as_str())).collect();
    let parent = |span: &Span| match names.get(&span.parent_span_id[..]) {
        Some(name) => (*name).to_owned(),
        None => format!("({})", hex::encode(&span.parent_span_id)),
    };
    let mut lines: Vec<_> = spans.iter().map(|span| format!("{} > {}", parent(span), span.name)).collect();
    lines.sort();
    lines
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Any::StringValue(text) => Some(text),
        Any::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

/// A server whose log is JSON and whose traces go to `collector`.
async fn serve(folder: &std::path::Path, collector: &str, metrics: &str) -> Server {
    let environment = [
        ("EVERFOLD_LOG_FORMAT", "json"),
        ("EVERFOLD_LOG", "info,everfold=debug"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("EVERFOLD_METRICS_LISTEN", metrics),
    ];
    Server::start_with(&folder.join("data"), &environment).await
}

async fn place(server: &Server, order: &Value, traceparent: &str) -> Placed {
    let request = server.http.post(server.url("/orders")).header("traceparent", traceparent).json(order);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 201);
    Placed::from_json(&response.json().await.unwrap())
}

/// All samples, by name and labels.
async fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let response = server.http.get(server.url("/metrics")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    samples(&response.text().await.unwrap())
}

fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().unwrap()))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum of the samples of a name whose labels contain all of `labels`.
fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let is_meant = |key: &&String| {
        let (own, all) = key.split_once('{').unwrap_or((key.as_str(), ""));
        own == name && labels.iter().all(|label| all.contains(label))
    };
    samples.iter().filter(|(key, _)| is_meant(key)).map(|(_, value)| value).sum()
}

/// The lines about a run.
fn lines(server: &Server, workflow_id: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
    server.log().lines().filter_map(parse).filter(|line| line["workflow_id"] == workflow_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_measures_itself() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let placed = server.order(&order("tok_ok", "10115")).await;
    assert_eq!(server.end(&placed.workflow_id).await["status"], "completed");
    let samples = metrics(&server).await;
    let (saga, payment) = ("workflow_type=\"order-saga\"", "activity_type=\"process-payment\"");
    let euros = "currency=\"EUR\"";
    assert_eq!(sum(&samples, "order_amount_cents_total", &[saga, euros]), 2_500.0, "{samples:#?}");
    assert_eq!(sum(&samples, "order_payments_cents_total", &[payment, euros]), 2_500.0);
    assert_eq!(sum(&samples, "order_processing_seconds_count", &[saga, "outcome=\"shipped\""]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_order_is_seen_in_its_lines_its_trace_and_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, address) = Collector::start().await;
    let server = serve(folder.path(), &address, "127.0.0.1:0").await;
    let before = metrics(&server).await;

    let (trace_id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace_id}-{parent}-01");
    let placed = place(&server, &order("tok_declined", "10115"), &traceparent).await;
    assert_eq!(server.end(&placed.workflow_id).await["status"], "failed");

    // The trace: the run is told last.
    let spans = collector
        .trace(trace_id, |spans| {
            !named(spans, "order-saga").is_empty() && !named(spans, "POST /orders").is_empty()
        })
        .await;
    let expected = [
        format!("({parent}) > POST /orders"),
        "POST /orders > order-saga".to_owned(),
        "order-saga > ActivityCompleted".to_owned(),
        "order-saga > ActivityCompleted".to_owned(),
        "order-saga > ActivityFailed".to_owned(),
        "order-saga > WorkflowStarted".to_owned(),
        "order-saga > process-payment".to_owned(),
        "order-saga > release-inventory-reservation".to_owned(),
        "order-saga > reserve-inventory".to_owned(),
        "process-payment > POST /charges".to_owned(),
    ];
    let shown = tree(&spans);
    assert_eq!(shown, expected);
    let (http, run) = (named(&spans, "POST /orders")[0], named(&spans, "order-saga")[0]);
    assert_eq!(http.kind(), SpanKind::Server);
    assert_eq!(attribute(http, "http.response.status_code").as_deref(), Some("201"));
    assert_eq!(attribute(run, "everfold.workflow_id"), Some(placed.workflow_id.clone()));
    assert_eq!(run.status.as_ref().unwrap().code(), StatusCode::Error);
    let charge = named(&spans, "POST /charges")[0];
    assert_eq!(
        (charge.kind(), charge.status.as_ref().unwrap().code()),
        (SpanKind::Client, StatusCode::Error)
    );
    let attempt = named(&spans, "process-payment")[0];
    assert_eq!(attribute(attempt, "everfold.attempt").as_deref(), Some("1"));
    assert_eq!(attribute(attempt, "everfold.outcome").as_deref(), Some("failed"));
    assert!(collector.services.lock().iter().all(|name| name == "everfold"));
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own: {shown:#?}");

    // The lines: all with the run's names and one trace.
    let lines = lines(&server, &placed.workflow_id);
    let run_id = attribute(run, "everfold.run_id").unwrap();
    for line in &lines {
        assert_eq!(
            (line["run_id"].as_str(), line["trace_id"].as_str()),
            (Some(&*run_id), Some(trace_id)),
            "{line}"
        );
        assert_eq!(line["workflow_type"], "order-saga", "{line}");
        assert_eq!(line["digest"].as_str().map(str::len), Some(12), "{line}");
    }
    let said = |message: &str| {
        let found: Vec<_> = lines.iter().filter(|line| line["message"] == message).collect();
        assert!(!found.is_empty(), "`{message}` is not among {lines:#?}");
        found
    };
    said("a run started");
    let accepted = said("order accepted")[0];
    assert_eq!(accepted["target"], WORKFLOW_TARGET);
    assert_eq!(accepted["fields"]["amount_cents"], "2500", "{accepted}");
    let refused = said("an activity closed badly")[0];
    assert_eq!(
        (refused["activity"].as_str(), refused["attempt"].as_u64()),
        (Some("process-payment"), Some(1))
    );
    assert_eq!(refused["level"], "WARN");
    assert!(refused["failure"].as_str().is_some_and(|failure| failure.contains("declined")), "{refused}");
    assert_eq!(said("a run closed badly")[0]["status"], "failed");

    // The metrics that moved, by how much.
    let after = metrics(&server).await;
    let moved = |name: &str, labels: &[&str]| sum(&after, name, labels) - sum(&before, name, labels);
    let saga = "workflow_type=\"order-saga\"";
    assert_eq!(moved("everfold_runs_started_total", &[saga]), 1.0);
    assert_eq!(moved("everfold_runs_closed_total", &[saga, "outcome=\"failed\""]), 1.0);
    let payment = "activity_type=\"process-payment\"";
    assert_eq!(moved("everfold_activity_attempts_total", &[payment, "outcome=\"failed\""]), 1.0);
    assert_eq!(moved("everfold_activities_closed_total", &[payment, "outcome=\"failed\""]), 1.0);
    assert_eq!(moved("everfold_activity_attempt_duration_seconds_count", &[payment]), 1.0);
    assert_eq!(moved("everfold_activity_schedule_to_start_seconds_count", &[payment]), 1.0);
    assert_eq!(
        moved(
            "everfold_activities_closed_total",
            &["activity_type=\"release-inventory-reservation\"", "completed"]
        ),
        1.0
    );
    assert_eq!(moved("saga_compensations_total", &[saga]), 1.0, "{after:#?}");
    assert_eq!(
        moved("everfold_http_requests_total", &["route=\"/orders\"", "method=\"POST\"", "status=\"201\""]),
        1.0
    );
    assert_eq!(moved("everfold_commit_decisions_sum", &[]), 4.0);
    assert_eq!(moved("everfold_activation_duration_seconds_count", &[]), 4.0);
    assert_eq!(moved("everfold_spans_dropped_total", &[]), 0.0);
    assert!(
        !after.keys().any(|key| key.contains(&placed.workflow_id) || key.contains(&run_id)),
        "ids are no labels"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_over_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, address) = Collector::start().await;
    let mut server = serve(folder.path(), &address, "127.0.0.1:0").await;
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    // Paying takes a second, in which the host dies.
    let placed = place(&server, &order("tok_slow_1", "10115"), &traceparent).await;
    let begun = collector
        .trace(trace_id, |spans| {
            !named(spans, "reserve-inventory").is_empty() && !named(spans, "POST /orders").is_empty()
        })
        .await;
    server.kill();
    server.restart().await;
    assert_eq!(server.end(&placed.workflow_id).await["status"], "completed");
    let spans = collector.trace(trace_id, |spans| !named(spans, "order-saga").is_empty()).await;
    let http = named(&begun, "POST /orders")[0];
    let run = named(&spans, "order-saga")[0];
    assert_eq!(run.parent_span_id, http.span_id, "the parent was told by the process before");
    assert!(run.start_time_unix_nano <= named(&begun, "WorkflowStarted")[0].start_time_unix_nano);
    let reserve = named(&begun, "reserve-inventory")[0];
    let shipping = named(&spans, "arrange-shipping")[0];
    assert_eq!(reserve.parent_span_id, run.span_id, "told before the kill");
    assert_eq!(shipping.parent_span_id, run.span_id, "told after it");
    // The attempt under way was lost with its process and is told as that.
    let paying = named(&spans, "process-payment");
    let attempts: Vec<_> = paying
        .iter()
        .map(|span| {
            (attribute(span, "everfold.attempt").unwrap(), attribute(span, "everfold.outcome").unwrap())
        })
        .collect();
    assert_eq!(
        attempts,
        [("1".to_owned(), "timed_out_start_to_close".to_owned()), ("2".to_owned(), "completed".to_owned())]
    );
    assert!(lines(&server, &placed.workflow_id).iter().all(|line| line["trace_id"] == trace_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_a_port_of_their_own() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = Collector::start().await;
    let server = serve(folder.path(), &address, &format!("127.0.0.1:{port}")).await;
    let get =
        async |path: &str| server.http.get(format!("http://127.0.0.1:{port}{path}")).send().await.unwrap();
    let response = get("/metrics").await;
    assert_eq!(response.status(), 200);
    let own = samples(&response.text().await.unwrap());
    assert_eq!(sum(&own, "everfold_build_info", &["version="]), 1.0);
    assert_eq!(get("/api/v1/components").await.status(), 404);
}

/// What workflows said in this process.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Said {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == WORKFLOW_TARGET {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().push(message.0);
        }
    }
}

struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_a_thousand_events_says_and_measures_nothing() {
    let said = Said::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(said.clone())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::open(folder.path(), Registry::default()).await;
    host.deploy("samples").await;
    let steps = 500;
    host.start("talkative", "t-1", &json!({ "steps": steps })).await;
    let last = |events: usize| everfold_core::ids::EventId(events as u64);
    let page = host.host.history(&run("t-1"), last(2 * steps), 1, PATIENCE).await.unwrap();
    assert_eq!(page.events.len(), 1, "the last step's end is event {}", 2 * steps + 1);
    let told = samples(&host.host.metrics().await);
    let of_talkative = ["workflow_type=\"talkative\""];
    // The line and the metric come right behind the commit that the history shows.
    let in_time = async {
        while said.0.lock().len() < steps {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, in_time).await.unwrap();
    assert_eq!(sum(&told, "everfold_replayed_events_total", &of_talkative), 0.0);
    host.stop().await;
    assert_eq!(std::mem::take(&mut *said.0.lock()).len(), steps);

    // Another host: its counters begin at zero. The signal makes it fold all 1,001 events again.
    let host = TestHost::open(folder.path(), Registry::default()).await;
    let go = SignalRequest {
        run: run("t-1"),
        name: "go".to_owned(),
        input: Payload::json(&()).unwrap(),
        headers: Vec::new(),
        request_id: None,
    };
    host.host.signal(go).await.unwrap();
    host.end("t-1").await;
    // Telling follows the answer: a host that has stopped has told all.
    let telemetry = host.host.telemetry().clone();
    host.stop().await;
    let told = samples(&telemetry.render());
    assert!(sum(&told, "everfold_replayed_events_total", &of_talkative) >= 1_000.0, "{told:#?}");
    assert_eq!(sum(&told, "everfold_replays_total", &of_talkative), 1.0);
    assert_eq!(*said.0.lock(), ["all is said"], "only the new activation speaks");
    assert_eq!(sum(&told, "sample_steps_total", &of_talkative), 0.0, "{told:#?}");
    assert_eq!(sum(&told, "sample_steps_count", &of_talkative), 1.0, "{told:#?}");
    assert_eq!(sum(&told, "everfold_runs_started_total", &of_talkative), 0.0);
    assert_eq!(sum(&told, "everfold_signals_received_total", &of_talkative), 1.0);
    assert_eq!(sum(&told, "everfold_activation_duration_seconds_count", &[]), 1.0);
}
