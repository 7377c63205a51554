//! What an order's run answers to the query `status`: how far it is, and what was undone.

use std::cell::RefCell;
use std::rc::Rc;

use everfold_guest::collections::FixedHashMap;
use everfold_guest::{Context, Failure};
use serde::Serialize;

/// The name of the query.
pub(crate) const STATUS: &str = "status";

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Running,
    Compensating,
    Completed,
    Failed,
    Canceled,
}

impl State {
    /// The state of a run that ends so.
    pub(crate) fn at_end<T>(ctx: &Context, result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => Self::Completed,
            Err(failure) if failure.is_canceled() && ctx.is_cancel_requested() => Self::Canceled,
            Err(_) => Self::Failed,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
struct Status {
    state: State,
    /// What it is at: a step or an undo.
    step: Option<String>,
    /// How many attempts each step took that has ended, well or badly.
    attempts: FixedHashMap<String, u32>,
    done: Vec<String>,
    undone: Vec<String>,
    failure: Option<String>,
}

/// How far an order's run is. Copies are the same run's.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Rc<RefCell<Status>>);

impl Progress {
    /// Answers the query from now on.
    pub(crate) fn answering(ctx: &Context) -> Self {
        let status = Rc::new(RefCell::new(Status {
            state: State::Running,
            step: None,
            attempts: FixedHashMap::default(),
            done: Vec::new(),
            undone: Vec::new(),
            failure: None,
        }));
        ctx.on_query(STATUS, {
            let status = Rc::clone(&status);
            move |(): ()| status.borrow().clone()
        });
        Self(status)
    }

    /// A step or an undo begins.
    pub(crate) fn at(&self, name: &str) {
        self.0.borrow_mut().step = Some(name.to_owned());
    }

    /// A step is done.
    pub(crate) fn done(&self, step: &str, attempt: u32) {
        self.ended(step, Some(attempt));
        self.0.borrow_mut().done.push(step.to_owned());
    }

    /// A step has ended, well or badly, at that attempt if any was made.
    pub(crate) fn ended(&self, step: &str, attempt: Option<u32>) {
        let mut status = self.0.borrow_mut();
        status.step = None;
        if let Some(attempt) = attempt {
            status.attempts.insert(step.to_owned(), attempt);
        }
    }

    /// An undo is done.
    pub(crate) fn undone(&self, undo: &str) {
        let mut status = self.0.borrow_mut();
        status.step = None;
        status.undone.push(undo.to_owned());
    }

    /// An undo failed.
    pub(crate) fn not_undone(&self) {
        self.0.borrow_mut().step = None;
    }

    /// What was done is undone from now on, for that reason.
    pub(crate) fn compensating(&self, reason: String) {
        let mut status = self.0.borrow_mut();
        status.state = State::Compensating;
        status.failure = Some(reason);
    }

    /// Tells the failure in these words.
    pub(crate) fn tell(&self, failure: &str) {
        self.0.borrow_mut().failure = Some(failure.to_owned());
    }

    /// The run ends so. What was told of the failure stays.
    pub(crate) fn end<T>(&self, state: State, result: &Result<T, Failure>) {
        let mut status = self.0.borrow_mut();
        status.state = state;
        status.step = None;
        if let Err(failure) = result {
            status.failure.get_or_insert_with(|| failure.message().to_owned());
        }
    }
}
