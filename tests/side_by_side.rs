//! Many versions side by side: each run ends on its own, and code that no run needs leaves memory.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use everfold::activity::Registry;
use everfold::clock::{Clock, TimeSource as _, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{RoutingChange, RoutingRequest, StartRequest};
use everfold_core::ids::{Digest, Namespace, Timestamp};
use everfold_core::machine::RunStatus;
use serde_json::json;
use support::{PATIENCE, TestHost, component, request, returned, run};

/// How many components are loaded side by side.
const SIDE_BY_SIDE: usize = 50;
/// Time to look after what is in memory, and more than enough.
const MINUTES: Duration = Duration::from_secs(20 * 60);

/// The samples with a number in a section of their own: the same code by another digest.
fn numbered(number: usize) -> Vec<u8> {
    let mut bytes = component("samples");
    let (name, text) = (b"number", number.to_string());
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    // A custom section (0), its size, and the size of its name: short, so that each is one byte of LEB128.
    bytes.extend_from_slice(&[0, 1 + length(name) + length(text.as_bytes()), length(name)]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

async fn open(folder: &Path, time: &VirtualTime) -> TestHost {
    let clock = Clock::from_source(time.clone());
    let settings = HostSettings::default();
    TestHost::open_at(folder, Registry::default(), &settings, EngineSettings::default(), clock).await
}

fn midnight() -> VirtualTime {
    VirtualTime::starting_at(Timestamp(1_700_000_000_000))
}

async fn deploy(test: &TestHost, number: usize) -> Digest {
    test.host.deploy(&Namespace::default(), numbered(number)).await.unwrap().digest
}

/// Starts a run that takes one number, on a version of its own.
async fn start_on(test: &TestHost, id: &str, digest: Digest) {
    let pinned = request("signals", id, &json!({ "count": 1 }));
    test.host.start(StartRequest { digest: Some(digest), ..pinned }).await.unwrap();
}

async fn finish(test: &TestHost, id: &str, number: usize) {
    test.signal(id, "add", &json!(number)).await.unwrap();
    let end = test.end(id).await;
    assert_eq!((end.status, returned(&end)), (RunStatus::Completed, json!([number])));
}

/// How many components' code is in memory, as the metrics say it.
async fn loaded(test: &TestHost) -> usize {
    let metrics = test.host.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("everfold_components_loaded "));
    line.unwrap().parse().unwrap()
}

async fn is_loaded(test: &TestHost, digest: Digest) -> bool {
    let versions = test.host.versions(&Namespace::default(), "signals").await.unwrap().versions;
    versions.iter().find(|version| version.row.digest == digest).unwrap().is_loaded
}

/// Lets time pass from one waking to the next until it is so; gives the time that passed.
async fn pass_until(time: &VirtualTime, is_so: impl AsyncFn() -> bool) -> Duration {
    let (began, deadline) = (time.now(), Instant::now() + PATIENCE);
    while !is_so().await {
        assert!(Instant::now() < deadline, "it did not come about by {}", time.now());
        if let Some(next) = time.next_wake() {
            time.advance_to(next);
        }
        tokio::task::yield_now().await;
    }
    Duration::from_millis(time.now().ms_since(began))
}

/// A line of the kernel's account of this process, in MiB.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_components_run_side_by_side_and_leave_when_their_runs_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let test = open(folder.path(), &time).await;
    let before = memory("VmRSS");
    let began = Instant::now();
    let mut digests = Vec::new();
    for number in 0..SIDE_BY_SIDE {
        digests.push(deploy(&test, number).await);
    }
    let (deployed, after_deploy) = (began.elapsed(), memory("VmRSS"));
    for (number, digest) in digests.iter().enumerate() {
        start_on(&test, &format!("run-{number}"), *digest).await;
    }
    assert_eq!(loaded(&test).await, SIDE_BY_SIDE);
    eprintln!("{SIDE_BY_SIDE} components deployed in {deployed:.1?}");
    eprintln!(
        "resident: {before} MiB before, {after_deploy} MiB behind, {} MiB with a run on each",
        memory("VmRSS")
    );
    test.stop().await;

    let began = Instant::now();
    let test = open(folder.path(), &time).await;
    eprintln!("opened again in {:.1?}, resident: {} MiB", began.elapsed(), memory("VmRSS"));
    assert_eq!(loaded(&test).await, 0, "a parked run needs no code");
    let began = Instant::now();
    for number in 0..SIDE_BY_SIDE {
        finish(&test, &format!("run-{number}"), number).await;
    }
    let finished = began.elapsed();
    eprintln!("each loaded from the code cache and its run folded to the end: {finished:.1?} for all");
    eprintln!("resident: {} MiB, at most {} MiB", memory("VmRSS"), memory("VmHWM"));
    for (number, digest) in digests.iter().enumerate() {
        let description = test.host.describe(&run(&format!("run-{number}"))).await.unwrap();
        assert_eq!(description.digest, *digest, "it ended on its own version");
    }
    pass_until(&time, async || loaded(&test).await == 1).await;
    assert!(is_loaded(&test, digests[0]).await, "a route leads to the first one");
    eprintln!("resident behind unloading: {} MiB", memory("VmRSS"));

    start_on(&test, "again", digests[7]).await;
    assert_eq!(loaded(&test).await, 2);
    finish(&test, "again", 7).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_stays_while_a_run_is_in_memory_and_goes_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let test = open(folder.path(), &time).await;
    let first = deploy(&test, 1).await;
    let second = deploy(&test, 2).await;
    start_on(&test, "run", second).await;
    let later = time.now().plus_ms(u64::try_from(MINUTES.as_millis()).unwrap());
    pass_until(&time, async || time.now() >= later).await;
    assert!(is_loaded(&test, second).await, "the run's instance holds it");
    finish(&test, "run", 1).await;
    pass_until(&time, async || !is_loaded(&test, second).await).await;
    assert!(is_loaded(&test, first).await);

    // A replica holds it too, for as long as it is asked now and then.
    assert_eq!(test.query(run("run"), "seen").await.unwrap(), json!([1]));
    assert!(is_loaded(&test, second).await);
    let kept = pass_until(&time, async || !is_loaded(&test, second).await).await;
    assert!(kept >= Duration::from_secs(5 * 60), "{kept:?}");
    assert_eq!(
        test.query(run("run"), "seen").await.unwrap(),
        json!([1]),
        "and answers when it is asked again"
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_leads_elsewhere_frees_the_code_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let time = midnight();
    let test = open(folder.path(), &time).await;
    let first = deploy(&test, 1).await;
    let second = deploy(&test, 2).await;
    let types: Vec<String> = {
        let rows = test.host.workflow_types(&Namespace::default()).await.unwrap();
        rows.into_iter().map(|row| row.workflow_type).collect()
    };
    let promote = async |digest| {
        for workflow_type in &types {
            let request = RoutingRequest {
                namespace: Namespace::default(),
                workflow_type: workflow_type.clone(),
                change: RoutingChange::Promote(Some(digest)),
            };
            test.host.route(request).await.unwrap();
        }
    };
    promote(second).await;
    assert!(!is_loaded(&test, first).await && is_loaded(&test, second).await);
    start_on(&test, "run", second).await;
    promote(first).await;
    assert!(is_loaded(&test, first).await && is_loaded(&test, second).await, "a run is on the other one");
    finish(&test, "run", 1).await;
    test.host.retire(&Namespace::default(), "signals", second).await.unwrap();
    // The run's instance goes a moment behind its end.
    pass_until(&time, async || loaded(&test).await == 1).await;
    test.stop().await;
}
