//! What an activation may do, and how it stops when it does more.

use everfold_core::command::Command;
use everfold_core::fold::GuestFault;
use serde_json::json;

use super::handwritten::Module;
use super::script::{Script, started};
use super::{engine, engine_with};
use crate::guest::{EngineSettings, Observation};

/// A script of a module that does this when it is activated.
fn script(activate: &str) -> Script {
    let loaded = engine().load(&Module { activate, ..Module::default() }.component());
    Script::new(&loaded.expect("the component is sound"))
}

/// The fault of the first activation of such a module.
fn fault(activate: &str) -> GuestFault {
    script(activate).feed(started("test", &json!({}))).expect_err("it must stop")
}

fn trap(activate: &str) -> String {
    match fault(activate) {
        GuestFault::Trap { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

fn limit(activate: &str) -> String {
    match fault(activate) {
        GuestFault::LimitExceeded { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_endless_activation_is_stopped_and_its_instance_folds_no_more() {
    let mut script = script("(loop (br 0))");
    let first = script.feed(started("test", &json!({})));
    assert_eq!(
        first,
        Err(GuestFault::LimitExceeded {
            message: "an activation may take at most 50ms".to_owned(),
            backtrace: "activate".to_owned(),
        })
    );
    let second = script.feed(started("test", &json!({}))).expect_err("the instance is unusable");
    assert_eq!(second.to_string(), "the instance stopped at an earlier fault; a new one must be made");
    assert_eq!(script.lines(), [""; 0], "nothing of a faulted activation is kept");
}

#[test]
fn the_time_is_an_activations_not_a_runs() {
    // Some milliseconds of work each; all together are far above the limit.
    let work = "(local.set $turns (i32.const 10000000))
        (loop (br_if 0 (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
        (drop (call $start-timer (i64.const 5) (i32.const 0) (i32.const 0)))";
    let engine = engine_with(EngineSettings {
        activation_time: std::time::Duration::from_millis(200),
        ..EngineSettings::default()
    });
    let loaded = engine.load(&Module { activate: work, ..Module::default() }.component());
    let mut script = Script::new(&loaded.expect("the component is sound"));
    script.feed(started("test", &json!({}))).expect("it is in time");
    for _ in 0..100 {
        let (timer, _) = script.state.timers().iter().next().expect("a timer is open");
        let fired = everfold_core::event::TimerFired { started_event_id: timer };
        script.feed(everfold_core::event::Input::TimerFired(fired)).expect("it is in time");
    }
}

#[test]
fn memory_past_the_limit_traps_and_past_the_modules_own_maximum_does_not() {
    assert_eq!(limit("(drop (memory.grow (i32.const 1021)))"), "guest memory limit of 67108864 bytes");
    let grow = "(if (i32.ne (i32.const -1) (memory.grow (i32.const 2000))) (then unreachable))";
    let loaded = engine().load(&Module { memory: "4 8", activate: grow, ..Module::default() }.component());
    let mut script = Script::new(&loaded.expect("the component is sound"));
    script.feed(started("test", &json!({}))).expect("every host refuses the growth alike");
}

#[test]
fn all_memories_count_together() {
    let two = Module {
        fields: "(memory $second 1)",
        activate: "(drop (memory.grow 0 (i32.const 500))) (drop (memory.grow $second (i32.const 600)))",
        ..Module::default()
    };
    let loaded = engine().load(&two.component()).expect("the component is sound");
    let fault = Script::new(&loaded).feed(started("test", &json!({}))).expect_err("they are too large");
    assert_eq!(fault.to_string(), "limit exceeded: guest memory limit of 67108864 bytes");
}

#[test]
fn a_reported_panic_is_the_traps_message() {
    let panic = "(call $report-panic (global.get $texts) (i32.const 4) (global.get $texts) (i32.const 2))";
    assert_eq!(trap(&format!("{panic} unreachable")), "panicked at te: test");
    assert_eq!(
        trap(&format!("{panic} (drop (i32.div_u (i32.const 1) (i32.const 0)))")),
        "wasm trap: integer divide by zero",
        "a panic ends in `unreachable`; this one was survived"
    );
}

#[test]
fn calls_that_break_a_rule_trap_with_the_rule() {
    assert_eq!(trap("(drop (call $cancel-timer (i64.const 99)))"), "no timer that event 99 started is open");
    assert_eq!(
        trap("(drop (call $fail-workflow (i32.const 0) (i32.const 0)))"),
        "a failure's chain is empty: it needs at least one link"
    );
    let complete = "(drop (call $complete-workflow (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)))";
    assert_eq!(
        trap(&format!("{complete} {complete}")),
        "WorkflowCompleted after the run was closed as completed"
    );
    assert!(trap("(drop (call $start-timer (i64.const 1) (i32.const -9) (i32.const 99)))").contains("out"));
}

#[test]
fn what_a_guest_hands_over_is_bounded() {
    assert_eq!(
        limit("(drop (call $start-timer (i64.const 1) (i32.const 131072) (i32.const 5000)))"),
        "a summary has 5000 bytes; at most 4096 are allowed"
    );
    let large = "(drop (memory.grow (i32.const 400)))
        (drop (call $complete-workflow (i32.const 0) (i32.const 0) (i32.const 0) (i32.const ";
    assert_eq!(
        limit(&format!("{large} 2097153)))")),
        "the result of a workflow has 2097153 bytes; at most 2097152 are allowed"
    );
    assert_eq!(limit(&format!("{large} 16777217)))")), "a call may hand over at most 16777216 bytes");

    let engine = engine_with(EngineSettings { activation_bytes: 10, ..EngineSettings::default() });
    let timers = "(drop (call $start-timer (i64.const 1) (i32.const 0) (i32.const 5)))".repeat(3);
    let loaded = engine.load(&Module { activate: &timers, ..Module::default() }.component());
    let fault = Script::new(&loaded.expect("the component is sound"))
        .feed(started("test", &json!({})))
        .expect_err("that is more than ten bytes");
    assert_eq!(fault.to_string(), "limit exceeded: the commands of one activation may have at most 10 bytes");
}

#[test]
fn log_lines_come_out_and_are_bounded() {
    let mut script = script(
        "(local.set $turns (i32.const 1200))
        (loop
            (call $log (i32.const 3) (global.get $texts) (i32.const 2) (global.get $texts) (i32.const 4)
                (i32.const 0) (i32.const 0))
            (br_if 0 (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))",
    );
    script.feed(started("test", &json!({}))).expect("logging is no fault");
    assert_eq!(script.observations.len(), 1_001);
    let Observation::Log { level, target, message, fields } = &script.observations[0] else {
        panic!("a line");
    };
    assert_eq!((level, target.as_str(), message.as_str()), (&crate::guest::LogLevel::Warn, "te", "test"));
    assert!(fields.is_empty());
    let Observation::Log { message, .. } = &script.observations[1_000] else { panic!("a line") };
    assert!(message.starts_with("200 more lines"), "{message}");
}

#[test]
fn a_result_that_is_no_number_has_the_same_bits_everywhere() {
    let mut script = script(
        "(drop (call $start-timer
            (i64.reinterpret_f64 (f64.div (local.get $zero) (local.get $zero)))
            (i32.const 0) (i32.const 0)))",
    );
    script.feed(started("test", &json!({}))).expect("it is sound");
    // x86 makes a negative one of it, ARM a positive one.
    assert!(matches!(script.last_command(), Command::TimerStarted(timer)
        if timer.duration_ms == 0x7ff8_0000_0000_0000));
}
