//! Which activities this host can run.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::command::{ActivityScheduled, DEFAULT_TASK_QUEUE};
use everfold_core::failure::Failure;
use everfold_core::payload::Payload;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ActivityContext, failure_type};

/// The built-in activity that does nothing and returns `null`; the benchmark runs it.
pub const NOOP: &str = "noop";

/// A native activity with typed input and output, JSON on the wire.
#[async_trait]
pub trait Activity: Send + Sync + 'static {
    /// The type by which workflows call it.
    const TYPE: &'static str;
    /// What it takes.
    type Input: DeserializeOwned + Send;
    /// What it returns.
    type Output: Serialize + Send;

    /// Runs one attempt. It may run more than once for the same activity: effects must be keyed by
    /// [`ActivityInfo::idempotency_key`](super::ActivityInfo).
    ///
    /// Asked to stop ([`ActivityContext::cancelled`]), it may return
    /// [`ActivityContext::canceled_failure`] once it has stopped, or go on to its end.
    ///
    /// # Errors
    /// A failure; whether the activity is tried again is the retry policy's matter.
    async fn run(&self, context: &ActivityContext, input: Self::Input) -> Result<Self::Output, Failure>;
}

/// An activity whose types are known to itself alone. The future does nothing, and so cannot panic,
/// before it is polled.
pub(crate) trait ErasedActivity: Send + Sync {
    fn run<'a>(
        &'a self,
        context: &'a ActivityContext,
        input: &'a Payload,
    ) -> BoxFuture<'a, Result<Payload, Failure>>;
}

/// Activities by type.
pub struct Registry {
    activities: BTreeMap<String, Arc<dyn ErasedActivity>>,
    /// For all other types.
    rest: Option<Arc<dyn ErasedActivity>>,
}

impl Default for Registry {
    /// A registry with the built-in [`NOOP`].
    fn default() -> Self {
        let mut registry = Self::empty();
        registry.activities.insert(NOOP.to_owned(), Arc::new(Noop));
        registry
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.types()).finish()
    }
}

impl Registry {
    /// A registry with nothing in it, not even [`NOOP`].
    #[must_use]
    pub const fn empty() -> Self {
        Self { activities: BTreeMap::new(), rest: None }
    }

    /// Adds an activity. The last one registered under a type is used.
    pub fn register<A: Activity>(&mut self, activity: A) {
        self.activities.insert(A::TYPE.to_owned(), Arc::new(Typed(activity)));
    }

    /// Adds a closure as an activity, for tests and measurements. The last one registered under a
    /// type is used.
    pub fn register_fn<F, Fut, I, O>(&mut self, activity_type: impl Into<String>, run: F)
    where
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        let erased = Closure { run, types: std::marker::PhantomData::<fn(I) -> O> };
        self.activities.insert(activity_type.into(), Arc::new(erased));
    }

    /// Adds a closure for all types that have no activity of their own.
    pub(crate) fn register_rest<F, Fut>(&mut self, run: F)
    where
        F: Fn(ActivityContext, Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Payload, Failure>> + Send + 'static,
    {
        self.rest = Some(Arc::new(Rest(run)));
    }

    /// What is registered, in the order of the names.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.activities.keys().map(String::as_str)
    }

    /// Whether an activity is native code: of a registered type, in the task queue that such code serves.
    pub(crate) fn serves(&self, scheduled: &ActivityScheduled) -> bool {
        let is_known = self.activities.contains_key(&scheduled.activity_type);
        self.rest.is_some() || is_known && scheduled.task_queue == DEFAULT_TASK_QUEUE
    }

    pub(crate) fn get(&self, activity_type: &str) -> Option<&Arc<dyn ErasedActivity>> {
        self.activities.get(activity_type).or(self.rest.as_ref())
    }
}

struct Typed<A>(A);

impl<A: Activity> ErasedActivity for Typed<A> {
    fn run<'a>(
        &'a self,
        context: &'a ActivityContext,
        input: &'a Payload,
    ) -> BoxFuture<'a, Result<Payload, Failure>> {
        Box::pin(async move { encode(&self.0.run(context, decode(input)?).await?) })
    }
}

struct Closure<F, I, O> {
    run: F,
    types: std::marker::PhantomData<fn(I) -> O>,
}

impl<F, Fut, I, O> ErasedActivity for Closure<F, I, O>
where
    F: Fn(ActivityContext, I) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O, Failure>> + Send,
    I: DeserializeOwned + Send,
    O: Serialize + Send,
{
    fn run<'a>(
        &'a self,
        context: &'a ActivityContext,
        input: &'a Payload,
    ) -> BoxFuture<'a, Result<Payload, Failure>> {
        Box::pin(async move { encode(&(self.run)(context.clone(), decode(input)?).await?) })
    }
}

struct Rest<F>(F);

impl<F, Fut> ErasedActivity for Rest<F>
where
    F: Fn(ActivityContext, Payload) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Payload, Failure>> + Send,
{
    fn run<'a>(
        &'a self,
        context: &'a ActivityContext,
        input: &'a Payload,
    ) -> BoxFuture<'a, Result<Payload, Failure>> {
        Box::pin(async move { (self.0)(context.clone(), input.clone()).await })
    }
}

struct Noop;

impl ErasedActivity for Noop {
    fn run<'a>(&'a self, _: &'a ActivityContext, _: &'a Payload) -> BoxFuture<'a, Result<Payload, Failure>> {
        Box::pin(async { Ok(Payload::json_text(b"null".to_vec())) })
    }
}

#[allow(clippy::result_large_err, reason = "a failure is an activity's answer; it is made once an attempt")]
fn decode<I: DeserializeOwned>(input: &Payload) -> Result<I, Failure> {
    input.decode().map_err(|error| {
        Failure::non_retryable(failure_type::INVALID_INPUT, format!("the input does not decode: {error}"))
    })
}

#[allow(clippy::result_large_err, reason = "a failure is an activity's answer; it is made once an attempt")]
fn encode(output: &impl Serialize) -> Result<Payload, Failure> {
    Payload::json(output).map_err(|error| {
        Failure::non_retryable(failure_type::INVALID_OUTPUT, format!("the result does not encode: {error}"))
    })
}
