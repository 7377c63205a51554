//! Requests to this host: a metric, a span and a line for each, and the trace that goes on in the runs
//! that a request starts.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use everfold_core::payload::Payload;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tokio::time::Instant;

use super::trace::{SpanId, TRACEPARENT, TraceId, TraceParent};
use super::{Telemetry, spans};

/// Probes and scrapes: nobody looks for them in traces.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The part of a path that stands in no log.
const SECRET: &str = "{token}";

tokio::task_local! {
    static CURRENT: TraceParent;
}

/// Adds the present request's trace to the headers of a run that it starts, unless they name one.
#[must_use]
pub fn with_traceparent(mut headers: Vec<(String, Payload)>) -> Vec<(String, Payload)> {
    if let Ok(current) = CURRENT.try_with(|current| *current)
        && !headers.iter().any(|(name, _)| name == TRACEPARENT)
    {
        headers.push(current.into_run_header());
    }
    headers
}

/// Serves a request and tells what came of it; a layer around all routes.
pub async fn observe(State(telemetry): State<Telemetry>, request: Request, next: Next) -> Response {
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let path = match &route {
        // A token is nobody's business but its holder's.
        Some(route) if route.contains(SECRET) => route.clone(),
        Some(_) | None => request.uri().path().to_owned(),
    };
    let parent = parent(request.headers());
    let span = telemetry.request_span(parent, &path);
    let (at, began) = (telemetry.clock().now(), Instant::now());
    let response = match span.or(parent) {
        Some(current) => CURRENT.scope(current, next.run(request)).await,
        None => next.run(request).await,
    };
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let route = route.as_deref().unwrap_or("unmatched");
    telemetry.request_answered(method, route, status, took);
    tracing::debug!(
        target: "everfold::http",
        method,
        path,
        route,
        status,
        elapsed_ms = took.as_secs_f64() * 1_000.0,
        trace_id = span.or(parent).map(|current| tracing::field::display(current.trace_id)),
        "request"
    );
    if let Some(TraceParent { trace_id, span_id }) = span {
        let span = spans::Span {
            id: span_id,
            parent: parent.map(|parent| parent.span_id),
            is_parent_remote: parent.is_some(),
            kind: SpanKind::Server,
            name: format!("{method} {route}"),
            began: at,
            took,
            attributes: vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("url.path", path),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ],
            error: (status >= 500).then(|| format!("status {status}")),
        };
        telemetry.send_span(trace_id, span);
    }
    response
}

/// The span that a request comes from; more than one header, or a bad one, is as good as none.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    match (all.next(), all.next()) {
        (Some(header), None) => TraceParent::parse(header.to_str().ok()?),
        (Some(_) | None, _) => None,
    }
}

/// A method as a label: anybody may send any word.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

impl Telemetry {
    /// The span of a request that begins: of its parent's trace, else of a new one. Absent where no
    /// collector wants it.
    fn request_span(&self, parent: Option<TraceParent>, path: &str) -> Option<TraceParent> {
        if !self.is_tracing() || UNTRACED.contains(&path) {
            return None;
        }
        let random = self.clock().new_seed().0;
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&random[..16]);
        span_id.copy_from_slice(&random[16..24]);
        let trace_id = parent.map_or(TraceId(trace_id), |parent| parent.trace_id);
        Some(TraceParent { trace_id, span_id: SpanId(span_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_takes_the_trace_of_its_request_unless_it_names_one() {
        assert_eq!(with_traceparent(Vec::new()), []);
        let current = TraceParent { trace_id: TraceId([1; 16]), span_id: SpanId([2; 8]) };
        let named = || vec![(TRACEPARENT.to_owned(), Payload::json_text(b"\"own\"".to_vec()))];
        CURRENT
            .scope(current, async {
                assert_eq!(with_traceparent(Vec::new()), [current.into_run_header()]);
                assert_eq!(with_traceparent(named()), named());
            })
            .await;
    }

    #[test]
    fn a_request_with_two_parents_has_none() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a value");
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, header);
        assert!(parent(&headers).is_some());
        headers.append(TRACEPARENT, headers[TRACEPARENT].clone());
        assert_eq!(parent(&headers), None);
    }
}
