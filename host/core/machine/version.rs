//! Changes of the code that a run's code asks about by name, and the version of each that the run
//! follows.
//!
//! ```text
//!           VersionMarkerRecorded
//! (unasked) ─────────────────────▶ that version
//!     │ asked where the history has no marker
//!     └───────────────────────────▶ the default: the code before the change
//! ```

use std::collections::BTreeMap;

use crate::command::VersionMarkerRecorded;

/// The version of the code before a change: what a run follows that passed the place earlier.
pub const DEFAULT_VERSION: i32 = -1;

/// The versions of changes that a run follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, i32>);

impl Versions {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The version of a change that the run follows, if its code asked before.
    #[must_use]
    pub fn of(&self, change_id: &str) -> Option<i32> {
        self.0.get(change_id).copied()
    }

    /// All changes that the code asked about, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0.iter().map(|(change_id, version)| (change_id.as_str(), *version))
    }

    /// A marker tells nothing new of a change that the code asked about before: it is another
    /// component's, which asked later.
    pub(super) fn mark(&mut self, marker: &VersionMarkerRecorded) {
        self.0.entry(marker.change_id.clone()).or_insert(marker.version);
    }

    pub(super) fn follow_default(&mut self, change_id: &str) {
        self.0.insert(change_id.to_owned(), DEFAULT_VERSION);
    }
}
