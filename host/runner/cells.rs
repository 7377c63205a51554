//! Cells: one mailbox for each run that has something to do, and the threads that empty them.
//!
//! A cell is worked on by one thread at a time, so that a run's decisions stay in order. Folding
//! happens on threads of its own, so that a guest that loops does not stop the server; and in two
//! lanes, so that runs that are blocked, or whose code is suspect, stop nobody but each other.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use everfold_core::decision::Decision;
use everfold_core::ids::RunKey;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::Parts;
use super::run::{Committed, Message, Run};
use crate::telemetry::Arrival;

/// Messages handled before another cell gets the thread.
const TURN: usize = 32;

/// A run's mailbox and what the host knows of the run.
pub(super) struct Cell {
    pub(super) key: RunKey,
    mailbox: Mutex<Mailbox>,
    run: Mutex<Run>,
}

#[derive(Default)]
struct Mailbox {
    /// Each with the time of its arrival.
    messages: VecDeque<(Arrival, Message)>,
    /// The answer to the decision under way; comes before any message.
    committed: Option<(Committed, Box<Decision>)>,
    /// Whether the cell is in the queue of the threads, or on one.
    is_queued: bool,
    /// Whether a decision is in flight.
    awaits_commit: bool,
}

/// All cells.
pub(super) struct Cells {
    cells: Mutex<HashMap<RunKey, Arc<Cell>>>,
    queues: Mutex<Option<Queues>>,
    /// Told when a thread has emptied a mailbox.
    emptied: Notify,
}

/// Which threads may fold a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// All but one.
    Open,
    /// One thread, for runs that are blocked and runs of suspect code.
    Apart,
}

struct Queues {
    open: Sender<Arc<Cell>>,
    apart: Sender<Arc<Cell>>,
}

/// Where the threads of each lane take their cells from.
pub(super) struct Receivers {
    open: Receiver<Arc<Cell>>,
    apart: Receiver<Arc<Cell>>,
}

impl Cells {
    pub(super) fn new() -> (Self, Receivers) {
        let (open, open_receiver) = crossbeam_channel::unbounded();
        let (apart, apart_receiver) = crossbeam_channel::unbounded();
        let queues = Mutex::new(Some(Queues { open, apart }));
        let receivers = Receivers { open: open_receiver, apart: apart_receiver };
        (Self { cells: Mutex::default(), queues, emptied: Notify::new() }, receivers)
    }

    /// Puts a message into a run's mailbox.
    pub(super) fn send(&self, key: &RunKey, message: Message) {
        // The map stays locked until the message is in, so that the cell is not retired meanwhile.
        let mut cells = self.cells.lock();
        let cell = cells.entry(key.clone()).or_insert_with(|| {
            Arc::new(Cell { key: key.clone(), mailbox: Mutex::default(), run: Mutex::default() })
        });
        let mut mailbox = cell.mailbox.lock();
        mailbox.messages.push_back((Arrival::now(), message));
        self.queue(cell, mailbox);
    }

    /// Sends only to a run that has a cell.
    pub(super) fn send_if_present(&self, key: &RunKey, message: Message) {
        let cells = self.cells.lock();
        if let Some(cell) = cells.get(key) {
            let mut mailbox = cell.mailbox.lock();
            mailbox.messages.push_back((Arrival::now(), message));
            self.queue(cell, mailbox);
        }
    }

    /// Hands a cell the answer to its decision, and the decision.
    pub(super) fn committed(&self, cell: &Arc<Cell>, committed: Committed, decision: Decision) {
        let mut mailbox = cell.mailbox.lock();
        mailbox.committed = Some((committed, Box::new(decision)));
        self.queue(cell, mailbox);
    }

    fn queue(&self, cell: &Arc<Cell>, mut mailbox: MutexGuard<'_, Mailbox>) {
        if !mailbox.is_queued {
            mailbox.is_queued = true;
            drop(mailbox);
            self.enqueue(cell, Lane::Open);
        }
    }

