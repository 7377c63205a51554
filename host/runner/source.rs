//! Where an input comes from: whom to answer when its step is on disk, and what to keep in case it does not get there.

use everfold_core::decision::{Decision, InboxInput, InboxSeq, Kinship, NewRun, Request};
use everfold_core::ids::RunKey;
use tokio::sync::oneshot;

use super::act::Done;
use super::api::{ApiError, Started};
use super::talk::Answer;

/// Which input of a decision must not be lost if its commit does not happen: nobody else has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// None: it is in the inbox, or a caller is told.
    Nothing,
    /// The one that was folded.
    Folded,
    /// The one that was to be put into the inbox.
    Waiting,
}

/// Where an input comes from.
pub(super) enum Source {
    Mailbox,
    Inbox(InboxSeq),
    Start {
        new_run: NewRun,
        sent: Option<Box<InboxInput>>,
        reply: oneshot::Sender<Result<Started, ApiError>>,
    },
    Caller {
        request: Option<Request>,
        reply: oneshot::Sender<Answer>,
    },
}

impl Source {
    /// How many rows of the inbox a run knows that folds it and has `behind` of them left; absent where the run is
    /// not there yet.
    pub(super) fn known(&self, behind: usize) -> Option<u64> {
        match self {
            Self::Mailbox | Self::Caller { .. } => Some(behind as u64),
            Self::Inbox(_) => Some(behind as u64 + 1),
            Self::Start { .. } => None,
        }
    }

    /// Completes the decision by where its input came from; says whom to answer, and what to keep in case the
    /// commit does not happen: `own` of an input that nobody else has.
    pub(super) fn into_done(self, decision: &mut Decision, key: &RunKey, own: Keep) -> (Done, Keep) {
        match self {
            Self::Mailbox => (Done::Nothing, own),
            Self::Inbox(seq) => {
                decision.inbox_taken = vec![seq];
                (Done::Nothing, Keep::Nothing)
            }
            Self::Caller { request, reply } => {
                decision.request = request;
                (Done::Caller { reply }, Keep::Nothing)
            }
            Self::Start { new_run, sent, reply } => {
                if let Some(sent) = sent {
                    // What goes on as another run in its first step hands over what it was begun with.
                    let successor =
                        decision.next_runs.iter_mut().find(|next| next.kinship == Kinship::Successor);
                    match successor {
                        Some(successor) => successor.inputs.push(*sent),
                        None => decision.inbox_put.push(*sent),
                    }
                }
                let workflow_id = new_run.workflow_id.clone();
                decision.new_run = Some(new_run);
                (
                    Done::Start {
                        started: Started { workflow_id, run_id: key.run_id, is_duplicate: false },
                        reply,
                    },
                    Keep::Nothing,
                )
            }
        }
    }
}
