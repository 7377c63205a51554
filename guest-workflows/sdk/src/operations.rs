//! The table of a run's open operations of one kind: who waits for which.
//!
//! ```text
//!          ┌── close ──▶ Closed ── poll ──▶ (gone)
//! Open ────┤
//!          └── remove ──────────────────▶ (gone)
//! ```
//!
//! Ordered by event number, so that everything done to all of them is done in the order of history.
//! Must never call the host.

use std::collections::BTreeMap;
use std::task::{Context as TaskContext, Poll, Waker};

use crate::bindings::everfold::workflow::types::{CancellationType, EventId};

/// Whether the run's cancellation reaches an operation. It is the place from which the operation
/// was last polled that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Exposed,
    Shielded,
}

/// Whether the host was asked to cancel an operation; it may be asked once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CancelRequest {
    NotMade,
    Made,
}

pub(crate) struct Operations<O> {
    entries: BTreeMap<EventId, Entry<O>>,
}

struct Entry<O> {
    on_cancel: CancellationType,
    request: CancelRequest,
    scope: Scope,
    state: State<O>,
}

enum State<O> {
    Open(Waker),
    Closed(O),
}

impl<O> Operations<O> {
    pub(crate) const fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    pub(crate) fn open(&mut self, id: EventId, on_cancel: CancellationType, scope: Scope) {
        let entry = Entry {
            on_cancel,
            request: CancelRequest::NotMade,
            scope,
            state: State::Open(Waker::noop().clone()),
        };
        let before = self.entries.insert(id, entry);
        assert!(before.is_none(), "the host gave the number {id} to two operations");
    }

    /// Takes the outcome of an operation that has closed, or leaves a waker with one that has not.
    pub(crate) fn poll(&mut self, id: EventId, scope: Scope, task: &TaskContext<'_>) -> Poll<O> {
        let Some(entry) = self.entries.get_mut(&id) else {
            panic!("operation {id} was polled after it was gone");
        };
        entry.scope = scope;
        if let State::Open(waker) = &mut entry.state {
            waker.clone_from(task.waker());
            return Poll::Pending;
        }
        match self.entries.remove(&id).map(|entry| entry.state) {
            Some(State::Closed(outcome)) => Poll::Ready(outcome),
            Some(State::Open(_)) | None => Poll::Pending,
        }
    }

    /// Whether an operation is there, open or closed.
    pub(crate) fn has(&self, id: EventId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Notes from where an operation is waited for, without polling it.
    pub(crate) fn enter(&mut self, id: EventId, scope: Scope) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.scope = scope;
        }
    }

    /// Marks an open operation as asked to cancel, and says whether it was not before.
    pub(crate) fn ask_to_cancel(&mut self, id: EventId) -> bool {
        match self.entries.get_mut(&id) {
            Some(Entry { state: State::Open(_), request: request @ CancelRequest::NotMade, .. }) => {
                *request = CancelRequest::Made;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Closes an operation and gives the waker of whoever waits for it. One that nobody waits for
    /// any more, or that has closed already, is left alone.
    pub(crate) fn close(&mut self, id: EventId, outcome: O) -> Option<Waker> {
        let entry = self.entries.get_mut(&id)?;
        match std::mem::replace(&mut entry.state, State::Closed(outcome)) {
            State::Open(waker) => Some(waker),
            first @ State::Closed(_) => {
                entry.state = first;
                None
            }
        }
    }

    /// Forgets an operation, and says whether the host has yet to be asked to cancel it.
    pub(crate) fn remove(&mut self, id: EventId) -> Option<CancellationType> {
        let entry = self.entries.remove(&id)?;
        match (entry.state, entry.request) {
            (State::Open(_), CancelRequest::NotMade) => Some(entry.on_cancel),
            (State::Open(_), CancelRequest::Made) | (State::Closed(_), _) => None,
        }
    }

    /// The open operations that the run's cancellation reaches, each marked as asked to cancel.
    pub(crate) fn cancel_exposed(&mut self) -> Vec<(EventId, CancellationType)> {
        let mut reached = Vec::new();
        for (id, entry) in &mut self.entries {
            let open = matches!(entry.state, State::Open(_));
            let asked = entry.request == CancelRequest::Made;
            if open && !asked && entry.scope == Scope::Exposed {
                entry.request = CancelRequest::Made;
                reached.push((*id, entry.on_cancel));
            }
        }
        reached
    }
}
