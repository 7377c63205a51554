//! The JSON of components.

use everfold_core::ids::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::versions::Route;
use crate::guest::HandlerKind;
use crate::runner::api;
use crate::store::ComponentRow;

/// A component that was just deployed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    /// SHA-256 of its bytes.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// False when the same bytes were there already.
    pub is_new: bool,
    /// Size in bytes.
    pub size: u64,
    /// How long its compilation took; null when its code was there.
    #[schema(required)]
    pub compile_ms: Option<u64>,
    /// Its SDK, for people.
    pub sdk: String,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Those of them whose new runs start on this component.
    pub current_for: Vec<String>,
    /// What it says of each of them, in the same order.
    pub types: Vec<DeployedType>,
    /// Types of the current versions that this component replaces in part, and that it does not have.
    pub missing_types: Vec<String>,
}

/// A workflow type of a component that was just deployed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeployedType {
    /// Its name.
    pub name: String,
    /// One line for people; may be empty.
    pub summary: String,
    /// The signals that it takes.
    pub signals: Vec<Handler>,
    /// The queries that it answers.
    pub queries: Vec<Handler>,
    /// The updates that it answers.
    pub updates: Vec<Handler>,
    /// Where new runs of the type go.
    pub routing: Route,
    /// What is other than in the current version; null where this is the current version.
    #[schema(required)]
    pub changes: Option<TypeChanges>,
}

/// A signal, query or update.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// One line for people; may be empty.
    pub summary: String,
}

/// What a version of a workflow type has other than the current one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TypeChanges {
    /// The current version.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub since: Digest,
    /// Handlers that it has and the current version has not.
    pub added: Vec<HandlerChange>,
    /// Handlers that the current version has and it has not.
    pub removed: Vec<HandlerChange>,
}

/// A handler that came or went.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerChange {
    /// `signal`, `query` or `update`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// All components.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Components {
    /// Oldest first.
    pub components: Vec<Component>,
}

/// A component of the list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// SHA-256 of its bytes.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Those of them whose new runs start on this component.
    pub current_for: Vec<String>,
    /// Those of them whose new runs start on this component in part.
    pub candidate_for: Vec<String>,
    /// Its SDK, for people.
    pub sdk: String,
    /// When it was deployed.
    #[schema(value_type = String, format = DateTime)]
    pub deployed_at: Timestamp,
}

impl From<api::Deployed> for Deployed {
    fn from(deployed: api::Deployed) -> Self {
        let types = &deployed.workflow_types;
        let current = types.iter().filter(|workflow_type| workflow_type.route.current == deployed.digest);
        Self {
            digest: deployed.digest,
            is_new: deployed.is_new,
            size: deployed.size,
            compile_ms: deployed.compile_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            sdk: deployed.sdk,
            current_for: current.map(|workflow_type| workflow_type.name.clone()).collect(),
            workflow_types: types.iter().map(|workflow_type| workflow_type.name.clone()).collect(),
            types: deployed.workflow_types.into_iter().map(Into::into).collect(),
            missing_types: deployed.missing_types,
        }
    }
}

impl From<api::DeployedType> for DeployedType {
    fn from(found: api::DeployedType) -> Self {
        let of = |kind: HandlerKind| {
            let handlers = found.handlers.iter().filter(|handler| handler.kind == kind);
            let handlers = handlers
                .map(|handler| Handler { name: handler.name.clone(), summary: handler.summary.clone() });
            handlers.collect()
        };
        Self {
            signals: of(HandlerKind::Signal),
            queries: of(HandlerKind::Query),
            updates: of(HandlerKind::Update),
            name: found.name,
            summary: found.summary,
            routing: found.route.into(),
            changes: found.changes.map(Into::into),
        }
    }
}

impl From<api::TypeChanges> for TypeChanges {
    fn from(changes: api::TypeChanges) -> Self {
        let told = |handlers: Vec<api::HandlerChange>| {
            let handlers = handlers.into_iter();
            handlers
                .map(|handler| HandlerChange { kind: handler.kind.name().to_owned(), name: handler.name })
                .collect()
        };
        Self { since: changes.since, added: told(changes.added), removed: told(changes.removed) }
    }
}

impl Component {
    /// A component of the list. `routes` are those of all types.
    #[must_use]
    pub fn new(row: ComponentRow, routes: &[api::TypeRouting]) -> Self {
        let current = row.workflow_types.iter().filter(|(_, is_current)| *is_current);
        let is_candidate = |name: &str| {
            let found = routes.iter().find(|routing| routing.workflow_type == name);
            let candidate = found.and_then(|routing| routing.route.candidate);
            candidate.is_some_and(|candidate| candidate.digest == row.digest)
        };
        let candidate = row.workflow_types.iter().filter(|(name, _)| is_candidate(name));
        Self {
            digest: row.digest,
            size: row.size,
            current_for: current.map(|(name, _)| name.clone()).collect(),
            candidate_for: candidate.map(|(name, _)| name.clone()).collect(),
            workflow_types: row.workflow_types.iter().map(|(name, _)| name.clone()).collect(),
            sdk: row.sdk,
            deployed_at: row.deployed_at,
        }
    }
}
