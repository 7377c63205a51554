//! Why a run that somebody waits for does not end.

use std::fmt;

use everfold_core::decision::Blocked;

use super::activities::Problem;
use crate::runner::api::{ApiError, Description};

/// Why a wait for a run is over before the run is.
#[derive(Debug)]
pub enum Stuck {
    /// Its code is at fault.
    Blocked(Box<Blocked>),
    /// An activity of the test is at fault.
    Activity(Box<Problem>),
    /// It waits for what nobody is about to bring: a signal, or time that the test moves by hand.
    Waiting(Box<Description>),
    /// It went on for longer than the test's patience, which is real time.
    Impatient(Box<Description>),
    /// The host does not answer for it.
    Host(ApiError),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(blocked) => {
                write!(f, "the run is blocked at event {}: {}", blocked.event_id, blocked.reason)?;
                let backtrace = blocked.backtrace.trim_end();
                if backtrace.is_empty() { Ok(()) } else { write!(f, "\n{backtrace}") }
            }
            Self::Activity(problem) => problem.fmt(f),
            Self::Waiting(run) => write!(f, "the run does not end by itself: it waits for {}", awaited(run)),
            Self::Impatient(run) => write!(f, "the run has not ended in time: it waits for {}", awaited(run)),
            Self::Host(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Stuck {}

/// What a run waits for, for people.
fn awaited(run: &Description) -> String {
    let mut awaited = Vec::new();
    for activity in &run.pending_activities {
        let attempt = activity.attempts.as_ref().map_or(1, |attempts| attempts.attempt);
        awaited.push(format!("activity {} (attempt {attempt})", activity.activity_type));
    }
    awaited.extend(run.timers.iter().map(|(id, at)| format!("timer {id}, which fires at {at}")));
    if awaited.is_empty() {
        awaited.push("a signal or another run".to_owned());
    }
    let unread: Vec<_> = run.unread_signals.iter().map(|(_, name)| name.as_str()).collect();
    let mut text = awaited.join(", ");
    if !unread.is_empty() {
        text += &format!("; signals that it has not taken: {}", unread.join(", "));
    }
    format!("{text} ({} {}, {} events)", run.workflow_type, run.workflow_id, run.history_length)
}
