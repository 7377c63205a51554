//! Ids of traces and spans. They are derived from the run, so that a host that starts again continues
//! the trace that the one before began, and nothing about a trace is kept but the run's history.
//!
//! | id | is |
//! |---|---|
//! | trace | the trace of the run's `traceparent` header, else the run's own id |
//! | span of a run, an activation, an attempt, a call | a hash of the run, the kind, the event, the attempt, the call |
//! | span of an HTTP request | random: a request belongs to one process |

use everfold_core::event::WorkflowStarted;
use everfold_core::ids::{EventId, RunId};
use everfold_core::payload::Payload;
use sha2::{Digest as _, Sha256};

/// The name of W3C's header, and of the run's header that keeps it.
pub const TRACEPARENT: &str = "traceparent";

/// A trace. Never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span. Never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Display for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A span of a trace, as `traceparent` names it (W3C Trace Context, level 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Its trace.
    pub trace_id: TraceId,
    /// Itself.
    pub span_id: SpanId,
}

impl TraceParent {
    /// Reads the header. One that is not well-formed is as good as none, as the specification has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version: [u8; 1] = lower_hex(version)?;
        // Later versions may append parts; version 0 has none, and 255 is forbidden.
        if version == [0xFF] || version == [0] && parts.next().is_some() {
            return None;
        }
        let _: [u8; 1] = lower_hex(flags)?;
        let (trace_id, span_id) = (TraceId(lower_hex(trace)?), SpanId(lower_hex(span)?));
        (trace_id.0 != [0; 16] && span_id.0 != [0; 8]).then_some(Self { trace_id, span_id })
    }

    /// The header. Nothing is sampled away.
    #[must_use]
    pub fn header(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// The header of a run.
    #[must_use]
    pub fn into_run_header(self) -> (String, Payload) {
        (TRACEPARENT.to_owned(), Payload::json_text(format!("\"{}\"", self.header()).into_bytes()))
    }
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = text.len() == 2 * N && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// The place of a run in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTrace {
    run_id: RunId,
    trace_id: TraceId,
    parent: Option<SpanId>,
    /// Each span of the run names it.
    run_span: SpanId,
}

impl RunTrace {
    /// Where a run belongs that came without a trace.
    #[must_use]
    pub fn of_run(run_id: RunId) -> Self {
        Self { run_id, trace_id: TraceId(run_id.0), parent: None, run_span: run_span(run_id) }
    }

    /// Where a run belongs by what it was started with.
    #[must_use]
    pub fn of(started: &WorkflowStarted) -> Self {
        let header = started.headers.iter().find(|(name, _)| name == TRACEPARENT);
        let parent = header
            .and_then(|(_, payload)| payload.decode::<String>().ok())
            .and_then(|text| TraceParent::parse(&text));
        match parent {
            Some(TraceParent { trace_id, span_id }) => {
                Self { trace_id, parent: Some(span_id), ..Self::of_run(started.run_id) }
            }
            None => Self::of_run(started.run_id),
        }
    }

    /// Its trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span that led to the run, if one did.
    #[must_use]
    pub const fn parent(&self) -> Option<SpanId> {
        self.parent
    }

    /// The span of the run.
    #[must_use]
    pub const fn run_span(&self) -> SpanId {
        self.run_span
    }

    /// The span of the activation that folded an event.
    #[must_use]
    pub fn activation_span(&self, event_id: EventId) -> SpanId {
        derive(self.run_id, "activation", event_id, 0, 0)
    }

    /// The span of an attempt at an activity.
    #[must_use]
    pub fn attempt_span(&self, scheduled: EventId, attempt: u32) -> SpanId {
        derive(self.run_id, "attempt", scheduled, attempt, 0)
    }

    /// The span of an attempt's call, by its number.
    #[must_use]
    pub fn call_span(&self, scheduled: EventId, attempt: u32, call: u32) -> SpanId {
        derive(self.run_id, "call", scheduled, attempt, call)
    }

    /// A span of this trace, as it is passed on.
    #[must_use]
    pub const fn at(&self, span_id: SpanId) -> TraceParent {
        TraceParent { trace_id: self.trace_id, span_id }
    }
}

fn run_span(run_id: RunId) -> SpanId {
    derive(run_id, "run", EventId(0), 0, 0)
}

fn derive(run_id: RunId, kind: &str, event_id: EventId, attempt: u32, call: u32) -> SpanId {
    let mut hash = Sha256::new();
    hash.update(run_id.0);
    hash.update(kind.as_bytes());
    hash.update(event_id.0.to_be_bytes());
    hash.update(attempt.to_be_bytes());
    hash.update(call.to_be_bytes());
    let digest = hash.finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    // All zeros means no span.
    id[7] |= u8::from(id == [0; 8]);
    SpanId(id)
}

