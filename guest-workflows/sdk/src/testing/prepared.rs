//! A scripted run before its start: what is known of it already.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{SEED, START_MS, Script, TestRun, encode, started};
use crate::context::Context;
use crate::continue_as_new::Stop;

/// A run that is yet to start; [`TestRun::following`] makes one.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Each change with the version that the run follows.
    versions: Vec<(String, i32)>,
}

impl Prepared {
    pub(super) const fn new() -> Self {
        Self { versions: Vec::new() }
    }

    /// Follows that version of one change more.
    #[must_use]
    pub fn following(mut self, change_id: &str, version: i32) -> Self {
        self.versions.push((change_id.to_owned(), version));
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
        TestRun::start_on(script, workflow, started(encode(input), SEED))
    }
}
