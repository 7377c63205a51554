//! Heartbeats of an activity: what the last one said, and when. The attempt sends them, its time-out
//! and the dispatcher watch.

use everfold_core::ids::Timestamp;
use everfold_core::payload::Payload;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;

/// The heartbeats of one attempt: cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    clock: Clock,
    last: watch::Sender<Heartbeat>,
    /// Told of each one; a watch shows the last.
    told: Option<mpsc::UnboundedSender<Payload>>,
}

/// The last heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// What it said; before the attempt's first one, what the last of the attempt before said.
    pub details: Option<Payload>,
    /// When; absent before the attempt's first one.
    pub at: Option<Timestamp>,
}

impl Heartbeats {
    /// An attempt that has sent none, and what the attempt before left.
    #[must_use]
    pub fn new(clock: Clock, details: Option<Payload>) -> Self {
        Self { clock, last: watch::Sender::new(Heartbeat { details, at: None }), told: None }
    }

    /// The same; what each one says is also sent to somebody.
    pub(crate) fn told(clock: Clock, details: Option<Payload>, told: mpsc::UnboundedSender<Payload>) -> Self {
        Self { told: Some(told), ..Self::new(clock, details) }
    }

    /// Sends one. Without details those of the one before stay.
    pub(crate) fn send(&self, details: Option<Payload>) {
        if let (Some(told), Some(details)) = (&self.told, &details) {
            // Who does not listen any more need not know.
            let _ = told.send(details.clone());
        }
        let at = Some(self.clock.now());
        self.last.send_modify(|last| {
            *last = Heartbeat { details: details.or_else(|| last.details.take()), at };
        });
    }

    /// The clock that they go by.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Heartbeat {
        self.last.borrow().clone()
    }

    /// Watches for further ones.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Heartbeat> {
        self.last.subscribe()
    }
}
