//! What a run is described by beside its input: search attributes, by which people find it, and a memo.
//!
//! Owns what the run has of both now: what it began with, and what the workflow changed since.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::context::Info;
use crate::host::Host;
use crate::payload::Payload;

/// Search attributes or a memo as they stand.
pub(crate) type Described = BTreeMap<String, Payload>;

/// What a value that serialises to an object changes, name by name.
///
/// # Panics
///
/// When it does not: a fault of the workflow's code. `what` names it.
pub(crate) fn changes<T: Serialize + ?Sized>(value: &T, what: &str) -> Vec<(String, Payload)> {
    let whole = Payload::of(value, what);
    let values: BTreeMap<String, serde_json::Value> = match whole.decode() {
        Ok(values) => values,
        Err(_) => panic!("{what} are given by name, as an object or a struct"),
    };
    values.into_iter().map(|(name, value)| (name, Payload::of(&value, what))).collect()
}

/// Takes changes over; `null` removes, and so does an empty list where the host takes that for nothing.
pub(crate) fn apply(described: &mut Described, changes: &[(String, Payload)], nothing: &[&[u8]]) {
    for (name, value) in changes {
        if nothing.contains(&value.data.as_slice()) {
            described.remove(name);
        } else {
            described.insert(name.clone(), value.clone());
        }
    }
}

/// What a run is described by now.
pub(crate) struct Details {
    search_attributes: RefCell<Described>,
    memo: RefCell<Described>,
}

impl Details {
    pub(crate) fn new(info: &Info) -> Self {
        Self {
            search_attributes: RefCell::new(info.search_attributes.iter().cloned().collect()),
            memo: RefCell::new(info.memo.iter().cloned().collect()),
        }
    }

    pub(crate) fn upsert_search_attributes(&self, host: &dyn Host, changes: &[(String, Payload)]) {
        host.upsert_search_attributes(changes);
        apply(&mut self.search_attributes.borrow_mut(), changes, &NO_ATTRIBUTE);
    }

    pub(crate) fn upsert_memo(&self, host: &dyn Host, changes: &[(String, Payload)]) {
        host.upsert_memo(changes);
        apply(&mut self.memo.borrow_mut(), changes, &NO_ENTRY);
    }

    pub(crate) fn search_attributes(&self) -> Described {
        self.search_attributes.borrow().clone()
    }

    pub(crate) fn memo(&self) -> Described {
        self.memo.borrow().clone()
    }
}

/// What removes a search attribute.
pub(crate) const NO_ATTRIBUTE: [&[u8]; 2] = [b"null", b"[]"];
/// What removes an entry of a memo.
pub(crate) const NO_ENTRY: [&[u8]; 1] = [b"null"];
