//! The Wasm engine.
