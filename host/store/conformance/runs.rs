//! Runs: creation, the fence, closing, blocks.

use std::sync::Arc;

use everfold_core::command::{Command, WorkflowCompleted};
use everfold_core::decision::{BlockChange, Closed, Decision, Outcome};
use everfold_core::event::EventKind;
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, Namespace, RunId, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use everfold_core::query::Query;

use super::Backend;
use super::fixtures::{
    DIGEST, advance, block, blocked, close, commit, commit_all, commit_each, key, stand, start, start_as,
    start_by_request, started_at, workflow_id,
};
use crate::store::{RunRow, Store, Verdict};

/// The row of the `n`th run.
async fn row(store: &impl Store, n: usize) -> RunRow {
    store.run(&key(n)).await.unwrap().expect("the run is there")
}

/// The number of the latest run of a workflow id.
async fn latest(store: &impl Store, n: usize) -> Option<RunId> {
    let row = store.latest_run(&Namespace::default(), &workflow_id(n)).await.unwrap();
    row.map(|row| row.key.run_id)
}

pub(crate) async fn a_new_run_is_found_by_its_key_and_by_its_workflow_id(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let decision = Decision { open_activities: 2, ..start(1) };
    assert_eq!(commit(&store, decision).await, Verdict::COMMITTED);
    let expected = RunRow {
        key: key(1),
        workflow_id: workflow_id(1),
        workflow_type: "order-saga".to_owned(),
        digest: DIGEST,
        status: RunStatus::Running,
        next_event_id: EventId(2),
        open_activities: 2,
        started_at: started_at(1),
        closed_at: None,
        outcome: None,
        blocked: None,
        parent: None,
        start_at: None,
    };
    assert_eq!(row(&store, 1).await, expected);
    let latest = store.latest_run(&Namespace::default(), &workflow_id(1)).await.unwrap();
    assert_eq!(latest, Some(expected));
    assert_eq!(store.run(&key(2)).await.unwrap(), None);
    assert_eq!(self::latest(&store, 2).await, None);
}

pub(crate) async fn every_namespace_is_for_itself(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let elsewhere = Namespace("elsewhere".to_owned());
    let mut there = start_as(2, 1);
    there.key.namespace = elsewhere.clone();
    commit_each(&store, vec![start(1), there]).await;

    let found = store.latest_run(&elsewhere, &workflow_id(1)).await.unwrap();
    assert_eq!(found.expect("it is there").key.run_id, key(2).run_id);
    assert_eq!(latest(&store, 1).await, Some(key(1).run_id));
    assert_eq!(store.run(&key(2)).await.unwrap(), None);
    assert_eq!(store.history(&key(2), EventId(0), 10).await.unwrap(), []);
    assert_eq!(commit(&store, advance(2, EventId(2), 1)).await, Verdict::Fenced);
}

pub(crate) async fn a_step_moves_the_fence(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    commit_each(&store, vec![Decision { open_activities: 3, ..advance(1, EventId(2), 4) }]).await;
    let row = row(&store, 1).await;
    assert_eq!((row.next_event_id, row.open_activities), (EventId(6), 3));
}

pub(crate) async fn a_step_at_the_wrong_place_is_fenced(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), advance(1, EventId(2), 2)]).await;
    let before = row(&store, 1).await;
    for expected in [0, 1, 2, 3, 5, u64::MAX] {
        let decision = Decision { open_activities: 9, ..stand(1, EventId(expected)) };
        assert_eq!(commit(&store, decision).await, Verdict::Fenced, "at {expected}");
    }
    assert_eq!(commit(&store, close(1, EventId(2))).await, Verdict::Fenced);
    assert_eq!(row(&store, 1).await, before);
    assert_eq!(commit(&store, advance(1, EventId(4), 1)).await, Verdict::COMMITTED);
}

pub(crate) async fn a_step_of_an_unknown_run_is_fenced(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(commit(&store, advance(1, EventId(1), 1)).await, Verdict::Fenced);
    assert_eq!(store.history(&key(1), EventId(0), 10).await.unwrap(), []);
}

pub(crate) async fn a_closed_run_is_fenced(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), close(1, EventId(2))]).await;
    let closed = row(&store, 1).await;
    assert_eq!(closed.status, RunStatus::Completed);
    assert_eq!(closed.closed_at, Some(Timestamp(1_800_000_000_000)));
    assert_eq!(commit(&store, advance(1, EventId(3), 1)).await, Verdict::Fenced);
    assert_eq!(commit(&store, close(1, EventId(3))).await, Verdict::Fenced);
    assert_eq!(row(&store, 1).await, closed);
}

