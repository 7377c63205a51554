//! Handles of series that were used before. A fact that is told a thousand times a second finds its series
//! without a key being made, and copied, for it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use metrics::{Key, Label};
use parking_lot::RwLock;

/// A series' labels as facts name them.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The handles of one sort of metric. There are as many as there are series, which bounded labels bound.
#[derive(Debug)]
pub(super) struct Handles<H> {
    state: RandomState,
    known: RwLock<HashMap<u64, Vec<(Key, H)>>>,
}

impl<H> Default for Handles<H> {
    fn default() -> Self {
        Self { state: RandomState::new(), known: RwLock::default() }
    }
}

impl<H> Handles<H> {
    /// Uses the handle of a series; `register` makes it the first time.
    pub(super) fn with(
        &self,
        name: &'static str,
        labels: Labels<'_>,
        register: impl FnOnce(&Key) -> H,
        with: impl FnOnce(&H),
    ) {
        let hash = self.state.hash_one((name, labels));
        let is_it = |(key, _): &&(Key, H)| {
            let own = key.labels().map(|label| (label.key(), label.value()));
            key.name() == name && own.eq(labels.iter().copied())
        };
        if let Some((_, handle)) = self.known.read().get(&hash).and_then(|same| same.iter().find(is_it)) {
            return with(handle);
        }
        let own = labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned()));
        let key = Key::from_parts(name, own.collect::<Vec<_>>());
        let mut known = self.known.write();
        let same = known.entry(hash).or_default();
        // Another thread may have been faster.
        if !same.iter().any(|entry| is_it(&entry)) {
            same.push((key.clone(), register(&key)));
        }
        if let Some((_, handle)) = same.iter().find(is_it) {
            with(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_series_is_registered_once_and_told_apart_by_name_and_labels() {
        let handles = Handles::default();
        let registered = RefCell::new(Vec::new());
        let mut used = Vec::new();
        for (name, labels) in [
            ("a", &[("k", "1")][..]),
            ("a", &[("k", "2")]),
            ("a", &[("k", "1")]),
            ("b", &[("k", "1")]),
            ("a", &[]),
        ] {
            let register = |key: &Key| {
                registered.borrow_mut().push(key.to_string());
                registered.borrow().len()
            };
            handles.with(name, labels, register, |handle| used.push(*handle));
        }
        assert_eq!(used, [1, 2, 1, 3, 4]);
        assert_eq!(registered.into_inner().len(), 4);
    }
}
