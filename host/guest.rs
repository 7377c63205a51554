//! The Wasm engine.
//!
//! This module owns everything that knows wasmtime: which components are taken, which limits hold
//! while they run, how the `host` interface reaches the core, and how a trap becomes a
//! [`GuestFault`](everfold_core::fold::GuestFault). It folds one activation at a time and hands it
//! back. It never reads or writes the store, knows no run but the one being folded, and has no
//! time or randomness to give: what crosses into a guest is the event alone.

mod bindings;
mod bounds;
mod cache;
mod component;
mod convert;
mod description;
mod engine;
mod fault;
mod host_interface;
mod inspect;
mod instance;
mod limiter;
mod observation;
mod replica;
mod state;
mod ticker;

#[cfg(test)]
pub(crate) mod tests;

pub use cache::{CacheError, CodeCache};
pub use component::LoadedComponent;
pub use description::{Description, Handler, HandlerKind, WorkflowType};
pub use engine::{Allocation, Engine, EngineError, EngineSettings, NoInstance};
pub use inspect::InvalidComponent;
pub use instance::Instance;
pub use observation::{LogLevel, MetricKind, Observation};
pub use replica::Replica;
