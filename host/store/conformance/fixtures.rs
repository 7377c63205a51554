//! Decisions for the tests. The store looks at no rule of the core, so that most events here are
//! one harmless input.

use std::sync::Arc;

use everfold_core::attributes::{Memo, SearchAttributes};
use everfold_core::command::{Command, WorkflowCompleted};
use everfold_core::decision::{
    BlockChange, BlockKind, Blocked, Closed, Decision, IdReusePolicy, IfOpen, InboxInput, Lease, LeaseId,
    NewRun, Outcome, Paused, PendingActivity, Reset,
};
use everfold_core::divergence::{Call, Nondeterminism};
use everfold_core::event::{Event, EventKind, Input, WorkflowCancelRequested, WorkflowStarted};
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Seed, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;

use crate::store::{Store, Verdict};

/// The component that all runs are on.
pub(crate) const DIGEST: Digest = Digest([7; 32]);

/// The key of the `n`th run; ids grow with `n`.
pub(crate) fn key(n: usize) -> RunKey {
    let mut run_id = [0; 16];
    run_id[0] = 1;
    run_id[8..].copy_from_slice(&(n as u64).to_be_bytes());
    RunKey { namespace: Namespace::default(), run_id: RunId(run_id) }
}

/// The workflow id of the `n`th run.
pub(crate) fn workflow_id(n: usize) -> WorkflowId {
    WorkflowId(format!("order-{n}"))
}

/// When the `n`th run starts.
pub(crate) fn started_at(n: usize) -> Timestamp {
    Timestamp(1_700_000_000_000 + n as i64)
}

/// An event that says its number.
pub(crate) fn event(id: EventId) -> Event {
    Event { id, time: Timestamp(1_700_000_000_000 + id.0 as i64), kind: EventKind::Input(input(id.0)) }
}

/// An input that says a number.
pub(crate) fn input(number: u64) -> Input {
    Input::WorkflowCancelRequested(WorkflowCancelRequested { reason: format!("number {number}") })
}

/// The same for the inbox.
pub(crate) fn inbox_input(number: u64) -> InboxInput {
    InboxInput { received_at: Timestamp(1_700_000_000_000 + number as i64), input: input(number) }
}

