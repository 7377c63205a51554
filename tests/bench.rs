//! `everfold bench` as people call it: every scenario, as small as it gets, ends what it started, counts it,
//! and leaves nothing behind. No figure is compared with a time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::server::{command, text};
use support::{PATIENCE, component, root};
use tempfile::TempDir;

/// The benchmark, with a folder for temporary files of its own.
struct Bench {
    temporary: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { temporary: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // Says what to do if it was not built.
        component("samples");
        let mut command = command();
        command
            .arg("bench")
            .args(arguments)
            .arg("--component")
            .arg(root().join("target/components/samples.wasm"))
            .env("TMPDIR", self.temporary.path())
            .env_remove("EVERFOLD_URL")
            .stdin(Stdio::null());
        command
    }

    /// Runs it; everything must have ended as it should, and nothing may be left.
    fn measure(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        self.leaves_nothing();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for scenario in report["scenarios"].as_array().unwrap() {
            for measurement in scenario["measurements"].as_array().unwrap() {
                assert_eq!(measurement["errors"], json!({}), "{arguments:?}: {measurement:#}");
                let names: Vec<&String> = measurement["figures"].as_object().unwrap().keys().collect();
                for repeat in measurement["repeats"].as_array().unwrap() {
                    let repeated: Vec<&String> = repeat.as_object().unwrap().keys().collect();
                    assert_eq!(repeated, names);
                }
            }
        }
        report
    }

    /// Runs a scenario; gives its measurements.
    fn scenario(&self, arguments: &[&str]) -> Vec<Value> {
        let report = self.measure(arguments);
        assert_eq!(report["scenarios"].as_array().unwrap().len(), 1);
        assert_eq!(report["scenarios"][0]["scenario"], arguments[0]);
        report["scenarios"][0]["measurements"].as_array().unwrap().clone()
    }

    fn leaves_nothing(&self) {
        assert!(!self.has_host(), "its host is still there");
        let left: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Whether a process serves a folder below the temporary one.
    fn has_host(&self) -> bool {
        let folder = self.temporary.path().to_str().unwrap();
        std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(folder)
        })
    }
}

fn figure(measurement: &Value, name: &str) -> f64 {
    measurement["figures"][name].as_f64().unwrap_or_else(|| panic!("{name} in {measurement:#}"))
}

fn names(measurements: &[Value]) -> Vec<&str> {
    measurements.iter().map(|measurement| measurement["name"].as_str().unwrap()).collect()
}

fn refused(output: &Output, exit: i32, message: &str) {
    assert_eq!(output.status.code(), Some(exit), "{}", text(output));
    assert!(text(output).contains(message), "`{message}` is not in {}", text(output));
}

#[test]
fn throughput_is_told_in_full() {
    let bench = Bench::new();
    let report = bench.measure(&["throughput", "--orders", "50", "--concurrency", "1,4", "--repeat", "2"]);
    assert_eq!((&report["server"], &report["repeat"]), (&Value::Null, &json!(2)));
    let measurements = report["scenarios"][0]["measurements"].as_array().unwrap();
    assert_eq!(names(measurements), ["1 in flight", "4 in flight"]);
    for measurement in measurements {
        assert_eq!(measurement["parameters"]["orders"], 50);
        assert_eq!(measurement["repeats"].as_array().unwrap().len(), 2);
        for (name, expected) in [("orders", 50.0), ("errors", 0.0), ("refused", 0.0)] {
            assert_eq!(figure(measurement, name), expected, "{name}");
        }
        let steps = figure(measurement, "steps_per_second") / figure(measurement, "orders_per_second");
        assert!((steps - 4.0).abs() < 0.01, "{steps}");
        let mut before = 0.0;
        for name in ["p50_us", "p90_us", "p99_us", "max_us"] {
            assert!(figure(measurement, name) >= before, "{measurement:#}");
            before = figure(measurement, name);
        }
        for name in ["elapsed_ms", "flushes", "orders_per_flush"] {
            assert!(figure(measurement, name) > 0.0, "{name} in {measurement:#}");
        }
        // What only Linux tells is there or null, never missing.
        for name in ["host_cpu_ms", "driver_cpu_ms", "host_peak_memory_bytes", "written_bytes"] {
            let figure = &measurement["figures"][name];
            let is_known = figure.as_f64().is_some();
            assert!(if cfg!(target_os = "linux") { is_known } else { figure.is_null() }, "{name}");
        }
    }
}

