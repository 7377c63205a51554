//! Everfold: a durable workflow host in one binary.
//!
//! Workflows are Wasm components; the host folds events into them, records everything they ask for,
//! and runs the asked-for activities natively. `ARCHITECTURE.md` in the repository's root is the map.

pub mod activity;
pub mod clock;
pub mod guest;
pub mod orders;
pub mod problem;
pub mod runner;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod testing;
pub mod version;
