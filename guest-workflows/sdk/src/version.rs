//! How a workflow is changed while runs of it are open.
//!
//! A run that is moved to new code folds its whole history again there. What the new code asks for must
//! be what the history has, in the same order; an activity more, one less, or two that changed places
//! is a divergence, and the host refuses the move. So the new code asks [which version](crate::Context::version)
//! of the change the run follows, and keeps the old branch beside the new one:
//!
//! ```
//! # use std::time::Duration;
//! # use everfold_guest::{Activity, ActivityError, Context, DEFAULT_VERSION, Failure};
//! # const PAY: Activity<str, ()> = Activity::new("pay").start_to_close(Duration::from_secs(10));
//! # const PACK: Activity<str, ()> = Activity::new("pack").start_to_close(Duration::from_secs(10));
//! async fn process(ctx: Context, order: String) -> Result<(), Failure> {
//!     if ctx.version("pack-first", DEFAULT_VERSION..=1) == DEFAULT_VERSION {
//!         ctx.execute(PAY, &*order).await?;
//!         ctx.execute(PACK, &*order).await?;
//!     } else {
//!         ctx.execute(PACK, &*order).await?;
//!         ctx.execute(PAY, &*order).await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A run that comes to this place for the first time follows version 1, and its history gets a marker
//! that says so. A run whose history goes on here without a marker passed before the change, and
//! follows [`DEFAULT_VERSION`]. Both keep to their branch on every replay, also on later code.
//!
//! The next change of the same place is version 2: the range becomes `DEFAULT_VERSION..=2`, and a
//! `match` gets an arm more. A change elsewhere has an id of its own.
//!
//! # How the old branch goes
//!
//! Once no open run follows the old branch, the minimum is raised: `ctx.version("pack-first", 1..=1)`, and
//! the branch is deleted. A run that was overlooked blocks on that code, and says which version it follows;
//! it fails no order, and goes on where the code is rolled back. Once all runs that have the marker
//! are closed the call may go too; earlier is no harm, for a marker that no code asks for is passed over.
//!
//! # Where to ask
//!
//! At the place of the change, not at the workflow's start: a run that has not come so far yet can follow
//! the new code. In a loop the answer is the first turn's, for ever; for a fresh answer in each turn,
//! put what distinguishes the turn into the change's id.
//!
//! A branch is tested natively by a run that is told what it follows: `TestRun::following` in the module
//! `testing`.

/// The version of the code before a change: what a run follows that passed the place before there was
/// anything to ask.
pub const DEFAULT_VERSION: i32 = -1;