#[test]
fn people_read_a_table() {
    let bench = Bench::new();
    let output = bench.command(&["latency", "--orders", "20"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    for row in ["latency", "1 in flight", "orders/s", "p99", "host CPU per order", "orders per flush"] {
        assert!(shown.contains(row), "`{row}` is not in {shown}");
    }
    bench.leaves_nothing();
}

#[test]
fn one_run_may_have_many_steps() {
    let bench = Bench::new();
    let found = bench.scenario(&["fan-out", "--runs", "2", "--steps", "50"]);
    assert_eq!((figure(&found[0], "runs"), found.len()), (2.0, 1));
    let found = bench.scenario(&["long", "--steps", "100"]);
    assert_eq!(figure(&found[0], "steps"), 100.0);
    for tenth in 1..=10 {
        let name = format!("tenth_{tenth}_steps_per_second");
        assert!(found[0]["figures"].as_object().unwrap().contains_key(&name), "{name} in {:#}", found[0]);
    }
}

#[test]
fn parked_runs_survive_a_kill_and_all_end() {
    let found = Bench::new().scenario(&["parked", "--runs", "60", "--concurrency", "8"]);
    assert_eq!(names(&found), ["started", "killed and restarted", "signalled"]);
    assert!(figure(&found[0], "disk_bytes_per_run") > 0.0);
    assert!(figure(&found[1], "ready_ms") > 0.0);
    assert_eq!((figure(&found[0], "runs"), figure(&found[2], "runs")), (60.0, 60.0));
    assert!(figure(&found[2], "all_ended_ms") > 0.0);
}

#[test]
fn timers_fire_and_runs_under_way_go_on_behind_a_kill() {
    let bench = Bench::new();
    let found = bench.scenario(&["timers", "--runs", "40"]);
    assert_eq!(figure(&found[0], "runs"), 40.0);
    assert!(figure(&found[0], "max_us") >= figure(&found[0], "p50_us"));
    let found = bench.scenario(&["restart", "--runs", "20", "--steps", "200"]);
    assert_eq!(figure(&found[0], "runs"), 20.0);
    assert!(figure(&found[0], "all_ended_ms") >= figure(&found[0], "all_going_on_ms"));
}

#[test]
fn histories_are_replayed() {
    let found = Bench::new().scenario(&["replay", "--runs", "20", "--steps", "30"]);
    assert_eq!(names(&found), ["short histories", "a long history"]);
    assert_eq!((figure(&found[0], "runs"), figure(&found[0], "events")), (20.0, 200.0));
    assert_eq!((figure(&found[1], "runs"), figure(&found[1], "events")), (1.0, 62.0));
}

#[test]
fn runs_answer_and_take_what_is_said() {
    let bench = Bench::new();
    let found = bench.scenario(&["query", "--requests", "40", "--runs", "5", "--concurrency", "4"]);
    assert_eq!(names(&found), ["one run", "5 runs"]);
    assert!(found.iter().all(|measurement| figure(measurement, "queries") == 40.0));
    let found = bench.scenario(&["signals", "--requests", "50", "--concurrency", "4"]);
    assert_eq!(figure(&found[0], "signals"), 50.0);
    let found = bench.scenario(&["hot", "--orders", "40", "--concurrency", "4"]);
    assert_eq!(names(&found), ["alone", "beside a hot run"]);
    assert!(figure(&found[1], "signals_per_second") > 0.0);
    assert!(figure(&found[1], "p99_to_alone_ratio") > 0.0);
}

#[test]
fn orders_end_on_hosts_of_all_kinds() {
    let bench = Bench::new();
    let found = bench.scenario(&["evicted", "--orders", "30", "--concurrency", "4"]);
    assert_eq!(figure(&found[0], "orders"), 30.0);
    let found = bench.scenario(&["payload", "--orders", "4", "--concurrency", "2"]);
    assert!(figure(&found[0], "input_bytes_per_second") > 0.0);
    let found = bench.scenario(&["observed", "--orders", "30", "--concurrency", "4"]);
    let ratios = ["logged and scraped to silent", "traced to silent"];
    assert_eq!(names(&found), ["silent", "logged and scraped", "traced", ratios[0], ratios[1]]);
    assert!(figure(&found[3], "orders_per_second_ratio") > 0.0);
    assert_eq!(figure(&found[2], "spans_dropped"), 0.0);
    assert!(figure(&found[4], "host_cpu_us_per_order_ratio") > 0.0);
    let found = bench.scenario(&["soak", "--duration", "2s", "--rate", "20"]);
    assert_eq!(names(&found), ["minute 1", "whole time"]);
    assert_eq!((figure(&found[1], "orders"), figure(&found[1], "orders_not_ended")), (40.0, 0.0));
}

#[test]
fn an_interrupted_benchmark_leaves_nothing() {
    let bench = Bench::new();
    let child = bench.command(&["soak", "--duration", "10m"]).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !bench.has_host() {
        assert!(Instant::now() < deadline, "it starts no host");
        std::thread::sleep(Duration::from_millis(10));
    }
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    refused(&child.wait_with_output().unwrap(), 1, "interrupted");
    bench.leaves_nothing();
}

#[test]
fn what_cannot_be_measured_is_said() {
    let bench = Bench::new();
    let run = |arguments: &[&str]| bench.command(arguments).output().unwrap();
    refused(&run(&["speed"]), 2, "speed");
    refused(&run(&["latency", "--rate", "5"]), 2, "latency has no --rate");
    refused(&run(&["hot", "--concurrency", "1,2"]), 2, "several numbers");
    refused(&run(&["--server", "https://127.0.0.1:1"]), 2, "is not the address of a host");
    refused(&run(&["--server", "http://127.0.0.1:1"]), 5, "no host answers");
    refused(&run(&["restart", "--server", "http://127.0.0.1:1"]), 2, "a host of the benchmark's own");
    let elsewhere = command().arg("bench").current_dir(bench.temporary.path()).output().unwrap();
    refused(&elsewhere, 3, "cargo xtask guests");
    let no_component = bench.temporary.path().join("no.wasm");
    std::fs::write(&no_component, "nothing").unwrap();
    let path: &Path = &no_component;
    let output = command().args(["bench", "--component"]).arg(path).output().unwrap();
    refused(&output, 1, "no.wasm");
    std::fs::remove_file(path).unwrap();
    bench.leaves_nothing();
}
