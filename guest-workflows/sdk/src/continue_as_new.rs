//! How a workflow ends other than by a result: with a failure, or by going on as a new run.

use std::fmt;

use serde::Serialize;

use crate::failure::Failure;
use crate::payload::Payload;

pub use crate::bindings::everfold::workflow::host::VersionChoice;

/// The end of a workflow that gives no result. A workflow that never continues as new may return a
/// plain [`Failure`] in its place; everything that becomes a failure becomes a `Stop` with `?`.
#[derive(Debug)]
pub enum Stop {
    /// The run fails, or closes as cancelled.
    Failure(Failure),
    /// The run closes, and a new one goes on under its workflow id.
    ContinueAsNew(Box<ContinueAsNew>),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl From<ContinueAsNew> for Stop {
    fn from(next: ContinueAsNew) -> Self {
        Self::ContinueAsNew(Box::new(next))
    }
}

/// The run that goes on from this one, as [`Context::continue_as_new`](crate::Context::continue_as_new)
/// describes it. Nothing is asked for before the workflow returns it.
///
/// ```
/// # use everfold_guest::{Context, Stop, VersionChoice};
/// async fn count(ctx: Context, so_far: u64) -> Result<(), Stop> {
///     Err(ctx.continue_as_new(&(so_far + 1)).version(VersionChoice::StayPinned).into())
/// }
/// ```
#[must_use = "a run continues as new when its workflow returns this"]
#[derive(Clone, PartialEq)]
pub struct ContinueAsNew {
    pub(crate) workflow_type: String,
    pub(crate) input: Payload,
    pub(crate) headers: Vec<(String, Payload)>,
    pub(crate) version: VersionChoice,
}

impl ContinueAsNew {
    pub(crate) fn new<I: Serialize + ?Sized>(workflow_type: &str, input: &I) -> Self {
        Self {
            workflow_type: workflow_type.to_owned(),
            input: Payload::of(input, "the input of the run to continue as"),
            headers: Vec::new(),
            version: VersionChoice::FollowRoute,
        }
    }

    /// Goes on as another workflow type.
    pub fn workflow_type(mut self, name: impl Into<String>) -> Self {
        self.workflow_type = name.into();
        self
    }

    /// Adds a payload that travels beside the input.
    pub fn header(mut self, name: impl Into<String>, value: Payload) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// Says which component folds the new run. Without it: [`VersionChoice::FollowRoute`].
    pub fn version(mut self, version: VersionChoice) -> Self {
        self.version = version;
        self
    }
}

impl fmt::Debug for ContinueAsNew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ContinueAsNew").field(&self.workflow_type).finish()
    }
}
