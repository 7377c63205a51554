//! What is refused when it is deployed, and what is said then.

use std::time::Duration;

use everfold_core::fold::GuestFault;

use super::handwritten::Module;
use super::{engine, engine_with};
use crate::guest::{EngineSettings, InvalidComponent};

/// Why a binary is refused.
fn refusal(wasm: &[u8]) -> String {
    engine().load(wasm).expect_err("it must be refused").to_string()
}

/// Why a component in text is refused.
fn refusal_of_text(component: &str) -> String {
    refusal(&wat::parse_str(component).expect("the component is well-formed"))
}

#[test]
fn what_is_no_component_is_refused() {
    let not_wasm = "this is not a WebAssembly binary: it does not begin with \\0asm";
    assert_eq!(refusal(b""), not_wasm);
    assert_eq!(refusal(b"\0asm"), not_wasm);
    assert_eq!(refusal(&[0x5a; 1_000]), not_wasm);
    assert_eq!(refusal(b"(component)"), not_wasm, "the text format is for tests");
    assert_eq!(
        refusal(b"\0asm\x0e\0\x01\0"),
        "this WebAssembly binary is of an unknown version: [0e, 00, 01, 00] after \\0asm"
    );
    let core_module = refusal_of_text("(module)");
    assert!(core_module.starts_with("this is a core WebAssembly module, not a component"), "{core_module}");
    assert!(core_module.contains("wasm-tools component new"), "{core_module}");
    let garbage = refusal(b"\0asm\x0d\0\x01\0 and then something else");
    assert!(garbage.starts_with("the component cannot be compiled: "), "{garbage}");
}

#[test]
fn what_is_too_large_is_refused_unread() {
    let engine = engine_with(EngineSettings { component_bytes: 99, ..EngineSettings::default() });
    assert_eq!(
        engine.load(&[0; 100]).expect_err("it is too large"),
        InvalidComponent::TooLarge { size: 100, limit: 99 }
    );
}

#[test]
fn foreign_imports_are_refused_by_name_all_of_them() {
    assert_eq!(
        refusal_of_text(
            r#"(component
                (import "wasi:cli/environment@0.2.0" (instance
                    (export "get-arguments" (func (result (list string))))))
                (import "everfold:workflow/types@0.1.0" (instance
                    (export "f" (func))))
                (import "everfold:workflow/host@0.2.0" (instance))
                (import "now" (func (result u64)))
            )"#
        ),
        "the component imports `wasi:cli/environment@0.2.0`, `everfold:workflow/types@0.1.0#f`, \
         `everfold:workflow/host@0.2.0`, `now`; a workflow may import `everfold:workflow/host@0.1.0` and \
         nothing else"
    );
}

#[test]
fn host_functions_that_are_unknown_or_of_another_signature_are_refused_by_name() {
    assert_eq!(
        refusal_of_text(
            r#"(component (import "everfold:workflow/host@0.1.0" (instance
                (export "cancel-timer" (func (param "started-event-id" u64) (result u64)))
                (export "read-clock" (func (result u64)))
                (export "start-child" (func)))))"#
        ),
        "the component imports `read-clock`, `start-child` from `everfold:workflow/host@0.1.0`, which this \
         host does not have"
    );
    let exports = Module::default().component();
    let wrong = refusal_of_text(
        r#"(component
            (import "everfold:workflow/host@0.1.0" (instance $host
                (export "cancel-timer" (func (param "started-event-id" string)))))
            (instance $workflow)
            (export "everfold:workflow/workflow@0.1.0" (instance $workflow)))"#,
    );
    assert!(wrong.contains("with other signatures than this host's"), "{wrong}");
    assert!(wrong.contains("cancel-timer"), "{wrong}");
    assert!(engine().load(&exports).is_ok(), "a subset of the functions is enough");
}

#[test]
fn a_component_without_the_workflow_interface_is_refused() {
    assert_eq!(
        refusal_of_text("(component)"),
        "the component does not export `everfold:workflow/workflow@0.1.0`: there is no workflow in it"
    );
    let empty = refusal_of_text(
        r#"(component (instance $w) (export "everfold:workflow/workflow@0.1.0" (instance $w)))"#,
    );
    assert!(empty.contains("with other functions or signatures"), "{empty}");
    let wrong = refusal_of_text(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $w (export "describe" (func $f)) (export "activate" (func $f)))
            (export "everfold:workflow/workflow@0.1.0" (instance $w)))"#,
    );
    assert!(wrong.contains("with other functions or signatures"), "{wrong}");
}