pub(crate) async fn a_refused_decision_leaves_nothing_and_disturbs_no_other(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    let mut refused = advance(2, EventId(7), 2);
    refused.inbox_put = vec![super::fixtures::inbox_input(1)];
    refused.attempts = vec![super::fixtures::attempt(EventId(2), 2)];
    refused.effects.timers_started = vec![(EventId(7), Timestamp(1))];
    refused.blocked = BlockChange::Block(blocked(EventId(7), 0));
    let verdicts = commit_all(
        &store,
        vec![advance(1, EventId(2), 1), refused, start(3), start_as(4, 1), advance(2, EventId(2), 1)],
    )
    .await;
    assert_eq!(
        verdicts,
        [
            Verdict::COMMITTED,
            Verdict::Fenced,
            Verdict::COMMITTED,
            Verdict::AlreadyRunning(key(1).run_id),
            Verdict::COMMITTED,
        ]
    );
    let second = row(&store, 2).await;
    assert_eq!((second.next_event_id, second.blocked), (EventId(3), None));
    assert_eq!(store.history(&key(2), EventId(0), 10).await.unwrap().len(), 2);
    assert_eq!(store.inbox(&key(2)).await.unwrap().inputs, []);
    assert_eq!(store.attempts(&key(2)).await.unwrap(), []);
    assert_eq!(store.timers_due(Timestamp::MAX, None, 10).await.unwrap(), []);
    assert_eq!(store.run(&key(4)).await.unwrap(), None);
    assert_eq!(store.history(&key(4), EventId(0), 10).await.unwrap(), []);
}

pub(crate) async fn steps_of_one_run_in_one_batch_work_in_order(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let batch = vec![
        start(1),
        advance(1, EventId(2), 2),
        advance(1, EventId(2), 1),
        advance(1, EventId(4), 1),
        close(1, EventId(5)),
        advance(1, EventId(6), 1),
    ];
    let (written, fenced) = (Verdict::COMMITTED, Verdict::Fenced);
    let expected = [&written, &written, &fenced, &written, &written, &fenced].map(Clone::clone);
    assert_eq!(commit_all(&store, batch).await, expected);
    let ids: Vec<u64> =
        store.history(&key(1), EventId(0), 100).await.unwrap().iter().map(|event| event.id.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

pub(crate) async fn a_workflow_id_has_one_open_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    assert_eq!(commit(&store, start(1)).await, Verdict::AlreadyRunning(key(1).run_id));
    assert_eq!(commit(&store, start_as(2, 1)).await, Verdict::AlreadyRunning(key(1).run_id));
    commit_each(&store, vec![close(1, EventId(2)), start_as(2, 1)]).await;
    assert_eq!(commit(&store, start_as(3, 1)).await, Verdict::AlreadyRunning(key(2).run_id));
}

pub(crate) async fn a_run_id_is_never_used_twice(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), close(1, EventId(2))]).await;
    let verdicts = commit_all(&store, vec![start(1), start_as(1, 5), start(2)]).await;
    assert_eq!(verdicts, [Verdict::Fenced, Verdict::Fenced, Verdict::COMMITTED]);
    assert_eq!(row(&store, 1).await.status, RunStatus::Completed);
    assert_eq!(latest(&store, 5).await, None);
}

pub(crate) async fn a_run_may_close_in_its_first_step(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut decision = start(1);
    let last = close(1, EventId(2));
    decision.events.extend(last.events);
    decision.closed = last.closed;
    commit_each(&store, vec![decision, start_as(2, 1)]).await;
    let row = row(&store, 1).await;
    assert_eq!((row.status, row.next_event_id), (RunStatus::Completed, EventId(3)));
    assert_eq!(row.outcome, Some(Outcome::Result(Payload::json_text(b"true".to_vec()))));
    assert_eq!(store.history(&key(1), EventId(0), 10).await.unwrap().len(), 2);
    assert_eq!(latest(&store, 1).await, Some(key(2).run_id));
}

pub(crate) async fn the_latest_run_is_the_open_one_else_the_last(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    // The clock went back between the second and the third.
    let mut third = start_as(3, 1);
    third.new_run.as_mut().expect("a new run").started_at = started_at(0);
    commit_each(&store, vec![start(1), close(1, EventId(2))]).await;
    assert_eq!(latest(&store, 1).await, Some(key(1).run_id));
    commit_each(&store, vec![start_as(2, 1), close(2, EventId(2))]).await;
    assert_eq!(latest(&store, 1).await, Some(key(2).run_id));
    commit_each(&store, vec![third]).await;
    assert_eq!(latest(&store, 1).await, Some(key(3).run_id));
    commit_each(&store, vec![close(3, EventId(2))]).await;
    assert_eq!(latest(&store, 1).await, Some(key(2).run_id));
}

pub(crate) async fn a_request_makes_one_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let verdicts = commit_all(&store, vec![start_by_request(1, 1, "r"), start_by_request(2, 1, "r")]).await;
    assert_eq!(verdicts, [Verdict::COMMITTED, Verdict::SameRequest(key(1).run_id)]);
    // Another request is another start, and this one still names its run when that is closed.
    let other = start_by_request(3, 1, "other");
    assert_eq!(commit(&store, other.clone()).await, Verdict::AlreadyRunning(key(1).run_id));
    commit_each(&store, vec![close(1, EventId(2)), other]).await;
    let again = start_by_request(4, 1, "r");
    assert_eq!(commit(&store, again).await, Verdict::SameRequest(key(1).run_id));
}

