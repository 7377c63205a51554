//! Workflows as a component exports them: a name, and a function from events to commands whose
//! types are erased.
//!
//! Owns the step between payloads and Rust types: input that does not decode fails the run, because
//! the data is at fault and not the code.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::exports::everfold::workflow::workflow as wit;
use crate::context::Context;
use crate::continue_as_new::Stop;
use crate::failure::Failure;
use crate::payload::Payload;

pub use wit::HandlerKind;

/// The type of the failure of a run whose input does not decode.
pub const INVALID_INPUT: &str = "InvalidInput";

/// A workflow that has been given its run and its input.
pub(crate) type Body = LocalBoxFuture<'static, Result<Payload, Stop>>;

/// One workflow type of a component, as [`export!`](crate::export!) makes it.
#[derive(Clone, Copy)]
pub struct Workflow {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) handlers: &'static [Handler],
    pub(crate) body: fn(Context, Payload) -> LocalBoxFuture<'static, Result<Payload, Stop>>,
}

impl Workflow {
    /// A workflow type; `body` comes from [`body`].
    #[must_use]
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        handlers: &'static [Handler],
        body: fn(Context, Payload) -> LocalBoxFuture<'static, Result<Payload, Stop>>,
    ) -> Self {
        Self { name, summary, handlers, body }
    }

    /// The updates that it says it takes.
    pub(crate) fn announced_updates(&self) -> Vec<&'static str> {
        let updates = self.handlers.iter().filter(|handler| handler.kind == HandlerKind::Update);
        updates.map(|handler| handler.name).collect()
    }

    pub(crate) fn describe(&self) -> wit::WorkflowType {
        wit::WorkflowType {
            name: self.name.to_owned(),
            summary: self.summary.trim().to_owned(),
            handlers: self.handlers.iter().map(Handler::describe).collect(),
        }
    }
}

impl std::fmt::Debug for Workflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Workflow").field(&self.name).finish()
    }
}

/// What a workflow says that it takes or answers.
#[derive(Clone, Copy, Debug)]
pub struct Handler {
    kind: HandlerKind,
    name: &'static str,
    summary: &'static str,
}

impl Handler {
    /// A handler of that kind.
    #[must_use]
    pub const fn new(kind: HandlerKind, name: &'static str, summary: &'static str) -> Self {
        Self { kind, name, summary }
    }

    fn describe(&self) -> wit::Handler {
        wit::Handler { kind: self.kind, name: self.name.to_owned(), summary: self.summary.trim().to_owned() }
    }
}

/// Erases a workflow's types: decodes its input, encodes its result.
///
/// # Panics
///
/// When JSON cannot hold the result: a fault of the workflow's code.
pub fn body<I, O, E, F>(
    workflow: impl FnOnce(Context, I) -> F + 'static,
    ctx: Context,
    input: Payload,
) -> LocalBoxFuture<'static, Result<Payload, Stop>>
where
    I: DeserializeOwned + 'static,
    O: Serialize + 'static,
    E: Into<Stop> + 'static,
    F: Future<Output = Result<O, E>> + 'static,
{
    async move {
        let input = input.decode::<I>().map_err(|reason| {
            let name = &ctx.info().workflow_type;
            let message = format!("the input of `{name}` does not decode: {reason}");
            Failure::application(INVALID_INPUT, message).non_retryable()
        })?;
        // In a box of its own it is polled by a function of its own, and every backtrace names the workflow.
        let running: LocalBoxFuture<'_, Result<O, E>> = workflow(ctx, input).boxed_local();
        let output = running.await.map_err(E::into)?;
        Ok(Payload::of(&output, "the workflow's result"))
    }
    .boxed_local()
}
