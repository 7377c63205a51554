//! What waits for a run: inbox, attempts, timers.

use everfold_core::decision::{BlockChange, Decision, InboxInput, InboxSeq};
use everfold_core::event::{Input, WorkflowCancelRequested};
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, Namespace, RunKey, Timestamp};
use everfold_core::payload::Payload;

use super::Backend;
use super::fixtures::{advance, attempt, blocked, close, commit_each, inbox_input, key, stand, start};
use crate::store::{Store, TimerRow};

/// A step of the `n`th run that puts inputs into its inbox.
fn put(n: usize, expected: u64, numbers: &[u64]) -> Decision {
    let inbox_put = numbers.iter().map(|number| inbox_input(*number)).collect();
    Decision { inbox_put, ..stand(n, EventId(expected)) }
}

/// A step that takes inputs.
fn take(n: usize, expected: u64, inbox_taken: Vec<InboxSeq>) -> Decision {
    Decision { inbox_taken, ..stand(n, EventId(expected)) }
}

/// A step that starts timers.
fn timers(n: usize, expected: u64, started: &[(u64, i64)]) -> Decision {
    let mut decision = stand(n, EventId(expected));
    decision.effects.timers_started =
        started.iter().map(|(id, fire_at)| (EventId(*id), Timestamp(*fire_at))).collect();
    decision
}

/// The inbox of the `n`th run.
async fn inbox(store: &impl Store, n: usize) -> (Vec<InboxSeq>, Vec<InboxInput>) {
    store.inbox(&key(n)).await.unwrap().inputs.into_iter().unzip()
}

/// All timers as (time, run, command).
async fn due(store: &impl Store, until: i64) -> Vec<(i64, TimerRow)> {
    let rows = store.timers_due(Timestamp(until), None, 1_000).await.unwrap();
    rows.into_iter().map(|row| (row.fire_at.0, row)).collect()
}

pub(crate) async fn the_inbox_keeps_the_order_of_commits(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), put(1, 2, &[5, 3]), put(2, 2, &[9])]).await;
    commit_each(&store, vec![put(1, 2, &[4])]).await;
    let (seqs, inputs) = inbox(&store, 1).await;
    assert_eq!(inputs, [inbox_input(5), inbox_input(3), inbox_input(4)]);
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert_eq!(inbox(&store, 2).await.1, [inbox_input(9)]);
}

pub(crate) async fn inputs_that_were_taken_are_gone(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), put(1, 2, &[1, 2, 3])]).await;
    let (seqs, _) = inbox(&store, 1).await;
    // The input's event and the end of its waiting are one step, which may put another.
    let mut step = advance(1, EventId(2), 1);
    step.inbox_taken = vec![seqs[0], seqs[2]];
    step.inbox_put = vec![inbox_input(4)];
    commit_each(&store, vec![step]).await;
    let (left, inputs) = inbox(&store, 1).await;
    assert_eq!(inputs, [inbox_input(2), inbox_input(4)]);
    assert!(left[1] > seqs[2], "a number is never used again");
    // Taking it again changes nothing.
    commit_each(&store, vec![take(1, 3, vec![seqs[0]])]).await;
    assert_eq!(inbox(&store, 1).await.0, left);
}

pub(crate) async fn an_inbox_row_of_another_run_cannot_be_taken(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), put(1, 2, &[1])]).await;
    let (seqs, _) = inbox(&store, 1).await;
    commit_each(&store, vec![take(2, 2, seqs)]).await;
    assert_eq!(inbox(&store, 1).await.1, [inbox_input(1)]);
}

