//! Replay: the recorded inputs go into a fresh guest, its calls are checked against the record.

use crate::divergence::{Change, Replaying};
use crate::event::{Event, EventKind};
use crate::fold::{Activated, Activation, Guest, GuestFault};
use crate::ids::EventId;
use crate::machine::{IllegalEvent, RunState};

/// A replay that held.
#[derive(Debug)]
pub struct Replayed {
    /// The state behind the last event.
    pub state: RunState,
    /// Differences that are no divergence.
    pub changes: Vec<Change>,
}

/// A replay that did not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayFault {
    /// The history itself is malformed: no guest can fold it.
    #[error("the history is not well-formed: {0}")]
    Malformed(#[from] IllegalEvent),
    /// The guest diverged, trapped or passed a limit while it folded this event.
    #[error("{fault}")]
    Guest {
        /// The input that was being folded.
        event_id: EventId,
        /// What happened.
        fault: GuestFault,
    },
}

/// Folds recorded activations into a fresh guest. Observations are dropped.
///
/// # Errors
/// The first activation that does not hold.
pub fn replay<G: Guest>(
    guest: &mut G,
    activations: impl IntoIterator<Item = Vec<Event>>,
    replaying: Replaying,
) -> Result<Replayed, ReplayFault> {
    replay_on(guest, RunState::new(), activations, replaying)
}

/// Goes on from `state`, up to which the guest has folded its history. Observations are dropped.
///
/// # Errors
/// The first activation that does not hold.
pub fn replay_on<G: Guest>(
    guest: &mut G,
    state: RunState,
    activations: impl IntoIterator<Item = Vec<Event>>,
    replaying: Replaying,
) -> Result<Replayed, ReplayFault> {
    replay_telling(guest, state, activations, replaying, |_, _| {})
}

/// The same for somebody who looks: `tell` gets what the guest said while it folded each input, the
/// one at which it failed included.
///
/// # Errors
/// The first activation that does not hold.
pub fn replay_telling<G: Guest>(
    guest: &mut G,
    mut state: RunState,
    activations: impl IntoIterator<Item = Vec<Event>>,
    replaying: Replaying,
    mut tell: impl FnMut(EventId, G::Observations),
) -> Result<Replayed, ReplayFault> {
    let mut changes = Vec::new();
    for events in activations {
        if let [note @ Event { kind: EventKind::Note(_), .. }] = events.as_slice() {
            state.apply(note)?;
            continue;
        }
        let event_id = state.next();
        let activation = Activation::replay(state, events, replaying)?;
        let Activated { activation, outcome, observations } = guest.activate(activation);
        tell(event_id, observations);
        let folded = outcome
            .and_then(|()| activation.finish())
            .map_err(|fault| ReplayFault::Guest { event_id, fault })?;
        state = folded.state;
        changes.extend(folded.changes);
    }
    Ok(Replayed { state, changes })
}
