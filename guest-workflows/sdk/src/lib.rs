//! Writes Everfold workflows in Rust.
//!
//! A workflow is an `async fn` over a [`Context`] and an input that decodes from JSON. It is folded
//! over its history: after a crash, a move or a year the same function runs again from the start,
//! and what it awaited before is answered from the record. So it must do nothing but through its
//! context, and in the same order each time. The types here see to that; what Rust would still let
//! through (`HashMap`, clocks, threads) is banned by this workspace's `clippy.toml`.
//!
//! ```
//! # use std::time::Duration;
//! # use everfold_guest::{Activity, Context, Failure};
//! const GREET: Activity<str, String> =
//!     Activity::new("greet").start_to_close(Duration::from_secs(10));
//!
//! async fn greet_all(ctx: Context, names: Vec<String>) -> Result<Vec<String>, Failure> {
//!     let mut greetings = Vec::new();
//!     for name in &names {
//!         greetings.push(ctx.execute(GREET, name).await?);
//!         ctx.sleep(Duration::from_secs(60)).await?;
//!     }
//!     Ok(greetings)
//! }
//!
//! everfold_guest::export! {
//!     /// Greets everybody on the list, one a minute.
//!     "greet-all" => greet_all,
//! }
//! # fn main() {}
//! ```
//!
//! Calls and timers are ordinary futures: join them and race them with the `futures` crate. Nothing is
//! asked of the host before a future is polled, and dropping one asks for its cancellation.

mod activity;
#[doc(hidden)]
pub mod bindings;
mod cancellation;
pub mod collections;
mod component;
mod context;
mod export;
pub mod failure;
mod host;
mod instance;
mod log;
mod operations;
mod payload;
mod random;
mod run;
pub mod saga;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod timer;
mod workflow;

pub use activity::{Activity, ActivityCall, ActivityError, ActivityErrorKind, CancellationType, RetryPolicy};
pub use cancellation::{Canceled, Cancellation, Shield};
pub use context::{Context, Info, WorkflowRef};
pub use failure::Failure;
pub use log::Level;
pub use payload::{DecodeError, Payload};
pub use random::Random;
pub use saga::Saga;
pub use time::Timestamp;
pub use timer::Timer;
pub use uuid::Uuid;
pub use workflow::INVALID_INPUT;

/// What the macros expand to. Not for authors, and free to change.
#[doc(hidden)]
pub mod __component {
    pub use crate::__export_component as export;
    pub use crate::bindings;
    pub use crate::bindings::exports::everfold::workflow::workflow::{Description, Event, Guest};
    pub use crate::component::{activate, describe};
    pub use crate::workflow::{Workflow, body};
}
