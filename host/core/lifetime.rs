//! How long a workflow may take, when a run of it begins, and whether it is tried again.
//!
//! ```text
//! start ─▶ (start delay) ─▶ run ── fails, or its run time-out passes ──▶ (back-off) ─▶ next run ─▶ …
//!          └──────────────────── execution time-out: over all runs ────────────────────────────────┘
//! ```
//!
//! What spans several runs is a deadline and no duration, so that a run which goes on as another one gains nothing.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};
use crate::ids::{EventId, Timestamp};
use crate::retry::RetryPolicy;

/// The name of a run's own timer among those that its guest started: its start, while it is to be delayed, then its
/// deadline. No event has that number.
pub const ALARM: EventId = EventId(0);

/// What a run is told of its time in its first event. Absent where there is nothing to tell.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct Lifetime {
    /// How long all runs of the chain may take together, from the first one's start.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_timeout_ms: Option<u64>,
    /// When that has passed.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_deadline: Option<Timestamp>,
    /// How long this run may take, from its first event.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// How the workflow is tried again when it fails or passes its run time-out; absent for not at all.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// When it begins, where that is later than its start.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// How the try before failed.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
}

/// What whoever starts a workflow asks of its time.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct Terms {
    /// How long all runs of the chain may take together.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_timeout_ms: Option<u64>,
    /// How long each run may take.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// How it is tried again when it fails or passes its run time-out; absent for not at all.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// How long the first run waits before it begins.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_delay_ms: Option<u64>,
}

/// The longest time-out and the longest delay: a thousand years.
const LONGEST_MS: u64 = 1_000 * 365 * 24 * 60 * 60 * 1_000;

impl Terms {
    /// Says what is wrong with them, if anything.
    ///
    /// # Errors
    /// A time-out of nothing, a time beyond all bounds, a retry policy that cannot be.
    pub fn check(&self) -> Result<(), String> {
        let Self { execution_timeout_ms, run_timeout_ms, retry_policy, start_delay_ms } = self;
        let times = [
            ("execution_timeout_ms", *execution_timeout_ms, 1),
            ("run_timeout_ms", *run_timeout_ms, 1),
            ("start_delay_ms", *start_delay_ms, 0),
        ];
        for (name, ms, least) in times {
            if ms.is_some_and(|ms| !(least..=LONGEST_MS).contains(&ms)) {
                return Err(format!("{name} must be from {least} to {LONGEST_MS}"));
            }
        }
        retry_policy.as_ref().map_or(Ok(()), RetryPolicy::check)
    }

    /// The lifetime of the first run of a workflow that is started at `now`.
    #[must_use]
    pub fn lifetime(&self, now: Timestamp) -> Option<Box<Lifetime>> {
        let Self { execution_timeout_ms, run_timeout_ms, retry_policy, start_delay_ms } = self.clone();
        let start_at = start_delay_ms.filter(|ms| *ms > 0).map(|ms| now.plus_ms(ms));
        let begins = start_at.unwrap_or(now);
        Lifetime {
            execution_timeout_ms,
            execution_deadline: execution_timeout_ms.map(|ms| begins.plus_ms(ms)),
            run_timeout_ms,
            retry_policy,
            start_at,
            last_failure: None,
        }
        .into_some()
    }
}

/// Which of a workflow's time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowTimeout {
    /// That of one run.
    #[n(0)]
    Run,
    /// That of all runs together.
    #[n(1)]
    Execution,
}

impl WorkflowTimeout {
    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run time-out",
            Self::Execution => "execution time-out",
        }
    }
}

