//! Runs that go on as new ones: three days of `order-tracking` in virtual time, with and without a
//! killed host in between, and the `signals` sample in a process that is killed for real. No signal is
//! lost, none is taken twice.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and speak")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{ApiError, SignalRequest};
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{TestHost, lines, request, returned, run, signal, signals};

const T0: i64 = 1_700_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);
const PARCEL: &str = "parcel";

/// When the host is killed on each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    Never,
    /// While the run waits; the day ends while no host is there.
    Evening,
    /// Just when the day has ended: the run may have gone on as a new one, or not.
    Midnight,
    /// When the new run has begun.
    Morning,
}

/// A parcel that is followed, and what was recorded of its arrival.
struct Bench {
    folder: tempfile::TempDir,
    time: VirtualTime,
    recorded: Arc<Mutex<Vec<Value>>>,
}

impl Bench {
    fn new() -> Self {
        let time = VirtualTime::starting_at(Timestamp(T0));
        Self { folder: tempfile::tempdir().unwrap(), time, recorded: Arc::default() }
    }

    async fn open(&self) -> TestHost {
        let mut registry = Registry::default();
        let recorded = Arc::clone(&self.recorded);
        registry.register_fn("record-delivery", move |_: ActivityContext, input: Value| {
            recorded.lock().push(input);
            async { Ok(json!({})) }
        });
        let clock = Clock::from_source(self.time.clone());
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        TestHost::open_at(self.folder.path(), registry, &settings, engine, clock).await
    }

    async fn begin(&self) -> TestHost {
        let test = self.open().await;
        test.deploy("order").await;
        let parcel =
            json!({ "order_id": "o-1", "shipment_id": "s-1", "tracking_number": "t-1", "since_ms": T0 });
        test.start("order-tracking", PARCEL, &parcel).await;
        test
    }

    /// Lets a day pass, and waits for the run that goes on.
    async fn next_day(&self, mut test: TestHost, kill: Kill) -> TestHost {
        let today = waiting(&test).await;
        if kill == Kill::Evening {
            test.kill().await;
            self.time.advance(DAY);
            test = self.open().await;
        } else {
            self.time.advance(DAY);
        }
        if kill == Kill::Midnight {
            test.kill().await;
            test = self.open().await;
        }
        test.until(PARCEL, |now| now.key != today && now.timers.len() == 1).await;
        if kill == Kill::Morning {
            test.kill().await;
            test = self.open().await;
        }
        test
    }
}

/// Waits until the parcel's run waits for the day's end.
async fn waiting(test: &TestHost) -> everfold_core::ids::RunKey {
    test.until(PARCEL, |run| run.status == RunStatus::Running && run.timers.len() == 1).await.key
}

#[tokio::test(flavor = "multi_thread")]
async fn three_days_then_the_signal() {
    for kill in [Kill::Never, Kill::Evening, Kill::Midnight, Kill::Morning] {
        let bench = Bench::new();
        let mut test = bench.begin().await;
        for day in 0..3 {
            let status = test.query(run(PARCEL), "status").await.unwrap();
            assert_eq!((&status["checks"], &status["state"]), (&json!(day), &json!("running")), "{kill:?}");
            test = bench.next_day(test, kill).await;
        }
        test.signal(PARCEL, "order-delivered", &json!({ "delivered_at_ms": T0 + 7 })).await.unwrap();
        let end = test.end(PARCEL).await;
        let delivered = json!({ "order_id": "o-1", "delivered_at_ms": T0 + 7, "checks": 3 });
        assert_eq!(returned(&end), delivered, "{kill:?}");

        let chain = test.chain(PARCEL).await;
        assert_eq!(chain.len(), 4, "{kill:?}: three times it went on");
        for (_, events) in &chain[..3] {
            let waited = [
                "1 WorkflowStarted",
                "2 TimerStarted",
                "3 TimerFired",
                "4 WorkflowContinuedAsNew order-tracking",
            ];
            assert_eq!(lines(events), waited, "{kill:?}");
        }
        let days = chain.iter().zip(0..).all(|((_, events), day)| events[0].time == at_day(day));
        assert!(days, "{kill:?}: each run begins when the day before ends: {chain:?}");
        let arrived = json!({ "order_id": "o-1", "shipment_id": "s-1", "delivered_at_ms": T0 + 7 });
        assert_eq!(*bench.recorded.lock(), [arrived], "{kill:?}");
        test.stop().await;
    }
}

