//! Shadow replay: what a component would do to runs that are open, found out without touching one.
//! Candidates are built components with a few bytes changed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::future::pending;
use std::time::{Duration, Instant};

use everfold::activity::{ActivityContext, Registry};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{
    ApiError, CheckReport, CheckRequest, Finding, LookAhead, Outlook, Progress, Subject, Tally, TypeReport,
};
use everfold_core::divergence::Strictness;
use everfold_core::ids::{Digest, Namespace, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::Digest as _;
use support::{SAGA_ANSWERS, TestHost, component, request, run, saga_input};
use tokio::sync::watch;

/// A built component with a text in it replaced by one of the same length.
fn patched(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component(name);
    let mut at = 0;
    let mut replaced = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        replaced += 1;
    }
    assert!(replaced > 0, "{from} is not in {name}");
    bytes
}

/// The same code under another digest: a custom section more.
fn renamed(name: &str) -> Vec<u8> {
    let mut bytes = component(name);
    bytes.extend([0, 5, 4]);
    bytes.extend(b"next");
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// A check of all open runs against these bytes.
fn check_of(bytes: Vec<u8>) -> CheckRequest {
    CheckRequest {
        namespace: Namespace::default(),
        subject: Subject::Bytes(bytes),
        workflow_types: Vec::new(),
        workflow_ids: Vec::new(),
        closed_from: None,
        strictness: Strictness::Lenient,
        look_ahead: None,
    }
}

async fn check(test: &TestHost, request: CheckRequest) -> Result<CheckReport, ApiError> {
    let (progress, _) = watch::channel(Progress::default());
    test.host.check(request, &progress).await
}

fn of<'a>(report: &'a CheckReport, workflow_type: &str) -> &'a TypeReport {
    report.workflow_types.iter().find(|found| found.workflow_type == workflow_type).unwrap()
}

/// `noop` is answered up to step 2, then never.
fn stuck() -> Registry {
    let mut registry = Registry::empty();
    registry.register_fn("noop", |_: ActivityContext, step: u64| async move {
        if step > 2 {
            pending::<()>().await;
        }
        Ok(step)
    });
    registry
}

/// The order activities; a payment with `tok_wait` never ends.
fn shop() -> Registry {
    let mut registry = Registry::empty();
    for (name, answer) in SAGA_ANSWERS {
        registry.register_fn(name, move |_: ActivityContext, input: Value| async move {
            if name == "process-payment" && input.to_string().contains("tok_wait") {
                pending::<()>().await;
            }
            Ok(answer())
        });
    }
    registry
}

fn order(token: &str) -> Value {
    let mut input = saga_input();
    input["payment_token"] = json!(token);
    input
}

