//! `everfold replay --until`: an exported history folded up to an event, and how the run stood there.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use everfold::activity::Registry;
use everfold::runner::api::{Progress, UpgradeRequest, WhoMoves};
use everfold_core::ids::{Digest, Namespace};
use serde_json::{Value, json};
use sha2::Digest as _;
use support::server::{command, text};
use support::{TestHost, component, root, run};
use tokio::sync::watch;

/// Writes a run's history into a file.
async fn export(test: &TestHost, id: &str, folder: &Path) -> PathBuf {
    let file = folder.join(format!("{id}.json"));
    let export = test.host.export(&run(id)).await.unwrap();
    std::fs::write(&file, serde_json::to_vec(&export).unwrap()).unwrap();
    file
}

fn built(name: &str) -> PathBuf {
    root().join("target/components").join(name).with_extension("wasm")
}

fn replay(history: &Path, wasm: &Path, arguments: &[&str]) -> Output {
    command().arg("replay").arg(history).arg("--with").arg(wasm).args(arguments).output().unwrap()
}

fn seen(history: &Path, wasm: &Path, arguments: &[&str]) -> Value {
    let output = replay(history, wasm, &[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same code under another digest: a custom section more.
fn renamed(name: &str) -> Vec<u8> {
    let mut bytes = component(name);
    bytes.extend([0, 5, 4]);
    bytes.extend(b"next");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_seen_as_it_stood_at_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(&folder.path().join("data"), Registry::default()).await;
    test.deploy("samples").await;
    test.start("talkative", "talkative", &json!({ "steps": 2 })).await;
    test.until("talkative", |run| run.history_length == 5).await;
    test.signal("talkative", "stray", &json!("nobody takes it")).await.unwrap();
    let file = export(&test, "talkative", folder.path()).await;
    let samples = built("samples");

    let middle = seen(&file, &samples, &["--until", "3"]);
    assert_eq!((&middle["until"], &middle["stopped_behind_event_id"]), (&json!(3), &json!(4)));
    assert_eq!((&middle["events"], &middle["status"]), (&json!(4), &json!("running")));
    let logs = middle["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 1, "what comes later is not said yet: {logs:?}");
    assert_eq!((&logs[0]["event_id"], &logs[0]["level"]), (&json!(3), &json!("info")));
    assert_eq!(
        (&logs[0]["message"], &logs[0]["fields"]),
        (&json!("a step is done"), &json!({ "step": "1" }))
    );
    assert_eq!(middle["metrics"][0]["name"], "sample_steps_total");
    let activities = middle["pending_activities"].as_array().unwrap();
    assert_eq!(activities.len(), 1);
    assert_eq!(
        (&activities[0]["scheduled_event_id"], &activities[0]["activity_type"]),
        (&json!(4), &json!("noop"))
    );
    assert_eq!((&middle["unread_signals"], &middle["queries"]), (&json!([]), &json!({})));

    let end = seen(&file, &samples, &["--until", "6"]);
    assert_eq!(end["logs"].as_array().unwrap().len(), 2);
    assert_eq!(end["pending_activities"], json!([]));
    assert_eq!(end["unread_signals"], json!([{ "received_event_id": 6, "name": "stray" }]));
    let plain = seen(&file, &samples, &[]);
    assert_eq!(plain.get("logs"), None, "nobody asked to look");

    let shown = text(&replay(&file, &samples, &["--until", "3"]));
    for part in
        ["behind event 4", "event 3 is in the middle of a step", "#4  noop", "a step is done", "step=1"]
    {
        assert!(shown.contains(part), "{part} is missing in: {shown}");
    }
    for outside in ["0", "7"] {
        let refused = replay(&file, &samples, &["--until", outside]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused).contains("events 1 to 6"), "{}", text(&refused));
    }

    // A divergence counts where the replay comes that far.
    let mut other: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    other["events"][3]["attributes"]["activity_type"] = json!("nope");
    let changed = folder.path().join("changed.json");
    std::fs::write(&changed, other.to_string()).unwrap();
    assert_eq!(seen(&changed, &samples, &["--until", "2"])["held"], true);
    let diverged = replay(&changed, &samples, &["--until", "3"]);
    assert_eq!(diverged.status.code(), Some(1), "{}", text(&diverged));
    assert!(
        text(&diverged).contains("at event 4 the history has ActivityScheduled nope"),
        "{}",
        text(&diverged)
    );

    test.start("sleeper", "sleeper", &json!({ "sleep_ms": 60_000 })).await;
    let file = export(&test, "sleeper", folder.path()).await;
    let asleep = seen(&file, &samples, &["--until", "1"]);
    assert_eq!(asleep["timers"][0]["started_event_id"], 2);
    assert!(text(&replay(&file, &samples, &["--until", "2"])).contains("#2  fires in 1 min"));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_asked_as_it_stood_at_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(&folder.path().join("data"), Registry::default()).await;
    test.deploy("samples").await;
    test.start("signals", "adding", &json!({ "count": 3 })).await;
    for number in [4, 5, 6] {
        test.signal("adding", "add", &json!(number)).await.unwrap();
    }
    test.end("adding").await;
    let file = export(&test, "adding", folder.path()).await;
    test.stop().await;
    let samples = built("samples");
    let asked = |arguments: &[&str]| seen(&file, &samples, arguments)["queries"]["seen"].clone();
    assert_eq!(asked(&["--until", "1", "--query", "seen"]), json!([]));
    assert_eq!(asked(&["--until", "4", "--query", "seen", "--input", "null"]), json!([4, 5]));
    assert_eq!(asked(&["--query", "seen"]), json!([4, 5, 6]), "at the end, if nothing is said");
    assert!(text(&replay(&file, &samples, &["--until", "2", "--query", "seen"])).contains("query seen"));

    let unknown = replay(&file, &samples, &["--until", "2", "--query", "sen"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown));
    assert!(text(&unknown).contains("sen"), "{}", text(&unknown));

    // The first release's components answered nothing.
    let old = root().join("tests/histories/0.1.0");
    let mute = replay(&old.join("completed.json"), &old.join("order.wasm"), &["--query", "status"]);
    assert_eq!(mute.status.code(), Some(3), "{}", text(&mute));
    assert!(text(&mute).contains("answers no queries"), "{}", text(&mute));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_two_versions_says_who_recorded_what() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(&folder.path().join("data"), Registry::default()).await;
    test.deploy("samples").await;
    test.start("signals", "moved", &json!({ "count": 3 })).await;
    test.signal("moved", "add", &json!(1)).await.unwrap();
    test.until("moved", |run| run.history_length == 3).await;
    let next = renamed("samples");
    test.host.deploy(&Namespace::default(), next.clone()).await.unwrap();
    let (progress, _) = watch::channel(Progress::default());
    let upgrade = UpgradeRequest {
        namespace: Namespace::default(),
        workflow_type: "signals".to_owned(),
        digest: Digest(sha2::Sha256::digest(&next).into()),
        workflow_ids: Vec::new(),
        // Refused unless a check of all open runs holds.
        who_moves: WhoMoves::AllOrNone,
    };
    assert_eq!(test.host.upgrade(upgrade, &progress).await.unwrap().moved, 1);
    test.signal("moved", "add", &json!(2)).await.unwrap();
    let file = export(&test, "moved", folder.path()).await;
    test.stop().await;

    let (before, after) = (built("samples"), folder.path().join("next.wasm"));
    std::fs::write(&after, &next).unwrap();
    let report = seen(&file, &after, &["--until", "6", "--query", "seen"]);
    assert_eq!((&report["comparison"], &report["queries"]["seen"]), (&json!("mixed"), &json!([1, 2])));
    let parts: Vec<_> = report["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| {
            (part["first_event_id"].clone(), part["last_event_id"].clone(), part["comparison"].clone())
        })
        .collect();
    let expected = [(1, 4, "other_digest"), (5, 6, "same_digest")];
    assert_eq!(parts, expected.map(|(from, to, how)| (json!(from), json!(to), json!(how))));
    let early = seen(&file, &before, &["--until", "2"]);
    assert_eq!((&early["comparison"], early["parts"].as_array().unwrap().len()), (&json!("same_digest"), 1));
    let shown = text(&replay(&file, &after, &[]));
    assert!(shown.contains("events 1 to 4 were recorded by"), "{shown}");
}