pub(crate) async fn attempts_are_replaced_and_deleted(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let step = |attempts| Decision { attempts, ..stand(1, EventId(2)) };
    let bare = |id, n| everfold_core::decision::PendingActivity {
        last_failure: None,
        last_failure_at: None,
        heartbeat_details: None,
        lease: None,
        paused: None,
        reset: None,
        ..attempt(id, n)
    };
    commit_each(&store, vec![start(1), step(vec![attempt(EventId(4), 2), bare(EventId(3), 1)])]).await;
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [bare(EventId(3), 1), attempt(EventId(4), 2)]);
    commit_each(&store, vec![step(vec![attempt(EventId(3), 2)]), step(vec![bare(EventId(4), u32::MAX)])])
        .await;
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [attempt(EventId(3), 2), bare(EventId(4), u32::MAX)]);
    assert_eq!(store.attempts(&key(2)).await.unwrap(), []);
    let mut closing = advance(1, EventId(2), 1);
    closing.effects.activities_closed = vec![EventId(3), EventId(99)];
    commit_each(&store, vec![closing]).await;
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [bare(EventId(4), u32::MAX)]);
}

pub(crate) async fn a_deep_failure_reads_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let failure = (0..500).fold(Failure::application("Root", "at the bottom"), |cause, depth| {
        Failure::application("Wrapped", format!("level {depth}")).caused_by(cause)
    });
    let mut pending = attempt(EventId(3), 2);
    pending.last_failure = Some(failure);
    // Nobody polled it: native code has said that it completes later.
    pending.lease = pending.lease.map(|lease| everfold_core::decision::Lease { worker: None, ..lease });
    let step = Decision { attempts: vec![pending.clone()], ..stand(1, EventId(2)) };
    commit_each(&store, vec![start(1), step]).await;
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [pending]);
}

pub(crate) async fn large_inputs_failures_and_details_read_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let text = "it went wrong again, as before; ".repeat(5_000);
    let mut step = put(1, 2, &[]);
    step.inbox_put = vec![InboxInput {
        received_at: Timestamp(1),
        input: Input::WorkflowCancelRequested(WorkflowCancelRequested { reason: text.clone() }),
    }];
    let mut pending = attempt(EventId(2), 3);
    pending.last_failure = Some(Failure::application("Large", text.clone()));
    pending.heartbeat_details = Some(Payload { metadata: Vec::new(), data: text.into_bytes() });
    step.attempts = vec![pending.clone()];
    let inputs = step.inbox_put.clone();
    commit_each(&store, vec![start(1), step]).await;
    assert_eq!(inbox(&store, 1).await.1, inputs);
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [pending]);
}

pub(crate) async fn an_open_run_is_read_with_all_that_waits_for_it(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut open = advance(1, EventId(2), 3);
    open.open_activities = 1;
    open.attempts = vec![attempt(EventId(3), 2)];
    open.inbox_put = vec![inbox_input(1), inbox_input(2)];
    let mut faulty = stand(2, EventId(2));
    faulty.blocked = BlockChange::Block(blocked(EventId(2), 0));
    commit_each(&store, vec![start(1), start(2), start(3), open, faulty, close(3, EventId(2))]).await;
    for n in [1, 2] {
        let read = store.open_run(&key(n)).await.unwrap().expect("it is open");
        assert_eq!(Some(read.row), store.run(&key(n)).await.unwrap());
        assert_eq!(read.history, store.history(&key(n), EventId(0), 1_000).await.unwrap());
        assert_eq!(read.inbox, store.inbox(&key(n)).await.unwrap());
        assert_eq!(read.attempts, store.attempts(&key(n)).await.unwrap());
    }
    let read = store.open_run(&key(1)).await.unwrap().expect("it is open");
    assert_eq!((read.history.len(), read.inbox.inputs.len(), read.attempts.len()), (4, 2, 1));
    assert!(store.open_run(&key(2)).await.unwrap().is_some_and(|run| run.row.blocked.is_some()));
    assert_eq!(store.open_run(&key(3)).await.unwrap(), None, "it has closed");
    assert_eq!(store.open_run(&key(4)).await.unwrap(), None, "there is none");
    let elsewhere = RunKey { namespace: Namespace("elsewhere".to_owned()), ..key(1) };
    assert_eq!(store.open_run(&elsewhere).await.unwrap(), None, "there is none in that namespace");
}