/// Starts runs of `long` that wait behind their second step.
async fn start_stuck(test: &TestHost, runs: usize) {
    for n in 0..runs {
        test.start("long", &format!("long-{n}"), &json!({ "steps": 3 })).await;
    }
    for n in 0..runs {
        test.until(&format!("long-{n}"), |run| run.history_length == 6).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_code_holds_for_all_runs_and_touches_none() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), stuck()).await;
    test.deploy("samples").await;
    start_stuck(&test, 5).await;
    test.start("signals", "waiting", &json!({ "count": 2 })).await;
    test.signal("waiting", "add", &json!(1)).await.unwrap();
    test.until("waiting", |run| run.history_length == 3).await;
    test.start("echo", "closed", &json!("all")).await;
    test.end("closed").await;
    let before = (test.events("waiting").await, test.events("long-3").await);

    let (progress, seen) = watch::channel(Progress::default());
    let request = CheckRequest { closed_from: Some(Timestamp(0)), ..check_of(renamed("samples")) };
    let report = test.host.check(request, &progress).await.unwrap();
    assert!(report.holds);
    assert_eq!(report.digest, digest(&renamed("samples")));
    assert!(report.caveat.contains("the past only"), "{}", report.caveat);
    let all = |runs| Tally { runs, compatible: runs, ..Tally::default() };
    let (long, signals) = (of(&report, "long"), of(&report, "signals"));
    assert_eq!((long.open, signals.open, of(&report, "race").open), (all(5), all(1), all(0)));
    assert_eq!((of(&report, "echo").open, of(&report, "echo").closed), (all(0), all(1)));
    assert_eq!((long.groups.len(), long.groups[0].finding, long.groups[0].runs), (1, Finding::Compatible, 5));
    assert_eq!(long.groups[0].examples.len(), 3, "some of them");
    assert_eq!(report.events, 5 * 6 + 3 + 2);
    assert_eq!(*seen.borrow(), Progress { done: 7, total: 7 });

    assert_eq!((test.events("waiting").await, test.events("long-3").await), before);
    assert_eq!(test.host.components(&Namespace::default()).await.unwrap().len(), 1, "nothing is kept");
    let metrics = test.host.metrics().await;
    let line = "everfold_shadow_replays_total{workflow_type=\"long\",finding=\"compatible\"} 5\n";
    assert!(metrics.contains(line), "{metrics}");
    test.signal("waiting", "add", &json!(2)).await.unwrap();
    assert_eq!(test.end("waiting").await.status, RunStatus::Completed);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_looks_at_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), stuck()).await;
    test.deploy("samples").await;
    start_stuck(&test, 3).await;
    test.start("signals", "waiting", &json!({ "count": 2 })).await;

    let own = Subject::Deployed(digest(&component("samples")));
    let report = check(&test, CheckRequest { subject: own, ..check_of(Vec::new()) }).await.unwrap();
    let there = Tally { runs: 3, already_there: 3, ..Tally::default() };
    assert_eq!((of(&report, "long").open, report.events, report.holds), (there, 0, true));

    let some = CheckRequest {
        workflow_types: vec!["long".to_owned()],
        workflow_ids: vec![WorkflowId("long-1".to_owned())],
        ..check_of(renamed("samples"))
    };
    let report = check(&test, some.clone()).await.unwrap();
    assert_eq!(report.workflow_types.len(), 1);
    assert_eq!((of(&report, "long").open.runs, of(&report, "long").open.compatible), (1, 1));
    assert_eq!(of(&report, "long").groups[0].examples[0].workflow_id.0, "long-1");

    // A name that is wrong must not look like a run that is well.
    for id in ["waiting", "nobody"] {
        let wrong = CheckRequest { workflow_ids: vec![WorkflowId(id.to_owned())], ..some.clone() };
        let refused = check(&test, wrong).await;
        assert!(matches!(&refused, Err(ApiError::NotFound(said)) if said.contains(id)), "{refused:?}");
    }

    let foreign =
        CheckRequest { workflow_types: vec!["order-saga".to_owned()], ..check_of(renamed("samples")) };
    let refused = check(&test, foreign).await;
    assert!(
        matches!(&refused, Err(ApiError::InvalidInput(said)) if said.contains("order-saga")),
        "{refused:?}"
    );
    let unknown = CheckRequest { subject: Subject::Deployed(Digest([7; 32])), ..check_of(Vec::new()) };
    assert!(matches!(check(&test, unknown).await, Err(ApiError::UnknownVersion(_))));
    let garbage = check(&test, check_of(b"not a component".to_vec())).await;
    assert!(matches!(garbage, Err(ApiError::InvalidComponent(_))), "{garbage:?}");
    let endless = CheckRequest { look_ahead: Some(LookAhead { steps: 0 }), ..check_of(renamed("samples")) };
    assert!(matches!(check(&test, endless).await, Err(ApiError::InvalidInput(_))));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_would_diverge_are_found_with_event_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), stuck()).await;
    test.deploy("samples").await;
    start_stuck(&test, 5).await;
    test.start("signals", "waiting", &json!({ "count": 2 })).await;

    let report = check(&test, check_of(patched("samples", "noop", "nooq"))).await.unwrap();
    assert!(!report.holds);
    assert_eq!(of(&report, "signals").open.compatible, 1);
    let long = of(&report, "long");
    assert_eq!(long.open, Tally { runs: 5, diverged: 5, ..Tally::default() });
    let [group] = long.groups.as_slice() else { panic!("{:?}", long.groups) };
    assert_eq!((group.finding, group.runs, group.examples.len()), (Finding::Diverged, 5, 3));
    assert_eq!(
        group.reason,
        "the history has ActivityScheduled noop, the component makes ActivityScheduled nooq"
    );
    let example = &group.examples[0];
    assert_eq!((example.event_id.unwrap().0, example.history_length), (2, 6));
    let divergence = example.divergence.as_ref().unwrap();
    assert_eq!((divergence.expected.name.as_str(), divergence.actual.name.as_str()), ("noop", "nooq"));
    assert!(example.backtrace.contains("Run::schedule_activity"), "its functions: {}", example.backtrace);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_inputs_are_changes_and_break_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), shop()).await;
    test.deploy("order").await;
    test.start("order-saga", "paying", &order("tok_wait")).await;
    test.until("paying", |run| run.history_length == 4).await;

    let other = patched("order", "amount_cents", "amount_centz");
    let report = check(&test, check_of(other.clone())).await.unwrap();
    let saga = of(&report, "order-saga");
    assert_eq!((saga.open.changed, report.holds), (1, true));
    let example = &saga.groups[0].examples[0];
    assert!(example.message.starts_with("ActivityScheduled process-payment: "), "{}", example.message);
    let paths: Vec<&str> = example.changes[0].fields.iter().map(|field| field.path.as_str()).collect();
    assert!(paths.iter().any(|path| path.ends_with("amount_centz")), "{paths:?}");

    let strict = CheckRequest { strictness: Strictness::Strict, ..check_of(other) };
    let report = check(&test, strict).await.unwrap();
    assert_eq!((of(&report, "order-saga").open.diverged, report.holds), (1, false));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_read_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("samples").await;
    test.start("long", "long", &json!({ "steps": 700 })).await;
    test.end("long").await;
    let closed = |bytes| CheckRequest { closed_from: Some(Timestamp(0)), ..check_of(bytes) };
    let report = check(&test, closed(renamed("samples"))).await.unwrap();
    assert_eq!((of(&report, "long").closed.compatible, report.events), (1, 1_402));
    let later = CheckRequest { closed_from: Some(Timestamp::MAX), ..check_of(renamed("samples")) };
    assert_eq!(check(&test, later).await.unwrap().events, 0, "it closed before");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_blocked_run_is_tried_too() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("hostile").await;
    test.start("panic", "panic", &Value::Null).await;
    test.until("panic", |run| run.blocked.is_some()).await;
    let report = check(&test, check_of(renamed("hostile"))).await.unwrap();
    assert_eq!((of(&report, "panic").open.faulted, report.events, report.holds), (1, 0, false));
    let [group] = of(&report, "panic").groups.as_slice() else { panic!("{report:?}") };
    assert!(group.reason.starts_with("panicked at "), "{}", group.reason);
    let own = Subject::Deployed(digest(&component("hostile")));
    let report = check(&test, CheckRequest { subject: own, ..check_of(Vec::new()) }).await.unwrap();
    let open = of(&report, "panic").open;
    assert_eq!((open.already_there, open.blocked_there), (1, 1), "it is there, and is told to be blocked");
    test.stop().await;
}

