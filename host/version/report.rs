//! What a shadow replay found, and what a move did: the shapes that the host reports, also as JSON.

use everfold_core::divergence::{Call, Change, Nondeterminism};
use everfold_core::ids::{Digest, EventId, RunId, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a check or a move has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Runs looked at.
    pub done: u64,
    /// Runs to look at, as far as that is known.
    pub total: u64,
}

/// What a component would do to the runs of its workflow types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// The component that was tried.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Whether every open run could be moved to it.
    pub holds: bool,
    /// One for each workflow type that was looked at, in the component's order.
    pub workflow_types: Vec<TypeReport>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Events that were replayed.
    pub events: u64,
    /// Where the time of the threads that replayed went; they work side by side.
    #[serde(default)]
    pub spent: Spent,
    /// What such a report cannot say.
    #[serde(default)]
    pub caveat: String,
}

/// What a check cannot say.
pub(crate) const CAVEAT: &str = "A replay proves agreement with the past only: the component makes the calls that are in \
    the histories. What it asks for next may still be something else; a look ahead imagines some of it.";

/// Where the time of replays went, in milliseconds, summed over all that were under way at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spent {
    /// Reading histories.
    pub reading_ms: u64,
    /// Making instances.
    pub instantiating_ms: u64,
    /// Folding.
    pub folding_ms: u64,
}

/// What a component would do to the runs of one workflow type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeReport {
    /// The type.
    pub workflow_type: String,
    /// Open runs that were looked at, and how they went.
    pub open: Tally,
    /// Closed runs that were looked at too, and how they went.
    pub closed: Tally,
    /// Equal findings together: those that break runs first, then by the number of runs. At most 100.
    pub groups: Vec<Group>,
    /// Runs whose finding is in none of the groups, because there were too many.
    pub ungrouped: u64,
    /// What compatible open runs would ask for next, on their version and on the component; empty unless
    /// asked for. Runs that wait for nothing that this host would bring are in none. There are fewer where too
    /// many passed a limit.
    pub outlooks: Vec<Outlook>,
}

/// How many runs went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// All.
    pub runs: u64,
    /// On the component already; not replayed.
    pub already_there: u64,
    /// Those of them that are blocked on it.
    #[serde(default)]
    pub blocked_there: u64,
    /// The component makes the same calls.
    pub compatible: u64,
    /// The same calls with other inputs or options.
    pub changed: u64,
    /// Other calls.
    pub diverged: u64,
    /// The component trapped, panicked or passed a limit.
    pub faulted: u64,
    /// The history could not be read.
    pub unreadable: u64,
    /// Not replayed, because too many before passed a limit; each would take as long as an activation may.
    #[serde(default)]
    pub not_tried: u64,
}

impl Tally {
    /// Whether all of these runs could be moved, or need not be.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.diverged == 0 && self.faulted == 0 && self.unreadable == 0 && self.not_tried == 0
    }

    /// Runs that would break: all but those that are there already, agree, or agree with changes.
    #[must_use]
    pub fn breaking(&self) -> u64 {
        self.runs.saturating_sub(self.already_there + self.compatible + self.changed)
    }

    /// Counts one run.
    pub(crate) const fn add(&mut self, finding: Finding) {
        self.runs += 1;
        match finding {
            Finding::Compatible => self.compatible += 1,
            Finding::Changed => self.changed += 1,
            Finding::Diverged => self.diverged += 1,
            Finding::Faulted => self.faulted += 1,
            Finding::Unreadable => self.unreadable += 1,
        }
    }
}

/// Equal findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// What was found.
    pub finding: Finding,
    /// In a line: what all runs of the group have in common.
    pub reason: String,
    /// How many runs.
    pub runs: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// What a replay of one run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The component makes other calls.
    Diverged,
    /// It trapped, panicked or passed a limit.
    Faulted,
    /// The history could not be read.
    Unreadable,
    /// The same calls with other inputs or options.
    Changed,
    /// The same calls.
    Compatible,
}

impl Finding {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::Faulted => "faulted",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed",
            Self::Compatible => "compatible",
        }
    }

    /// Whether the run could be moved.
    #[must_use]
    pub const fn holds(self) -> bool {
        match self {
            Self::Compatible | Self::Changed => true,
            Self::Diverged | Self::Faulted | Self::Unreadable => false,
        }
    }
}

/// One run of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Example {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// The component that it is on.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub on: Digest,
    /// Events in its history.
    pub history_length: u64,
    /// The event where the finding is: where the calls part, or the input that was being folded; null
    /// where there is none.
    #[schema(value_type = Option<u64>, minimum = 1, required)]
    pub event_id: Option<EventId>,
    /// The finding in a line.
    pub message: String,
    /// The recorded call and the one made, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub divergence: Option<Box<Nondeterminism>>,
    /// The component's functions at that place, one a line, innermost first; may be empty.
    pub backtrace: String,
    /// Calls with other inputs or options. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Change>,
}

/// What runs that stand alike would ask for next, if what they wait for ended in a certain way. The
/// replay agrees about the past only; this imagines what comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outlook {
    /// The component that they are on.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub on: Digest,
    /// How many runs stand so.
    pub runs: u64,
    /// The one that was asked.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// What is imagined, in order: `process-payment completes`, say, then how it goes on.
    pub imagined: Vec<String>,
    /// Where imagined results come from: the run's own history, another run's, or none was known and it is
    /// `null`. Empty if no activity completes.
    pub results_from: String,
    /// What the run's own version asks for then.
    pub asks: Ahead,
    /// What the component asks for then.
    pub would_ask: Ahead,
    /// Whether the two differ.
    pub differs: bool,
}

/// Calls that come next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ahead {
    /// The inputs that were imagined; those behind the first may differ between two versions, as what is
    /// open then may.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// In order; the name of a cancelled activity is its type. At most 200.
    #[schema(value_type = Vec<Object>)]
    pub calls: Vec<Call>,
    /// Why there are no more, if the code failed.
    #[schema(required)]
    pub fault: Option<String>,
}

/// What became of the open runs of a workflow type that were to be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeReport {
    /// The type.
    pub workflow_type: String,
    /// The component that they were to be moved to.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// Runs that were moved.
    pub moved: u64,
    /// Runs that were on it before.
    pub already_there: u64,
    /// Runs that stay on their version, because their replay does not hold.
    pub kept: u64,
    /// Runs that ended before they could be moved.
    pub closed: u64,
    /// Runs that the host could not move now; they are as they were.
    pub busy: u64,
    /// Why runs stay, equal reasons together.
    pub groups: Vec<Group>,
}
