//! What runs that stand alike would ask for next, on their version and on a component: one run of each
//! group is asked. Bounded, however many runs there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

use everfold_core::command::Command;
use everfold_core::divergence::Replaying;
use everfold_core::event::{Event, EventKind, Input};
use everfold_core::fold::GuestFault;
use everfold_core::ids::{Digest, EventId, Timestamp, WorkflowId};
use everfold_core::lookahead::{self, Imagined, look_ahead};
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;

use super::report::{Ahead, Outlook};
use super::shadow::{Fell, LIMITS_PASSED, Shadow, Stood};
use crate::guest::LoadedComponent;
use crate::store::RunRow;

/// Groups that are kept.
const GROUPS: usize = 100;
/// Activity types whose results are kept.
const RESULTS: usize = 200;
/// Bytes of a result that is kept.
const RESULT_BYTES: usize = 64 * 1024;
/// Calls that are shown.
const CALLS: usize = 200;

/// The newest results of activities that histories have.
#[derive(Debug, Default)]
pub(crate) struct Results {
    newest: BTreeMap<String, Seen>,
}

/// A result, and where it was seen.
#[derive(Clone, Debug)]
struct Seen {
    at: Timestamp,
    workflow_id: WorkflowId,
    result: Payload,
}

/// How a run stands: what it waits for, and on which version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Standing {
    on: Digest,
    activities: BTreeSet<String>,
    timers: usize,
    unread: BTreeSet<String>,
    cancel_requested: bool,
}

/// Runs that stand alike together.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    groups: HashMap<Standing, Representative>,
}

/// One of the runs that stand alike.
#[derive(Clone, Debug)]
pub(crate) struct Representative {
    pub(crate) row: RunRow,
    runs: u64,
    /// What is open.
    ends: Vec<Imagined>,
}

impl Results {
    /// Keeps the results in a page of a history that goes on from `state`.
    pub(crate) fn gather(&mut self, row: &RunRow, state: &RunState, page: &[Event]) {
        let mut scheduled: HashMap<EventId, &str> = HashMap::new();
        for event in page {
            match &event.kind {
                EventKind::Command(Command::ActivityScheduled(activity)) => {
                    scheduled.insert(event.id, &activity.activity_type);
                }
                EventKind::Input(Input::ActivityCompleted(closed)) => {
                    let id = closed.scheduled_event_id;
                    let open =
                        || state.activities().get(id).map(|open| open.scheduled.activity_type.as_str());
                    if let Some(name) = scheduled.get(&id).copied().or_else(open)
                        && closed.result.size() <= RESULT_BYTES
                    {
                        let (at, workflow_id) = (event.time, row.workflow_id.clone());
                        self.take(name, Seen { at, workflow_id, result: closed.result.clone() });
                    }
                }
                EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => {}
            }
        }
    }

    /// Takes those of another run.
    pub(crate) fn merge(&mut self, others: Self) {
        for (name, seen) in others.newest {
            self.take(&name, seen);
        }
    }

    fn take(&mut self, name: &str, seen: Seen) {
        let is_full = self.newest.len() >= RESULTS;
        match self.newest.get_mut(name) {
            Some(kept) if kept.at <= seen.at => *kept = seen,
            None if !is_full => {
                self.newest.insert(name.to_owned(), seen);
            }
            Some(_) | None => {}
        }
    }
}

impl Standings {
    /// Takes a run whose replay held.
    pub(crate) fn take(&mut self, row: &RunRow, state: &RunState) {
        let ends = Imagined::of(state);
        if ends.is_empty() {
            return;
        }
        let unread = state.signals().unread();
        let standing = Standing {
            on: row.digest,
            activities: state
                .activities()
                .iter()
                .map(|(_, activity)| activity.scheduled.activity_type.clone())
                .collect(),
            timers: state.timers().iter().count(),
            unread: unread.into_iter().map(|(_, signal)| signal.name.clone()).collect(),
            cancel_requested: state.is_cancel_requested(),
        };
        let is_full = self.groups.len() >= GROUPS;
        match self.groups.get_mut(&standing) {
            Some(group) => group.runs += 1,
            None if is_full => {}
            None => {
                self.groups.insert(standing, Representative { row: row.clone(), runs: 1, ends });
            }
        }
    }

    /// One run of each group, those that stand for most first.
    pub(crate) fn into_representatives(self) -> Vec<Representative> {
        let mut all: Vec<Representative> = self.groups.into_values().collect();
        all.sort_by(|left, right| {
            right.runs.cmp(&left.runs).then_with(|| left.row.workflow_id.0.cmp(&right.row.workflow_id.0))
        });
        all
    }
}

