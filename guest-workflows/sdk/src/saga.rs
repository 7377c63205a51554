//! Sagas: steps that are undone, latest first, when a later one fails.
//!
//! A compensation is a future that nobody has polled: nothing is asked of the host until the saga
//! polls it. Owns the order of undoing and the report of what could not be undone; must never undo
//! by itself, when it is dropped, say: the workflow decides.

use std::fmt;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use serde::Serialize;

use crate::activity::ActivityError;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};

/// The type of the failure that reports compensations when the saga's own failure cannot.
pub const COMPENSATION_FAILED: &str = "CompensationFailed";

/// The counter of compensations that have ended, with the attributes `compensation` (its name) and
/// `outcome` (`completed` or `failed`).
pub const COMPENSATIONS: &str = "saga_compensations_total";

/// The compensations of the steps made so far.
///
/// ```
/// # use std::time::Duration;
/// # use everfold_guest::{Activity, Context, Failure, Saga};
/// # const BOOK: Activity<str, ()> = Activity::new("book");
/// # const CANCEL: Activity<str, ()> = Activity::new("cancel");
/// # const PAY: Activity<str, ()> = Activity::new("pay");
/// # const REFUND: Activity<str, ()> = Activity::new("refund");
/// async fn trip(ctx: Context, hotel: String) -> Result<(), Failure> {
///     let mut saga = Saga::new(&ctx);
///     let outcome = async {
///         saga.step("cancel", ctx.execute(BOOK, &hotel), ctx.execute(CANCEL, &hotel)).await?;
///         saga.step("refund", ctx.execute(PAY, &hotel), ctx.execute(REFUND, &hotel)).await
///     }
///     .await;
///     if let Err(failure) = outcome {
///         let undone = saga.undo().await;
///         return Err(undone.report_in(failure.into()));
///     }
///     Ok(())
/// }
/// ```
pub struct Saga {
    ctx: Context,
    order: Order,
    compensations: Vec<Compensation>,
    registered: u32,
}

/// In which order compensations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    LatestFirst,
    SideBySide,
}

struct Compensation {
    registration: Registration,
    name: String,
    undo: LocalBoxFuture<'static, Result<(), Failure>>,
}

/// Names a compensation that was registered, so that it can be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration(u32);

impl Saga {
    /// A saga without a step, whose compensations will run one after the other, latest first.
    #[must_use]
    pub fn new(ctx: &Context) -> Self {
        Self { ctx: ctx.clone(), order: Order::LatestFirst, compensations: Vec::new(), registered: 0 }
    }

    /// Lets the compensations run side by side.
    #[must_use]
    pub fn side_by_side(mut self) -> Self {
        self.order = Order::SideBySide;
        self
    }

    /// Makes a step whose compensation is registered before it, and dropped again when the step is
    /// [known to have changed nothing](ActivityError::had_no_effect). So a step that may or may not
    /// have happened is undone too.
    ///
    /// # Errors
    ///
    /// The step's own.
    pub async fn step<T, U, E>(
        &mut self,
        undo_name: impl Into<String>,
        step: impl Future<Output = Result<T, ActivityError>>,
        undo: impl Future<Output = Result<U, E>> + 'static,
    ) -> Result<T, ActivityError>
    where
        E: Into<Failure>,
    {
        let registration = self.compensate_with(undo_name, undo);
        let result = step.await;
        if let Err(error) = &result
            && error.had_no_effect()
        {
            self.forget(registration);
        }
        result
    }

    /// Registers a compensation, which runs before those that were registered earlier.
    pub fn compensate_with<U, E: Into<Failure>>(
        &mut self,
        undo_name: impl Into<String>,
        undo: impl Future<Output = Result<U, E>> + 'static,
    ) -> Registration {
        self.registered += 1;
        let registration = Registration(self.registered);
        self.compensations.push(Compensation {
            registration,
            name: undo_name.into(),
            undo: undo.map(|result| result.map(|_| ()).map_err(E::into)).boxed_local(),
        });
        registration
    }

    /// Drops a compensation: its step changed nothing.
    pub fn forget(&mut self, registration: Registration) {
        self.compensations.retain(|compensation| compensation.registration != registration);
    }

    /// Runs the compensations, out of reach of the run's cancellation, and counts each in
    /// [`COMPENSATIONS`] when it ends. One that fails does not keep the others from running.
    pub async fn undo(self) -> Undone {
        let Self { ctx, order, compensations, .. } = self;
        let latest_first = compensations.into_iter().rev().map(|compensation| {
            let Compensation { name, undo, .. } = compensation;
            compensate(&ctx, name, undo)
        });
        let undo = async {
            match order {
                Order::SideBySide => join_all(latest_first).await,
                Order::LatestFirst => {
                    let mut results = Vec::new();
                    for compensation in latest_first {
                        results.push(compensation.await);
                    }
                    results
                }
            }
        };
        let results = undo.await;
        Undone { failures: results.into_iter().filter_map(Result::err).collect() }
    }
}

/// Runs one compensation out of reach of the run's cancellation, and counts it in the counter
/// [`COMPENSATIONS`]. A saga does so with each of its own; this is for code that undoes by hand.
///
/// # Errors
///
/// The compensation's failure, under its name.
pub async fn compensate<U, E: Into<Failure>>(
    ctx: &Context,
    name: impl Into<String>,
    undo: impl Future<Output = Result<U, E>>,
) -> Result<(), CompensationFailure> {
    let compensation = name.into();
    let result = ctx.shield(undo).await;
    let outcome = match &result {
        Ok(_) => "completed",
        Err(_) => "failed",
    };
    ctx.counter(COMPENSATIONS)
        .attribute("compensation", &compensation)
        .attribute("outcome", outcome)
        .add(1.0);
    match result {
        Ok(_) => Ok(()),
        Err(failure) => Err(CompensationFailure { compensation, failure: failure.into() }),
    }
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.compensations.iter().map(|compensation| &compensation.name);
        f.debug_list().entries(names).finish()
    }
}

/// What came of undoing a saga.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "compensations may have failed"]
pub struct Undone {
    /// The compensations that failed, in the order in which they were begun; none if all is undone.
    pub failures: Vec<CompensationFailure>,
}

impl Undone {
    /// Adds each compensation that failed to the failure's details. A failure that holds none, as an
    /// activity's, becomes the cause of an application failure of type [`COMPENSATION_FAILED`].
    #[must_use]
    pub fn report_in(&self, failure: Failure) -> Failure {
        let report = match failure.kind() {
            _ if self.failures.is_empty() => return failure,
            FailureKind::Application(_) | FailureKind::Canceled(_) => failure,
            FailureKind::TimedOut(_)
            | FailureKind::Terminated
            | FailureKind::Activity(_)
            | FailureKind::ChildWorkflow(_)
            | FailureKind::Other(_) => {
                let message = format!("{} of the saga's compensations failed", self.failures.len());
                Failure::application(COMPENSATION_FAILED, message).with_cause(failure)
            }
        };
        self.failures.iter().fold(report, |failure, failed| {
            failure.with_detail(&Detail {
                compensation: &failed.compensation,
                failure: failed.failure.to_string(),
            })
        })
    }
}

/// A compensation that failed: what it should have undone may still stand.
#[derive(Clone, Debug, PartialEq)]
pub struct CompensationFailure {
    /// The name under which it was registered.
    pub compensation: String,
    /// Why.
    pub failure: Failure,
}

/// The JSON of one failed compensation among a failure's details.
#[derive(Serialize)]
struct Detail<'a> {
    compensation: &'a str,
    failure: String,
}
