//! Observations: what a guest said and how its run ended, as log lines. They come after the commit,
//! at most once, and never from a replay.

use everfold_core::decision::{Closed, Outcome};
use everfold_core::ids::{Digest, RunKey, WorkflowId};
use everfold_core::machine::RunState;

use crate::guest::{LogLevel, Observation};

/// What is to be said once a decision is committed.
#[derive(Debug)]
pub(super) struct Observed {
    workflow_id: WorkflowId,
    workflow_type: String,
    digest: Digest,
    observations: Vec<Observation>,
}

impl Observed {
    /// What an activation left to say, if anything.
    pub(super) fn of(
        state: &RunState,
        digest: Digest,
        observations: Vec<Observation>,
        is_closed: bool,
    ) -> Option<Self> {
        if observations.is_empty() && !is_closed {
            return None;
        }
        let started = state.started()?;
        Some(Self {
            workflow_id: started.workflow_id.clone(),
            workflow_type: started.workflow_type.clone(),
            digest,
            observations,
        })
    }

    /// Says it.
    pub(super) fn emit(self, key: &RunKey, closed: Option<&Closed>) {
        for observation in &self.observations {
            match observation {
                Observation::Log { level, target, message, fields } => {
                    self.log(key, *level, target, message, fields);
                }
                Observation::Metric { .. } => {}
            }
        }
        if let Some(closed) = closed {
            self.log_end(key, closed);
        }
    }

    fn log(&self, key: &RunKey, level: LogLevel, module: &str, message: &str, fields: &[(String, String)]) {
        let fields =
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        // The level of a tracing event is fixed where it stands.
        macro_rules! line {
            ($event:ident) => {
                tracing::$event!(
                    target: "everfold::workflow",
                    workflow_id = %self.workflow_id,
                    run_id = %key.run_id,
                    workflow_type = self.workflow_type,
                    digest = self.digest.short(),
                    module,
                    fields,
                    "{message}"
                )
            };
        }
        match level {
            LogLevel::Trace => line!(trace),
            LogLevel::Debug => line!(debug),
            LogLevel::Info => line!(info),
            LogLevel::Warn => line!(warn),
            LogLevel::Error => line!(error),
        }
    }

    fn log_end(&self, key: &RunKey, closed: &Closed) {
        let failure = match &closed.outcome {
            Outcome::Failure(failure) => Some(failure.to_string()),
            Outcome::Result(_) | Outcome::ContinuedAs(_) => None,
        };
        tracing::debug!(
            workflow_id = %self.workflow_id,
            run_id = %key.run_id,
            workflow_type = self.workflow_type,
            digest = self.digest.short(),
            status = closed.status.name(),
            failure,
            "a run closed"
        );
    }
}
