//! Messages from run to run: delivered and answered in the sender's own step.

use everfold_core::command::ExternalWorkflow;
use everfold_core::decision::message::{Delivery, MOST_WAITING, OutgoingMessage};
use everfold_core::decision::{Decision, InboxInput, Kinship};
use everfold_core::ids::{EventId, RunId, RunKey};

use super::Backend;
use super::fixtures::{close, commit, commit_each, inbox_input, key, stand, start, workflow_id};
use super::succession::{continue_as_new, next_run};
use crate::store::{Store, Verdict};

/// A message to the `n`th run's workflow, or to that run alone; it says the number of its command.
fn message(number: u64, n: usize, run_id: Option<RunId>) -> OutgoingMessage {
    OutgoingMessage {
        to: ExternalWorkflow { workflow_id: workflow_id(n), run_id },
        input: inbox_input(number),
        command_event_id: EventId(number),
    }
}

/// What its sender is told.
fn answer(number: u64, n: usize, delivery: Delivery) -> InboxInput {
    message(number, n, None).answer(delivery)
}

/// The same step, which sends.
fn sending(messages: Vec<OutgoingMessage>, mut step: Decision) -> Decision {
    step.effects.messages = messages;
    step
}

/// A step of the first run that sends.
fn send(expected: u64, messages: Vec<OutgoingMessage>) -> Decision {
    sending(messages, stand(1, EventId(expected)))
}

/// What waits for a run.
async fn waiting(store: &impl Store, key: &RunKey) -> Vec<InboxInput> {
    store.inbox(key).await.unwrap().inputs.into_iter().map(|(_, waiting)| waiting).collect()
}

fn reached(runs: &[usize]) -> Verdict {
    Verdict::Committed { reached: runs.iter().map(|n| key(*n).run_id).collect() }
}

pub(crate) async fn a_message_is_in_one_inbox_and_its_answer_in_the_other(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    let messages = vec![message(1, 2, None), message(2, 2, Some(key(2).run_id)), message(3, 1, None)];
    assert_eq!(commit(&store, send(2, messages)).await, reached(&[1, 2]));
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(1), inbox_input(2)]);
    let told = |number, n| answer(number, n, Delivery::Delivered);
    let own = [
        told(1, 2),
        message(2, 2, Some(key(2).run_id)).answer(Delivery::Delivered),
        inbox_input(3),
        told(3, 1),
    ];
    assert_eq!(waiting(&store, &key(1)).await, own, "one may write to oneself");
    let attention = store.needing_attention(None, 10).await.unwrap();
    assert_eq!(attention, [key(1), key(2)], "a host that starts finds both");
}

pub(crate) async fn a_message_to_a_run_that_is_not_open_is_refused_in_the_same_step(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), close(2, EventId(2)), start(3)]).await;
    // A closed one, one that never was, and another run than the one that is open.
    let messages = vec![message(1, 2, None), message(2, 9, None), message(3, 3, Some(key(2).run_id))];
    assert_eq!(commit(&store, send(2, messages)).await, reached(&[1]));
    let told = [
        answer(1, 2, Delivery::NotFound),
        answer(2, 9, Delivery::NotFound),
        message(3, 3, Some(key(2).run_id)).answer(Delivery::NotFound),
    ];
    assert_eq!(waiting(&store, &key(1)).await, told);
    assert_eq!(waiting(&store, &key(3)).await, []);
}

pub(crate) async fn a_message_of_a_fenced_step_is_not_sent(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    assert_eq!(commit(&store, send(7, vec![message(1, 2, None)])).await, Verdict::Fenced);
    assert_eq!(waiting(&store, &key(1)).await, []);
    assert_eq!(waiting(&store, &key(2)).await, []);
}

pub(crate) async fn a_step_that_closes_its_run_hears_no_answers(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    let messages = vec![message(1, 2, None), message(2, 9, None), message(3, 1, None)];
    let last = sending(messages, close(1, EventId(2)));
    assert_eq!(commit(&store, last).await, reached(&[2]));
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(1)]);
    assert_eq!(waiting(&store, &key(1)).await, []);
}

pub(crate) async fn a_run_does_not_close_on_what_it_has_not_seen(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    let last = |known| Decision { inbox_known: Some(known), ..close(2, EventId(2)) };
    commit(&store, send(2, vec![message(1, 2, None)])).await;
    assert_eq!(commit(&store, last(0)).await, Verdict::Fenced);
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(1)], "nothing is lost");
    assert_eq!(commit(&store, last(1)).await, Verdict::COMMITTED);
    assert_eq!(waiting(&store, &key(2)).await, []);
}

pub(crate) async fn what_a_step_begins_is_there_for_what_it_sends(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let detached = next_run(3, 3, vec![inbox_input(7)], Kinship::Detached);
    let step = Decision { next_runs: vec![detached], ..send(2, vec![message(1, 3, None)]) };
    assert_eq!(commit(&store, step).await, reached(&[1, 3]));
    assert_eq!(waiting(&store, &key(3)).await, [inbox_input(7), inbox_input(1)]);
    // Whoever goes on as a new run and writes to itself writes to the new one.
    let last = sending(vec![message(2, 1, None)], continue_as_new(2, vec![inbox_input(8)]));
    assert_eq!(commit(&store, last).await, reached(&[2]));
    assert_eq!(waiting(&store, &key(2)).await, [inbox_input(8), inbox_input(2)]);
}

pub(crate) async fn a_full_inbox_takes_no_messages(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2)]).await;
    let inbox_put = (1..MOST_WAITING).map(inbox_input).collect();
    commit_each(&store, vec![Decision { inbox_put, ..stand(2, EventId(2)) }]).await;
    assert_eq!(
        commit(&store, send(2, vec![message(1, 2, None), message(2, 2, None)])).await,
        reached(&[1, 2])
    );
    let told = [answer(1, 2, Delivery::Delivered), answer(2, 2, Delivery::InboxFull)];
    assert_eq!(waiting(&store, &key(1)).await, told);
    assert_eq!(waiting(&store, &key(2)).await.len() as u64, MOST_WAITING);
}
