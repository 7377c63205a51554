//! Asks a run's validator whether an update may be admitted: on a replica, at the event number that the update would
//! get. Runs on the run's own thread between two of its steps, while nothing of the run is on its way to the disk: so
//! the committed history is all of it, and nothing is folded between the question and the admission.

use std::sync::Arc;

use everfold_core::event::{Event, UpdateAdmitted};
use everfold_core::failure::Failure;
use everfold_core::fold::GuestFault;
use everfold_core::ids::{EventId, RunKey};
use everfold_core::replay::ReplayFault;

use super::Parts;
use super::block::{self, Fault};
use super::queries::{NoReplica, catch_up};
use super::run::Ready;
use crate::guest::NoInstance;
use crate::store::StoreError;

/// The type of the failure of an update whose validator trapped or passed a limit.
const VALIDATOR_FAULTED: &str = "UpdateValidatorFaulted";
/// Events read at once.
const PAGE: usize = 4_096;

/// What the run's code says to an update.
pub(super) type Verdict = Result<(), Failure>;

/// Asks the validator of a run that stands where its committed history ends.
///
/// # Errors
/// When there is no such component, or the history cannot be folded into it.
pub(super) fn validate(
    parts: &Arc<Parts>,
    key: &RunKey,
    ready: &Ready,
    update: &UpdateAdmitted,
) -> Result<Verdict, Fault> {
    let here = ready.state.next();
    let component = block::component(parts, ready.digest, here)?;
    if !component.validates_updates() {
        return Ok(Ok(()));
    }
    // A replica that is asked something just now is not waited for: another one is folded for this.
    let mut place = parts.replicas.of(key, parts.clock.now()).try_lock_owned().ok();
    let kept = place.as_mut().and_then(|place| place.take()).filter(|kept| kept.digest == ready.digest);
    let behind = kept.as_ref().map_or(EventId(0), |kept| EventId(kept.state.next().0 - 1));
    let news = parts.runtime.block_on(events_behind(parts, key, behind));
    let news = news.map_err(|error| Fault::Host(error.to_string()))?;
    parts.versions.loaded().look_again();
    let mut folded = catch_up(&component, kept, news).map_err(|none| match none {
        NoReplica::Mute => unreachable!("a component with a validator has replicas"),
        NoReplica::NoInstance(none @ NoInstance::Full(_)) => Fault::Host(none.to_string()),
        NoReplica::NoInstance(NoInstance::Fault(fault)) => Fault::guest(here, fault),
        NoReplica::NotFolded(ReplayFault::Malformed(error)) => Fault::Host(error.to_string()),
        NoReplica::NotFolded(ReplayFault::Guest { event_id, fault }) => Fault::guest(event_id, fault),
    })?;
    match folded.replica.validate(update) {
        Ok(verdict) => {
            if let Some(place) = &mut place {
                **place = Some(folded);
            }
            Ok(verdict)
        }
        Err(fault) => {
            if let (GuestFault::LimitExceeded { .. }, Some(started)) = (&fault, ready.state.started()) {
                parts.suspects.add(ready.digest, &started.workflow_type);
            }
            let message = format!("the validator of update `{}` failed: {fault}", update.name);
            Ok(Err(Failure::non_retryable(VALIDATOR_FAULTED, message)))
        }
    }
}

/// All that is committed of a run behind an event.
async fn events_behind(parts: &Parts, key: &RunKey, behind: EventId) -> Result<Vec<Event>, StoreError> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let reached = events.last().map_or(behind, |event| event.id);
        let page = parts.store.history(key, reached, PAGE).await?;
        if page.is_empty() {
            return Ok(events);
        }
        events.extend(page);
    }
}