#[test]
fn features_that_are_not_deterministic_or_not_bounded_are_off() {
    for (feature, module) in [
        ("shared memory", "(memory 1 1 shared)"),
        ("atomic instructions", "(memory 1) (func (drop (i32.atomic.load (i32.const 0) (i32.const 0))))"),
        ("64-bit memory", "(memory i64 1)"),
        ("garbage collection", "(type (struct (field i32)))"),
        ("exceptions", "(tag)"),
        ("pages of one byte", "(memory 1 1 (pagesize 1))"),
    ] {
        let text = format!("(component (core module {module}))");
        let Ok(wasm) = wat::parse_str(&text) else {
            assert_eq!(feature, "atomic instructions", "the text of {feature} is well-formed");
            continue;
        };
        let refused = refusal(&wasm);
        assert!(refused.starts_with("the component cannot be compiled: "), "{feature}: {refused}");
    }
}

#[test]
fn the_description_is_checked() {
    let long = "x".repeat(256);
    let many: Vec<String> = (0..=1_000).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (types, said) in [
        (&[][..], "the component has no workflow type: register one with the SDK"),
        (&["a", ""], "the component describes itself badly: a workflow type has an empty name"),
        (&["a", "b", "a"], "the component describes itself badly: two workflow types are named `a`"),
        (
            &[&long],
            "the component describes itself badly: the name of a workflow type has 256 bytes; at most 255 \
             are allowed",
        ),
        (
            &["a\n"],
            "the component describes itself badly: the name of a workflow type has control characters, or \
             spaces at an end: \"a\\n\"",
        ),
        (
            &many,
            "the component describes itself badly: there are 1001 workflow types; at most 1000 are allowed",
        ),
    ] {
        let wasm = Module { types, memory: "8", ..Module::default() }.component();
        assert_eq!(refusal(&wasm), said);
    }
    let loaded = engine().load(&Module { types: &["b", "a"], ..Module::default() }.component());
    let loaded = loaded.expect("it is sound");
    let names: Vec<&str> =
        loaded.description().workflow_types.iter().map(|workflow_type| workflow_type.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn describe_stands_under_the_limits_and_can_command_nothing() {
    let described = |describe| match engine().load(&Module { describe, ..Module::default() }.component()) {
        Err(InvalidComponent::DescribeFailed(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert!(matches!(described("(loop (br 0))"), GuestFault::LimitExceeded { message, backtrace }
            if message == "an activation may take at most 50ms" && backtrace == "describe"));
    assert!(matches!(described("unreachable"), GuestFault::Trap { message, backtrace }
            if message == "wasm trap: wasm `unreachable` instruction executed" && backtrace == "describe"));
    assert!(
        matches!(described("(drop (call $cancel-timer (i64.const 1)))"), GuestFault::Trap { message, .. }
            if message == "`cancel-timer` was called outside `activate`: commands belong to an event")
    );
    // The same long text again and again: little memory there, much here.
    let amplified = "(i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 16) (i32.const 65536))
        (i32.store (i32.const 20) (i32.const 5000))
        (loop $types
            (i32.store offset=65536 (i32.load (i32.const 4)) (i32.const 190000))
            (i32.store offset=65540 (i32.load (i32.const 4)) (i32.const 60000))
            (i32.store (i32.const 4) (i32.add (i32.const 24) (i32.load (i32.const 4))))
            (br_if $types (i32.lt_u (i32.load (i32.const 4)) (i32.const 120000))))";
    let fault = described(amplified);
    assert_eq!(fault.to_string(), "limit exceeded: a call may hand over at most 16777216 bytes");
}

#[test]
fn a_components_start_stands_under_the_limits() {
    let started = |module: Module<'_>| match engine().load(&module.component()) {
        Err(InvalidComponent::StartFailed(GuestFault::LimitExceeded { message, .. })) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        started(Module { fields: "(func $spin (loop (br 0))) (start $spin)", ..Module::default() }),
        "an activation may take at most 50ms"
    );
    assert_eq!(
        started(Module { memory: "1025", ..Module::default() }),
        "guest memory limit of 67108864 bytes"
    );
    assert_eq!(
        started(Module {
            fields: "(table $large 1 funcref)
                (func $grow (drop (table.grow $large (ref.null func) (i32.const 1000000))))
                (start $grow)",
            ..Module::default()
        }),
        "guest table limit of 100000 elements"
    );
    let tables = "(table 1 funcref)".repeat(33);
    let refused = started(Module { fields: &tables, ..Module::default() });
    assert!(refused.contains("table count too high"), "{refused}");
}

#[test]
fn a_start_function_that_calls_the_host_is_refused() {
    let module = Module {
        fields: "(func $early (drop (call $cancel-timer (i64.const 1)))) (start $early)",
        ..Module::default()
    };
    let refused = engine().load(&module.component()).expect_err("no event is being folded");
    assert!(matches!(refused, InvalidComponent::StartFailed(GuestFault::Trap { .. })), "{refused}");
}

#[test]
fn the_default_limits_are_those_of_the_design() {
    let settings = EngineSettings::default();
    assert_eq!(settings.memory_bytes, 64 << 20);
    assert_eq!(settings.activation_time, Duration::from_secs(1));
    assert_eq!(settings.component_bytes, 16 << 20);
}
