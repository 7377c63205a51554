//! Cells: one mailbox for each run that has something to do, and the threads that empty them.
//!
//! A cell is worked on by one thread at a time, so that a run's decisions stay in order. Folding
//! happens on threads of its own, so that a guest that loops does not stop the server; and in two
//! lanes, so that runs that are blocked, or whose code is suspect, stop nobody but each other.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use everfold_core::decision::Decision;
use everfold_core::ids::RunKey;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::Parts;
use super::lanes::Lane;
use super::run::{Committed, Message, Run};
use crate::telemetry::Arrival;

/// Messages handled before another cell gets the thread.
const TURN: usize = 32;
/// How long they may take: another cell gets the thread behind the message that passes it.
const TURN_TIME: Duration = Duration::from_millis(5);

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
    /// The answers to the decisions under way; they come before any message.
    committed: VecDeque<(Committed, Decision)>,
    /// Whether the cell is in the queue of the threads, or on one.
    is_queued: bool,
    /// Whether a decision is in flight.
    awaits_commit: bool,
}

/// All cells.
pub(super) struct Cells {
    cells: Mutex<HashMap<RunKey, Arc<Cell>>>,
    /// For all threads but one.
    open: Lane<Arc<Cell>>,
    /// For one thread: runs that are blocked and runs of suspect code.
    apart: Lane<Arc<Cell>>,
    /// Told when a thread has emptied a mailbox.
    emptied: Notify,
    /// How often a cell was queued that was not.
    turns: AtomicU64,
}

/// Which threads fold a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folds {
    Openly,
    Apart,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self {
            cells: Mutex::default(),
            open: Lane::new(),
            apart: Lane::new(),
            emptied: Notify::new(),
            turns: AtomicU64::new(0),
        }
    }

    fn lane(&self, folds: Folds) -> &Lane<Arc<Cell>> {
        match folds {
            Folds::Openly => &self.open,
            Folds::Apart => &self.apart,
        }
    }

    /// Puts a message into a run's mailbox.
    pub(super) fn send(&self, key: &RunKey, message: Message) {
        // The map stays locked until the message is in, so that the cell is not retired meanwhile.
        let mut cells = self.cells.lock();
        let cell = cells.entry(key.clone()).or_insert_with(|| {
            Arc::new(Cell { key: key.clone(), mailbox: Mutex::default(), run: Mutex::default() })
        });
        let mut mailbox = cell.mailbox.lock();
        let is_said =
            matches!((mailbox.messages.back(), &message), (Some((_, Message::Wake)), Message::Wake));
        if !is_said {
            mailbox.messages.push_back((Arrival::now(), message));
        }
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

    /// Hands a cell the answer to its oldest decision, and the decision.
    pub(super) fn committed(&self, cell: &Arc<Cell>, committed: Committed, decision: Decision) {
        let mut mailbox = cell.mailbox.lock();
        mailbox.committed.push_back((committed, decision));
        self.queue(cell, mailbox);
    }

    fn queue(&self, cell: &Arc<Cell>, mut mailbox: MutexGuard<'_, Mailbox>) {
        if !mailbox.is_queued {
            mailbox.is_queued = true;
            self.turns.fetch_add(1, Ordering::Relaxed);
            drop(mailbox);
            self.open.push(Arc::clone(cell));
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

    /// How often a run that had nothing to do was given something.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether no run has anything to do.
    pub(super) fn is_idle(&self) -> bool {
        !self.cells.lock().values().any(|cell| cell.is_busy())
    }

    /// Waits until no run has anything to do.
    pub(super) async fn idle(&self) {
        self.below(1).await;
    }

    /// Ends the threads after the turns they are in. What is queued or sent afterwards is not done.
    pub(super) fn stop(&self) {
        self.open.close();
        self.apart.close();
        self.cells.lock().clear();
    }

    /// Forgets a cell that holds nothing.
    fn retire(&self, cell: &Cell, run: &Run) {
        if !run.holds_nothing() {
            return;
        }
        let mut cells = self.cells.lock();
        let mailbox = cell.mailbox.lock();
        if mailbox.messages.is_empty() && mailbox.committed.is_empty() {
            cells.remove(&cell.key);
        }
    }
}

impl Cell {
    /// Puts a message that was taken back to the front. Only while the cell's turn lasts.
    pub(super) fn put_back(&self, arrival: Option<Arrival>, message: Message) {
        let arrival = arrival.unwrap_or_else(Arrival::now);
        self.mailbox.lock().messages.push_front((arrival, message));
    }

    fn is_busy(&self) -> bool {
        let mailbox = self.mailbox.lock();
        mailbox.is_queued || mailbox.awaits_commit
    }
}

/// Starts the threads that fold.
///
/// # Panics
/// When the operating system gives no thread.
pub(super) fn spawn_threads(parts: &Arc<Parts>, count: usize) -> Vec<JoinHandle<()>> {
    let spawn = |name: String, folds: Folds| {
        let parts = Arc::clone(parts);
        match std::thread::Builder::new().name(name).spawn(move || work(&parts, folds)) {
            Ok(handle) => handle,
            Err(error) => panic!("the operating system gives no thread to fold on: {error}"),
        }
    };
    let open = (0..count).map(|number| spawn(format!("fold-{number}"), Folds::Openly));
    let apart = spawn("fold-apart".to_owned(), Folds::Apart);
    open.chain([apart]).collect()
}

/// Empties mailboxes until the lane is closed.
fn work(parts: &Arc<Parts>, folds: Folds) {
    while let Some(cell) = parts.cells.lane(folds).pop() {
        let turn = std::panic::catch_unwind(AssertUnwindSafe(|| take_turn(parts, &cell, folds)));
        if turn.is_err() {
            // The run's phase is lost; what is on disk is right.
            parts.end_process("a folding thread panicked");
        }
    }
}

fn take_turn(parts: &Arc<Parts>, cell: &Arc<Cell>, folds: Folds) {
    let mut run = cell.run.lock();
    let began = Instant::now();
    for message in 0..TURN {
        if message > 0 && began.elapsed() > TURN_TIME {
            break;
        }
        let mut mailbox = cell.mailbox.lock();
        if folds == Folds::Openly
            && run.belongs_apart(parts, mailbox.messages.front().map(|(_, message)| message))
        {
            drop(mailbox);
            drop(run);
            // It stays queued: only the lane changes.
            parts.cells.apart.push(Arc::clone(cell));
            return;
        }
        if run.has_backlog() {
            drop(mailbox);
            run.fold_backlog(parts, cell);
            continue;
        }
        if let Some((committed, decision)) = mailbox.committed.pop_front() {
            drop(mailbox);
            run.committed(parts, cell, committed, decision);
        } else if mailbox.messages.front().is_some_and(|(_, message)| run.may_go_on(message, &parts.limits))
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
    parts.cells.lane(folds).push(Arc::clone(cell));
}