pub(crate) async fn a_request_of_another_workflow_id_is_another(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start_by_request(1, 1, "r"), start_by_request(2, 2, "r")]).await;
    assert_eq!(latest(&store, 2).await, Some(key(2).run_id));
}

pub(crate) async fn every_outcome_reads_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let failure =
        Failure::application("OutOfStock", "nothing left").caused_by(Failure::application("a", "b"));
    let ends = [
        (RunStatus::Completed, Outcome::Result(Payload::default())),
        (RunStatus::Failed, Outcome::Failure(failure.clone())),
        (RunStatus::Canceled, Outcome::Failure(failure.clone())),
        (RunStatus::Terminated, Outcome::Failure(failure.clone())),
        (RunStatus::TimedOut, Outcome::Failure(failure)),
        (RunStatus::ContinuedAsNew, Outcome::ContinuedAs(key(99).run_id)),
    ];
    for (n, (status, outcome)) in ends.into_iter().enumerate() {
        let at = Timestamp(5);
        let closed = Some(Closed { status, at, outcome: outcome.clone() });
        commit_each(&store, vec![start(n), Decision { closed, ..stand(n, EventId(2)) }]).await;
        let row = row(&store, n).await;
        assert_eq!((row.status, row.closed_at, row.outcome), (status, Some(at), Some(outcome)));
    }
}

pub(crate) async fn a_large_outcome_reads_back_and_lists_leave_it_out(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    // The first one compresses well, the second one does not; the third one no event tells.
    let noise: Vec<u8> =
        (0..20_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let results =
        [vec![b'x'; 1_000_000], noise.clone(), noise].map(|data| Payload { metadata: Vec::new(), data });
    for (n, result) in results.iter().enumerate() {
        let mut last = close(n, EventId(2));
        let closed = last.closed.as_mut().expect("it closes");
        closed.outcome = Outcome::Result(result.clone());
        let command = Command::WorkflowCompleted(WorkflowCompleted { result: result.clone() });
        match n {
            0 | 1 => last.events[0].kind = EventKind::Command(command),
            _ => last.events.clear(),
        }
        commit_each(&store, vec![start(n), last]).await;
        let expected = Some(Outcome::Result(result.clone()));
        assert_eq!(row(&store, n).await.outcome, expected, "{n}");
        let latest = store.latest_run(&Namespace::default(), &workflow_id(n)).await.unwrap().unwrap();
        assert_eq!(latest.outcome, expected, "{n}");
    }
    let listed = store.runs(&Namespace::default(), &Query::default(), None, 10).await.unwrap();
    let told: Vec<bool> = listed.iter().map(|row| row.outcome.is_some()).collect();
    assert_eq!(told, [true, false, false]);
}

pub(crate) async fn a_block_is_set_replaced_and_cleared(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), block(1, EventId(2), 0)]).await;
    assert_eq!(row(&store, 1).await.blocked, Some(blocked(EventId(2), 0)));
    commit_each(&store, vec![block(1, EventId(2), 1)]).await;
    assert_eq!(row(&store, 1).await.blocked, Some(blocked(EventId(2), 1)));
    commit_each(&store, vec![stand(1, EventId(2))]).await;
    assert_eq!(row(&store, 1).await.blocked, Some(blocked(EventId(2), 1)));
    let clear = Decision { blocked: BlockChange::Clear, ..advance(1, EventId(2), 1) };
    commit_each(&store, vec![clear]).await;
    assert_eq!(row(&store, 1).await.blocked, None);
    // A run whose first activation traps has no history.
    let mut first = Decision { events: Vec::new(), ..start(2) };
    first.blocked = BlockChange::Block(blocked(EventId(1), 0));
    commit_each(&store, vec![first]).await;
    let row = row(&store, 2).await;
    assert_eq!((row.next_event_id, row.blocked), (EventId(1), Some(blocked(EventId(1), 0))));
}

pub(crate) async fn closing_ends_a_block(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), block(1, EventId(2), 0), close(1, EventId(2))]).await;
    assert_eq!(row(&store, 1).await.blocked, None);
}

pub(crate) async fn an_empty_batch_is_nothing(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(commit_all(&store, Vec::new()).await, []);
}

pub(crate) async fn many_commits_in_flight_all_arrive<B: Backend>(backend: &B) {
    const RUNS: usize = 20;
    const STEPS: u64 = 10;
    let store = Arc::new(backend.open().await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for run in 0..RUNS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            commit_each(&*store, vec![start(run)]).await;
            for step in 0..STEPS {
                let at = EventId(2 + step);
                commit_each(&*store, vec![advance(run, at, 1)]).await;
                // What was answered is seen at once, whoever reads.
                assert_eq!(row(&*store, run).await.next_event_id, at.next());
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("every run came to its end");
    }
    for run in 0..RUNS {
        let history = store.history(&key(run), EventId(0), usize::MAX).await.unwrap();
        assert_eq!(history.len() as u64, STEPS + 1);
    }
}
