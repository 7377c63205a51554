//! Resets: the new run has everything that it takes over when it is there, and the old one is closed in the same transaction.

use everfold_core::command::{Command, ParentClosePolicy, WorkflowCompleted};
use everfold_core::decision::{
    AwaitedChild, Closed, Decision, Effects, InboxInput, Inheritance, Kinship, Operation, Outcome, Request,
};
use everfold_core::event::{
    ChildWorkflowStarted, Event, EventKind, Input, Note, RunReset, SignalReceived, TimerFired,
};
use everfold_core::ids::{EventId, Namespace, RunId, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;

use super::Backend;
use super::children::child;
use super::fixtures::{
    advance, attempt, close, commit, commit_each, event, inbox_input, key, stand, start, workflow_id,
};
use super::succession::next_run;
use crate::store::{Store, Verdict};

const AT: Timestamp = Timestamp(1_800_000_000_000);
/// The boundary of all resets here.
const TO: EventId = EventId(3);

fn signal(n: u8) -> InboxInput {
    let signal =
        SignalReceived { name: "add".to_owned(), input: Payload::json(&n).unwrap(), headers: Vec::new() };
    InboxInput { received_at: AT, input: Input::SignalReceived(signal.into()) }
}

fn child_started(command: u64, n: usize) -> Input {
    let (command_event_id, run_id) = (EventId(command), key(n).run_id);
    Input::ChildWorkflowStarted(ChildWorkflowStarted { command_event_id, run_id })
}

/// What run 2 takes over from run 1: three events and a note.
fn inheritance(children: Vec<AwaitedChild>) -> Box<Inheritance> {
    let from = key(1).run_id;
    let note = RunReset { from_run_id: from, to_event_id: TO, reason: String::new() };
    let mut events = start(2).events;
    events.extend([event(EventId(2)), event(EventId(3))]);
    events.push(Event { id: EventId(4), time: AT, kind: EventKind::Note(Note::RunReset(note)) });
    let effects = Effects { timers_started: vec![(EventId(2), Timestamp(77))], ..Effects::default() };
    Box::new(Inheritance {
        from,
        to: TO,
        events,
        effects,
        open_activities: 1,
        attempts: vec![attempt(EventId(3), 1)],
        children,
        requests: Vec::new(),
        begins_at: AT,
    })
}

/// The step that resets the open run 1, which stands behind its fifth event, as run 2.
fn of_open(children: Vec<AwaitedChild>) -> Decision {
    let mut next = next_run(2, 1, vec![signal(1)], Kinship::Reset);
    next.new_run.inherits = Some(inheritance(children));
    let mut step = close(1, EventId(6));
    step.closed =
        Some(Closed { status: RunStatus::Terminated, at: AT, outcome: Outcome::ContinuedAs(key(2).run_id) });
    Decision { next_runs: vec![next], ..step }
}

/// The step that begins run 2 in place of the closed run 1.
fn of_closed(children: Vec<AwaitedChild>) -> Decision {
    let mut next = next_run(2, 1, Vec::new(), Kinship::Reset).new_run;
    next.inherits = Some(inheritance(children));
    Decision { new_run: Some(next), inbox_put: vec![signal(1)], ..Decision::empty(key(2), EventId::FIRST, 1) }
}

fn awaited(command: u64, n: usize) -> AwaitedChild {
    AwaitedChild {
        command_event_id: EventId(command),
        workflow_type: "order-tracking".to_owned(),
        workflow_id: workflow_id(n),
        run_id: key(n).run_id,
    }
}

async fn inbox(store: &impl Store, n: usize) -> Vec<Input> {
    store.inbox(&key(n)).await.unwrap().inputs.into_iter().map(|(_, waiting)| waiting.input).collect()
}

async fn parent(store: &impl Store, n: usize) -> RunId {
    store.run(&key(n)).await.unwrap().unwrap().parent.expect("it is a child").run_id
}

pub(crate) async fn an_open_run_closes_and_the_new_one_has_what_it_takes_over(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let fired = TimerFired { started_event_id: EventId(2) };
    let waiting = vec![
        signal(2),
        // Its timer is the new run's.
        InboxInput { received_at: AT, input: Input::TimerFired(fired) },
        InboxInput { received_at: AT, input: child_started(3, 8) },
        // Begun behind the boundary.
        InboxInput { received_at: AT, input: child_started(4, 9) },
        inbox_input(3),
    ];
    let step = Decision { inbox_put: waiting, ..advance(1, EventId(2), 4) };
    commit_each(&store, vec![start(1), step]).await;
    let reset = of_open(Vec::new());
    let inherits = reset.next_runs[0].new_run.inherits.clone().unwrap();
    assert_eq!(commit(&store, reset).await, Verdict::COMMITTED);

    let closed = store.run(&key(1)).await.unwrap().unwrap();
    let outcome = Some(Outcome::ContinuedAs(key(2).run_id));
    assert_eq!((closed.status, closed.outcome), (RunStatus::Terminated, outcome));
    let open = store.open_run(&key(2)).await.unwrap().expect("it is open");
    assert_eq!((open.row.next_event_id, open.row.open_activities), (EventId(5), 1));
    assert_eq!((&open.history, &open.attempts), (&inherits.events, &inherits.attempts));
    let timers = store.timers_due(Timestamp::MAX, None, 10).await.unwrap();
    assert_eq!(
        timers.iter().map(|row| (&row.key, row.fire_at)).collect::<Vec<_>>(),
        [(&key(2), Timestamp(77))]
    );
    let handed_over = [signal(1).input, signal(2).input, child_started(3, 8), inbox_input(3).input];
    assert_eq!(inbox(&store, 2).await, handed_over);
    assert_eq!(inbox(&store, 1).await, []);
    // It is a run as any other.
    assert_eq!(commit(&store, advance(2, EventId(5), 1)).await, Verdict::COMMITTED);
}

pub(crate) async fn a_fenced_reset_begins_nothing(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    assert_eq!(commit(&store, of_open(Vec::new())).await, Verdict::Fenced);
    assert_eq!(commit(&store, of_closed(Vec::new())).await, Verdict::AlreadyRunning(key(1).run_id));
    assert_eq!(store.run(&key(2)).await.unwrap(), None);
    assert_eq!(store.timers_due(Timestamp::MAX, None, 10).await.unwrap(), []);
}

pub(crate) async fn a_long_history_is_taken_over_whole(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), close(1, EventId(2))]).await;
    let mut reset = of_closed(Vec::new());
    let inherits = reset.new_run.as_mut().unwrap().inherits.as_mut().unwrap();
    inherits.events.extend((5..10_000).map(|id| event(EventId(id))));
    let events = inherits.events.clone();
    commit_each(&store, vec![reset]).await;
    let open = store.open_run(&key(2)).await.unwrap().expect("it is open");
    assert_eq!(open.row.next_event_id, EventId(10_000));
    assert!(open.history == events);
    let page = store.history(&key(2), EventId(5_000), 100).await.unwrap();
    assert_eq!(page.first().map(|event| event.id), Some(EventId(5_001)));
    assert!(page.len() < 300, "it is read in pages: {}", page.len());
}

