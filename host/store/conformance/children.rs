//! Children: told of in the step that begins or closes them, and left to their policies by the step that closes their parent.

use everfold_core::command::ParentClosePolicy;
use everfold_core::decision::child::{ChildName, ChildStart, told_of_end, told_of_start};
use everfold_core::decision::{Decision, IdReusePolicy, InboxInput, Kinship, NextRun};
use everfold_core::event::{Input, ParentRun, WorkflowCancelRequested, WorkflowTerminated};
use everfold_core::ids::{EventId, RunKey};

use super::Backend;
use super::fixtures::{advance, close, commit, commit_each, inbox_input, key, stand, start, workflow_id};
use super::succession::{continue_as_new, next_run};
use crate::store::{Inbox, Store, Verdict};

/// The `n`th run as a child of the first, begun by the command of that number.
pub(super) fn child(n: usize, command: u64, close_policy: ParentClosePolicy) -> NextRun {
    let mut next = next_run(n, n, vec![inbox_input(n as u64)], Kinship::Child);
    next.new_run.parent = Some(ParentRun {
        workflow_id: workflow_id(1),
        run_id: key(1).run_id,
        command_event_id: EventId(command),
        close_policy,
    });
    next
}

/// A step of the first run that begins children.
fn beginning(next_runs: Vec<NextRun>) -> Decision {
    Decision { next_runs, ..stand(1, EventId(2)) }
}

/// What the first run is told of the start of a child.
fn start_of(child: &NextRun, start: ChildStart) -> InboxInput {
    told_of_start(child.new_run.parent.as_ref().expect("it is a child"), &child.new_run, child.run_id, start)
}

async fn inbox(store: &impl Store, key: &RunKey) -> Inbox {
    store.inbox(key).await.unwrap()
}

async fn waiting(store: &impl Store, key: &RunKey) -> Vec<InboxInput> {
    inbox(store, key).await.inputs.into_iter().map(|(_, waiting)| waiting).collect()
}

fn reached(runs: &[usize]) -> Verdict {
    Verdict::Committed { reached: runs.iter().map(|n| key(*n).run_id).collect() }
}

pub(crate) async fn a_child_is_begun_and_its_parent_told(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(3)]).await;
    let begun = child(2, 2, ParentClosePolicy::Abandon);
    let refused = child(3, 3, ParentClosePolicy::Abandon);
    let refused = NextRun { run_id: key(4).run_id, ..refused };
    assert_eq!(commit(&store, beginning(vec![begun.clone(), refused.clone()])).await, reached(&[1]));
    let told =
        [start_of(&begun, ChildStart::Begun), start_of(&refused, ChildStart::AlreadyRunning(key(3).run_id))];
    assert_eq!(waiting(&store, &key(1)).await, told);
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(2)]);
    assert_eq!(
        store.run(&key(2)).await.unwrap().unwrap().parent,
        begun.new_run.parent,
        "its row says whose it is"
    );
    assert_eq!(store.run(&key(4)).await.unwrap(), None);
}

pub(crate) async fn a_childs_id_is_used_again_or_not(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(3), close(3, EventId(2))]).await;
    let again = |n, id_reuse| {
        let mut next = child(3, n as u64, ParentClosePolicy::Abandon);
        next.run_id = key(n).run_id;
        next.new_run.id_reuse = id_reuse;
        next
    };
    let once = again(4, IdReusePolicy::RejectDuplicate);
    let anew = again(5, IdReusePolicy::AllowDuplicate);
    commit(&store, beginning(vec![once.clone(), anew.clone()])).await;
    let told = [start_of(&once, ChildStart::IdTaken(key(3).run_id)), start_of(&anew, ChildStart::Begun)];
    assert_eq!(waiting(&store, &key(1)).await, told);
}

pub(crate) async fn the_end_of_a_child_is_told_to_an_open_parent(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let children = vec![child(2, 2, ParentClosePolicy::Abandon), child(3, 3, ParentClosePolicy::Abandon)];
    commit(&store, beginning(children)).await;
    let end = close(2, EventId(1));
    let closed = end.closed.clone().expect("it closes");
    assert_eq!(commit(&store, end).await, reached(&[1]));
    let of = workflow_id(2);
    let name = ChildName {
        workflow_type: "order-tracking",
        workflow_id: &of,
        run_id: key(2).run_id,
        command_event_id: EventId(2),
    };
    let told = waiting(&store, &key(1)).await;
    assert_eq!(told.last(), told_of_end(name, &closed).as_ref());
    commit(&store, close(1, EventId(2))).await;
    assert_eq!(commit(&store, close(3, EventId(1))).await, Verdict::COMMITTED, "nobody is there to be told");
}

