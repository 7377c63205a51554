//! Routes: which component new runs of a workflow type start on.
//!
//! ```text
//!          ramp                promote
//! current ──────▶ current + candidate at n % ──────▶ the candidate is current, the other is previous
//!    ▲                  │ rollback                              │ rollback
//!    └──────────────────┴───────────────────────────────────────┘
//! ```
//!
//! A route decides for runs that begin. Runs under way stay on their component.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, WorkflowId};

/// The parts that a ramp counts in.
const PARTS: u64 = 10_000;

/// Which component new runs of a workflow type start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The component that new runs start on.
    pub current: Digest,
    /// The component that some of them start on instead.
    pub candidate: Option<Candidate>,
    /// The component that was current before the last promotion: where a rollback leads.
    pub previous: Option<Digest>,
}

/// A component that some new runs start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The component.
    pub digest: Digest,
    /// How many of a hundred new runs start on it.
    pub ramp: Percent,
}

/// A share in per cent, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

/// A share outside 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a share is 0 to 100 per cent, not {0}")]
pub struct NotPercent(pub u8);

impl TryFrom<u8> for Percent {
    type Error = NotPercent;

    fn try_from(percent: u8) -> Result<Self, NotPercent> {
        if percent <= 100 { Ok(Self(percent)) } else { Err(NotPercent(percent)) }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

/// A route that cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// The candidate is what new runs start on already.
    #[error("{} is the current version already", .0.short())]
    IsCurrent(Digest),
    /// There is no candidate to promote.
    #[error("there is no candidate to promote: name the version")]
    NoCandidate,
    /// There is nothing to go back to.
    #[error("there is no candidate to withdraw, and no version before the current one")]
    NothingBefore,
}

impl Route {
    /// The route of a type's first version.
    #[must_use]
    pub const fn to(current: Digest) -> Self {
        Self { current, candidate: None, previous: None }
    }

    /// The component that a new run starts on. An id keeps its side while the ramp stands, and one that
    /// is on the candidate's side stays there while the ramp grows.
    #[must_use]
    pub fn digest_for(&self, workflow_id: &WorkflowId) -> Digest {
        match self.candidate {
            Some(Candidate { digest, ramp }) if place(workflow_id) < u64::from(ramp.0) * (PARTS / 100) => {
                digest
            }
            Some(_) | None => self.current,
        }
    }

    /// Sends a share of new runs to a candidate, in the place of any other.
    ///
    /// # Errors
    /// When it is current already.
    pub fn ramp(self, digest: Digest, ramp: Percent) -> Result<Self, Unroutable> {
        if digest == self.current {
            return Err(Unroutable::IsCurrent(digest));
        }
        Ok(Self { candidate: Some(Candidate { digest, ramp }), ..self })
    }

    /// Makes a component current: the one named, else the candidate.
    ///
    /// # Errors
    /// When it is current already, or none is named and there is no candidate.
    pub fn promote(self, digest: Option<Digest>) -> Result<Self, Unroutable> {
        let candidate = self.candidate.map(|candidate| candidate.digest);
        let digest = digest.or(candidate).ok_or(Unroutable::NoCandidate)?;
        if digest == self.current {
            return Err(Unroutable::IsCurrent(digest));
        }
        let candidate = self.candidate.filter(|candidate| candidate.digest != digest);
        Ok(Self { current: digest, candidate, previous: Some(self.current) })
    }

    /// Withdraws the candidate if there is one, else makes the version before the current one current
    /// again.
    ///
    /// # Errors
    /// When there is neither.
    pub fn roll_back(self) -> Result<Self, Unroutable> {
        if self.candidate.is_some() {
            return Ok(Self { candidate: None, ..self });
        }
        match self.previous {
            Some(previous) => Ok(Self { current: previous, candidate: None, previous: None }),
            None => Err(Unroutable::NothingBefore),
        }
    }

    /// Whether new runs may start on a component.
    #[must_use]
    pub fn leads_to(&self, digest: Digest) -> bool {
        self.current == digest || self.candidate.is_some_and(|candidate| candidate.digest == digest)
    }
}

/// Where a workflow id stands among all: evenly spread, and the same in every process and release.
fn place(workflow_id: &WorkflowId) -> u64 {
    let hash: [u8; 32] = Sha256::digest(workflow_id.0.as_bytes()).into();
    let (first, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Digest = Digest([1; 32]);
    const NEW: Digest = Digest([2; 32]);

    fn percent(percent: u8) -> Percent {
        Percent::try_from(percent).expect("it is at most 100")
    }

    fn on_candidate(ramp: u8) -> Vec<usize> {
        let route = Route::to(OLD).ramp(NEW, percent(ramp)).expect("it is not current");
        let id = |n: &usize| WorkflowId(format!("order-{n}"));
        (0..10_000).filter(|n| route.digest_for(&id(n)) == NEW).collect()
    }

    #[test]
    fn a_ramp_takes_its_share_and_keeps_whom_it_took() {
        assert_eq!(on_candidate(0).len(), 0);
        assert_eq!(on_candidate(100).len(), 10_000);
        let (tenth, half) = (on_candidate(10), on_candidate(50));
        // Ids are fixed, so these numbers are: within three standard deviations of 1,000 and 5,000.
        assert!((910..1_090).contains(&tenth.len()), "{}", tenth.len());
        assert!((4_850..5_150).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|id| half.contains(id)));
    }

    #[test]
    fn an_id_stands_where_every_release_puts_it() {
        assert_eq!(place(&WorkflowId("order-1".to_owned())), 396);
    }

    #[test]
    fn a_rollback_withdraws_the_candidate_first() {
        let route = Route::to(OLD).ramp(NEW, percent(10)).expect("it is not current");
        assert_eq!(route.roll_back(), Ok(Route::to(OLD)));
        let promoted = route.promote(None).expect("there is a candidate");
        assert_eq!(promoted, Route { current: NEW, candidate: None, previous: Some(OLD) });
        assert_eq!(promoted.roll_back(), Ok(Route::to(OLD)));
        assert_eq!(Route::to(OLD).roll_back(), Err(Unroutable::NothingBefore));
    }

    #[test]
    fn what_is_current_is_no_candidate() {
        assert_eq!(Route::to(OLD).ramp(OLD, percent(10)), Err(Unroutable::IsCurrent(OLD)));
        assert_eq!(Route::to(OLD).promote(Some(OLD)), Err(Unroutable::IsCurrent(OLD)));
        assert_eq!(Route::to(OLD).promote(None), Err(Unroutable::NoCandidate));
    }
}