    fn enqueue(&self, cell: &Arc<Cell>, lane: Lane) {
        if let Some(queues) = self.queues.lock().as_ref() {
            let queue = match lane {
                Lane::Open => &queues.open,
                Lane::Apart => &queues.apart,
            };
            // The threads hold the receivers until the queues are closed.
            let _ = queue.send(Arc::clone(cell));
        }
    }

    /// Waits until fewer than `bound` runs have a mailbox with something in it.
    pub(super) async fn below(&self, bound: usize) {
        loop {
            let emptied = self.emptied.notified();
            let busy = self.cells.lock().values().filter(|cell| cell.is_busy()).count();
            if busy < bound {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until no run has anything to do.
    pub(super) async fn idle(&self) {
        self.below(1).await;
    }

    /// Ends the threads after the turns they are in. What is queued or sent afterwards is not done.
    pub(super) fn stop(&self) {
        *self.queues.lock() = None;
        self.cells.lock().clear();
    }

    fn is_stopped(&self) -> bool {
        self.queues.lock().is_none()
    }

    /// Forgets a cell that holds nothing.
    fn retire(&self, cell: &Cell, run: &Run) {
        if !run.holds_nothing() {
            return;
        }
        let mut cells = self.cells.lock();
        let mailbox = cell.mailbox.lock();
        if mailbox.messages.is_empty() && mailbox.committed.is_none() {
            cells.remove(&cell.key);
        }
    }
}

impl Cell {
    fn is_busy(&self) -> bool {
        let mailbox = self.mailbox.lock();
        mailbox.is_queued || mailbox.awaits_commit
    }
}

/// Starts the threads that fold.
///
/// # Panics
/// When the operating system gives no thread.
pub(super) fn spawn_threads(parts: &Arc<Parts>, receivers: Receivers, count: usize) -> Vec<JoinHandle<()>> {
    let spawn = |name: String, queue: &Receiver<Arc<Cell>>, lane: Lane| {
        let (parts, queue) = (Arc::clone(parts), queue.clone());
        match std::thread::Builder::new().name(name).spawn(move || work(&parts, &queue, lane)) {
            Ok(handle) => handle,
            Err(error) => panic!("the operating system gives no thread to fold on: {error}"),
        }
    };
    let open = (0..count).map(|number| spawn(format!("fold-{number}"), &receivers.open, Lane::Open));
    let apart = spawn("fold-apart".to_owned(), &receivers.apart, Lane::Apart);
    open.chain([apart]).collect()
}

/// Empties mailboxes until the queue is closed.
fn work(parts: &Arc<Parts>, queue: &Receiver<Arc<Cell>>, lane: Lane) {
    while let Ok(cell) = queue.recv() {
        if parts.cells.is_stopped() {
            return;
        }
        let turn = std::panic::catch_unwind(AssertUnwindSafe(|| take_turn(parts, &cell, lane)));
        if turn.is_err() {
            // The run's phase is lost; what is on disk is right.
            parts.end_process("a folding thread panicked");
        }
    }
}

fn take_turn(parts: &Arc<Parts>, cell: &Arc<Cell>, lane: Lane) {
    let mut run = cell.run.lock();
    for _ in 0..TURN {
        let mut mailbox = cell.mailbox.lock();
        if lane == Lane::Open
            && run.belongs_apart(parts, mailbox.messages.front().map(|(_, message)| message))
        {
            drop(mailbox);
            drop(run);
            // It stays queued: only the lane changes.
            parts.cells.enqueue(cell, Lane::Apart);
            return;
        }
        if run.has_backlog() {
            drop(mailbox);
            run.fold_backlog(parts, cell);
            continue;
        }
        if let Some((committed, decision)) = mailbox.committed.take() {
            drop(mailbox);
            run.committed(parts, cell, committed, *decision);
        } else if !run.is_in_flight()
            && let Some((arrival, message)) = mailbox.messages.pop_front()
        {
            drop(mailbox);
            run.arrival = Some(arrival);
            run.handle(parts, cell, message);
        } else {
            mailbox.is_queued = false;
            mailbox.awaits_commit = run.is_in_flight();
            drop(mailbox);
            parts.cells.retire(cell, &run);
            parts.cells.emptied.notify_waiters();
            return;
        }
    }
    drop(run);
    parts.cells.enqueue(cell, lane);
}