/// A host whose activations may take little time, and `runs` runs of `long` on it.
async fn impatient(folder: &std::path::Path, runs: usize) -> TestHost {
    let engine = EngineSettings { activation_time: Duration::from_millis(100), ..EngineSettings::default() };
    let test = TestHost::open_with(folder, stuck(), &HostSettings::default(), engine).await;
    test.deploy("samples").await;
    start_stuck(&test, runs).await;
    test
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_loops_is_not_tried_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let test = impatient(folder.path(), 100).await;
    let report = check(&test, check_of(patched("hostile", "spin", "long"))).await.unwrap();
    let long = of(&report, "long");
    assert!(!report.holds);
    assert!(long.open.faulted >= 20 && long.open.not_tried > 0, "{:?}", long.open);
    assert_eq!((long.open.runs, long.open.faulted + long.open.not_tried), (100, 100));
    assert_eq!((long.groups.len(), long.groups[0].finding), (1, Finding::Faulted));
    assert!(long.groups[0].reason.contains("an activation may take at most"), "{}", long.groups[0].reason);
    assert_eq!(long.groups[0].examples[0].event_id.unwrap().0, 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_ends_with_its_caller_and_with_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let test = impatient(folder.path(), 60).await;
    let (progress, mut seen) = watch::channel(Progress::default());
    let looping = check_of(patched("hostile", "spin", "long"));
    tokio::select! {
        report = test.host.check(looping, &progress) => panic!("it ended: {report:?}"),
        counted = seen.wait_for(|progress| progress.done > 0) => drop(counted.unwrap()),
    }
    // Its threads are free for the next one, and the runs as they were.
    let report = check(&test, check_of(renamed("samples"))).await.unwrap();
    assert_eq!(of(&report, "long").open.compatible, 60);
    let host = test.host.clone();
    test.stop().await;
    let (progress, _) = watch::channel(Progress::default());
    let late = host.check(check_of(renamed("samples")), &progress).await;
    assert!(matches!(late, Err(ApiError::Busy(_))), "{late:?}");
}

fn calls(outlook: &Outlook) -> (Vec<String>, Vec<String>) {
    let lines = |ahead: &everfold::runner::api::Ahead| ahead.calls.iter().map(ToString::to_string).collect();
    (lines(&outlook.asks), lines(&outlook.would_ask))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_ahead_shows_what_would_come_next_on_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), shop()).await;
    test.deploy("order").await;
    // Its results are what the others are imagined to get.
    test.start("order-saga", "done", &order("tok_ok")).await;
    assert_eq!(test.end("done").await.status, RunStatus::Completed);
    for n in 0..3 {
        test.start("order-saga", &format!("paying-{n}"), &order("tok_wait")).await;
        test.until(&format!("paying-{n}"), |run| run.history_length == 4).await;
    }
    let other = patched("order", "update-inventory", "renew-inventory2");
    let ahead = |steps| CheckRequest {
        look_ahead: Some(LookAhead { steps }),
        closed_from: Some(Timestamp(0)),
        ..check_of(other.clone())
    };
    let report = check(&test, ahead(1)).await.unwrap();
    assert!(report.holds, "the past agrees");
    let saga = of(&report, "order-saga");
    assert_eq!((saga.open.compatible, saga.closed.diverged), (3, 1), "the closed run has the renamed step");
    let [completes, fails] = saga.outlooks.as_slice() else { panic!("{:?}", saga.outlooks) };
    assert_eq!(completes.imagined, ["process-payment completes"]);
    assert_eq!((completes.runs, completes.on), (3, digest(&component("order"))));
    assert_eq!(completes.results_from, "process-payment: as in done");
    let scheduled = |name: &str| vec![format!("ActivityScheduled {name}")];
    assert_eq!(calls(completes), (scheduled("update-inventory"), scheduled("renew-inventory2")));
    assert!(completes.differs);
    assert_eq!(fails.imagined, ["process-payment fails"]);
    assert!(!fails.differs, "{fails:?}");
    // Whether the customer was charged is unknown, so that the undoing begins there.
    assert_eq!(calls(fails).0, calls(fails).1);
    assert_eq!(calls(fails).0.len(), 1, "{fails:?}");
    assert_eq!(fails.results_from, "");

    // Only the open runs: nobody knows what a payment brings.
    let open = CheckRequest { closed_from: None, ..ahead(1) };
    let report = check(&test, open).await.unwrap();
    let completes = &of(&report, "order-saga").outlooks[0];
    assert_eq!(completes.results_from, "process-payment: null, no history has a result");

    let same = CheckRequest { subject: Subject::Bytes(renamed("order")), ..ahead(3) };
    let report = check(&test, same).await.unwrap();
    let completes = &of(&report, "order-saga").outlooks[0];
    assert!(!completes.differs, "{completes:?}");
    assert!(completes.results_from.contains("process-payment: as in done"), "{}", completes.results_from);
    let expected = [
        "ActivityScheduled update-inventory",
        "ActivityScheduled arrange-shipping",
        "DetachedWorkflowStarted order-tracking",
        "WorkflowCompleted",
    ];
    assert_eq!(
        calls(completes),
        (expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec())
    );
    assert_eq!(completes.imagined.len(), 2);
    assert_eq!(completes.asks.inputs[1..], ["update-inventory completes", "arrange-shipping completes"]);
    test.stop().await;
}

