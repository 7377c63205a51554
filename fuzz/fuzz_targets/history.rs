//! Bytes that are read as a history: packed as the store has it, and exported as a person hands it in.
//!
//! `cargo +nightly fuzz run history fuzz/corpus/history tests/histories/0.1.0`

#![no_main]

use everfold_core::history::{Export, pack, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A refusal is an answer too.
    drop(Export::from_json(bytes));
    let mut events = Vec::new();
    if unpack(bytes, &mut events).is_ok() {
        let mut again = Vec::new();
        unpack(&pack(&events), &mut again).expect("what was read can be written and read again");
        assert_eq!(pack(&again), pack(&events));
    }
});