/// The two versions of a look ahead, and how far it goes.
pub(crate) struct Looking<'a> {
    pub(crate) shadow: &'a Shadow,
    /// The run's own version; why it cannot be had otherwise.
    pub(crate) own: &'a Result<LoadedComponent, String>,
    pub(crate) component: &'a LoadedComponent,
    pub(crate) steps: u32,
    /// Results that the check has seen.
    pub(crate) results: &'a Results,
    /// How often a limit was passed ahead of any run.
    pub(crate) limits_passed: &'a AtomicU32,
}

impl Looking<'_> {
    /// Asks a run for every end of what it has open; none if nobody waits for it any more. Must be called
    /// where blocking is allowed.
    pub(crate) fn outlooks(&self, representative: &Representative) -> Option<Vec<Outlook>> {
        let Representative { row, runs, ends } = representative;
        let mut outlooks = Vec::new();
        for end in ends {
            if self.limits_passed.load(Ordering::Relaxed) >= LIMITS_PASSED {
                break;
            }
            let mut told = String::new();
            let mut own_results = Results::default();
            let asks = match self.own {
                Ok(own) => self.ahead(own, row, *end, &mut own_results, &mut told)?,
                Err(reason) => Err(reason.clone()),
            };
            let would_ask = self.ahead(self.component, row, *end, &mut own_results, &mut told)?;
            let differs = match (&asks, &would_ask) {
                (Ok(asks), Ok(would_ask)) => asks.differs_from(would_ask),
                (asks, would_ask) => asks.as_ref().err() != would_ask.as_ref().err(),
            };
            let results_of: BTreeSet<&String> =
                [&asks, &would_ask].into_iter().flatten().flat_map(|ahead| &ahead.results_of).collect();
            let results_from: Vec<String> =
                results_of.into_iter().map(|name| self.source(&own_results, row, name)).collect();
            let mut imagined = vec![told];
            if self.steps > 1 {
                imagined.push(format!(
                    "then, up to {} times, what has been open longest ends well",
                    self.steps - 1
                ));
            }
            outlooks.push(Outlook {
                on: row.digest,
                runs: *runs,
                workflow_id: row.workflow_id.clone(),
                run_id: row.key.run_id,
                imagined,
                results_from: results_from.join("; "),
                asks: shown(asks),
                would_ask: shown(would_ask),
                differs,
            });
        }
        Some(outlooks)
    }

    /// What one version would ask for, or why it cannot be asked.
    fn ahead(
        &self,
        component: &LoadedComponent,
        row: &RunRow,
        end: Imagined,
        own_results: &mut Results,
        told: &mut String,
    ) -> Option<Result<lookahead::Ahead, String>> {
        let first = self.shadow.runtime.block_on(self.shadow.page(row, EventId(0)));
        let replaying = Replaying::with(component.digest());
        match self.shadow.fold(component, replaying, row, first, Some(&mut *own_results)) {
            Ok(Stood { mut instance, state, changes: _ }) => {
                *told = end.told(&state);
                let results = |name: &str| match own_results.newest.get(name) {
                    Some(seen) => seen.result.clone(),
                    None => self.results.newest.get(name).map_or_else(null, |seen| seen.result.clone()),
                };
                let ahead = look_ahead(&mut instance, state, end, self.steps, results);
                if let Some(GuestFault::LimitExceeded { .. }) = ahead.fault {
                    self.limits_passed.fetch_add(1, Ordering::Relaxed);
                }
                Some(Ok(ahead))
            }
            Err(Fell::Stopped) => None,
            Err(Fell::Unread(error)) => Some(Err(error.to_string())),
            Err(Fell::Fault(fault)) => Some(Err(format!("its replay does not hold: {fault}"))),
        }
    }

    /// Where the result of an activity comes from.
    fn source(&self, own_results: &Results, row: &RunRow, name: &str) -> String {
        if own_results.newest.contains_key(name) {
            return format!("{name}: as before in {}", row.workflow_id);
        }
        match self.results.newest.get(name) {
            Some(seen) => format!("{name}: as in {}", seen.workflow_id),
            None => format!("{name}: null, no history has a result"),
        }
    }
}

fn null() -> Payload {
    Payload::json_text(b"null".to_vec())
}

fn shown(ahead: Result<lookahead::Ahead, String>) -> Ahead {
    match ahead {
        Ok(mut ahead) => {
            ahead.calls.truncate(CALLS);
            let fault = ahead.fault.map(|fault| fault.to_string());
            Ahead { inputs: ahead.inputs, calls: ahead.calls, fault }
        }
        Err(reason) => Ahead { fault: Some(reason), ..Ahead::default() },
    }
}
