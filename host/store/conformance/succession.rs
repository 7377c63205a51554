//! Runs that a step begins, requests that are done once, and the list of runs.

use std::sync::Arc;

use everfold_core::command::{Command, VersionChoice, WorkflowContinuedAsNew};
use everfold_core::decision::{
    Closed, Decision, IdReusePolicy, IfOpen, InboxInput, Kinship, NewRun, NextRun, Operation, Outcome,
    Request,
};
use everfold_core::event::{Event, EventKind, Input, SignalReceived};
use everfold_core::ids::{EventId, Namespace, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;

use super::Backend;
use super::fixtures::{
    DIGEST, advance, close, commit, commit_each, inbox_input, key, stand, start, start_by_request,
    started_at, workflow_id,
};
use crate::store::{Store, Verdict};

/// A signal that says a number.
fn signal(number: u64) -> InboxInput {
    let input = Payload::json(&number).unwrap();
    let signal = SignalReceived { name: "news".to_owned(), input, headers: Vec::new() };
    InboxInput { input: Input::SignalReceived(Arc::new(signal)), ..inbox_input(number) }
}

/// What it is not worth to hand over.
fn timer_news(number: u64) -> InboxInput {
    let fired = everfold_core::event::TimerFired { started_event_id: EventId(number) };
    InboxInput { input: Input::TimerFired(fired), ..inbox_input(number) }
}

pub(super) fn next_run(n: usize, of: usize, inputs: Vec<InboxInput>, kinship: Kinship) -> NextRun {
    let new_run = NewRun {
        workflow_id: workflow_id(of),
        workflow_type: "order-tracking".to_owned(),
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
    NextRun { run_id: key(n).run_id, new_run, inputs, kinship }
}

/// The step by which run 1 goes on as run 2.
pub(super) fn continue_as_new(expected: u64, carried: Vec<InboxInput>) -> Decision {
    let at = Timestamp(1_800_000_000_000);
    let next = WorkflowContinuedAsNew {
        new_run_id: key(2).run_id,
        workflow_type: "order-tracking".to_owned(),
        input: Payload::default(),
        headers: Vec::new(),
        version: VersionChoice::FollowRoute,
    };
    let kind = EventKind::Command(Command::WorkflowContinuedAsNew(Box::new(next)));
    let outcome = Outcome::ContinuedAs(key(2).run_id);
    Decision {
        events: vec![Event { id: EventId(expected), time: at, kind }],
        closed: Some(Closed { status: RunStatus::ContinuedAsNew, at, outcome }),
        next_runs: vec![next_run(2, 1, carried, Kinship::Successor)],
        ..Decision::empty(key(1), EventId(expected), 0)
    }
}

async fn inbox(store: &impl Store, n: usize) -> Vec<InboxInput> {
    store.inbox(&key(n)).await.unwrap().inputs.into_iter().map(|(_, input)| input).collect()
}

pub(crate) async fn a_successor_begins_with_what_waited(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let put = |inbox_put| Decision { inbox_put, ..stand(1, EventId(2)) };
    commit_each(&store, vec![start(1), put(vec![signal(1), timer_news(9), signal(2), inbox_input(3)])]).await;
    let (first, _) = store.inbox(&key(1)).await.unwrap().inputs[0].clone();

    // The step folded the first signal of the inbox; another one was unread in the history.
    let mut step = continue_as_new(2, vec![inbox_input(100), signal(101)]);
    step.inbox_taken = vec![first];
    commit_each(&store, vec![step]).await;

    assert_eq!(inbox(&store, 1).await, []);
    assert_eq!(inbox(&store, 2).await, [inbox_input(100), signal(101), signal(2), inbox_input(3)]);
    let open = store.latest_run(&Namespace::default(), &workflow_id(1)).await.unwrap().expect("it is open");
    assert_eq!((open.key, open.status, open.next_event_id), (key(2), RunStatus::Running, EventId::FIRST));
    assert_eq!(open.workflow_type, "order-tracking");
    assert_eq!(store.needing_attention(None, 10).await.unwrap(), [key(2)]);
    let closed = store.run(&key(1)).await.unwrap().expect("it is kept");
    assert_eq!(closed.outcome, Some(Outcome::ContinuedAs(key(2).run_id)));

    // Its inbox counts as any other's.
    let taken = store.inbox(&key(2)).await.unwrap().inputs.into_iter().map(|(seq, _)| seq).collect();
    let step = Decision { inbox_taken: taken, ..advance(2, EventId(1), 1) };
    commit_each(&store, vec![step]).await;
    assert_eq!(store.needing_attention(None, 10).await.unwrap(), []);
}

pub(crate) async fn a_fenced_step_begins_no_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    assert_eq!(commit(&store, continue_as_new(7, Vec::new())).await, Verdict::Fenced);
    assert_eq!(store.run(&key(2)).await.unwrap(), None);
}

pub(crate) async fn a_detached_run_begins_unless_its_workflow_id_is_taken(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let step = |expected, n| Decision {
        next_runs: vec![next_run(n, 5, vec![inbox_input(n as u64)], Kinship::Detached)],
        ..advance(1, EventId(expected), 1)
    };
    commit_each(&store, vec![start(1), step(2, 2), step(3, 3)]).await;
    assert_eq!(inbox(&store, 2).await, [inbox_input(2)]);
    assert_eq!(store.run(&key(3)).await.unwrap(), None);
    let row = store.run(&key(1)).await.unwrap().expect("it goes on");
    assert_eq!((row.status, row.next_event_id), (RunStatus::Running, EventId(4)));
}

pub(crate) async fn a_request_is_done_once_for_each_operation(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let request = |operation| Some(Request { operation, request_id: "r".to_owned() });
    let step =
        |expected, operation| Decision { request: request(operation), ..advance(1, EventId(expected), 1) };
    commit_each(&store, vec![start_by_request(1, 1, "r"), step(2, Operation::Signal)]).await;
    let again = commit(&store, step(3, Operation::Signal)).await;
    assert_eq!(again, Verdict::SameRequest(key(1).run_id));
    commit_each(&store, vec![step(3, Operation::Cancel)]).await;

    let (namespace, workflow) = (Namespace::default(), workflow_id(1));
    let done = |operation| {
        let request = Request { operation, request_id: "r".to_owned() };
        let (store, namespace, workflow) = (&store, &namespace, &workflow);
        async move { store.request(namespace, workflow, &request).await.unwrap() }
    };
    assert_eq!(done(Operation::Signal).await, Some(key(1).run_id));
    assert_eq!(done(Operation::Start).await, Some(key(1).run_id));
    assert_eq!(done(Operation::Terminate).await, None);
}

/// A start of the `n`th run under the first one's workflow id.
fn again(n: usize, request_id: &str, change: impl FnOnce(&mut NewRun)) -> Decision {
    let mut start = start_by_request(n, 1, request_id);
    change(start.new_run.as_mut().unwrap());
    start
}

pub(crate) async fn a_closed_runs_id_is_used_again_or_not(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let reuse = |n, policy| again(n, &format!("r-{n}"), |new_run| new_run.id_reuse = policy);
    let (reject, failed_only) = (IdReusePolicy::RejectDuplicate, IdReusePolicy::AllowDuplicateFailedOnly);
    assert_eq!(commit(&store, reuse(1, reject)).await, Verdict::COMMITTED, "nobody had it");
    assert_eq!(commit(&store, reuse(2, reject)).await, Verdict::AlreadyRunning(key(1).run_id));
    commit_each(&store, vec![close(1, EventId(2))]).await;
    for policy in [reject, failed_only] {
        assert_eq!(commit(&store, reuse(2, policy)).await, Verdict::IdTaken(key(1).run_id));
    }
    assert_eq!(commit(&store, reuse(2, IdReusePolicy::AllowDuplicate)).await, Verdict::COMMITTED);
    let mut failed = close(2, EventId(2));
    failed.closed.as_mut().unwrap().status = RunStatus::Failed;
    commit_each(&store, vec![failed]).await;
    assert_eq!(commit(&store, reuse(3, reject)).await, Verdict::IdTaken(key(2).run_id));
    assert_eq!(commit(&store, reuse(3, failed_only)).await, Verdict::COMMITTED);
}

pub(crate) async fn a_start_that_uses_the_open_run_is_remembered(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let using = |n| again(n, "r", |new_run| new_run.if_open = IfOpen::Used);
    assert_eq!(commit(&store, using(2)).await, Verdict::AlreadyRunning(key(1).run_id));
    commit_each(&store, vec![close(1, EventId(2))]).await;
    assert_eq!(commit(&store, using(3)).await, Verdict::SameRequest(key(1).run_id));
}

pub(crate) async fn a_start_that_was_done_by_a_signal_begins_nothing(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let request = Some(Request { operation: Operation::Signal, request_id: "r".to_owned() });
    commit_each(&store, vec![Decision { request, ..advance(1, EventId(2), 1) }, close(1, EventId(3))]).await;
    let signalling = again(2, "r", |new_run| new_run.if_open = IfOpen::Signalled);
    assert_eq!(commit(&store, signalling).await, Verdict::SameRequest(key(1).run_id));
    assert_eq!(
        commit(&store, again(2, "r", |_| {})).await,
        Verdict::COMMITTED,
        "another one is another request"
    );
}
