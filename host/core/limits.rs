//! Limits of a run that the fold itself enforces. They are settings; a recorded history is never
//! measured against them again. Where a run comes near to one it is told, so that somebody can do something before it
//! blocks ([`Limits::near`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::ids::EventId;
use crate::machine::RunState;

/// What one run may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload.
    pub payload_bytes: usize,
    /// Events of a history.
    pub history_events: u64,
    /// Bytes of a history, about: payloads, headers, failures, and a little for each event.
    pub history_bytes: u64,
    /// Activities that are open at once.
    pub pending_activities: usize,
    /// Signals that a run may be sent.
    pub signals: u64,
    /// Requests to other runs that are not answered.
    pub pending_external_requests: usize,
    /// Children that are open at once.
    pub pending_children: usize,
    /// Updates that a run was sent and has not answered.
    pub pending_updates: usize,
}

impl Default for Limits {
    /// DESIGN.md section 6; the events are Temporal's limit.
    fn default() -> Self {
        Self {
            payload_bytes: 2 * 1024 * 1024,
            history_events: 51_200,
            history_bytes: 50 * 1024 * 1024,
            pending_activities: 2_000,
            signals: 10_000,
            pending_external_requests: 2_000,
            pending_children: 2_000,
            pending_updates: 1_000,
        }
    }
}

/// A limit that a run comes near to while it goes on. Names are those of JSON and of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Of one payload.
    PayloadBytes,
    /// Of the history.
    HistoryEvents,
    /// Of the history.
    HistoryBytes,
    /// Activities that are open.
    PendingActivities,
    /// Signals that were sent.
    Signals,
    /// Requests to other runs that are not answered.
    PendingExternalRequests,
    /// Children that are open.
    PendingChildren,
    /// Updates that are not answered.
    PendingUpdates,
}

impl LimitKind {
    /// Every limit.
    pub const ALL: [Self; 8] = [
        Self::PayloadBytes,
        Self::HistoryEvents,
        Self::HistoryBytes,
        Self::PendingActivities,
        Self::Signals,
        Self::PendingExternalRequests,
        Self::PendingChildren,
        Self::PendingUpdates,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayloadBytes => "payload_bytes",
            Self::HistoryEvents => "history_events",
            Self::HistoryBytes => "history_bytes",
            Self::PendingActivities => "pending_activities",
            Self::Signals => "signals",
            Self::PendingExternalRequests => "pending_external_requests",
            Self::PendingChildren => "pending_children",
            Self::PendingUpdates => "pending_updates",
        }
    }
}

/// How much of a limit a run has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which limit.
    pub limit: LimitKind,
    /// How much of it.
    pub used: u64,
    /// The limit itself.
    pub most: u64,
}

impl Usage {
    /// Whether it is time to do something about it: at 80 %.
    #[must_use]
    pub const fn is_near(self) -> bool {
        // Divided rather than multiplied: a limit may be the largest number.
        self.used >= self.most - self.most / 5
    }
}