pub(crate) async fn children_of_before_the_boundary_go_over_and_later_ones_are_left(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let next_runs = vec![
        child(3, 3, ParentClosePolicy::Terminate),
        child(4, 4, ParentClosePolicy::Terminate),
        child(5, 2, ParentClosePolicy::Terminate),
    ];
    commit_each(&store, vec![start(1)]).await;
    let begun = Decision { next_runs, ..advance(1, EventId(2), 4) };
    assert!(matches!(commit(&store, begun).await, Verdict::Committed { .. }));
    commit(&store, close(5, EventId::FIRST)).await;
    let reached = vec![key(4).run_id];
    assert_eq!(commit(&store, of_open(vec![awaited(3, 3)])).await, Verdict::Committed { reached });
    assert_eq!(store.inbox(&key(3)).await.unwrap().termination, None);
    assert!(store.inbox(&key(4)).await.unwrap().termination.is_some());
    assert_eq!((parent(&store, 3).await, parent(&store, 4).await), (key(2).run_id, key(1).run_id));
    assert_eq!(parent(&store, 5).await, key(2).run_id, "also one that has closed");
    // Its end is told to the new run, also by the run that goes on from it.
    let mut on = close(3, EventId::FIRST);
    on.closed = Some(Closed {
        status: RunStatus::ContinuedAsNew,
        at: AT,
        outcome: Outcome::ContinuedAs(key(6).run_id),
    });
    let mut successor = next_run(6, 3, Vec::new(), Kinship::Successor);
    successor.new_run.parent = child(3, 3, ParentClosePolicy::Terminate).new_run.parent;
    commit(&store, Decision { next_runs: vec![successor], ..on }).await;
    let reached = vec![key(2).run_id];
    assert_eq!(commit(&store, close(6, EventId::FIRST)).await, Verdict::Committed { reached });
}

