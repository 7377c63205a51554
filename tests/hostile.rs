//! Hostile components: whatever the bytes are, a deploy answers, in bounded time and memory.
//!
//! A failure prints its seed; `HOSTILE_SEED=SEED` makes the same cases again, and `HOSTILE_CASES` says how
//! many. The fuzz target `fuzz/fuzz_targets/deploy.rs` goes on where this stops.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]
#![allow(unreachable_pub, reason = "the modules of a test are its own")]

#[path = "hostile/bombs.rs"]
mod bombs;
#[path = "hostile/encode.rs"]
mod encode;
#[path = "hostile/generate.rs"]
mod generate;
#[path = "../host/guest/tests/handwritten.rs"]
mod handwritten;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use everfold::guest::{Engine, EngineSettings};
use generate::{Generator, sections};
use handwritten::Module;
use serde_json::Value;
use support::component;
use support::server::{Server, order};

/// How many generated cases are made.
const CASES: u64 = 400;
/// What a process that gets all cases may take. One that gets none takes 25 MB.
const PEAK_MB: u64 = 500;

fn engine() -> Engine {
    let settings = EngineSettings { activation_time: Duration::from_millis(50), ..EngineSettings::default() };
    Engine::new(settings, None).unwrap()
}

/// Runs a test of this file in a process of its own, which must end well within its memory.
fn in_a_process(test: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{}: {said}", child.status);
    let peak = said.lines().find_map(|line| line.strip_prefix("peak_mb="));
    let peak: u64 = peak.unwrap_or_else(|| panic!("it says how much it took: {said}")).parse().unwrap();
    assert!(peak <= PEAK_MB, "{test} took {peak} MB; at most {PEAK_MB} are allowed");
}

/// Tells the process that asked for it what this one has taken at most.
fn tell_peak() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("\npeak_mb={}", kilobytes / 1024);
}

#[test]
fn every_bomb_is_refused_in_bounded_memory() {
    in_a_process("bombs_one_after_the_other");
}

#[test]
#[ignore = "`every_bomb_is_refused_in_bounded_memory` runs it in a process of its own"]
fn bombs_one_after_the_other() {
    let engine = engine();
    for bomb in bombs::all() {
        let refused = engine.load(&bomb.wasm).expect_err(bomb.name).to_string();
        assert!(refused.contains(bomb.refused), "{}: {refused:.300}", bomb.name);
        assert!(refused.len() < 1_000, "{}: a reason is for people: {} bytes", bomb.name, refused.len());
    }
    tell_peak();
}

#[test]
fn whatever_a_generator_makes_is_answered_in_bounded_memory() {
    in_a_process("generated_cases_one_after_the_other");
}

#[test]
#[ignore = "`whatever_a_generator_makes_is_answered_in_bounded_memory` runs it in a process of its own"]
fn generated_cases_one_after_the_other() {
    let engine = engine();
    let seed = setting("HOSTILE_SEED").unwrap_or(1);
    let sound = Module::default().component();
    assert!(engine.load(&sound).is_ok(), "the corpus is sound");
    // One that traps when it is asked what it offers, so that its debug information is read.
    let trapping = Module { describe: "unreachable", ..Module::default() }.component();
    let mut generator = Generator::new(seed, vec![sound, trapping]);
    let mut accepted = 0;
    for case in 0..setting("HOSTILE_CASES").unwrap_or(CASES) {
        let (kind, wasm) = generator.next();
        let answered = catch_unwind(AssertUnwindSafe(|| match engine.load(&wasm) {
            // A harmless change. It must be possible to begin with it, or to be told why not.
            Ok(loaded) => {
                accepted += 1;
                drop(loaded.instantiate());
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }));
        assert!(answered.is_ok(), "HOSTILE_SEED={seed}: case {case}, {kind}, was not answered");
    }
    assert!(accepted > 0, "some changes are harmless");
    tell_peak();
}

#[test]
fn a_real_component_that_is_cut_off_is_refused_wherever_that_is() {
    let engine = engine();
    let whole = component("order");
    let sections = sections(&whole);
    // What follows it are names, which nothing needs.
    let exports = sections.iter().rfind(|section| whole[section.start] != 0).unwrap().start;
    let ends =
        sections.iter().map(|section| section.start).chain((0..64).map(|part| whole.len() * part / 64));
    for end in ends {
        let cut = &whole[..end.min(exports)];
        assert!(engine.load(cut).is_err(), "the first {} bytes are no whole component", cut.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_sent_bombs_answers_each_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let looping = Module { fields: "(func $spin (loop (br 0))) (start $spin)", ..Module::default() };
    let growing = Module {
        fields: "(func $eat (loop (drop (memory.grow (i32.const 100))) (br 0))) (start $eat)",
        ..Module::default()
    };
    let mut sent: Vec<(&str, Vec<u8>, &str)> = vec![
        ("start that loops", looping.component(), "an activation may take at most"),
        ("start that grows", growing.component(), "guest memory limit"),
        ("random bytes", vec![0xa5; 4_096], "not a WebAssembly binary"),
        ("half a component", component("order")[..200_000].to_vec(), "cannot be compiled"),
    ];
    sent.extend(bombs::all().into_iter().map(|bomb| (bomb.name, bomb.wasm, bomb.refused)));
    let before = server.get("/api/v1/components").await;
    for chunk in sent.chunks(12) {
        let placed = server.order(&order("tok_ok", "10115")).await;
        for (name, wasm, refused) in chunk {
            let request = server.http.post(server.url("/api/v1/components"));
            let answer = request.header("content-type", "application/wasm").body(wasm.clone()).send().await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 422, "{name}");
            let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(problem["code"], "invalid_component", "{name}: {problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(refused), "{name}: {detail}");
        }
        assert_eq!(server.end(&placed.workflow_id).await["status"], "completed");
    }
    assert_eq!(server.get("/api/v1/components").await, before, "nothing of them was kept");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
