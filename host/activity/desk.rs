//! An activity's desk: all that reaches an open activity from outside. Callers put requests on it, the activity's
//! driver takes them in order, and its run says how it ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use everfold_core::decision::LeaseId;
use everfold_core::failure::Failure;
use everfold_core::payload::Payload;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The desk of one open activity.
#[derive(Debug, Default)]
pub struct Desk {
    cancellation: CancellationToken,
    is_paused: AtomicBool,
    papers: Mutex<Papers>,
    /// Tells the driver, who alone waits for it, of a request or that the run has gone.
    news: Notify,
    /// Tells callers of the end.
    over: Notify,
}

#[derive(Debug, Default)]
struct Papers {
    requests: VecDeque<Request>,
    /// Whether nobody takes requests any more.
    is_closed: bool,
    end: Option<End>,
    /// The lease of a native attempt whose token was asked for.
    lease_id: Option<LeaseId>,
    /// Whether that attempt has said that it completes later.
    completes_later: bool,
}

/// How an activity came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its end is in the history or the inbox of its run.
    Recorded,
    /// Its run has closed, or has no use for its end.
    Gone,
}

/// What is asked of a driver.
#[derive(Debug)]
pub(crate) enum Request {
    /// To do what an operator wants; answered when it is on disk.
    Operate(Operation, oneshot::Sender<()>),
    /// To take a report about an attempt.
    Report(Report, oneshot::Sender<Reply>),
}

/// What an operator wants of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// No further attempt begins.
    Pause,
    /// Attempts begin again.
    Resume,
    /// The attempts so far do not count, and a pause ends.
    Reset,
    /// The attempts so far do not count, and a pause stays.
    ResetPaused,
}

/// What somebody outside says of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) attempt: u32,
    pub(crate) lease_id: LeaseId,
    pub(crate) what: Said,
}

/// What is said of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It ended with a result.
    Completed(Payload),
    /// It failed.
    Failed(Failure),
    /// It stopped because it was asked to.
    Canceled(Failure),
    /// It goes on; maybe with details.
    Alive(Option<Payload>),
}

/// What a driver answers to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It goes on.
    Alive(Wishes),
    /// It is on disk.
    Recorded,
    /// It ends the activity; that is on its way to the disk.
    Ends,
    /// That attempt is over.
    Over,
    /// Nobody has asked it to stop.
    NotAsked,
}

/// What is wished of an attempt under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// That it stops.
    pub cancel_requested: bool,
    /// That no other attempt follows for now; it may as well stop.
    pub paused: bool,
    /// That the next attempt counts as the first.
    pub reset: bool,
}

impl Desk {
    /// Asks the activity to stop.
    pub(crate) const fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Whether no further attempt begins.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Puts a request on the desk. False if nobody takes it.
    pub(crate) fn ask(&self, request: Request) -> bool {
        let mut papers = self.papers.lock();
        if papers.is_closed {
            return false;
        }
        papers.requests.push_back(request);
        drop(papers);
        self.news.notify_one();
        true
    }

    /// The next request; none when the run has no use for the activity any more.
    pub(crate) async fn next(&self) -> Option<Request> {
        loop {
            {
                let mut papers = self.papers.lock();
                if papers.end == Some(End::Gone) {
                    return None;
                }
                if let Some(request) = papers.requests.pop_front() {
                    return Some(request);
                }
            }
            self.news.notified().await;
        }
    }

    /// Takes no request any more; who asked in vain asks again.
    pub(crate) fn close(&self) {
        let mut papers = self.papers.lock();
        papers.is_closed = true;
        papers.requests.clear();
    }

    /// Says how the activity ended.
    pub(crate) fn end(&self, end: End) {
        self.papers.lock().end.get_or_insert(end);
        self.over.notify_waiters();
        if end == End::Gone {
            self.news.notify_one();
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> End {
        loop {
            let over = self.over.notified();
            if let Some(end) = self.papers.lock().end {
                return end;
            }
            over.await;
        }
    }

    /// Whether nobody takes requests any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.papers.lock().is_closed
    }

    /// A native attempt begins: it has no token yet.
    pub(crate) fn begin_attempt(&self) {
        let mut papers = self.papers.lock();
        papers.lease_id = None;
        papers.completes_later = false;
    }

    /// The lease of the native attempt under way; made when it is asked for.
    pub(super) fn lease_id(&self, clock: &Clock) -> LeaseId {
        *self.papers.lock().lease_id.get_or_insert_with(|| clock.new_lease_id())
    }

    /// The lease of the native attempt under way, if it was asked for.
    pub(crate) fn given_lease_id(&self) -> Option<LeaseId> {
        self.papers.lock().lease_id
    }

    /// The native attempt under way completes later.
    pub(super) fn complete_later(&self) {
        self.papers.lock().completes_later = true;
    }

    /// Whether the native attempt under way completes later.
    pub(super) fn completes_later(&self) -> bool {
        self.papers.lock().completes_later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_come_in_order_until_the_desk_is_closed() {
        let desk = Desk::default();
        let ask = |operation| {
            let (reply, answered) = oneshot::channel();
            (desk.ask(Request::Operate(operation, reply)), answered)
        };
        let asked = [Operation::Pause, Operation::Resume, Operation::Reset].map(|operation| ask(operation).0);
        assert_eq!(asked, [true; 3]);
        for expected in [Operation::Pause, Operation::Resume] {
            match desk.next().await {
                Some(Request::Operate(operation, _)) => assert_eq!(operation, expected),
                other => panic!("{other:?}"),
            }
        }
        let (_, dropped) = ask(Operation::Pause);
        desk.close();
        assert!(dropped.await.is_err(), "who asked hears that nobody answers");
        assert!(!ask(Operation::Pause).0);
        desk.end(End::Recorded);
        desk.end(End::Gone);
        assert_eq!(desk.ended().await, End::Recorded, "the first end counts");
    }

    #[tokio::test]
    async fn whose_run_has_gone_gets_no_request_any_more() {
        let desk = Desk::default();
        let (reply, _answered) = oneshot::channel();
        assert!(desk.ask(Request::Operate(Operation::Pause, reply)));
        desk.end(End::Gone);
        assert!(desk.next().await.is_none());
        assert_eq!(desk.ended().await, End::Gone);
    }
}
