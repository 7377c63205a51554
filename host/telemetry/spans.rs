//! Spans on their way to a collector: made whole, with ids of their own, once what they tell is on
//! disk. The queue is bounded; what does not fit is dropped and counted, and nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use everfold_core::ids::Timestamp;
use metrics::Counter;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};

use super::trace::{SpanId, TraceId};

/// Spans that wait for the collector.
const QUEUE: usize = 16_384;
/// Spans in one request.
const BATCH: usize = 512;
/// How long the last spans may take when the host stops.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// One span, before it has OpenTelemetry's shape.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) is_parent_remote: bool,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    pub(super) began: Timestamp,
    pub(super) took: Duration,
    pub(super) attributes: Vec<KeyValue>,
    /// Why it went wrong, if it did.
    pub(super) error: Option<String>,
}

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Spans {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
    scope: InstrumentationScope,
}

impl Spans {
    /// Starts sending through `exporter`; must be called within a tokio runtime if the exporter is.
    pub(super) fn new(exporter: impl SpanExporter + 'static, dropped: Counter) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counting { inner: exporter, waiting: Arc::clone(&waiting), dropped: dropped.clone() };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("everfold");
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        processor.set_resource(&resource.with_attribute(version).build());
        let scope = InstrumentationScope::builder("everfold").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { processor, waiting, dropped, scope }
    }

    /// Hands a span over, or drops it.
    pub(super) fn send(&self, trace_id: TraceId, span: Span) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.increment(1);
            return;
        }
        self.processor.on_end(self.data(trace_id, span));
    }

    /// Sends what waits, for a bounded time. Blocks.
    pub(super) fn shutdown(&self) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(SHUTDOWN)
    }

    fn data(&self, trace_id: TraceId, span: Span) -> SpanData {
        let Span { id, parent, is_parent_remote, kind, name, began, took, attributes, error } = span;
        let began = time(began);
        SpanData {
            span_context: context(trace_id, id),
            parent_span_id: parent.map_or(opentelemetry::SpanId::INVALID, span_id),
            parent_span_is_remote: is_parent_remote,
            span_kind: kind,
            name: name.into(),
            start_time: began,
            end_time: began + took,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0.max(0).unsigned_abs())
}

const fn span_id(id: SpanId) -> opentelemetry::SpanId {
    opentelemetry::SpanId::from_bytes(id.0)
}

fn context(trace_id: TraceId, id: SpanId) -> SpanContext {
    let trace_id = opentelemetry::TraceId::from_bytes(trace_id.0);
    SpanContext::new(trace_id, span_id(id), TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// Counts what leaves the queue, and what is lost on the way.
#[derive(Debug)]
struct Counting<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let sent = self.inner.export(batch).await;
        if let Err(error) = &sent {
            self.dropped.increment(count as u64);
            tracing::warn!(%error, spans = count, "spans could not be sent to the collector");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use metrics::Key;
    use metrics::Recorder as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::telemetry::metrics::METADATA;

    /// A collector that does not answer until it is told to.
    #[derive(Debug)]
    struct Stuck(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

    impl SpanExporter for Stuck {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.0.lock().expect("one exporter").recv();
            Ok(())
        }
    }

    #[test]
    fn a_collector_that_hangs_costs_spans_and_holds_nobody_up() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let dropped = recorder.register_counter(&Key::from_name("dropped"), &METADATA);
        let (free, stuck) = std::sync::mpsc::channel();
        let spans = Spans::new(Stuck(std::sync::Mutex::new(stuck)), dropped);
        let span = Span {
            id: SpanId([1; 8]),
            parent: None,
            is_parent_remote: false,
            kind: SpanKind::Internal,
            name: "x".to_owned(),
            began: Timestamp(0),
            took: Duration::ZERO,
            attributes: Vec::new(),
            error: None,
        };
        // One batch may be with the collector; the rest fills the queue.
        for _ in 0..QUEUE + BATCH + 10 {
            spans.send(TraceId([1; 16]), span.clone());
        }
        let text = recorder.handle().render();
        let count = text.lines().find_map(|line| line.strip_prefix("dropped ")).expect("it is counted");
        assert!((10..=BATCH + 10).contains(&count.parse().expect("a number")), "{count}");
        drop(free);
        spans.shutdown().expect("the queue empties");
    }
}
