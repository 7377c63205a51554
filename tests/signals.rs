//! Signals, queries, requests to cancel and to terminate, at the moments at which they are easily lost:
//! when a run goes on as a new one, when it closes, while it is blocked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::api::{ApiError, RunRef};
use everfold::runner::{Host, HostSettings, ResidentLimits};
use everfold::store::Store as _;
use everfold_core::decision::BlockKind;
use everfold_core::event::Input;
use everfold_core::ids::{RunId, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use futures::future::join_all;
use serde_json::{Value, json};
use support::{TestHost, lines, returned, run, signal, signals, stop};

const SENDERS: i64 = 6;
/// Signals that one sender has under way at once, where it does not wait for each.
const BURST: i64 = 4;
const FAR: i64 = 1_000_000;

async fn samples(folder: &Path, settings: &HostSettings) -> TestHost {
    let test = TestHost::open_with(folder, Registry::default(), settings, EngineSettings::default()).await;
    test.deploy("samples").await;
    test
}

/// What one sender was answered.
#[derive(Debug, Default)]
struct Sent {
    acknowledged: Vec<(i64, RunId)>,
    refused: Vec<i64>,
}

impl Sent {
    async fn send(host: &Host, id: &str, number: i64) -> Result<RunId, ApiError> {
        host.signal(signal(id, "add", &json!(number))).await.map(|taken| taken.run_id)
    }

    fn take(&mut self, number: i64, answer: Result<RunId, ApiError>) {
        match answer {
            Ok(run_id) => self.acknowledged.push((number, run_id)),
            Err(ApiError::NotFound(_)) => self.refused.push(number),
            Err(error) => panic!("signal {number}: {error}"),
        }
    }

    /// Sends one after the other until the run has closed.
    async fn in_order(host: Host, id: String, sender: i64) -> Self {
        let mut sent = Self::default();
        for number in (sender * FAR).. {
            sent.take(number, Self::send(&host, &id, number).await);
            if !sent.refused.is_empty() {
                break;
            }
        }
        sent
    }

    /// Sends several at once until the run has closed.
    async fn in_bursts(host: Host, id: String, sender: i64) -> Self {
        let mut sent = Self::default();
        let mut next = sender * FAR;
        while sent.refused.is_empty() {
            let burst = next..next + BURST;
            let answers = join_all(burst.clone().map(|number| Self::send(&host, &id, number))).await;
            burst.zip(answers).for_each(|(number, answer)| sent.take(number, answer));
            next += BURST;
        }
        sent
    }
}

/// The chain's numbers, with the run whose history has each; those taken over are counted once.
async fn received(test: &TestHost, id: &str) -> Vec<(i64, RunId)> {
    let mut received: Vec<(i64, RunId)> = Vec::new();
    for (run_id, events) in test.chain(id).await {
        let unread = lines(&events).iter().filter(|line| line.ends_with("SignalTaken add")).count();
        let here: Vec<_> = signals(&events).iter().map(|(.., input)| input.as_i64().unwrap()).collect();
        assert_eq!(unread, here.len(), "{id}: the guest took each at once, so that none is taken over");
        received.extend(here.into_iter().map(|number| (number, run_id)));
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signal_at_a_runs_end_is_in_a_history_or_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &HostSettings::default()).await;
    let (mut acknowledged, mut ends) = (0, 0);
    for round in 0..24_usize {
        let (id, count, every) = (format!("run-{round}"), 60 + round, 1 + round % 4);
        test.start("signals", &id, &json!({ "count": count, "continue_every": every })).await;
        let senders = (0..SENDERS).map(|sender| {
            let (host, id) = (test.host.clone(), id.clone());
            if sender % 2 == 0 {
                tokio::spawn(Sent::in_order(host, id, sender))
            } else {
                tokio::spawn(Sent::in_bursts(host, id, sender))
            }
        });
        let sent: Vec<Sent> = join_all(senders).await.into_iter().map(Result::unwrap).collect();
        let end = test.end(&id).await;
        let received = received(&test, &id).await;
        let numbers: Vec<i64> = received.iter().map(|(number, _)| *number).collect();

        let known: BTreeMap<i64, RunId> = received.iter().copied().collect();
        assert_eq!(known.len(), received.len(), "{id}: none is there twice: {numbers:?}");
        let told: BTreeMap<i64, RunId> = sent.iter().flat_map(|sent| sent.acknowledged.clone()).collect();
        assert_eq!(told, known, "{id}: what is acknowledged is where the answer says, and nothing else is");
        assert!(sent.iter().all(|sent| !sent.refused.is_empty()), "{id}: all were refused in the end");
        assert_eq!(returned(&end), json!(numbers), "{id}: the run took them in the order of its histories");
        assert_eq!(numbers.len(), count);
        for sender in (0..SENDERS).step_by(2) {
            let of: Vec<_> = numbers.iter().filter(|number| **number / FAR == sender).collect();
            assert!(of.is_sorted(), "{id}: the order of sender {sender}: {of:?}");
        }
        acknowledged += numbers.len();
        ends += test.chain(&id).await.len();
    }
    assert!(acknowledged >= 1_500 && ends >= 700, "{acknowledged} signals, {ends} runs that ended");
    test.stop().await;
}

/// A clock that a test moves, and a host on it that takes few signals.
async fn few_signals(folder: &Path, most: u64, time: &VirtualTime) -> TestHost {
    let limits = Limits { signals: most, ..Limits::default() };
    let settings = HostSettings { limits, ..HostSettings::default() };
    let clock = Clock::from_source(time.clone());
    TestHost::open_at(folder, Registry::default(), &settings, EngineSettings::default(), clock).await
}

/// The numbers that wait in the inbox of a run, in order.
async fn waiting(test: &TestHost, id: &str) -> Vec<Value> {
    let key = test.host.describe(&run(id)).await.unwrap().key;
    let inbox = test.store.inbox(&key).await.unwrap();
    let of = |input: &Input| match input {
        Input::SignalReceived(signal) => Some(signal.input.to_value()),
        _ => None,
    };
    inbox.inputs.iter().filter_map(|(_, waiting)| of(&waiting.input)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_to_a_blocked_run_wait_in_order_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
    let test = few_signals(folder.path(), 5, &time).await;
    test.deploy("hostile").await;
    test.start("panic", "run", &Value::Null).await;
    test.until("run", |run| run.blocked.is_some()).await;
    for number in 1..=5 {
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    let all = [1, 2, 3, 4, 5].map(Value::from);
    assert_eq!(waiting(&test, "run").await, all);
    let description = test.host.describe(&run("run")).await.unwrap();
    assert_eq!((description.history_length, description.inbox_length), (0, 6), "behind its start");

    let refused = async |test: &TestHost, when: &str| {
        let refused = test.signal("run", "add", &json!(6)).await;
        assert!(matches!(refused, Err(ApiError::LimitExceeded(_))), "{when}: {refused:?}");
        assert_eq!(waiting(test, "run").await, all, "{when}");
    };
    refused(&test, "at once").await;
    for retries in 1..=3 {
        let before = test.until("run", |run| run.blocked.is_some()).await.blocked.unwrap();
        time.advance_to(before.retry_at);
        test.until("run", |run| run.blocked.as_ref().is_some_and(|now| now.retries == retries)).await;
        refused(&test, "tried again in vain").await;
    }
    test.kill().await;
    let test = few_signals(folder.path(), 5, &time).await;
    refused(&test, "in the next process").await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_signals_holds_for_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { signals: 3, ..Limits::default() };
    let test = samples(folder.path(), &HostSettings { limits, ..HostSettings::default() }).await;
    test.start("signals", "one", &json!({ "count": 9 })).await;
    for number in 0..3 {
        test.signal("one", "add", &json!(number)).await.unwrap();
    }
    let refused = test.signal("one", "add", &json!(3)).await;
    assert!(matches!(&refused, Err(ApiError::LimitExceeded(reason)) if reason.contains('3')), "{refused:?}");
    assert_eq!(test.query(run("one"), "seen").await.unwrap(), json!([0, 1, 2]), "it goes on as before");
    assert_eq!(signals(&test.events("one").await).len(), 3);

    // A run that goes on as a new one may be sent as many again.
    test.start("signals", "many", &json!({ "count": 9, "continue_every": 3 })).await;
    for number in 0..9 {
        test.signal("many", "add", &json!(number)).await.unwrap();
    }
    assert_eq!(returned(&test.end("many").await), json!([0, 1, 2, 3, 4, 5, 6, 7, 8]));
    test.stop().await;
}

/// A run that cannot go on because the next run's input is larger than may be; what it took before it can
/// be asked for, what comes then waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_blocked_where_it_goes_on_answers_waits_and_hands_over() {
    const EVERY: i64 = 10;
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { payload_bytes: 70, ..Limits::default() };
    let test = samples(folder.path(), &HostSettings { limits, ..HostSettings::default() }).await;
    test.start("signals", "run", &json!({ "count": 25, "continue_every": EVERY })).await;
    for number in 100..125 {
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    let blocked = test.until("run", |run| run.blocked.is_some()).await;
    assert_eq!(blocked.blocked.unwrap().kind, BlockKind::LimitExceeded);
    let seen: Vec<i64> = (100..100 + EVERY - 1).collect();
    assert_eq!(test.query(run("run"), "seen").await.unwrap(), json!(seen), "as far as it is folded");
    let behind: Vec<Value> = (100 + EVERY - 1..125).map(Value::from).collect();
    assert_eq!(waiting(&test, "run").await, behind);
    test.stop().await;

    let test = samples(folder.path(), &HostSettings::default()).await;
    let all: Vec<i64> = (100..125).collect();
    assert_eq!(returned(&test.end("run").await), json!(all));
    let chain = test.chain("run").await;
    assert_eq!(chain.len(), 3);
    let received: Vec<Value> =
        chain.iter().flat_map(|(_, events)| signals(events)).map(|(.., input)| input).collect();
    assert_eq!(json!(received), json!(all), "the inbox went over, each once and in order");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_run_can_be_cancelled_once_and_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("hostile").await;
    for (workflow_type, history) in [("panic", 0), ("panic-third-step", 4)] {
        let id = workflow_type;
        test.start(workflow_type, id, &Value::Null).await;
        let blocked = test.until(id, |run| run.blocked.is_some()).await;
        assert_eq!(blocked.history_length, history);
        test.signal(id, "add", &json!(1)).await.unwrap();
        assert!(!test.cancel(id).await.unwrap().is_duplicate);
        assert!(test.cancel(id).await.unwrap().is_duplicate, "{id}: it was asked already");
        let inbox = test.host.describe(&run(id)).await.unwrap().inbox_length;
        assert_eq!(inbox, 3, "{id}: what blocks it, the signal, one request to cancel");

        let asked = test.query(run(id), "seen").await;
        match history {
            0 => assert!(matches!(asked, Err(ApiError::Blocked(_))), "{id}: {asked:?}"),
            _ => assert!(matches!(asked, Err(ApiError::UnknownQuery(_))), "{id}: {asked:?}"),
        }

        assert!(!test.terminate(id).await.unwrap().is_duplicate);
        let end = test.end(id).await;
        assert_eq!(end.status, RunStatus::Terminated);
        let closed = test.host.describe(&run(id)).await.unwrap();
        assert_eq!((closed.history_length, closed.inbox_length), (history + 1, 0));
        assert!(closed.blocked.is_none(), "{id}: a closed run is not blocked");
        let page = test.host.history(&run(id), everfold_core::ids::EventId(0), 100, Duration::ZERO).await;
        let events = page.unwrap().events;
        assert_eq!(lines(&events).last().unwrap(), &format!("{} WorkflowTerminated", history + 1));
        assert_nothing_more_is_taken(&test, id).await;
    }
    test.stop().await;
}

async fn assert_nothing_more_is_taken(test: &TestHost, id: &str) {
    let run_id = Some(test.host.describe(&run(id)).await.unwrap().key.run_id);
    for to in [run(id), RunRef { run_id, ..run(id) }] {
        let mut sent = signal(id, "add", &json!(2));
        sent.run = to.clone();
        let mut asked = stop(id);
        asked.run = to;
        let answers = [
            test.host.signal(sent).await,
            test.host.cancel(asked.clone()).await,
            test.host.terminate(asked).await,
        ];
        for answer in answers {
            assert!(matches!(answer, Err(ApiError::NotFound(_))), "{id}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_behind_any_end() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &HostSettings::default()).await;
    for (id, status) in [
        ("completed", RunStatus::Completed),
        ("failed", RunStatus::Failed),
        ("canceled", RunStatus::Canceled),
        ("terminated", RunStatus::Terminated),
    ] {
        test.start("signals", id, &json!({ "count": 1 })).await;
        match status {
            RunStatus::Completed => drop(test.signal(id, "add", &json!(1)).await.unwrap()),
            RunStatus::Failed => drop(test.signal(id, "add", &json!("one")).await.unwrap()),
            RunStatus::Canceled => drop(test.cancel(id).await.unwrap()),
            _ => drop(test.terminate(id).await.unwrap()),
        }
        assert_eq!(test.end(id).await.status, status, "{id}");
        let before = test.events(id).await;
        assert_nothing_more_is_taken(&test, id).await;
        assert_eq!(test.events(id).await, before, "{id}");
    }
    let nobody = test.signal("nobody", "add", &json!(1)).await;
    assert!(matches!(nobody, Err(ApiError::NotFound(_))), "{nobody:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_to_cancel_is_a_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &HostSettings::default()).await;
    // `sleeper` takes no notice of cancellation before its sleep; `canceller` waits for `slow`, which is
    // not registered here and so is tried for ever.
    test.start("canceller", "run", &Value::Null).await;
    assert!(!test.cancel("run").await.unwrap().is_duplicate);
    let end = test.end("run").await;
    assert_eq!(end.status, RunStatus::Canceled);
    let requests = lines(&test.events("run").await);
    assert_eq!(requests.iter().filter(|line| line.ends_with("WorkflowCancelRequested")).count(), 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_shows_all_that_was_acknowledged_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // One instance alone: each signal to one run evicts the other.
    let residents = ResidentLimits { count: 1, ..ResidentLimits::default() };
    let test = samples(folder.path(), &HostSettings { residents, ..HostSettings::default() }).await;
    for id in ["a", "b"] {
        test.start("signals", id, &json!({ "count": 1_000 })).await;
    }
    let mut sent = Vec::new();
    for number in 0..150 {
        sent.push(number);
        for id in ["a", "b"] {
            test.signal(id, "add", &json!(number)).await.unwrap();
            assert_eq!(test.query(run(id), "seen").await.unwrap(), json!(sent));
        }
    }
    let before = test.events("a").await;
    let unknown = test.query(run("a"), "unseen").await;
    assert!(matches!(unknown, Err(ApiError::UnknownQuery(_))), "{unknown:?}");
    let many = join_all((0..50).map(|_| test.query(run("a"), "seen"))).await;
    assert!(many.into_iter().all(|seen| seen.unwrap() == json!(sent)));
    assert_eq!(test.events("a").await, before, "no question is in a history");
    test.kill().await;

    let test = samples(folder.path(), &HostSettings::default()).await;
    assert_eq!(test.query(run("a"), "seen").await.unwrap(), json!(sent), "also in the next process");
    assert_eq!(test.events("a").await, before);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_answer_whether_they_are_open_closed_continued_or_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let mut test = samples(folder.path(), &HostSettings::default()).await;
    test.start("signals", "ended", &json!({ "count": 3, "continue_every": 2 })).await;
    test.start("signals", "terminated", &json!({ "count": 3 })).await;
    test.start("signals", "canceled", &json!({ "count": 3 })).await;
    for id in ["ended", "terminated", "canceled"] {
        for number in 1..=2 {
            test.signal(id, "add", &json!(number)).await.unwrap();
        }
        assert_eq!(test.query(run(id), "seen").await.unwrap(), json!([1, 2]), "{id}, open");
    }
    test.signal("ended", "add", &json!(3)).await.unwrap();
    test.terminate("terminated").await.unwrap();
    test.cancel("canceled").await.unwrap();
    for id in ["ended", "terminated", "canceled"] {
        test.end(id).await;
    }
    for _ in 0..2 {
        assert_eq!(test.query(run("ended"), "seen").await.unwrap(), json!([1, 2, 3]));
        assert_eq!(test.query(run("terminated"), "seen").await.unwrap(), json!([1, 2]));
        assert_eq!(test.query(run("canceled"), "seen").await.unwrap(), json!([1, 2]));
        let chain = test.chain("ended").await;
        let first = RunRef { run_id: Some(chain[0].0), ..run("ended") };
        assert_eq!(test.query(first.clone(), "seen").await.unwrap(), json!([1, 2]), "it went on");
        let unknown = test.query(first, "unseen").await;
        assert!(matches!(unknown, Err(ApiError::UnknownQuery(_))), "{unknown:?}");
        let foreign = RunRef { run_id: Some(chain[0].0), ..run("terminated") };
        for nobody in [run("nobody"), foreign] {
            let asked = test.query(nobody, "seen").await;
            assert!(matches!(asked, Err(ApiError::NotFound(_))), "{asked:?}");
        }
        // Once more from the store alone.
        test.kill().await;
        test = samples(folder.path(), &HostSettings::default()).await;
    }
    let ids: BTreeSet<RunId> = test.chain("ended").await.into_iter().map(|(run_id, _)| run_id).collect();
    assert_eq!(ids.len(), 2);
    test.stop().await;
}