fn at_day(day: u64) -> Timestamp {
    Timestamp(T0).plus_ms(day * 24 * 60 * 60 * 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_was_acknowledged_survives_the_kill_and_the_end_of_the_day() {
    for days in 0..3 {
        let bench = Bench::new();
        let mut test = bench.begin().await;
        for _ in 0..days {
            test = bench.next_day(test, Kill::Never).await;
        }
        waiting(&test).await;
        // The delivery may be recorded for a day, which must not be over when this one is.
        bench.time.advance(SECOND);
        let delivered = json!({ "delivered_at_ms": T0 + 9 });
        let taken = test.signal(PARCEL, "order-delivered", &delivered).await.unwrap();
        test.kill().await;
        bench.time.advance(DAY - SECOND);

        let test = bench.open().await;
        let end = test.end(PARCEL).await;
        let delivered = json!({ "order_id": "o-1", "delivered_at_ms": T0 + 9, "checks": days });
        assert_eq!(returned(&end), delivered);
        let chain = test.chain(PARCEL).await;
        assert_eq!(chain.last().unwrap().0, taken.run_id, "the run that took it ended");
        assert_eq!(signals(&chain.last().unwrap().1).len(), 1);
        // The kill may have hit the first attempt; its effect is the same.
        assert!(!bench.recorded.lock().is_empty());
        test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_the_very_end_of_the_day_counts_wherever_it_lands() {
    for _ in 0..20 {
        let bench = Bench::new();
        let test = bench.begin().await;
        waiting(&test).await;
        bench.time.advance(SECOND);
        let host = test.host.clone();
        let sent = tokio::spawn(async move {
            host.signal(signal(PARCEL, "order-delivered", &json!({ "delivered_at_ms": T0 }))).await
        });
        bench.time.advance(DAY - SECOND);
        let taken = sent.await.unwrap().unwrap();
        let end = test.end(PARCEL).await;
        let chain = test.chain(PARCEL).await;
        assert_eq!(returned(&end)["checks"], json!(chain.len() - 1));
        let took = chain.iter().find(|(run_id, _)| *run_id == taken.run_id).unwrap();
        assert_eq!(signals(&took.1).len(), 1, "it is where the answer says");
        test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_not_read_goes_over_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("samples").await;
    test.start("signals", "run", &json!({ "count": 6, "continue_every": 2 })).await;
    // Nobody takes a `note`; they are read by none of the runs and reach the last one.
    for number in 1..=6 {
        let note = json!(format!("note {number}"));
        test.signal("run", "note", &note).await.unwrap();
        test.signal("run", "aside", &json!(number)).await.unwrap();
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    assert_eq!(returned(&test.end("run").await), json!([1, 2, 3, 4, 5, 6]));
    let chain = test.chain("run").await;
    assert_eq!(chain.len(), 3);
    let unread = |most: i64| -> Vec<(String, Value)> {
        let of = |n| [("note".to_owned(), json!(format!("note {n}"))), ("aside".to_owned(), json!(n))];
        (1..=most).flat_map(of).collect()
    };
    for ((_, events), before) in chain.iter().zip([0, 2, 4]) {
        let taken_over = usize::try_from(before).unwrap() * 2;
        let all = signals(events);
        let first: Vec<_> =
            all[..taken_over].iter().map(|(_, name, input)| (name.clone(), input.clone())).collect();
        assert_eq!(first, unread(before), "taken over in the order of arrival");
        let ids: Vec<_> = all[..taken_over].iter().map(|(id, ..)| *id).collect();
        assert_eq!(
            ids,
            (2..).take(taken_over).collect::<Vec<_>>(),
            "behind WorkflowStarted, before all else"
        );
    }
    let (_, last) = chain.last().unwrap();
    let notes = signals(last).into_iter().filter(|(_, name, _)| name != "add");
    assert_eq!(notes.map(|(_, name, input)| (name, input)).collect::<Vec<_>>(), unread(6));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_one_signal_for_the_whole_chain() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("samples").await;
    test.start("signals", "run", &json!({ "count": 4, "continue_every": 1 })).await;
    let send = async |number: i64| test.host.signal(numbered("run", number)).await;
    let mut took = Vec::new();
    for number in 1..=4 {
        let taken = send(number).await.unwrap();
        assert!(!taken.is_duplicate);
        took.push(taken.run_id);
        // Again at once, and all those before, whose runs have gone on.
        for again in 1..=number {
            let again_taken = send(again).await.unwrap();
            let first = took[usize::try_from(again).unwrap() - 1];
            assert_eq!(
                (again_taken.is_duplicate, again_taken.run_id),
                (true, first),
                "{again} after {number}"
            );
        }
    }
    assert_eq!(returned(&test.end("run").await), json!([1, 2, 3, 4]));
    let refused = send(5).await;
    assert!(matches!(refused, Err(ApiError::NotFound(_))), "{refused:?}");
    assert!(send(4).await.unwrap().is_duplicate, "also when all is over");
    let chain = test.chain("run").await;
    let runs: Vec<_> = chain.iter().map(|(run_id, _)| *run_id).collect();
    assert_eq!(runs, took, "each run took one");
    assert!(chain.iter().all(|(_, events)| signals(events).len() == 1));
    test.stop().await;
}

/// A number to add, sent once however often it is sent.
fn numbered(id: &str, number: i64) -> SignalRequest {
    SignalRequest { request_id: Some(format!("number-{number}")), ..signal(id, "add", &json!(number)) }
}

/// How many numbers the killed process is sent.
const NUMBERS: i64 = 400;
/// Behind how many acknowledged ones it is killed.
const KILLS: [i64; 4] = [1, 90, 180, 333];
const FOLDER: &str = "EVERFOLD_TEST_FOLDER";
const FROM: &str = "EVERFOLD_TEST_FROM";

/// The process that is killed: sends numbers, and tells each that is acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the body of a process that another test starts and kills"]
async fn host_to_be_killed() {
    let (Some(folder), Ok(from)) = (std::env::var_os(FOLDER), std::env::var(FROM)) else { return };
    let test = TestHost::open(Path::new(&folder), Registry::default()).await;
    test.deploy("samples").await;
    let mut start = request("signals", "run", &json!({ "count": NUMBERS, "continue_every": 7 }));
    start.request_id = Some("start".to_owned());
    test.host.start(start).await.unwrap();
    for number in from.parse().unwrap()..=NUMBERS {
        test.host.signal(numbered("run", number)).await.unwrap();
        println!("\nacknowledged {number}");
    }
    test.stop().await;
}

fn spawn(folder: &Path, from: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host_to_be_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what a process tells until `number` is acknowledged, or it ends; gives the last one.
fn acknowledged(child: &mut Child, until: i64) -> i64 {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut last = 0;
    for line in lines {
        if let Some(number) = line.unwrap().strip_prefix("acknowledged ") {
            last = number.parse().unwrap();
            if last >= until {
                break;
            }
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_signal_and_takes_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut from = 1;
    for kill in KILLS {
        let mut child = spawn(folder.path(), from);
        let last = acknowledged(&mut child, kill);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(last >= kill, "the process ended by itself behind {last}");
        // What was acknowledged last is sent again; what came later may have been taken too.
        from = last;
    }
    let mut child = spawn(folder.path(), from);
    assert_eq!(acknowledged(&mut child, NUMBERS), NUMBERS);
    assert!(child.wait().unwrap().success());

    let test = TestHost::open(folder.path(), Registry::default()).await;
    let all: Vec<i64> = (1..=NUMBERS).collect();
    assert_eq!(returned(&test.end("run").await), json!(all));
    let chain = test.chain("run").await;
    let received: Vec<Value> =
        chain.iter().flat_map(|(_, events)| signals(events)).map(|(_, _, input)| input).collect();
    assert_eq!(json!(received), json!(all), "each is in one history, in order");
    assert_eq!(chain.len(), all.len().div_ceil(7));
    test.stop().await;
}
