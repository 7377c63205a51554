//! The pure part of Everfold: a workflow is a fold over its history.
//!
//! This crate holds what that sentence means: [events](event), [commands](command), the
//! [state](machine) they lead to, the [fold] itself, its [replay] check, and the [decision] that a
//! step leaves behind. It has no async, clock, randomness, I/O, wasmtime or SQL: time and randomness
//! come in as arguments, everything that goes out is data, and only ordered maps are iterated.

pub mod attributes;
pub mod command;
pub mod compression;
pub mod decision;
pub mod divergence;
pub mod event;
pub mod failure;
pub mod fold;
pub mod history;
pub mod ids;
pub mod lifetime;
pub mod limits;
pub mod lookahead;
pub mod machine;
pub mod payload;
pub mod query;
pub mod replay;
pub mod reset;
pub mod retry;
pub mod route;
pub mod schedule;
mod shared;
