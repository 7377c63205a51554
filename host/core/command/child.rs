//! Commands about children.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{CancellationType, VersionChoice};
use crate::attributes::{Details, Memo, SearchAttributes};
use crate::decision::IdReusePolicy;
use crate::ids::{EventId, RunId, Timestamp, WorkflowId};
use crate::lifetime::{Lifetime, Terms};
use crate::payload::Payload;

/// A child: a run that tells this one of its end.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildWorkflowInitiated {
    /// Its type.
    #[n(0)]
    pub workflow_type: String,
    /// Its workflow id.
    #[n(1)]
    pub workflow_id: WorkflowId,
    /// Its first run.
    #[n(2)]
    pub run_id: RunId,
    /// Its input.
    #[n(3)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
    /// What becomes of it when this run closes.
    #[n(5)]
    #[serde(default)]
    pub parent_close_policy: ParentClosePolicy,
    /// What becomes of it when it is not waited for any more.
    #[n(6)]
    #[serde(default)]
    pub cancellation_type: CancellationType,
    /// Whether its workflow id may have been a closed run's.
    #[n(7)]
    #[serde(default)]
    pub id_reuse_policy: IdReusePolicy,
    /// Which component folds it.
    #[n(8)]
    #[serde(default)]
    pub version: VersionChoice,
    /// One line for people.
    #[n(9)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// How long it may take, and whether it is tried again; absent where nothing was asked.
    #[n(10)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Box<Terms>>,
    /// What it can be found by.
    #[n(11)]
    #[serde(default, skip_serializing_if = "SearchAttributes::is_empty")]
    pub search_attributes: SearchAttributes,
    /// What is written on it.
    #[n(12)]
    #[serde(default, skip_serializing_if = "Memo::is_empty")]
    pub memo: Memo,
}

impl ChildWorkflowInitiated {
    /// What the child's first run is told of its time.
    #[must_use]
    pub fn lifetime(&self, now: Timestamp) -> Option<Box<Lifetime>> {
        self.terms.as_ref()?.lifetime(now)
    }

    /// What the child is described by when it begins.
    #[must_use]
    pub fn details(&self) -> Details {
        Details { search_attributes: self.search_attributes.clone(), memo: self.memo.clone() }
    }
}

/// What becomes of a child when the run that began it closes, also by continuing as new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum ParentClosePolicy {
    /// It is terminated.
    #[n(0)]
    #[default]
    Terminate,
    /// It is asked to cancel.
    #[n(1)]
    RequestCancel,
    /// It goes on.
    #[n(2)]
    Abandon,
}

impl ParentClosePolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Terminate, Self::RequestCancel, Self::Abandon];

    /// Its name in JSON and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::RequestCancel => "request_cancel",
            Self::Abandon => "abandon",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// The request to a child to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildCancelRequested {
    /// The command that began it.
    #[n(0)]
    pub command_event_id: EventId,
    /// Why.
    #[n(1)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
