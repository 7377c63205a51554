//! Bytes that are deployed: whatever they are, `Engine::load` answers, and what it takes can be begun.
//!
//! The seeds are the built components. With cargo-fuzz and a nightly compiler, in the project's root:
//!
//! ```text
//! cargo xtask guests
//! cargo +nightly fuzz run deploy fuzz/corpus/deploy target/components -- -max_len=1048576 -rss_limit_mb=1500 -timeout=60
//! ```
//!
//! `-rss_limit_mb` and `-timeout` are the claim: what the bounds of `host/guest/bounds.rs` let through is
//! compiled in less.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use everfold::guest::{Engine, EngineSettings};
use libfuzzer_sys::fuzz_target;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let settings = EngineSettings { activation_time: Duration::from_millis(50), ..EngineSettings::default() };
    Engine::new(settings, None).expect("the settings are sound")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(loaded) = ENGINE.load(bytes) {
        // A fault is an answer too.
        drop(loaded.instantiate());
    }
});