/// 10,000 open runs, checked against the same code under another digest.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn ten_thousand_open_runs() {
    const RUNS: usize = 10_000;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name| status.lines().find(|line: &&str| line.starts_with(name)).unwrap().to_owned();
        format!("{}, {}", line("VmHWM"), line("VmRSS"))
    };
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("samples").await;
    let began = Instant::now();
    let starts = futures::stream::iter(0..RUNS).map(|n| {
        let host = test.host.clone();
        async move {
            let (kind, input) = match n % 2 {
                0 => ("talkative", json!({ "steps": 5 })),
                _ => ("sleeper", json!({ "sleep_ms": 86_400_000 })),
            };
            host.start(request(kind, &format!("{kind}-{n}"), &input)).await.unwrap();
        }
    });
    starts.buffer_unordered(256).collect::<Vec<()>>().await;
    for n in (0..RUNS).step_by(2) {
        test.until(&format!("talkative-{n}"), |run| run.history_length == 11).await;
    }
    eprintln!("{RUNS} runs begun in {:?}; before: {}", began.elapsed(), peak());
    for round in 1..=3 {
        let report = check(&test, check_of(renamed("samples"))).await.unwrap();
        assert!(report.holds);
        let runs: u64 = report.workflow_types.iter().map(|found| found.open.compatible).sum();
        assert_eq!(runs, RUNS as u64);
        eprintln!(
            "round {round}: {} ms for {} events; {:?}; {}",
            report.duration_ms,
            report.events,
            report.spent,
            peak()
        );
    }
    assert_eq!(test.host.describe(&run("sleeper-1")).await.unwrap().history_length, 2);
    test.stop().await;
}