/// The decision that creates the `n`th run, with one event.
pub(crate) fn start(n: usize) -> Decision {
    let key = key(n);
    let started = WorkflowStarted {
        workflow_type: "order-saga".to_owned(),
        workflow_id: workflow_id(n),
        namespace: key.namespace.clone(),
        run_id: key.run_id,
        original_run_id: key.run_id,
        digest: DIGEST,
        input: Payload::json_text(br#"{"order":1}"#.to_vec()),
        headers: Vec::new(),
        seed: Seed([3; 32]),
        attempt: 1,
        continued_from_run_id: None,
        parent: None,
        lifetime: None,
        reset: None,
        search_attributes: SearchAttributes::default(),
        memo: Memo::default(),
    };
    let kind = EventKind::Input(Input::WorkflowStarted(Arc::new(started)));
    let new_run = NewRun {
        workflow_id: workflow_id(n),
        workflow_type: "order-saga".to_owned(),
        digest: DIGEST,
        started_at: started_at(n),
        request_id: None,
        id_reuse: IdReusePolicy::default(),
        if_open: IfOpen::default(),
        parent: None,
        start_at: None,
        details: None,
        inherits: None,
    };
    Decision {
        new_run: Some(new_run),
        events: vec![Event { id: EventId::FIRST, time: started_at(n), kind }],
        ..Decision::empty(key, EventId::FIRST, 0)
    }
}

/// The same under another run's workflow id.
pub(crate) fn start_as(n: usize, of: usize) -> Decision {
    with_new_run(start(n), |new_run| new_run.workflow_id = workflow_id(of))
}

/// The same under a request id.
pub(crate) fn start_by_request(n: usize, of: usize, request_id: &str) -> Decision {
    with_new_run(start_as(n, of), |new_run| new_run.request_id = Some(request_id.to_owned()))
}

/// The same on another component, and of another type.
pub(crate) fn start_on(n: usize, workflow_type: &str, digest: Digest) -> Decision {
    with_new_run(start(n), |new_run| {
        workflow_type.clone_into(&mut new_run.workflow_type);
        new_run.digest = digest;
    })
}

fn with_new_run(mut decision: Decision, change: impl FnOnce(&mut NewRun)) -> Decision {
    change(decision.new_run.as_mut().expect("it creates a run"));
    decision
}

/// A step of the `n`th run that stands at `expected` and appends `events` events.
pub(crate) fn advance(n: usize, expected: EventId, events: u64) -> Decision {
    let events = (0..events).map(|i| event(EventId(expected.0 + i))).collect();
    Decision { events, ..Decision::empty(key(n), expected, 0) }
}

/// A step without events.
pub(crate) fn stand(n: usize, expected: EventId) -> Decision {
    advance(n, expected, 0)
}

/// The step that closes the `n`th run with a result.
pub(crate) fn close(n: usize, expected: EventId) -> Decision {
    let result = Payload::json_text(b"true".to_vec());
    let at = Timestamp(1_800_000_000_000);
    let command = Command::WorkflowCompleted(WorkflowCompleted { result: result.clone() });
    Decision {
        events: vec![Event { id: expected, time: at, kind: EventKind::Command(command) }],
        closed: Some(Closed { status: RunStatus::Completed, at, outcome: Outcome::Result(result) }),
        ..Decision::empty(key(n), expected, 0)
    }
}

/// A fault of a run's code.
pub(crate) fn blocked(event_id: EventId, retries: u32) -> Blocked {
    Blocked {
        event_id,
        kind: BlockKind::Trap,
        reason: "unreachable executed".to_owned(),
        backtrace: "0: order_saga::run\n1: main".to_owned(),
        divergence: Some(Box::new(Nondeterminism {
            event_id,
            expected: Call { event_type: Some("ActivityScheduled".to_owned()), name: "pay".to_owned() },
            actual: Call { event_type: None, name: String::new() },
            fields: Vec::new(),
            backtrace: String::new(),
        })),
        since: Timestamp(1_700_000_000_000),
        retries,
        retry_at: Timestamp(1_700_000_001_000),
    }
}

/// A step that blocks the `n`th run.
pub(crate) fn block(n: usize, expected: EventId, retries: u32) -> Decision {
    Decision { blocked: BlockChange::Block(blocked(expected, retries)), ..stand(n, expected) }
}

/// An activity that failed `attempt - 1` times.
pub(crate) fn attempt(scheduled_event_id: EventId, attempt: u32) -> PendingActivity {
    PendingActivity {
        scheduled_event_id,
        activity_type: "process-payment".to_owned(),
        attempt,
        next_attempt_at: Timestamp(1_700_000_000_500),
        last_failure: Some(
            Failure::application("Declined", "no money").caused_by(Failure::application("", "")),
        ),
        last_failure_at: Some(Timestamp(1_700_000_000_400)),
        heartbeat_details: Some(Payload { metadata: Vec::new(), data: vec![0, 255] }),
        last_heartbeat_at: Some(Timestamp(7)),
        lease: Some(Lease { id: LeaseId([5; 16]), worker: Some("w-1".to_owned()), since: Timestamp(6) }),
        paused: Some(Paused { since: Timestamp(8), attempt_under_way: true }),
        reset: Some(Reset { at: Timestamp(9), is_due: false }),
    }
}

/// Commits one decision.
pub(crate) async fn commit(store: &impl Store, decision: Decision) -> Verdict {
    let mut verdicts = commit_all(store, vec![decision]).await;
    verdicts.pop().expect("one decision, one verdict")
}

/// Commits decisions that must all arrive.
pub(crate) async fn commit_each(store: &impl Store, decisions: Vec<Decision>) {
    for verdict in commit_all(store, decisions).await {
        assert_eq!(verdict, Verdict::COMMITTED);
    }
}

/// Commits a batch.
pub(crate) async fn commit_all(store: &impl Store, decisions: Vec<Decision>) -> Vec<Verdict> {
    let asked = decisions.len();
    let verdicts = store.commit(Arc::new(decisions)).await.expect("the transaction works");
    assert_eq!(verdicts.len(), asked, "a verdict for each decision");
    verdicts
}
