//! Tests of the engine: against small modules written by hand, and against the guests of
//! `guest-workflows/`.

mod code_cache;
mod deploy;
pub(crate) mod handwritten;
mod limits;
mod script;
mod versions;
mod workflows;

use std::path::Path;
use std::time::Duration;

use super::{Engine, EngineSettings, Instance, LoadedComponent};

/// An instance may move between threads; what makes them is shared by all.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Instance>();
    is_shared::<LoadedComponent>();
    is_shared::<Engine>();
};

/// An engine that loses its patience soon.
fn engine() -> Engine {
    engine_with(EngineSettings { activation_time: Duration::from_millis(50), ..EngineSettings::default() })
}

fn engine_with(settings: EngineSettings) -> Engine {
    Engine::new(settings, None).expect("the settings are sound")
}

/// A component of `guest-workflows/`.
pub(in crate::guest) fn guest(name: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components").join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{} cannot be read ({error}): run `cargo xtask guests` first", path.display())
    })
}
