//! The JSON of versions: routes, what stands on each version, and what is asked about them.

use everfold_core::ids::{Digest, Timestamp};
use everfold_core::route::{self, Percent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::runner::api;

/// Which components new runs of a workflow type start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The component that new runs start on.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub current: Digest,
    /// The component that a share of them starts on instead, or null.
    #[schema(required)]
    pub candidate: Option<Candidate>,
    /// The component that was current before the last promotion, where a rollback leads, or null.
    #[schema(value_type = Option<String>, required)]
    pub previous: Option<Digest>,
}

/// A component that a share of new runs starts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// The component.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// How many of a hundred new runs start on it.
    #[schema(value_type = u8, maximum = 100)]
    pub ramp_percent: Percent,
}

/// Where new runs of a workflow type go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Routing {
    /// The type.
    pub workflow_type: String,
    /// The component that new runs start on.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub current: Digest,
    /// The component that a share of them starts on instead, or null.
    #[schema(required)]
    pub candidate: Option<Candidate>,
    /// The component that was current before the last promotion, where a rollback leads, or null.
    #[schema(value_type = Option<String>, required)]
    pub previous: Option<Digest>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

/// All workflow types.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkflowTypes {
    /// By name.
    pub workflow_types: Vec<Routing>,
}

/// A workflow type and its versions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TypeVersions {
    /// Where its new runs go.
    pub routing: Routing,
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// A version of a workflow type.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The component.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// `current`, `candidate`, `draining`, `drained` or `retired`.
    pub state: String,
    /// Runs that are open.
    pub open: u64,
    /// Those of them that are blocked.
    pub blocked: u64,
    /// All runs, open and closed.
    pub runs: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// When the first of them started.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub first_started_at: Option<Timestamp>,
    /// When the last of them started.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_started_at: Option<Timestamp>,
    /// When it was deployed.
    #[schema(value_type = String, format = DateTime)]
    pub deployed_at: Timestamp,
    /// When it was retired, if it was.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub retired_at: Option<Timestamp>,
    /// The component's size in bytes.
    pub size: u64,
    /// The component's SDK, for people.
    pub sdk: String,
    /// Whether its code is in memory.
    pub is_loaded: bool,
}

/// The body that routes new runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `digest`")]
pub struct RoutingBody {
    /// The version.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Makes it the candidate, on which that many of a hundred new runs start; without it the version
    /// becomes current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, maximum = 100)]
    pub ramp_percent: Option<Percent>,
}

/// The body that promotes a version.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `digest`, or nothing")]
pub struct PromoteBody {
    /// The version; without it, the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub digest: Option<Digest>,
}

/// A changed route.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Routed {
    /// The route now.
    pub routing: Routing,
    /// Blocked runs of the type, which are tried again now.
    pub blocked_runs: u64,
}

/// The body that moves open runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `digest`")]
pub struct UpgradeBody {
    /// The version to move to.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Moves those whose replay holds and leaves the others; without it nothing moves unless all can.
    #[serde(default)]
    #[schema(required = false)]
    pub only_compatible: bool,
    /// Only the open runs of these workflows; without it, all of the type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workflow_ids: Vec<String>,
}

impl From<route::Route> for Route {
    fn from(route: route::Route) -> Self {
        let candidate =
            route.candidate.map(|route::Candidate { digest, ramp }| Candidate { digest, ramp_percent: ramp });
        Self { current: route.current, candidate, previous: route.previous }
    }
}

impl From<api::TypeRouting> for Routing {
    fn from(routing: api::TypeRouting) -> Self {
        let Route { current, candidate, previous } = routing.route.into();
        Self {
            workflow_type: routing.workflow_type,
            current,
            candidate,
            previous,
            changed_at: routing.changed_at,
        }
    }
}

impl From<api::TypeVersions> for TypeVersions {
    fn from(found: api::TypeVersions) -> Self {
        Self { routing: found.routing.into(), versions: found.versions.into_iter().map(Into::into).collect() }
    }
}

impl From<api::Version> for Version {
    fn from(version: api::Version) -> Self {
        let api::Version { row, state, is_loaded } = version;
        Self {
            digest: row.digest,
            state: state.name().to_owned(),
            open: row.open,
            blocked: row.blocked,
            runs: row.runs,
            failed: row.failed,
            first_started_at: row.first_started_at,
            last_started_at: row.last_started_at,
            deployed_at: row.deployed_at,
            retired_at: row.retired_at,
            size: row.size,
            sdk: row.sdk,
            is_loaded,
        }
    }
}

impl From<api::Routed> for Routed {
    fn from(routed: api::Routed) -> Self {
        Self { routing: routed.routing.into(), blocked_runs: routed.blocked_runs }
    }
}