pub(crate) async fn what_became_of_children_and_requests_meanwhile_is_told(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let next_runs =
        [(3, 2), (4, 3), (5, 3)].map(|(n, command)| child(n, command, ParentClosePolicy::Abandon));
    commit_each(&store, vec![start(1)]).await;
    commit(&store, Decision { next_runs: next_runs.into(), ..advance(1, EventId(2), 4) }).await;
    commit(&store, close(1, EventId(6))).await;
    // Larger than what a row keeps.
    let noise: Vec<u8> =
        (0..5_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let large = Payload { metadata: Vec::new(), data: noise };
    let mut end = close(3, EventId::FIRST);
    end.closed.as_mut().unwrap().outcome = Outcome::Result(large.clone());
    let command = Command::WorkflowCompleted(WorkflowCompleted { result: large.clone() });
    end.events[0].kind = EventKind::Command(command);
    assert_eq!(commit(&store, end).await, Verdict::COMMITTED, "nobody is there to be told");
    let mut reset = of_closed(vec![awaited(2, 3), awaited(3, 5), awaited(1, 9)]);
    reset.new_run.as_mut().unwrap().inherits.as_mut().unwrap().requests = vec![EventId(2)];
    commit(&store, reset).await;
    let told = inbox(&store, 2).await;
    let [signal, begun, ended, second, lost_began, lost, unanswered] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(matches!(signal, Input::SignalReceived(_)));
    assert_eq!(
        [begun, second, lost_began],
        [&child_started(2, 3), &child_started(3, 5), &child_started(1, 9)]
    );
    assert!(matches!(ended, Input::ChildWorkflowCompleted(closed) if closed.result == large));
    let Input::ChildWorkflowFailed(closed) = lost else { panic!("{lost:?}") };
    assert_eq!(closed.failure.message, "how child workflow `order-tracking` ended is not known any more");
    let Input::ExternalRequestFailed(closed) = unanswered else { panic!("{unanswered:?}") };
    assert_eq!(closed.failure.type_name(), "AnswerLost");
    let reached = vec![key(2).run_id];
    assert_eq!(commit(&store, close(5, EventId::FIRST)).await, Verdict::Committed { reached });
}

pub(crate) async fn a_reset_is_done_once_and_names_the_new_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let request = Request { operation: Operation::Reset, request_id: "r".to_owned() };
    commit_each(&store, vec![start(1), advance(1, EventId(2), 4)]).await;
    let reset = Decision { request: Some(request.clone()), ..of_open(Vec::new()) };
    commit(&store, reset.clone()).await;
    let done = store.request(&Namespace::default(), &workflow_id(1), &request).await.unwrap();
    assert_eq!(done, Some(key(2).run_id));
    assert_eq!(commit(&store, reset).await, Verdict::SameRequest(key(2).run_id));
    commit_each(&store, vec![stand(2, EventId(5)), close(2, EventId(5))]).await;
    let mut again = of_closed(Vec::new());
    again.key = key(7);
    again.request = Some(request);
    assert_eq!(commit(&store, again).await, Verdict::SameRequest(key(2).run_id));
}
