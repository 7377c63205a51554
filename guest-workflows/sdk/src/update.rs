//! Updates: messages to the run that it answers.
//!
//! ```text
//! (on a replica) validate ── refused ──▶ nothing happened
//!                   │ admitted
//! UpdateAdmitted ───┴─▶ waits until its name has a handler ─▶ UpdateAccepted ─▶ the handler runs ─▶ UpdateCompleted
//! ```
//!
//! Owns the table of handlers and what waits for one. A validator must never change the run: commands trap, and so does
//! drawing a random number. Handlers are futures beside the workflow's own; polling them is [`crate::instance`]'s part.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::everfold::workflow::types::EventId;
use crate::bindings::exports::everfold::workflow::workflow::UpdateAdmitted;
use crate::failure::Failure;
use crate::payload::Payload;
use crate::run::Run;
use crate::workflow::INVALID_INPUT;

/// The type of the failure of an update that the run does not take.
pub const UNKNOWN_UPDATE: &str = "UnknownUpdate";

/// An update's handler at work: its answer, types erased.
pub(crate) type Answering = LocalBoxFuture<'static, Result<Payload, Failure>>;

/// Says whether an update may be admitted, its types erased.
type Validator = Rc<dyn Fn(&Payload) -> Result<(), Failure>>;

/// Who takes an update, its types erased.
#[derive(Clone)]
pub(crate) struct UpdateHandler {
    validate: Validator,
    handle: Rc<dyn Fn(Payload) -> Answering>,
}

/// The updates of a run.
#[derive(Default)]
pub(crate) struct Updates {
    handlers: BTreeMap<String, UpdateHandler>,
    /// Those whose name has no handler yet, in order of arrival.
    waiting: VecDeque<(EventId, UpdateAdmitted)>,
    /// Those that nobody has begun to answer, in order of arrival.
    ready: VecDeque<(EventId, UpdateAdmitted)>,
    /// How many handlers are at work.
    at_work: usize,
}

impl Updates {
    /// Takes updates of that name from now on, those that wait first. The latest handler of a name counts.
    pub(crate) fn register(&mut self, name: String, handler: UpdateHandler) {
        let waiting = std::mem::take(&mut self.waiting);
        for (id, update) in waiting {
            let queue = if update.name == name { &mut self.ready } else { &mut self.waiting };
            queue.push_back((id, update));
        }
        self.handlers.insert(name, handler);
    }

    /// Says whether an update of that name may be admitted. One that the component announces and that has no handler
    /// yet waits for it.
    ///
    /// # Errors
    ///
    /// Its validator's failure; a final one of type [`UNKNOWN_UPDATE`] that names the updates there are.
    pub(crate) fn validator(&self, name: &str, announced: &[&str]) -> Result<Option<UpdateHandler>, Failure> {
        if let Some(handler) = self.handlers.get(name) {
            return Ok(Some(handler.clone()));
        }
        if announced.contains(&name) {
            return Ok(None);
        }
        let mut known: Vec<&str> =
            self.handlers.keys().map(String::as_str).chain(announced.iter().copied()).collect();
        known.sort_unstable();
        known.dedup();
        let known: Vec<_> = known.into_iter().map(|known| format!("`{known}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Failure::application(UNKNOWN_UPDATE, format!("there is no update `{name}`; known: {known}"))
            .non_retryable())
    }

    /// Takes what was admitted.
    pub(crate) fn admit(&mut self, id: EventId, update: UpdateAdmitted) {
        let queue =
            if self.handlers.contains_key(&update.name) { &mut self.ready } else { &mut self.waiting };
        queue.push_back((id, update));
    }

    /// The next update to answer, and who does it.
    pub(crate) fn next(&mut self) -> Option<(EventId, UpdateAdmitted, UpdateHandler)> {
        let (id, update) = self.ready.pop_front()?;
        let handler = self.handlers.get(&update.name)?.clone();
        self.at_work += 1;
        Some((id, update, handler))
    }

    /// A handler has come to its end.
    pub(crate) fn done(&mut self) {
        self.at_work -= 1;
    }

    /// Whether no handler is at work or about to be.
    pub(crate) fn are_finished(&self) -> bool {
        self.at_work == 0 && self.ready.is_empty()
    }
}

impl UpdateHandler {
    /// Erases an update's types: decodes its input, encodes the answer.
    pub(crate) fn new<I, O, E, V, F>(
        name: String,
        validate: impl Fn(&I) -> Result<(), V> + 'static,
        handle: impl Fn(I) -> F + 'static,
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Failure> + 'static,
        V: Into<Failure>,
        F: Future<Output = Result<O, E>> + 'static,
    {
        let name: Rc<str> = name.into();
        let (validated, handled) = (Rc::clone(&name), name);
        Self {
            validate: Rc::new(move |input| validate(&decode(&validated, input)?).map_err(Into::into)),
            handle: Rc::new(move |input| match decode::<I>(&handled, &input) {
                Err(invalid) => refuse(invalid),
                Ok(input) => {
                    let answer = handle(input);
                    async move {
                        let answer = answer.await.map_err(Into::into)?;
                        Ok(Payload::of(&answer, "the answer to an update"))
                    }
                    .boxed_local()
                }
            }),
        }
    }

    /// Says whether an update may be admitted.
    pub(crate) fn validate(&self, input: &Payload) -> Result<(), Failure> {
        (self.validate)(input)
    }

    /// Begins to answer an update.
    pub(crate) fn handle(&self, input: Payload) -> Answering {
        (self.handle)(input)
    }
}

/// The answer to an update that is not handled.
pub(crate) fn refuse(failure: Failure) -> Answering {
    futures::future::ready(Err(failure)).boxed_local()
}

fn decode<I: DeserializeOwned>(name: &str, input: &Payload) -> Result<I, Failure> {
    input.decode().map_err(|reason| {
        let message = format!("the input of update `{name}` does not decode: {reason}");
        Failure::application(INVALID_INPUT, message).non_retryable()
    })
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

/// Whether a run has answered all the updates that it took on.
pub(crate) fn are_finished(run: &Run) -> bool {
    run.updates().borrow().are_finished()
}
