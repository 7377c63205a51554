//! What a run that a reset begins takes over, in the transaction that begins it: history, timers, what waited for the run
//! that is reset, and its children.
//!
//! A child that was begun up to the boundary is the new run's from here on. Where the old run had closed, nobody may have
//! been told of the child's end: it is told now, from the child's own row.

use everfold_core::decision::child::{self, ChildName};
use everfold_core::decision::message::told_of_lost_answer;
use everfold_core::decision::{AwaitedChild, Closed, InboxInput, Inheritance, Outcome};
use everfold_core::event::{ChildWorkflowStarted, Input};
use everfold_core::fold::activations;
use everfold_core::ids::{RunId, RunKey, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::reset;
use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Result, Row, params};

use super::statements::Statements;
use crate::store::rows::{self, InboxRecord, integer};
use crate::store::{Inbox, StoreError};

/// Events of one row of a history that is taken over, at least, unless it ends before.
const EVENTS_OF_A_ROW: usize = 64;

impl Statements<'_> {
    /// The run that is told of the end of another one.
    pub(super) fn parent_of(&mut self, run_id: RunId) -> Result<Option<RunId>> {
        let parent: Option<Option<[u8; 16]>> =
            self.parent.query_row([run_id.0], |row| row.get(0)).optional()?;
        Ok(parent.flatten().map(RunId))
    }

    /// Writes the history that a new run begins with, and what is open behind it.
    pub(super) fn inherit(&mut self, key: &RunKey, inherits: &Inheritance) -> Result<()> {
        let mut row = Vec::new();
        for step in activations(inherits.events.clone()) {
            row.extend(step);
            if row.len() >= EVENTS_OF_A_ROW {
                self.append_history(key, &row)?;
                row.clear();
            }
        }
        self.append_history(key, &row)?;
        self.apply_effects(key, &inherits.effects, &inherits.attempts)
    }

    /// Hands over what waits for the run that is reset, as far as the new one has to do with it.
    pub(super) fn hand_over_inbox(
        &mut self,
        from: &RunKey,
        key: &RunKey,
        inherits: &Inheritance,
    ) -> Result<()> {
        let record = |row: &Row<'_>| {
            Ok(InboxRecord {
                seq: row.get(0)?,
                received_at: row.get(1)?,
                input_type: row.get(2)?,
                input: row.get(3)?,
            })
        };
        let waiting = self.inbox.query_map(params![from.run_id.0, from.namespace.0], record)?;
        let Inbox { inputs, termination } = rows::inbox(waiting.collect::<Result<_>>()?).map_err(damaged)?;
        let inputs = inputs.into_iter().map(|(_, waiting)| waiting);
        let inputs: Vec<_> = inputs.filter(|waiting| reset::goes_over(&waiting.input, inherits.to)).collect();
        self.change_inbox(key, &inputs, &[])?;
        if let Some(termination) = termination {
            self.put_termination(key, inherits.begins_at, &termination)?;
        }
        Ok(())
    }

    /// Makes the children that were begun up to the boundary the new run's, and tells it of what it waits for and may not be
    /// told any more. What it is told twice it drops.
    pub(super) fn take_over(&mut self, key: &RunKey, inherits: &Inheritance) -> Result<()> {
        let Inheritance { from, to, children, requests, begins_at, .. } = inherits;
        self.children_hand_over.execute(params![key.run_id.0, from.0, integer(to.0)])?;
        for child in children {
            let news = self.news_of(key, child, *begins_at)?;
            self.change_inbox(key, &news, &[])?;
        }
        let lost: Vec<_> = requests.iter().map(|id| told_of_lost_answer(*id, *begins_at)).collect();
        self.change_inbox(key, &lost, &[])
    }

    /// What is to be told of a child that may have begun and closed while nobody listened. Its parent drops what it knows.
    fn news_of(&mut self, key: &RunKey, child: &AwaitedChild, now: Timestamp) -> Result<Vec<InboxInput>> {
        let name = child.name();
        let ChildName { command_event_id, run_id, .. } = name;
        let begun = Input::ChildWorkflowStarted(ChildWorkflowStarted { command_event_id, run_id });
        let mut news = vec![InboxInput { received_at: now, input: begun }];
        let of = params![key.run_id.0, integer(command_event_id.0)];
        let last = self.last_of_child.query_row(of, |row| {
            Ok((RunId(row.get(0)?), row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?, row.get(3)?))
        });
        let Some((run_id, status, closed_at, outcome)) = last.optional()? else {
            news.push(child::told_of_loss(name, now));
            return Ok(news);
        };
        if let Some(at) = closed_at {
            let child = RunKey { namespace: key.namespace.clone(), run_id };
            let outcome = self.outcome_of(&child, outcome)?;
            let status = RunStatus::from_name(&status).unwrap_or(RunStatus::Failed);
            let told = outcome.map(|outcome| Closed { status, at: Timestamp(at), outcome });
            news.extend(told.and_then(|closed| child::told_of_end(name, &closed)));
        }
        Ok(news)
    }

    /// The outcome of a closed run, which stands in its history alone where it is large.
    fn outcome_of(&mut self, key: &RunKey, stored: Option<Vec<u8>>) -> Result<Option<Outcome>> {
        if let Some(stored) = stored {
            return rows::stored_outcome(&stored).map(Some).map_err(damaged);
        }
        let of = params![key.run_id.0, key.namespace.0];
        let body: Option<Vec<u8>> = self.last_step.query_row(of, |row| row.get(0)).optional()?;
        body.map_or(Ok(None), |body| rows::told_outcome(key, &body).map_err(damaged))
    }
}

fn damaged(error: StoreError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error))
}