pub(crate) async fn closing_deletes_what_waits(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for n in [1, 2] {
        let attempts = Decision { attempts: vec![attempt(EventId(3), 2)], ..stand(n, EventId(2)) };
        commit_each(&store, vec![start(n), put(n, 2, &[1]), timers(n, 2, &[(2, 10)]), attempts]).await;
    }
    commit_each(&store, vec![close(1, EventId(2))]).await;
    assert_eq!(inbox(&store, 1).await.1, []);
    assert_eq!(store.attempts(&key(1)).await.unwrap(), []);
    // The other run keeps its own.
    assert_eq!(inbox(&store, 2).await.1, [inbox_input(1)]);
    assert_eq!(store.attempts(&key(2)).await.unwrap(), [attempt(EventId(3), 2)]);
    let due = due(&store, 10).await;
    assert_eq!(due.iter().map(|(_, row)| row.key.clone()).collect::<Vec<_>>(), [key(2)]);
}

pub(crate) async fn a_closing_step_leaves_nothing_that_waits(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let with_everything = |mut decision: Decision| {
        decision.inbox_put = vec![inbox_input(1)];
        decision.attempts = vec![attempt(EventId(3), 2)];
        decision.effects.timers_started = vec![(EventId(3), Timestamp(10))];
        decision
    };
    let mut at_once = start(2);
    at_once.closed = close(2, EventId(2)).closed;
    commit_each(&store, vec![start(1), with_everything(close(1, EventId(2))), with_everything(at_once)])
        .await;
    for n in [1, 2] {
        assert_eq!(inbox(&store, n).await.1, []);
        assert_eq!(store.attempts(&key(n)).await.unwrap(), []);
    }
    assert_eq!(due(&store, i64::MAX).await, []);
}

pub(crate) async fn timers_come_in_order_and_in_pages(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut elsewhere = start(9);
    elsewhere.key.namespace = Namespace("a namespace before the default one".to_owned());
    elsewhere.effects.timers_started = vec![(EventId(2), Timestamp(20))];
    commit_each(
        &store,
        vec![
            start(1),
            start(2),
            timers(2, 2, &[(7, 20), (3, 20), (4, 10), (5, 31)]),
            timers(1, 2, &[(4, 20), (2, 30), (5, i64::MAX)]),
            elsewhere,
        ],
    )
    .await;
    let all = store.timers_due(Timestamp(30), None, 100).await.unwrap();
    assert!(all.is_sorted(), "{all:?}");
    let seen: Vec<_> = all.iter().map(|row| (row.fire_at.0, row.started_event_id.0)).collect();
    assert_eq!(seen, [(10, 4), (20, 2), (20, 4), (20, 3), (20, 7), (30, 2)]);
    for limit in 1..=all.len() + 1 {
        let mut paged = Vec::new();
        loop {
            let page = store.timers_due(Timestamp(30), paged.last().cloned(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {limit}");
    }
    assert_eq!(due(&store, 9).await, []);
}

pub(crate) async fn timers_that_closed_are_gone(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), timers(1, 2, &[(2, 10), (3, 10), (4, 10)])]).await;
    let mut fired = advance(1, EventId(2), 1);
    fired.effects.timers_closed = vec![EventId(2), EventId(4)];
    commit_each(&store, vec![fired]).await;
    let left: Vec<_> = due(&store, 10).await.into_iter().map(|(_, row)| row.started_event_id).collect();
    assert_eq!(left, [EventId(3)]);
}

pub(crate) async fn a_timer_taken_back_in_its_own_step_never_was(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut step = timers(1, 2, &[(2, 10), (3, 10)]);
    step.effects.timers_closed = vec![EventId(2)];
    step.attempts = vec![attempt(EventId(5), 2)];
    step.effects.activities_closed = vec![EventId(5)];
    commit_each(&store, vec![start(1), step]).await;
    let left: Vec<_> = due(&store, 10).await.into_iter().map(|(_, row)| row.started_event_id).collect();
    assert_eq!(left, [EventId(3)]);
    assert_eq!(store.attempts(&key(1)).await.unwrap(), []);
}
