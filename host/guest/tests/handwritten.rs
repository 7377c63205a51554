//! Components of hand-written core modules: the module gets the package's types from `wit/`.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module in parts; each part is WebAssembly text.
pub(crate) struct Module<'a> {
    /// Names of its workflow types.
    pub(crate) types: &'a [&'a str],
    /// What its memory is declared as.
    pub(crate) memory: &'a str,
    /// Further fields of the module.
    pub(crate) fields: &'a str,
    /// What `describe` does before it returns the types.
    pub(crate) describe: &'a str,
    /// What `activate` does; it has the locals `$turns` (i32) and `$zero` (f64).
    pub(crate) activate: &'a str,
}

impl Default for Module<'_> {
    fn default() -> Self {
        Self { types: &["test"], memory: "4", fields: "", describe: "", activate: "" }
    }
}

/// Where the module keeps its description, its table of types, and texts.
const DESCRIPTION: u32 = 16;
const TYPES: u32 = 64;
const TEXTS: u32 = 40 * 1024;
/// What the allocator gives out first.
const HEAP: u32 = 64 * 1024;

impl Module<'_> {
    pub(crate) fn component(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the module is well-formed");
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let (package, _) = resolve.push_dir(wit).expect("the package parses");
        let world = resolve.select_world(&[package], Some("workflow-component")).expect("it is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("the world can be encoded");
        ComponentEncoder::default()
            .module(&module)
            .and_then(|encoder| encoder.encode())
            .expect("the module fits the world")
    }

    fn text(&self) -> String {
        let Self { types, memory, fields, describe, activate } = self;
        format!(
            r#"(module
                (import "everfold:workflow/host@0.1.0" "start-timer"
                    (func $start-timer (param i64 i32 i32) (result i64)))
                (import "everfold:workflow/host@0.1.0" "cancel-timer"
                    (func $cancel-timer (param i64) (result i64)))
                (import "everfold:workflow/host@0.1.0" "complete-workflow"
                    (func $complete-workflow (param i32 i32 i32 i32) (result i64)))
                (import "everfold:workflow/host@0.1.0" "fail-workflow"
                    (func $fail-workflow (param i32 i32) (result i64)))
                (import "everfold:workflow/host@0.1.0" "log"
                    (func $log (param i32 i32 i32 i32 i32 i32 i32)))
                (import "everfold:workflow/host@0.1.0" "report-panic"
                    (func $report-panic (param i32 i32 i32 i32)))
                (memory (export "memory") {memory})
                (global $next (mut i32) (i32.const {HEAP}))
                (global $texts i32 (i32.const {TEXTS}))
                (func $allocate (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
                    (local $at i32)
                    (local.set $at (global.get $next))
                    (global.set $next
                        (i32.and (i32.const -8)
                            (i32.add (i32.const 7) (i32.add (local.get $at) (local.get $size)))))
                    (local.get $at))
                {fields}
                (func $describe (export "everfold:workflow/workflow@0.1.0#describe") (result i32)
                    {describe}
                    (i32.const {DESCRIPTION}))
                (func $activate (export "everfold:workflow/workflow@0.1.0#activate") (param $event i32)
                    (local $turns i32) (local $zero f64)
                    (global.set $next (i32.const {HEAP}))
                    {activate})
                {data}
            )"#,
            data = description(types),
        )
    }
}

/// Data segments that hold a `description` with these types.
fn description(types: &[&str]) -> String {
    let mut table = Vec::new();
    let mut texts = Vec::new();
    for name in types {
        let at = TEXTS + u32::try_from(texts.len()).expect("short texts");
        texts.extend_from_slice(name.as_bytes());
        table.extend_from_slice(&words(&[at, length(name.as_bytes()), 0, 0, 0, 0]));
    }
    let count = u32::try_from(types.len()).expect("few types");
    let mut data = String::new();
    for (at, bytes) in [(DESCRIPTION, words(&[TYPES, count, 0, 0])), (TYPES, table), (TEXTS, texts)] {
        let escaped = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").expect("writing to memory does not fail");
            text
        });
        writeln!(data, "(data (i32.const {at}) \"{escaped}\")").expect("writing to memory does not fail");
    }
    data
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short texts")
}
