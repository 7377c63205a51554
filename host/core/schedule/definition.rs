//! What a schedule is: when it is due, what it starts, and how it takes what comes between.

use serde::{Deserialize, Serialize};

use super::spec::ScheduleSpec;
use super::state::Policies;
use crate::attributes::{Memo, SearchAttributes};
use crate::ids::Digest;
use crate::lifetime::Terms;
use crate::payload::Payload;

/// A schedule as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// When it is due.
    pub spec: ScheduleSpec,
    /// What it starts.
    pub action: ScheduleAction,
    /// How it takes what comes between.
    #[serde(default)]
    pub policies: Policies,
}

/// The run that a schedule starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleAction {
    /// Its type.
    pub workflow_type: String,
    /// What its workflow id begins with; the nominal time follows.
    pub workflow_id: String,
    /// Its input.
    pub input: Payload,
    /// Named payloads beside the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
    /// The version that every run starts on; if absent the one that new runs of the type start on at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it can be found by.
    #[serde(default, skip_serializing_if = "SearchAttributes::is_empty")]
    pub search_attributes: SearchAttributes,
    /// What is written on it.
    #[serde(default, skip_serializing_if = "Memo::is_empty")]
    pub memo: Memo,
    /// How long it may take, and whether it is tried again.
    #[serde(default)]
    pub terms: Terms,
}
