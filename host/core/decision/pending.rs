//! The row of an open activity: what is known of it beyond the command that scheduled it.

use minicbor::{Decode, Encode};

use crate::failure::Failure;
use crate::ids::{EventId, Timestamp};
use crate::payload::Payload;

/// An activity that is open. There is no row before the first failure, heartbeat, lease, pause or reset.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct PendingActivity {
    /// The command that scheduled it.
    #[n(0)]
    pub scheduled_event_id: EventId,
    /// Its type.
    #[n(1)]
    pub activity_type: String,
    /// The number of the attempt that is under way or comes next, from 1.
    #[n(2)]
    pub attempt: u32,
    /// When that begins, or began.
    #[n(3)]
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    #[n(4)]
    pub last_failure: Option<Failure>,
    /// When it failed.
    #[n(5)]
    pub last_failure_at: Option<Timestamp>,
    /// What its last heartbeat said.
    #[n(6)]
    pub heartbeat_details: Option<Payload>,
    /// When the attempt under way last sent a heartbeat, as far as that is written down.
    #[n(7)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// Who holds the attempt that is under way outside this host.
    #[n(8)]
    pub lease: Option<Lease>,
    /// Present while no further attempt may begin.
    #[n(9)]
    pub paused: Option<Paused>,
    /// The last time that its attempts were taken back.
    #[n(10)]
    pub reset: Option<Reset>,
}

/// An attempt that is under way outside this host: it survives a restart, and ends by a report or a time-out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Told apart from every other lease by it, and known only to the holder.
    #[n(0)]
    pub id: LeaseId,
    /// The worker that polled it, as it named itself; absent where native code has said that it completes later.
    #[n(1)]
    pub worker: Option<String>,
    /// When the attempt began.
    #[n(2)]
    pub since: Timestamp,
}

/// 16 bytes of real randomness.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct LeaseId(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// Whoever has it can end the attempt: it is in no log.
impl std::fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseId(…)")
    }
}

/// A pause: no attempt begins while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Paused {
    /// Since when.
    #[n(0)]
    pub since: Timestamp,
    /// Whether an attempt that had begun before may still be under way.
    #[n(1)]
    pub attempt_under_way: bool,
}

/// A reset: attempts count from 1 again, and schedule-to-close from then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reset {
    /// When.
    #[n(0)]
    pub at: Timestamp,
    /// Whether it waits for the end of an attempt that had begun before.
    #[n(1)]
    pub is_due: bool,
}
