//! How a mocked activity answers: a fixed value, a row of answers, a closure, or not at all.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use everfold_core::failure::Failure;
use everfold_core::payload::Payload;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::activity::{ActivityContext, failure_type};

/// One answer of a mocked activity: a JSON value or a failure.
pub type Answer = Result<serde_json::Value, Failure>;

/// The activity's answer, or why the mock has none.
pub(super) type Answered = Result<Result<Payload, Failure>, String>;

type Respond = Box<dyn Fn(ActivityContext, Payload) -> BoxFuture<'static, Answered> + Send + Sync>;

/// How a mocked activity answers each attempt.
pub struct Mock {
    respond: Respond,
    takes: Duration,
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock").field("takes", &self.takes).finish_non_exhaustive()
    }
}

impl Mock {
    /// Returns the same value each time.
    ///
    /// # Panics
    /// When the value cannot be written as JSON.
    #[must_use]
    pub fn returns(value: impl Serialize) -> Self {
        let payload = match Payload::json(&value) {
            Ok(payload) => payload,
            Err(error) => panic!("a mock's value cannot be written as JSON: {error}"),
        };
        Self::new(move |_, _| ready(Ok(payload.clone())))
    }

    /// Fails each time; whether it is tried again is the retry policy's matter.
    #[must_use]
    pub fn fails(failure: Failure) -> Self {
        Self::new(move |_, _| ready(Err(failure.clone())))
    }

    /// Gives these answers one after the other. An attempt behind the last one fails the test.
    #[must_use]
    pub fn sequence(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: VecDeque<Answer> = answers.into_iter().collect();
        let had = answers.len();
        let answers = Mutex::new(answers);
        Self::new(move |_, _| match answers.lock().pop_front() {
            Some(answer) => ready(answer.and_then(|value| encode(&value))),
            None => Box::pin(async move { Err(format!("all {had} answers of its mock were given")) }),
        })
    }

    /// Answers with what a closure makes of the input.
    #[must_use]
    pub fn call<I, O>(answer: impl Fn(I) -> Result<O, Failure> + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
    {
        Self::new(move |_, input| ready(decode(&input).and_then(&answer).and_then(|output| encode(&output))))
    }

    /// Answers with what an async closure makes of the context and the input. What it waits for may be
    /// time that the test moves: its waiting does not keep time from moving on.
    #[must_use]
    pub fn call_async<I, O, F>(
        answer: impl Fn(ActivityContext, I) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        I: DeserializeOwned + Send,
        O: Serialize,
        F: Future<Output = Result<O, Failure>> + Send,
    {
        Self::new(move |context, input| {
            let answer = answer.clone();
            Box::pin(async move {
                let input = match decode(&input) {
                    Ok(input) => input,
                    Err(failure) => return Ok(Err(failure)),
                };
                Ok(answer(context, input).await.and_then(|output| encode(&output)))
            })
        })
    }

    /// Never answers: only a time-out ends the attempt.
    #[must_use]
    pub fn never() -> Self {
        Self::new(|_, _| Box::pin(std::future::pending()))
    }

    /// Answers once it is asked to stop, and says that it has stopped.
    #[must_use]
    pub fn until_cancelled() -> Self {
        Self::new(|context, _| {
            Box::pin(async move {
                context.cancelled().await;
                Ok(Err(context.canceled_failure()))
            })
        })
    }

    /// The same, each attempt taking so long on the virtual clock.
    #[must_use]
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    fn new(
        respond: impl Fn(ActivityContext, Payload) -> BoxFuture<'static, Answered> + Send + Sync + 'static,
    ) -> Self {
        Self { respond: Box::new(respond), takes: Duration::ZERO }
    }

    pub(super) fn respond(&self, context: ActivityContext, input: Payload) -> BoxFuture<'static, Answered> {
        (self.respond)(context, input)
    }

    /// How long an attempt takes.
    pub(super) const fn takes(&self) -> Duration {
        self.takes
    }
}

fn ready(answer: Result<Payload, Failure>) -> BoxFuture<'static, Answered> {
    Box::pin(std::future::ready(Ok(answer)))
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
