//! Activities as a workflow names them: a type name, the Rust types of input and result, options.
//!
//! Must never talk to the host: that is [`call`]'s part.

mod call;
mod error;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::everfold::workflow::types as wit;
use crate::payload::Payload;
use crate::time::whole_ms;

pub use call::{ActivityCall, WithAttempt};
pub use error::{ActivityError, ActivityErrorKind};
pub use wit::CancellationType;

/// An activity: what it is called, what goes in, what comes out, and how it is to be run.
///
/// Usually a constant, refined where it is called:
///
/// ```
/// # use std::time::Duration;
/// # use everfold_guest::{Activity, RetryPolicy};
/// const CHARGE: Activity<u64, String> = Activity::new("charge")
///     .start_to_close(Duration::from_secs(5))
///     .retry(RetryPolicy::new().maximum_attempts(5));
///
/// let charge_once = CHARGE.idempotency_key("order-17");
/// ```
///
/// The host refuses an activity without a start-to-close and without a schedule-to-close time-out.
pub struct Activity<I: ?Sized, O> {
    name: Cow<'static, str>,
    task_queue: Option<Cow<'static, str>>,
    schedule_to_start: Option<Duration>,
    start_to_close: Option<Duration>,
    schedule_to_close: Option<Duration>,
    heartbeat: Option<Duration>,
    retry: RetryPolicy,
    cancellation: CancellationType,
    headers: Vec<(String, Payload)>,
    idempotency_key: Option<String>,
    summary: Cow<'static, str>,
    types: PhantomData<fn(&I) -> O>,
}

impl<I: ?Sized, O> Activity<I, O> {
    /// An activity of that type.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::with_name(Cow::Borrowed(name))
    }

    /// An activity whose type is known only when the workflow runs.
    #[must_use]
    pub const fn named(name: String) -> Self {
        Self::with_name(Cow::Owned(name))
    }

    const fn with_name(name: Cow<'static, str>) -> Self {
        Self {
            name,
            task_queue: None,
            schedule_to_start: None,
            start_to_close: None,
            schedule_to_close: None,
            heartbeat: None,
            retry: RetryPolicy::new(),
            cancellation: CancellationType::TryCancel,
            headers: Vec::new(),
            idempotency_key: None,
            summary: Cow::Borrowed(""),
            types: PhantomData,
        }
    }

    /// The activity's type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Limits how long one attempt waits for a worker.
    #[must_use]
    pub const fn schedule_to_start(mut self, limit: Duration) -> Self {
        self.schedule_to_start = Some(limit);
        self
    }

    /// Limits how long one attempt takes.
    #[must_use]
    pub const fn start_to_close(mut self, limit: Duration) -> Self {
        self.start_to_close = Some(limit);
        self
    }

    /// Limits how long all attempts take together.
    #[must_use]
    pub const fn schedule_to_close(mut self, limit: Duration) -> Self {
        self.schedule_to_close = Some(limit);
        self
    }

    /// Limits the time between two heartbeats.
    #[must_use]
    pub const fn heartbeat(mut self, limit: Duration) -> Self {
        self.heartbeat = Some(limit);
        self
    }

    /// Says how it is tried again.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Says what becomes of it when its call is dropped or the run is cancelled. Without it:
    /// [`CancellationType::TryCancel`].
    #[must_use]
    pub const fn cancellation(mut self, cancellation: CancellationType) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Names the queue of the workers that run it. Without it: `default`.
    #[must_use]
    pub fn task_queue(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.task_queue = Some(name.into());
        self
    }

    /// Gives the key under which the outside world recognises a repeated attempt. Without it the
    /// host makes one.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl fmt::Display) -> Self {
        self.idempotency_key = Some(key.to_string());
        self
    }

    /// Adds a payload that travels beside the input.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: Payload) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// Gives one line for people, shown beside the activity.
    #[must_use]
    pub fn summary(mut self, line: impl Into<Cow<'static, str>>) -> Self {
        self.summary = line.into();
        self
    }

    fn into_request(self, input: Payload) -> Request {
        Request {
            name: self.name,
            input,
            options: wit::ActivityOptions {
                task_queue: self.task_queue.map(Cow::into_owned),
                timeouts: wit::ActivityTimeouts {
                    schedule_to_start: self.schedule_to_start.map(whole_ms),
                    start_to_close: self.start_to_close.map(whole_ms),
                    schedule_to_close: self.schedule_to_close.map(whole_ms),
                    heartbeat: self.heartbeat.map(whole_ms),
                },
                retry_policy: self.retry.into_wit(),
                cancellation_type: self.cancellation,
                headers: self.headers,
                idempotency_key: self.idempotency_key,
                summary: self.summary.into_owned(),
            },
        }
    }
}

impl<I: ?Sized, O> Clone for Activity<I, O> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            task_queue: self.task_queue.clone(),
            headers: self.headers.clone(),
            idempotency_key: self.idempotency_key.clone(),
            summary: self.summary.clone(),
            ..*self
        }
    }
}

/// How an activity is tried again. What is not given is the host's: 1 s at first, twice as long
/// each time up to a hundredfold, without limit to the attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    initial_interval: Option<Duration>,
    backoff_coefficient: Option<f64>,
    maximum_interval: Option<Duration>,
    maximum_attempts: Option<u32>,
    non_retryable_types: &'static [&'static str],
}

impl RetryPolicy {
    /// The host's policy.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            initial_interval: None,
            backoff_coefficient: None,
            maximum_interval: None,
            maximum_attempts: None,
            non_retryable_types: &[],
        }
    }

    /// The delay before the second attempt.
    #[must_use]
    pub const fn initial_interval(mut self, delay: Duration) -> Self {
        self.initial_interval = Some(delay);
        self
    }

    /// By how much each delay is longer than the one before; at least 1.0.
    #[must_use]
    pub const fn backoff_coefficient(mut self, factor: f64) -> Self {
        self.backoff_coefficient = Some(factor);
        self
    }

    /// The longest delay.
    #[must_use]
    pub const fn maximum_interval(mut self, delay: Duration) -> Self {
        self.maximum_interval = Some(delay);
        self
    }

    /// How many attempts there are; the first one counts, and 0 means no limit.
    #[must_use]
    pub const fn maximum_attempts(mut self, attempts: u32) -> Self {
        self.maximum_attempts = Some(attempts);
        self
    }

    /// The types of application failures that are final, matched exactly.
    #[must_use]
    pub const fn non_retryable_types(mut self, types: &'static [&'static str]) -> Self {
        self.non_retryable_types = types;
        self
    }

    pub(crate) fn into_wit(self) -> wit::RetryPolicy {
        wit::RetryPolicy {
            initial_interval: self.initial_interval.map(whole_ms),
            backoff_coefficient: self.backoff_coefficient,
            maximum_interval: self.maximum_interval.map(whole_ms),
            maximum_attempts: self.maximum_attempts,
            non_retryable_types: self.non_retryable_types.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// An activity that is ready to be asked for.
pub(crate) struct Request {
    pub(crate) name: Cow<'static, str>,
    pub(crate) input: Payload,
    pub(crate) options: wit::ActivityOptions,
}
