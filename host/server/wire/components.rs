//! The JSON of components.

use everfold_core::ids::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::runner::api;
use crate::store::ComponentRow;

/// A component that was just deployed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    /// SHA-256 of its bytes.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Those of them whose new runs start on this component.
    pub current_for: Vec<String>,
    /// One line for people on each type that has one.
    #[schema(value_type = HashMap<String, String>)]
    pub summaries: Map<String, Value>,
    /// Its SDK, for people.
    pub sdk: String,
    /// How long its compilation took; null when its code was there.
    #[schema(required)]
    pub compile_ms: Option<u64>,
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
        let described = types.iter().filter(|workflow_type| !workflow_type.summary.is_empty());
        Self {
            digest: deployed.digest,
            size: deployed.size,
            workflow_types: types.iter().map(|workflow_type| workflow_type.name.clone()).collect(),
            current_for: current.map(|workflow_type| workflow_type.name.clone()).collect(),
            summaries: described
                .map(|workflow_type| (workflow_type.name.clone(), workflow_type.summary.clone().into()))
                .collect(),
            sdk: deployed.sdk,
            compile_ms: deployed.compile_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<ComponentRow> for Component {
    fn from(row: ComponentRow) -> Self {
        let current = row.workflow_types.iter().filter(|(_, is_current)| *is_current);
        Self {
            digest: row.digest,
            size: row.size,
            current_for: current.map(|(name, _)| name.clone()).collect(),
            workflow_types: row.workflow_types.iter().map(|(name, _)| name.clone()).collect(),
            sdk: row.sdk,
            deployed_at: row.deployed_at,
        }
    }
}
