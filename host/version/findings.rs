//! Findings about runs, equal ones together: bounded, however many runs there are.

use std::collections::{BTreeSet, HashMap};

use everfold_core::divergence::{Change, Nondeterminism};
use everfold_core::fold::GuestFault;
use everfold_core::ids::EventId;
use everfold_core::replay::ReplayFault;

use super::report::{Example, Finding, Group};
use crate::store::RunRow;

/// Groups that are kept.
const GROUPS: usize = 100;
/// Examples of a group.
const EXAMPLES: usize = 3;
/// Changes of an example.
const CHANGES: usize = 20;
/// Different changes of one run that are told apart.
const CHANGE_KINDS: usize = 100;

/// Findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    groups: HashMap<(Finding, String), Group>,
    ungrouped: u64,
}

/// What was found about one run.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    /// What it has in common with others.
    reason: String,
    example: Example,
}

impl Findings {
    /// Adds what was found about one run.
    pub(crate) fn add(&mut self, found: Found) {
        let Found { finding, reason, example } = found;
        let is_full = self.groups.len() >= GROUPS;
        let key = (finding, reason);
        match self.groups.get_mut(&key) {
            Some(group) => {
                group.runs += 1;
                if group.examples.len() < EXAMPLES {
                    group.examples.push(example);
                }
            }
            None if is_full => self.ungrouped += 1,
            None => {
                let group = Group { finding, reason: key.1.clone(), runs: 1, examples: vec![example] };
                self.groups.insert(key, group);
            }
        }
    }

    /// The groups, those that break runs first, then by the number of runs; and how many runs are in none.
    pub(crate) fn into_groups(self) -> (Vec<Group>, u64) {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|left, right| {
            let order = |group: &Group| (group.finding, u64::MAX - group.runs);
            order(left).cmp(&order(right)).then_with(|| left.reason.cmp(&right.reason))
        });
        (groups, self.ungrouped)
    }
}

impl Found {
    /// A run whose replay held.
    pub(crate) fn held(run: &RunRow, mut changes: Vec<Change>) -> Self {
        if changes.is_empty() {
            return Self {
                finding: Finding::Compatible,
                reason: "the same calls".to_owned(),
                example: example(run, "the same calls".to_owned()),
            };
        }
        let mut kinds: Vec<String> = changes.iter().map(kind_of).collect();
        kinds.sort();
        kinds.dedup();
        let reason = kinds.join("; ");
        let event_id = changes.first().map(|change| change.event_id);
        changes.truncate(CHANGES);
        let example = Example { event_id, changes, ..example(run, reason.clone()) };
        Self { finding: Finding::Changed, reason, example }
    }

    /// A run whose replay did not hold.
    pub(crate) fn of_fault(run: &RunRow, fault: ReplayFault) -> Self {
        let (event_id, fault) = match fault {
            ReplayFault::Malformed(error) => return Self::unreadable(run, error.to_string()),
            ReplayFault::Guest { event_id, fault } => (event_id, fault),
        };
        let message = fault.to_string();
        match fault {
            GuestFault::Nondeterminism(mut divergence) => {
                let backtrace = std::mem::take(&mut divergence.backtrace);
                Self::of_code(run, divergence.event_id, message, backtrace, Some(divergence))
            }
            GuestFault::Trap { message, backtrace } | GuestFault::LimitExceeded { message, backtrace } => {
                Self::of_code(run, event_id, message, backtrace, None)
            }
        }
    }

    /// A run whose code is at fault at an event.
    pub(crate) fn of_code(
        run: &RunRow,
        event_id: EventId,
        message: String,
        backtrace: String,
        divergence: Option<Box<Nondeterminism>>,
    ) -> Self {
        let (finding, reason) = match &divergence {
            Some(divergence) => (Finding::Diverged, parting(divergence)),
            None => (Finding::Faulted, place_of(&message).to_owned()),
        };
        let event_id = Some(event_id);
        Self {
            finding,
            reason,
            example: Example { event_id, divergence, backtrace, ..example(run, message) },
        }
    }

    /// A run whose history could not be read.
    pub(crate) fn unreadable(run: &RunRow, reason: String) -> Self {
        Self { finding: Finding::Unreadable, example: example(run, reason.clone()), reason }
    }
}

/// The changes of one run so far: bounded, however long its history is.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    kept: Vec<Change>,
    kinds: BTreeSet<String>,
}

impl Changes {
    /// Takes further ones: the first few, and the first of each kind.
    pub(crate) fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            let is_new = self.kinds.len() < CHANGE_KINDS && self.kinds.insert(kind_of(&change));
            if is_new || self.kept.len() < CHANGES {
                self.kept.push(change);
            }
        }
    }

    /// Those that are kept, in order.
    pub(crate) fn into_kept(self) -> Vec<Change> {
        self.kept
    }
}

/// What changes have in common that differ in the same way.
fn kind_of(change: &Change) -> String {
    let paths: Vec<&str> = change.fields.iter().map(|field| field.path.as_str()).collect();
    format!("{}: {}", change.call, paths.join(", "))
}

/// What runs have in common whose calls part in the same way, at whatever event.
fn parting(divergence: &Nondeterminism) -> String {
    format!("the history has {}, the component makes {}", divergence.expected, divergence.actual)
}

/// What faults have in common: a panic its place, whatever it says of its run; others all.
fn place_of(message: &str) -> &str {
    let is_panic = message.starts_with("panicked at ");
    message.split_once(": ").filter(|_| is_panic).map_or(message, |(place, _)| place)
}

fn example(run: &RunRow, message: String) -> Example {
    Example {
        workflow_id: run.workflow_id.clone(),
        run_id: run.key.run_id,
        on: run.digest,
        history_length: run.next_event_id.0 - 1,
        event_id: None,
        message,
        divergence: None,
        backtrace: String::new(),
        changes: Vec::new(),
    }
}
