//! What callers say about versions of workflow types, and what they are answered.

use std::time::Duration;

use everfold_core::divergence::Strictness;
use everfold_core::ids::{Digest, Namespace, Timestamp, WorkflowId};
use everfold_core::route::{Percent, Route};

use crate::guest::{Handler, HandlerKind};

/// A deployed component.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// False when the same bytes were there already.
    pub is_new: bool,
    /// Size in bytes.
    pub size: u64,
    /// How long its compilation took; absent when its code came from the cache.
    pub compile_time: Option<Duration>,
    /// The workflow types in it.
    pub workflow_types: Vec<DeployedType>,
    /// Types of the current versions that this component replaces in part, and that it does not have.
    pub missing_types: Vec<String>,
    /// Its SDK, for people.
    pub sdk: String,
}

/// A workflow type of a deployed component.
#[derive(Clone, Debug)]
pub struct DeployedType {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// What can be said to its runs: signals, queries, updates.
    pub handlers: Vec<Handler>,
    /// Where new runs of the type go.
    pub route: Route,
    /// What is other than in the current version; absent when this is the current version.
    pub changes: Option<TypeChanges>,
}

/// What a version of a workflow type has other than the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeChanges {
    /// The current version.
    pub since: Digest,
    /// Handlers that it has and the current version has not.
    pub added: Vec<HandlerChange>,
    /// Handlers that the current version has and it has not: who calls them is refused or ignored.
    pub removed: Vec<HandlerChange>,
}

/// A handler by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerChange {
    /// Which of the three.
    pub kind: HandlerKind,
    /// Its name.
    pub name: String,
}

/// Where new runs of a workflow type go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRouting {
    /// The type.
    pub workflow_type: String,
    /// The route.
    pub route: Route,
    /// Since when.
    pub changed_at: Timestamp,
}

/// The versions of a workflow type.
#[derive(Clone, Debug)]
pub struct TypeVersions {
    /// Where its new runs go.
    pub routing: TypeRouting,
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// A version of a workflow type.
#[derive(Clone, Debug)]
pub struct Version {
    /// What the store knows of it.
    pub row: crate::store::VersionRow,
    /// How it stands.
    pub state: VersionState,
    /// Whether its code is in memory.
    pub is_loaded: bool,
}

/// How a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// New runs start on it.
    Current,
    /// It may become current: a share of new runs starts on it, or none was sent to it yet.
    Candidate,
    /// No new runs start on it; some are open.
    Draining,
    /// No new runs start on it, and none is open.
    Drained,
    /// It was retired.
    Retired,
}

impl VersionState {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Candidate => "candidate",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Retired => "retired",
        }
    }
}

/// A route to change.
#[derive(Clone, Debug)]
pub struct RoutingRequest {
    /// Where.
    pub namespace: Namespace,
    /// Of which workflow type.
    pub workflow_type: String,
    /// How.
    pub change: RoutingChange,
}

/// What is to change about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingChange {
    /// That version becomes current; without one, the candidate.
    Promote(Option<Digest>),
    /// A share of new runs starts on that version; without one, on the candidate that there is.
    Ramp(Option<Digest>, Percent),
    /// The candidate is withdrawn; without one, the version before the last promotion is current again.
    RollBack,
}

/// A route that was changed.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The route now.
    pub routing: TypeRouting,
    /// Blocked runs of the type, which are tried again now.
    pub blocked_runs: u64,
}

/// What a component would do to runs.
#[derive(Clone, Debug)]
pub struct CheckRequest {
    /// Where.
    pub namespace: Namespace,
    /// Which component.
    pub subject: Subject,
    /// Only these of its workflow types; empty means all.
    pub workflow_types: Vec<String>,
    /// Only the runs of these workflows; empty means all.
    pub workflow_ids: Vec<WorkflowId>,
    /// Closed runs are looked at too that closed at this time or later.
    pub closed_from: Option<Timestamp>,
    /// What counts as divergence.
    pub strictness: Strictness,
    /// Whether to look beyond the end of histories.
    pub look_ahead: Option<LookAhead>,
}

/// The component to check.
#[derive(Clone, Debug)]
pub enum Subject {
    /// One that is deployed.
    Deployed(Digest),
    /// These bytes; nothing of them is kept.
    Bytes(Vec<u8>),
}

/// How far to look beyond the end of histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookAhead {
    /// Imagined inputs in a row, from 1 to [`LookAhead::MOST_STEPS`].
    pub steps: u32,
}

impl LookAhead {
    /// The most inputs in a row.
    pub const MOST_STEPS: u32 = 50;
}

/// Open runs to move.
#[derive(Clone, Debug)]
pub struct UpgradeRequest {
    /// Where.
    pub namespace: Namespace,
    /// Of which workflow type.
    pub workflow_type: String,
    /// Where to.
    pub digest: Digest,
    /// Only these workflows; empty means all.
    pub workflow_ids: Vec<WorkflowId>,
    /// What happens if some would break.
    pub who_moves: WhoMoves,
}

/// Which runs move when some would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhoMoves {
    /// None: it is refused before any run is moved.
    AllOrNone,
    /// Those whose replay holds. The others stay on their version.
    Compatible,
}
