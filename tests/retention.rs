//! Closed runs that are removed when their time is over: in virtual time, with hosts that are killed in
//! between. A removed run is unknown, in every part; the others are untouched.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::ApiError;
use everfold_core::ids::{EventId, Timestamp};
use everfold_core::machine::RunStatus;
use serde_json::json;
use support::{PATIENCE, TestHost, request, returned, run};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// A host that keeps closed runs for a week.
async fn open(folder: &Path, time: &VirtualTime) -> TestHost {
    let settings = HostSettings { closed_runs_kept: Some(7 * DAY), ..HostSettings::default() };
    let clock = Clock::from_source(time.clone());
    TestHost::open_at(folder, Registry::default(), &settings, EngineSettings::default(), clock).await
}

fn midnight() -> VirtualTime {
    VirtualTime::starting_at(Timestamp(1_700_000_000_000))
}

/// Whether a run is there: all of it, or nothing.
async fn is_there(test: &TestHost, id: &str) -> bool {
    let described = test.host.describe(&run(id)).await;
    let exported = test.host.export(&run(id)).await;
    match (described, exported) {
        (Ok(description), Ok(export)) => {
            assert_eq!(export.events.len() as u64, description.history_length, "{id}");
            true
        }
        // It went in between.
        (Ok(_) | Err(ApiError::NotFound(_)), Err(ApiError::NotFound(_))) => false,
        other => panic!("{id}: {other:?}"),
    }
}

/// Waits until the run is gone.
async fn gone(test: &TestHost, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    while is_there(test, id).await {
        assert!(Instant::now() < deadline, "{id} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_a_week_after_its_end_and_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let test = open(folder.path(), &time).await;
    test.deploy("samples").await;
    let mut first = request("echo", "first", &json!(1));
    first.request_id = Some("r".to_owned());
    test.host.start(first.clone()).await.unwrap();
    test.end("first").await;
    test.start("signals", "waits", &json!({ "count": 1 })).await;
    time.advance(DAY);
    test.start("echo", "second", &json!(2)).await;
    test.end("second").await;

    time.advance(6 * DAY + SECOND);
    gone(&test, "first").await;
    let host = &test.host;
    for refused in [
        host.result(&run("first"), Duration::ZERO).await.err(),
        host.history(&run("first"), EventId(0), 10, Duration::ZERO).await.err(),
        test.signal("first", "add", &json!(1)).await.err(),
        test.query(run("first"), "status").await.err(),
        test.cancel("first").await.err(),
    ] {
        assert!(matches!(refused, Some(ApiError::NotFound(_))), "{refused:?}");
    }
    assert!(is_there(&test, "second").await);
    assert_eq!(host.describe(&run("waits")).await.unwrap().status, RunStatus::Running);
    let metrics = host.metrics().await;
    assert!(metrics.contains("everfold_runs_removed_total 1\n"), "{metrics}");

    // What the request made is gone, so that it makes something again.
    assert!(!host.start(first).await.unwrap().is_duplicate);
    assert_eq!(returned(&test.end("first").await), json!(1));
    time.advance(DAY);
    gone(&test, "second").await;
    assert!(is_there(&test, "first").await);
    assert_eq!(host.describe(&run("waits")).await.unwrap().status, RunStatus::Running);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_cut_off_goes_on_in_the_next_host() {
    const RUNS: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let test = open(folder.path(), &time).await;
    test.deploy("samples").await;
    let names: Vec<String> = (0..RUNS).map(|n| format!("run-{n:03}")).collect();
    for name in &names {
        test.start("echo", name, &json!(name)).await;
        test.end(name).await;
        time.advance(Duration::from_millis(1));
    }
    test.start("signals", "waits", &json!({ "count": 1 })).await;
    time.advance(7 * DAY + SECOND);
    gone(&test, &names[0]).await;
    test.kill().await;

    let test = open(folder.path(), &time).await;
    let mut found = BTreeSet::new();
    for name in names.iter().rev() {
        if is_there(&test, name).await {
            found.insert(name.as_str());
        }
    }
    assert!(!found.contains("run-000"), "what was gone stays gone");
    for name in &names {
        gone(&test, name).await;
    }
    assert_eq!(test.host.describe(&run("waits")).await.unwrap().status, RunStatus::Running);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_runs_stay_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let clock = Clock::from_source(time.clone());
    let (settings, engine) = (HostSettings::default(), EngineSettings::default());
    let test = TestHost::open_at(folder.path(), Registry::default(), &settings, engine, clock).await;
    test.deploy("samples").await;
    test.start("echo", "old", &json!(1)).await;
    test.end("old").await;
    time.advance(10_000 * DAY);
    test.start("echo", "new", &json!(1)).await;
    test.end("new").await;
    assert!(is_there(&test, "old").await);
    test.stop().await;
}