/// Lets a run that another one begins (as its successor, or detached) go on with its trace. Headers
/// that name a trace already stay as they are.
pub fn propagate(headers: &mut Vec<(String, Payload)>, parent: &WorkflowStarted) {
    if headers.iter().any(|(name, _)| name == TRACEPARENT) {
        return;
    }
    let trace = RunTrace::of(parent);
    headers.push(trace.at(trace.run_span()).into_run_header());
}

/// The headers of a run that another one begins: those given, and the trace.
#[must_use]
pub fn propagated(headers: &[(String, Payload)], parent: &WorkflowStarted) -> Vec<(String, Payload)> {
    let mut headers = headers.to_vec();
    propagate(&mut headers, parent);
    headers
}

#[cfg(test)]
mod tests {
    use everfold_core::attributes::{Memo, SearchAttributes};
    use everfold_core::ids::{Digest, Namespace, Seed, WorkflowId};

    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn started(headers: Vec<(String, Payload)>) -> WorkflowStarted {
        WorkflowStarted {
            workflow_type: "t".to_owned(),
            workflow_id: WorkflowId("w".to_owned()),
            namespace: Namespace::default(),
            run_id: RunId([7; 16]),
            original_run_id: RunId([7; 16]),
            digest: Digest([1; 32]),
            input: Payload::default(),
            headers,
            seed: Seed([2; 32]),
            attempt: 1,
            continued_from_run_id: None,
            parent: None,
            lifetime: None,
            reset: None,
            search_attributes: SearchAttributes::default(),
            memo: Memo::default(),
        }
    }

    #[test]
    fn only_a_well_formed_traceparent_counts() {
        let parent = TraceParent::parse(HEADER).expect("it is the specification's own");
        assert_eq!(parent.header(), HEADER);
        assert_eq!(
            TraceParent::parse(&HEADER.replace("-01", "-00")),
            Some(parent),
            "unsampled is a parent too"
        );
        assert_eq!(
            TraceParent::parse(&HEADER.replace("00-0af", "cc-0af").replace("-01", "-01-more")),
            Some(parent)
        );
        for bad in [
            "",
            "00",
            &HEADER.replace("00-0af", "ff-0af"),
            &HEADER.replace("0af", "0AF"),
            &HEADER.replace("0af", "0a"),
            &HEADER.replace("b7ad", "b7az"),
            &HEADER.replace("-01", ""),
            &HEADER.replace("-01", "-1"),
            &HEADER.replace("-01", "-01-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_follow_from_the_run_alone() {
        let own = RunTrace::of(&started(Vec::new()));
        assert_eq!((own.trace_id(), own.parent()), (TraceId([7; 16]), None));
        let text = Payload::json(&HEADER).expect("JSON");
        let given = RunTrace::of(&started(vec![(TRACEPARENT.to_owned(), text)]));
        assert_eq!(given.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(given.parent().map(|id| id.to_string()), Some("b7ad6b7169203331".to_owned()));
        let bad = RunTrace::of(&started(vec![(TRACEPARENT.to_owned(), Payload::json_text(b"7".to_vec()))]));
        assert_eq!(bad, own, "a header that cannot be read is as good as none");

        let spans = [
            own.run_span(),
            own.activation_span(EventId(2)),
            own.activation_span(EventId(3)),
            own.attempt_span(EventId(2), 1),
            own.attempt_span(EventId(2), 2),
            own.call_span(EventId(2), 1, 0),
            own.call_span(EventId(2), 1, 1),
            RunTrace::of_run(RunId([8; 16])).run_span(),
        ];
        let different: std::collections::HashSet<_> = spans.iter().collect();
        assert_eq!(different.len(), spans.len());
        // Kept for ever: a newer host must continue the trace of an older one.
        assert_eq!(own.attempt_span(EventId(2), 1).to_string(), "8a2773a6fcce244f");
    }

    #[test]
    fn a_run_that_follows_keeps_the_trace() {
        let parent = started(Vec::new());
        let mut headers = Vec::new();
        propagate(&mut headers, &parent);
        let next = RunTrace::of(&WorkflowStarted { run_id: RunId([9; 16]), ..started(headers.clone()) });
        assert_eq!(next.trace_id(), TraceId([7; 16]));
        assert_eq!(next.parent(), Some(RunTrace::of(&parent).run_span()));
        let before = headers.clone();
        propagate(&mut headers, &started(Vec::new()));
        assert_eq!(headers, before, "what is there stays");
    }
}
