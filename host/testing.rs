//! The test kit: workflows and activities under test, with time that skips.
//!
//! ```text
//!  a test ──▶ TestEnvironment ──▶ the real runner, core and engine ──▶ the real component
//!     │            │  │  └── TestStore: SQLite in memory, which can be told to fail
//!     │            │  └───── VirtualTime: stands still until all that goes on is waiting for it
//!     │            └──────── mocks, native activities, and a list of what was called
//!     └────────▶ ActivityHarness ──▶ one attempt of one native activity, without a host
//! ```
//!
//! **Workflows.** A [`TestEnvironment`] runs a `.wasm` as the server does. Its activities are answered for by [`Mock`]s; the first
//! one that is not fails the test and is named. Waiting for a run moves time: to the next timer, back-off or time-out, whenever
//! nothing else goes on ([`TimeMoves`]). So 30 days take milliseconds, and the order of things is that of their times. A wait for a run
//! that cannot end by itself (it is blocked, or waits for a signal) is over at once, with the reason.
//!
//! **Activities.** An [`ActivityHarness`] makes one attempt of a native activity, and shows what its heartbeats said and how it takes a
//! request to stop, or a time-out.
//!
//! | file | owns |
//! |---|---|
//! | `environment` | a host under test: its parts, its clock, its end and the next one |
//! | `run`, `stuck` | a run: what it is sent and asked, the wait for its end; why that is over |
//! | `mock`, `activities` | how activities answer; what they were called with, and what went wrong |
//! | `history` | histories as snapshots |
//! | `quiet` | when nothing is left to do but to wait |
//! | `store` | the store, which fails as it is told |
//! | `harness` | activities without a host |
//! | `code` | compiled components, kept for all tests |
//!
//! # Examples
//!
//! An activity that counts, and says how far it is:
//!
//! ```
//! use everfold::activity::ActivityContext;
//! use everfold::testing::ActivityHarness;
//! use serde_json::json;
//!
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! let count = ActivityHarness::of_fn("count", |context: ActivityContext, to: u32| async move {
//!     let from = context.heartbeat_details::<u32>().unwrap_or(0);
//!     for number in from + 1..=to {
//!         context.heartbeat(&number)?;
//!     }
//!     Ok(to)
//! });
//! let attempted = count.attempt(2).heartbeat_details(&3).run(&5).await;
//! assert_eq!(attempted.result::<u32>(), 5);
//! assert_eq!(attempted.heartbeats, [json!(4), json!(5)]);
//! # });
//! ```
//!
//! A workflow whose payment fails once and is tried again a second later, of virtual time:
//!
//! ```no_run
//! use everfold::testing::{Failure, Mock, TestEnvironment};
//! use serde_json::{Value, json};
//!
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! let environment = TestEnvironment::builder()
//!     .component_file("target/components/order.wasm")
//!     .mock("validate-order", Mock::returns(json!({ "amount_cents": 2_500 })))
//!     .mock(
//!         "process-payment",
//!         Mock::sequence([
//!             Err(Failure::application("GatewayDown", "try again")),
//!             Ok(json!({ "payment_id": "p-1" })),
//!         ]),
//!     )
//!     .mock("update-inventory", Mock::call(|goods: Value| Ok(json!({ "taken": goods["items"] }))))
//!     .mock("arrange-shipping", Mock::returns(json!({ "shipment_id": "s-1", "tracking_number": "t-1" })))
//!     .open()
//!     .await;
//! let run = environment.start("order", "order-1", &json!({ "order_id": "order-1" })).await;
//! let shipped: Value = run.result().await;
//! assert_eq!(shipped["payment_id"], "p-1");
//! assert_eq!(environment.calls_of("process-payment").len(), 2);
//! println!("{}", run.history().await);
//! # });
//! ```

mod activities;
mod code;
mod environment;
mod harness;
mod history;
mod mock;
mod quiet;
mod run;
mod store;
mod stuck;

pub use activities::{Call, Problem};
pub use environment::{BEGINNING, Restart, TestEnvironment, TestEnvironmentBuilder, TimeMoves};
pub use everfold_core::decision::Outcome;
pub use everfold_core::failure::Failure;
pub use everfold_core::machine::RunStatus;
pub use everfold_core::reset::{ResetPlace, ResetPoint};
pub use harness::{ActivityHarness, Attempted, RunningActivity};
pub use history::History;
pub use mock::{Answer, Mock};
pub use run::{End, TestRun};
pub use store::{Failing, TestStore};
pub use stuck::Stuck;
