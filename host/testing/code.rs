//! The engine that all tests of a process share, and its code cache: a component is compiled once.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::guest::{CodeCache, Engine, EngineSettings};

/// Where compiled code is kept; [`std::env::temp_dir`] where it is absent.
const CACHE: &str = "EVERFOLD_TEST_CODE_CACHE";

/// The engine with the default settings.
///
/// # Panics
/// When it cannot be made.
pub(super) fn shared_engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| engine(EngineSettings::default())).clone()
}

/// An engine with settings of its own.
///
/// # Panics
/// When it cannot be made.
pub(super) fn engine(settings: EngineSettings) -> Engine {
    let folder = std::env::var_os(CACHE)
        .map_or_else(|| std::env::temp_dir().join("everfold-test-code"), PathBuf::from);
    // Without one it is compiled each time; a folder that is somebody else's is refused.
    match Engine::new(settings, CodeCache::open(&folder).ok()) {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    }
}
