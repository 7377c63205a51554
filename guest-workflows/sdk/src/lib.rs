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
//!
//! # Signals, queries, and going on as a new run
//!
//! A signal stays with the host until the workflow takes it from a [`SignalReceiver`]: a wait that is
//! dropped, or a receiver that nobody polls, loses none. A query is answered by a closure over what the
//! workflow shares with it, also after the workflow has returned. A workflow that would go on for ever
//! [continues as new](Context::continue_as_new) before its history grows long: it returns the next run as
//! its error, a [`Stop`], and what it has not taken goes over.
//!
//! ```
//! # use std::cell::Cell;
//! # use std::rc::Rc;
//! # use std::time::Duration;
//! # use everfold_guest::{Context, Stop};
//! # use futures::select_biased;
//! async fn track(ctx: Context, days: u32) -> Result<u32, Stop> {
//!     let seen = Rc::new(Cell::new(days));
//!     ctx.on_query("days", {
//!         let seen = Rc::clone(&seen);
//!         move |(): ()| seen.get()
//!     });
//!     let arrived = ctx.signal::<()>("arrived");
//!     {
//!         let mut arrival = arrived.recv();
//!         let mut a_day = ctx.sleep(Duration::from_secs(86_400));
//!         select_biased! {
//!             parcel = arrival => { parcel?; return Ok(days) }
//!             passed = a_day => passed?,
//!         }
//!     }
//!     seen.set(days + 1);
//!     Err(ctx.continue_as_new(&(days + 1)).into())
//! }
//!
//! everfold_guest::export! {
//!     /// Counts the days until a parcel arrives.
//!     "track" => track {
//!         /// The parcel is there.
//!         signal "arrived",
//!         /// How many days it has taken so far.
//!         query "days",
//!     },
//! }
//! # fn main() {}
//! ```
//!
//! # Updates
//!
//! An update is a message that is answered. Its handler is an `async` closure beside the workflow, which may call
//! activities; its validator refuses what must not even be recorded.
//!
//! ```
//! # use std::cell::Cell;
//! # use std::rc::Rc;
//! # use everfold_guest::{Context, Failure};
//! async fn counter(ctx: Context, goal: i64) -> Result<i64, Failure> {
//!     let sum = Rc::new(Cell::new(0));
//!     let adding = Rc::clone(&sum);
//!     ctx.on_validated_update(
//!         "add",
//!         |number: &i64| match number {
//!             0.. => Ok(()),
//!             _ => Err(Failure::application("Negative", "only what is not negative is added")),
//!         },
//!         move |number| {
//!             let sum = Rc::clone(&adding);
//!             async move {
//!                 sum.set(sum.get() + number);
//!                 Ok::<_, Failure>(sum.get())
//!             }
//!         },
//!     );
//!     let reached = Rc::clone(&sum);
//!     ctx.wait_condition(move || reached.get() >= goal).await?;
//!     ctx.all_handlers_finished().await?;
//!     Ok(sum.get())
//! }
//!
//! everfold_guest::export! {
//!     /// Adds what it is told until it has enough.
//!     "counter" => counter {
//!         /// A number to add; answers with the sum.
//!         update "add",
//!     },
//! }
//! # fn main() {}
//! ```
//!
//! # Other runs
//!
//! [`Context::external_workflow`] names another run, which can be sent a signal or asked to cancel. The request is
//! delivered exactly once, in the transaction that records it; where no such run is open, it fails with
//! [`WORKFLOW_NOT_FOUND`].
//!
//! # Children
//!
//! A [child](ChildWorkflow) is a run of its own that tells its parent of its beginning and of its end. The two are waited
//! for apart, or [together](Context::execute_child).
//!
//! ```
//! # use everfold_guest::{ChildWorkflow, Context, Failure, ParentClosePolicy};
//! const SHIP: ChildWorkflow<u64, String> = ChildWorkflow::new("ship-parcel");
//! const NEWSLETTER: ChildWorkflow<str, ()> =
//!     ChildWorkflow::new("newsletter").parent_close_policy(ParentClosePolicy::Abandon);
//!
//! async fn sell(ctx: Context, (order, customer): (u64, String)) -> Result<String, Failure> {
//!     let newsletter = ctx.start_child(NEWSLETTER, customer.as_str()).await?;
//!     let parcel = ctx.execute_child(SHIP, &order).await?;
//!     newsletter.signal("shipped", &parcel).await?;
//!     Ok(parcel)
//! }
//! ```
//!
//! # Changing a workflow while runs are open
//!
//! A run that is moved to new code is replayed on it, and must ask for the same things in the same order.
//! Where the new code asks otherwise, it asks first [which version](Context::version) the run follows, and
//! keeps the old branch for those that passed the place before: [`version`] shows how.
//!
//! Log lines ([`info!`] and its kin) and measurements ([`Context::counter`], [`Context::histogram`]) come
//! out once, after what caused them is committed, and never on a replay.

mod activity;
#[doc(hidden)]
pub mod bindings;
mod cancellation;
mod child;
pub mod collections;
mod component;
mod condition;
mod context;
mod continue_as_new;
mod details;
mod export;
mod external;
pub mod failure;
mod host;
mod instance;
mod log;
mod metric;
mod operations;
mod payload;
mod query;
mod random;
mod run;
pub mod saga;
mod signal;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod timer;
mod update;
pub mod version;
mod workflow;

pub use activity::{
    Activity, ActivityCall, ActivityError, ActivityErrorKind, CancellationType, RetryPolicy, WithAttempt,
};
pub use cancellation::{Canceled, Cancellation, Shield};
pub use child::{
    Child, ChildCall, ChildError, ChildErrorKind, ChildResult, ChildWorkflow, IdReusePolicy,
    ParentClosePolicy, StartChild, WORKFLOW_ALREADY_STARTED,
};
pub use condition::Condition;
pub use context::{Context, Info, WorkflowRef};
pub use continue_as_new::{ContinueAsNew, Stop, VersionChoice};
pub use external::{ExternalError, ExternalRequest, ExternalWorkflow, WORKFLOW_NOT_FOUND};
pub use failure::Failure;
pub use log::Level;
pub use metric::{Counter, Histogram};
pub use payload::{DecodeError, Payload};
pub use query::UNKNOWN_QUERY;
pub use random::Random;
pub use saga::Saga;
pub use signal::{INVALID_SIGNAL, InvalidSignal, Receive, SignalError, SignalReceiver};
pub use time::Timestamp;
pub use timer::Timer;
pub use update::UNKNOWN_UPDATE;
pub use uuid::Uuid;
pub use version::DEFAULT_VERSION;
pub use workflow::INVALID_INPUT;

/// What the macros expand to. Not for authors, and free to change.
#[doc(hidden)]
pub mod __component {
    pub use crate::__export_component as export;
    pub use crate::bindings;
    pub use crate::bindings::everfold::workflow::types::Failure as FailureLinks;
    pub use crate::bindings::everfold::workflow::types::Header;
    pub use crate::bindings::exports::everfold::workflow::query::Guest as QueryGuest;
    pub use crate::bindings::exports::everfold::workflow::update::Guest as UpdateGuest;
    pub use crate::bindings::exports::everfold::workflow::workflow::{Description, Event, Guest};
    pub use crate::component::{activate, describe, query, validate};
    pub use crate::workflow::{Handler, HandlerKind, Workflow, body};
}