pub(crate) async fn a_closing_parent_leaves_each_child_to_its_policy(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let children = vec![
        child(2, 2, ParentClosePolicy::Terminate),
        child(3, 3, ParentClosePolicy::RequestCancel),
        child(4, 4, ParentClosePolicy::Abandon),
        child(5, 5, ParentClosePolicy::Terminate),
    ];
    commit(&store, beginning(children)).await;
    commit(&store, close(5, EventId(1))).await;
    assert_eq!(commit(&store, close(1, EventId(2))).await, reached(&[2, 3]));
    let reason = "its parent order-1 completed".to_owned();
    let terminated = inbox(&store, &key(2)).await;
    assert_eq!(terminated.termination, Some(WorkflowTerminated { reason: reason.clone() }));
    assert_eq!(terminated.inputs.len(), 1, "what waited is there still");
    let last = waiting(&store, &key(3)).await.pop().expect("it is asked to cancel");
    assert_eq!(last.input, Input::WorkflowCancelRequested(WorkflowCancelRequested { reason }));
    assert_eq!(inbox(&store, &key(4)).await.inputs.len(), 1);
    let attention = store.needing_attention(None, 10).await.unwrap();
    assert_eq!(attention, [key(2), key(3), key(4)]);
}

pub(crate) async fn a_child_waits_for_one_of_its_id_that_is_being_terminated(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(7)]).await;
    commit(&store, beginning(vec![child(2, 2, ParentClosePolicy::Terminate)])).await;
    commit(&store, close(1, EventId(2))).await;
    let mut again = child(2, 9, ParentClosePolicy::Terminate);
    again.run_id = key(3).run_id;
    let of_another = |next_runs| Decision { next_runs, ..advance(7, EventId(2), 1) };
    let step = of_another(vec![again]);
    assert_eq!(commit(&store, step.clone()).await, Verdict::Postponed(key(2).run_id));
    assert_eq!(store.run(&key(7)).await.unwrap().unwrap().next_event_id, EventId(2), "nothing is written");
    let mut detached = step.clone();
    detached.next_runs[0].kinship = Kinship::Detached;
    assert_eq!(commit(&store, detached).await, Verdict::Postponed(key(2).run_id));
    commit(&store, close(2, EventId::FIRST)).await;
    assert_eq!(commit(&store, step).await, reached(&[7]));
    assert_eq!(store.run(&key(3)).await.unwrap().unwrap().workflow_id, workflow_id(2));
}

pub(crate) async fn a_child_that_goes_on_takes_its_parent_and_its_end_along(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(9)]).await;
    let mut first = child(1, 2, ParentClosePolicy::Terminate);
    let parent = first.new_run.parent.as_mut().expect("it is a child");
    (parent.run_id, parent.workflow_id) = (key(9).run_id, workflow_id(9));
    commit(&store, Decision { next_runs: vec![first.clone()], ..stand(9, EventId(2)) }).await;
    // Its parent closes while the child is on its way to its next run.
    commit(&store, close(9, EventId(2))).await;
    let mut step = continue_as_new(1, Vec::new());
    step.next_runs[0].new_run.parent = first.new_run.parent.clone();
    assert_eq!(commit(&store, step).await, Verdict::COMMITTED, "who goes on tells nobody");
    let successor = inbox(&store, &key(2)).await;
    assert_eq!(successor.termination.map(|end| end.reason).as_deref(), Some("its parent order-9 completed"));
    assert_eq!(store.run(&key(2)).await.unwrap().unwrap().parent, first.new_run.parent);
}

pub(crate) async fn a_child_is_asked_to_cancel_whichever_run_it_is_at(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    commit(&store, beginning(vec![child(2, 2, ParentClosePolicy::Abandon)])).await;
    let mut step = stand(1, EventId(2));
    step.effects.children_canceled = vec![(EventId(2), inbox_input(7)), (EventId(3), inbox_input(8))];
    assert_eq!(commit(&store, step.clone()).await, reached(&[2]));
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(2), inbox_input(7)]);
    commit(&store, close(2, EventId(1))).await;
    assert_eq!(commit(&store, step).await, Verdict::COMMITTED, "it has closed");
}
