//! The time-outs of an attempt, and the failure that each one is.

use everfold_core::failure::{Failure, FailureKind, TimeoutFailure, TimeoutType};
use everfold_core::ids::Timestamp;
use everfold_core::payload::Payload;

use super::Heartbeats;
use crate::clock::Clock;

/// A time-out that is to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Timestamp,
    pub(crate) timeout_type: TimeoutType,
    allowed_ms: u64,
}

/// The heartbeats of an attempt, and how long they may stay away.
pub(crate) struct Pulse {
    pub(crate) heartbeats: Heartbeats,
    /// From when they are awaited.
    pub(crate) from: Timestamp,
    pub(crate) allowed_ms: Option<u64>,
}

impl Deadline {
    pub(crate) fn new(timeout_type: TimeoutType, from: Timestamp, allowed_ms: Option<u64>) -> Option<Self> {
        allowed_ms.map(|allowed_ms| Self { at: from.plus_ms(allowed_ms), timeout_type, allowed_ms })
    }

    /// Whichever passes first; of two at once the one that leaves no further attempt.
    pub(crate) fn first(schedule_to_close: Option<Self>, other: Option<Self>) -> Option<Self> {
        [schedule_to_close, other].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    /// What an attempt fails with that passes it. `wanted` is what one waits for before it starts.
    pub(crate) fn failure(&self, wanted: &str, last_heartbeat_details: Option<Payload>) -> Failure {
        let allowed_ms = self.allowed_ms;
        let message = match self.timeout_type {
            TimeoutType::ScheduleToStart => format!("no {wanted} was free within {allowed_ms} ms"),
            TimeoutType::StartToClose => format!("the attempt took longer than {allowed_ms} ms"),
            TimeoutType::ScheduleToClose => format!("all attempts together took longer than {allowed_ms} ms"),
            TimeoutType::Heartbeat => format!("there was no heartbeat for {allowed_ms} ms"),
        };
        let timeout = TimeoutFailure {
            timeout_type: self.timeout_type,
            last_heartbeat_details: last_heartbeat_details.into_iter().collect(),
        };
        Failure::new(message, FailureKind::TimedOut(timeout))
    }
}

/// Waits until a deadline passes; for ever if there is none.
pub(crate) async fn passed(clock: &Clock, deadline: Option<Deadline>) -> Deadline {
    match deadline {
        Some(deadline) => {
            clock.sleep_until(deadline.at).await;
            deadline
        }
        None => std::future::pending().await,
    }
}

/// Waits until no heartbeat has come for as long as is allowed; for ever if that has no limit.
pub(crate) async fn silent(clock: &Clock, pulse: &Pulse) -> Deadline {
    let mut from = pulse.from;
    while let Some(deadline) = Deadline::new(TimeoutType::Heartbeat, from, pulse.allowed_ms) {
        passed(clock, Some(deadline)).await;
        match pulse.heartbeats.last().at {
            Some(at) if at > from => from = at,
            Some(_) | None => return deadline,
        }
    }
    std::future::pending().await
}
