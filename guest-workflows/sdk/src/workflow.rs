//! Workflows as a component exports them: a name, and a function from events to commands whose
//! types are erased.
//!
//! Owns the step between payloads and Rust types: input that does not decode fails the run, because
//! the data is at fault and not the code.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::failure::Failure;
use crate::payload::Payload;

/// The type of the failure of a run whose input does not decode.
pub const INVALID_INPUT: &str = "InvalidInput";

/// A workflow that has been given its run and its input.
pub(crate) type Body = LocalBoxFuture<'static, Result<Payload, Failure>>;

/// One workflow type of a component, as [`export!`](crate::export!) makes it.
#[derive(Clone, Copy)]
pub struct Workflow {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) body: fn(Context, Payload) -> LocalBoxFuture<'static, Result<Payload, Failure>>,
}

impl Workflow {
    /// A workflow type; `body` comes from [`body`].
    #[must_use]
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        body: fn(Context, Payload) -> LocalBoxFuture<'static, Result<Payload, Failure>>,
    ) -> Self {
        Self { name, summary, body }
    }
}

impl std::fmt::Debug for Workflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Workflow").field(&self.name).finish()
    }
}

/// Erases a workflow's types: decodes its input, encodes its result.
///
/// # Panics
///
/// When JSON cannot hold the result: a fault of the workflow's code.
pub fn body<I, O, F>(
    workflow: impl FnOnce(Context, I) -> F + 'static,
    ctx: Context,
    input: Payload,
) -> LocalBoxFuture<'static, Result<Payload, Failure>>
where
    I: DeserializeOwned + 'static,
    O: Serialize + 'static,
    F: Future<Output = Result<O, Failure>> + 'static,
{
    async move {
        let input = input.decode::<I>().map_err(|reason| {
            let name = &ctx.info().workflow_type;
            let message = format!("the input of `{name}` does not decode: {reason}");
            Failure::application(INVALID_INPUT, message).non_retryable()
        })?;
        let output = workflow(ctx, input).await?;
        match Payload::encode(&output) {
            Ok(result) => Ok(result),
            Err(reason) => panic!("the workflow's result is not JSON: {reason}"),
        }
    }
    .boxed_local()
}
