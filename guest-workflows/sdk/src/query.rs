//! Queries: questions about a run, answered by closures that see what the workflow shares with them.
//!
//! Owns the table of what can be asked. An answer must never change the run: commands trap, and so
//! does drawing a random number.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::payload::Payload;
use crate::workflow::INVALID_INPUT;

/// The type of the failure of a question that the run does not answer.
pub const UNKNOWN_QUERY: &str = "UnknownQuery";

/// The type of the failure of an answer that JSON cannot hold.
const INVALID_RESULT: &str = "InvalidResult";

/// A question that can be asked, its types erased.
pub(crate) type Handler = Rc<dyn Fn(&Payload) -> Result<Payload, Failure>>;

/// What can be asked of a run.
#[derive(Default)]
pub(crate) struct Queries(BTreeMap<String, Handler>);

impl Queries {
    /// Answers a question from now on. The latest answer to a name counts.
    pub(crate) fn register(&mut self, name: String, handler: Handler) {
        self.0.insert(name, handler);
    }

    /// Who answers a question.
    ///
    /// # Errors
    ///
    /// A final failure of type [`UNKNOWN_QUERY`] that names the questions there are.
    pub(crate) fn find(&self, name: &str) -> Result<Handler, Failure> {
        self.0.get(name).map(Rc::clone).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(|known| format!("`{known}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::application(UNKNOWN_QUERY, format!("there is no query `{name}`; known: {known}"))
                .non_retryable()
        })
    }
}

/// Erases a question's types: decodes its input, encodes the answer.
pub(crate) fn handler<I, O>(name: String, answer: impl Fn(I) -> O + 'static) -> Handler
where
    I: DeserializeOwned,
    O: Serialize,
{
    Rc::new(move |input| {
        let input = input.decode().map_err(|reason| {
            let message = format!("the input of query `{name}` does not decode: {reason}");
            Failure::application(INVALID_INPUT, message).non_retryable()
        })?;
        Payload::encode(&answer(input)).map_err(|reason| {
            let message = format!("the answer to query `{name}` is not JSON: {reason}");
            Failure::application(INVALID_RESULT, message).non_retryable()
        })
    })
}
