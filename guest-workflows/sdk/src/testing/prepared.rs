//! A scripted run before its start: what is known of it already.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{SEED, START_MS, Script, TestRun, encode, started};
use crate::context::Context;
use crate::continue_as_new::Stop;
use crate::details::changes;
use crate::payload::Payload;

/// A run that is yet to start; [`TestRun::following`] makes one.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Each change with the version that the run follows.
    versions: Vec<(String, i32)>,
    search_attributes: Vec<(String, Payload)>,
    memo: Vec<(String, Payload)>,
    /// The updates that the component says it takes.
    announced: Vec<&'static str>,
}

impl Prepared {
    pub(super) const fn new() -> Self {
        Self { versions: Vec::new(), announced: Vec::new(), search_attributes: Vec::new(), memo: Vec::new() }
    }

    /// Follows that version of one change more.
    #[must_use]
    pub fn following(mut self, change_id: &str, version: i32) -> Self {
        self.versions.push((change_id.to_owned(), version));
        self
    }

    /// Begins with these search attributes and this memo, both objects.
    ///
    /// # Panics
    ///
    /// When one is no object.
    #[must_use]
    pub fn described_by(mut self, search_attributes: &impl Serialize, memo: &impl Serialize) -> Self {
        self.search_attributes = changes(search_attributes, "search attributes");
        self.memo = changes(memo, "entries of a memo");
        self
    }

    /// Announces an update, as [`export!`](crate::export!) does.
    #[must_use]
    pub fn announcing(mut self, update: &'static str) -> Self {
        self.announced.push(update);
        self
    }

    /// Starts the run with that input.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input.
    pub fn start<I, O, E, F>(
        self,
        workflow: impl FnOnce(Context, I) -> F + 'static,
        input: &(impl Serialize + ?Sized),
    ) -> TestRun
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Stop> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        let script = Script::new(START_MS);
        for (change_id, version) in &self.versions {
            script.follow(change_id, *version);
        }
        self.announced.iter().for_each(|update| script.announce(update));
        let mut started = started(encode(input), SEED);
        started.search_attributes = self.search_attributes;
        started.memo = self.memo;
        TestRun::start_on(script, workflow, started)
    }
}