/// What is near, and what to do.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, most) = (grouped(self.used), grouped(self.most));
        match self.limit {
            LimitKind::PayloadBytes => write!(
                f,
                "its largest payload has {used} of {most} bytes: keep large data elsewhere and send where it is"
            ),
            LimitKind::HistoryEvents => write!(f, "its history has {used} of {most} events: continue as new"),
            LimitKind::HistoryBytes => write!(f, "its history has {used} of {most} bytes: continue as new"),
            LimitKind::PendingActivities => {
                write!(f, "it has {used} of {most} activities open: wait for some first")
            }
            LimitKind::Signals => write!(f, "it was sent {used} of {most} signals: continue as new"),
            LimitKind::PendingExternalRequests => {
                write!(f, "it has {used} of {most} requests to other runs open: wait for some first")
            }
            LimitKind::PendingChildren => {
                write!(f, "it has {used} of {most} children open: wait for some first")
            }
            LimitKind::PendingUpdates => {
                write!(f, "it has {used} of {most} updates to answer: answer some first")
            }
        }
    }
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Limits {
    /// The limits that a run is near to.
    pub fn near(&self, state: &RunState) -> impl Iterator<Item = Usage> {
        let of = |limit| match limit {
            LimitKind::PayloadBytes => (state.largest_payload() as u64, self.payload_bytes as u64),
            LimitKind::HistoryEvents => (state.next().0 - 1, self.history_events),
            LimitKind::HistoryBytes => (state.bytes(), self.history_bytes),
            LimitKind::PendingActivities => (state.activities().len() as u64, self.pending_activities as u64),
            LimitKind::Signals => (state.signals().received(), self.signals),
            LimitKind::PendingExternalRequests => {
                (state.external().len() as u64, self.pending_external_requests as u64)
            }
            LimitKind::PendingChildren => (state.children().len() as u64, self.pending_children as u64),
            LimitKind::PendingUpdates => (state.updates().pending() as u64, self.pending_updates as u64),
        };
        let usages = LimitKind::ALL.map(|limit| {
            let (used, most) = of(limit);
            Usage { limit, used, most }
        });
        usages.into_iter().filter(|usage| usage.is_near())
    }

    /// Says which limit `command` would pass, if any.
    ///
    /// # Errors
    /// The limit and its value.
    pub fn check(&self, state: &RunState, command: &Command) -> Result<(), String> {
        if state.next() > EventId(self.history_events) && !command.closes_run() {
            return Err(format!("a history has at most {} events", self.history_events));
        }
        if state.bytes() >= self.history_bytes && !command.closes_run() {
            return Err(format!("a history has at most {} bytes", self.history_bytes));
        }
        match command {
            Command::ActivityScheduled(activity) => {
                self.check_payload("the input of an activity", activity.input.size())?;
                if state.activities().len() >= self.pending_activities {
                    return Err(format!(
                        "a run has at most {} activities open at once",
                        self.pending_activities
                    ));
                }
            }
            Command::WorkflowCompleted(completed) => {
                self.check_payload("the result of a workflow", completed.result.size())?;
            }
            Command::WorkflowCanceled(canceled) => {
                for details in &canceled.details {
                    self.check_payload("a cancellation's details", details.size())?;
                }
            }
            Command::WorkflowContinuedAsNew(next) => {
                self.check_payload("the input of the next run", next.input.size())?;
            }
            Command::DetachedWorkflowStarted(started) => {
                self.check_payload("the input of a detached workflow", started.input.size())?;
            }
            Command::ExternalSignalInitiated(request) => {
                self.check_payload("the input of a signal", request.signal.input.size())?;
                self.check_external(state)?;
            }
            Command::ExternalCancelInitiated(_) => self.check_external(state)?,
            Command::SearchAttributesUpserted(upserted) => {
                let mut behind = state.details().search_attributes.clone();
                behind.change(&upserted.search_attributes);
                behind.check()?;
            }
            Command::MemoUpserted(upserted) => {
                let mut behind = state.details().memo.clone();
                behind.change(&upserted.memo);
                behind.check()?;
            }
            Command::ChildWorkflowInitiated(child) => {
                self.check_payload("the input of a child workflow", child.input.size())?;
                if state.children().len() >= self.pending_children {
                    return Err(format!("a run has at most {} children open at once", self.pending_children));
                }
            }
            Command::UpdateCompleted(completed) => {
                self.check_payload("the result of an update", completed.outcome.payload_bytes())?;
            }
            Command::UpdateAccepted(_)
            | Command::ActivityCancelRequested(_)
            | Command::TimerStarted(_)
            | Command::TimerCanceled(_)
            | Command::SignalTaken(_)
            | Command::VersionMarkerRecorded(_)
            | Command::ChildCancelRequested(_)
            | Command::WorkflowFailed(_) => {}
        }
        Ok(())
    }

    fn check_external(&self, state: &RunState) -> Result<(), String> {
        if state.external().len() < self.pending_external_requests {
            return Ok(());
        }
        Err(format!("a run has at most {} unanswered requests to other runs", self.pending_external_requests))
    }

    /// Says whether a payload is too large.
    ///
    /// # Errors
    /// Its size and the limit.
    pub fn check_payload(&self, what: &str, size: usize) -> Result<(), String> {
        if size <= self.payload_bytes {
            return Ok(());
        }
        Err(format!("{what} has {size} bytes; at most {} are allowed", self.payload_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_from_eighty_percent_on_and_says_so_in_words() {
        let usage = |used| Usage { limit: LimitKind::HistoryEvents, used, most: 51_200 };
        assert!(!usage(40_959).is_near() && usage(40_960).is_near() && usage(60_000).is_near());
        assert_eq!(usage(41_000).to_string(), "its history has 41,000 of 51,200 events: continue as new");
        let endless = Usage { most: u64::MAX, ..usage(51_200) };
        assert!(!endless.is_near());
        for limit in LimitKind::ALL {
            let told = Usage { limit, used: 8, most: 10 }.to_string();
            assert!(told.contains("8 of 10"), "{told}");
            assert_eq!(serde_json::to_value(limit).ok(), Some(limit.name().into()));
        }
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