impl Lifetime {
    /// The lifetime, or nothing where it says nothing.
    #[must_use]
    pub fn into_some(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// When a run that began at `began` has taken too long, and which time-out that is.
    #[must_use]
    pub fn deadline(&self, began: Timestamp) -> Option<(Timestamp, WorkflowTimeout)> {
        let run = self.run_timeout_ms.map(|ms| (began.plus_ms(ms), WorkflowTimeout::Run));
        let execution = self.execution_deadline.map(|at| (at, WorkflowTimeout::Execution));
        match (run, execution) {
            (Some(run), Some(execution)) if run.0 < execution.0 => Some(run),
            (run, execution) => execution.or(run),
        }
    }

    /// What the run is told that goes on from this one as a new one.
    #[must_use]
    pub fn carried(&self) -> Self {
        Self { start_at: None, last_failure: None, ..self.clone() }
    }

    /// What the next try is told after try `attempt` failed at `now`; none if there is no further one.
    #[must_use]
    pub fn after_failure(&self, attempt: u32, failure: &Failure, now: Timestamp) -> Option<Self> {
        let policy = self.retry_policy.as_ref()?;
        let application = match &failure.kind {
            FailureKind::Application(application) => Some(application),
            FailureKind::Canceled(_) | FailureKind::Terminated => return None,
            FailureKind::TimedOut(_)
            | FailureKind::Activity(_)
            | FailureKind::ChildWorkflow(_)
            | FailureKind::Other(_) => None,
        };
        let is_final = application.is_some_and(|application| {
            application.non_retryable || policy.non_retryable_types.contains(&application.failure_type)
        });
        if is_final || policy.is_last(attempt) {
            return None;
        }
        let named = application.and_then(|application| application.next_retry_delay_ms);
        let start_at = now.plus_ms(named.unwrap_or_else(|| policy.delay_ms(attempt)));
        if self.execution_deadline.is_some_and(|deadline| start_at >= deadline) {
            return None;
        }
        Some(Self { start_at: Some(start_at), last_failure: Some(failure.clone()), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(execution: Option<i64>, run: Option<u64>) -> Lifetime {
        Lifetime { execution_deadline: execution.map(Timestamp), run_timeout_ms: run, ..Lifetime::default() }
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let deadline = |execution, run| lifetime(execution, run).deadline(Timestamp(100));
        assert_eq!(deadline(None, None), None);
        assert_eq!(deadline(Some(150), None), Some((Timestamp(150), WorkflowTimeout::Execution)));
        assert_eq!(deadline(None, Some(20)), Some((Timestamp(120), WorkflowTimeout::Run)));
        assert_eq!(deadline(Some(150), Some(20)), Some((Timestamp(120), WorkflowTimeout::Run)));
        assert_eq!(deadline(Some(110), Some(20)), Some((Timestamp(110), WorkflowTimeout::Execution)));
    }

    fn retried(attempts: u32, types: &[&str], execution: Option<i64>) -> Lifetime {
        let policy = RetryPolicy {
            maximum_attempts: Some(attempts),
            non_retryable_types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..RetryPolicy::default()
        };
        Lifetime { retry_policy: Some(policy), ..lifetime(execution, None) }
    }

    #[test]
    fn a_failure_is_tried_again_as_the_policy_says() {
        let failure = Failure::application("Declined", "no money");
        let next = |lifetime: Lifetime, attempt, failure: &Failure| {
            let next = lifetime.after_failure(attempt, failure, Timestamp(100))?;
            assert_eq!(next.last_failure.as_ref(), Some(failure));
            next.start_at.map(|at| at.0)
        };
        assert_eq!(next(lifetime(None, None), 1, &failure), None, "nobody asked for it");
        assert_eq!(next(retried(0, &[], None), 3, &failure), Some(4_100));
        assert_eq!(next(retried(2, &[], None), 1, &failure), Some(1_100));
        assert_eq!(next(retried(2, &[], None), 2, &failure), None, "it was the last one");
        assert_eq!(next(retried(0, &["Declined"], None), 1, &failure), None, "its type is final");
        assert_eq!(next(retried(0, &[], None), 1, &Failure::non_retryable("Other", "")), None);
        assert_eq!(next(retried(0, &[], Some(1_100)), 1, &failure), None, "it would begin too late");
        assert_eq!(next(retried(0, &[], Some(1_101)), 1, &failure), Some(1_100));
    }
}
