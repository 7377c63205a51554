//! Starting runs.

use std::time::Duration;

use everfold_core::decision::{NewRun, Outcome};
use everfold_core::event::WorkflowStarted;
use everfold_core::ids::{Digest, RunKey, WorkflowId};
use everfold_core::machine::RunStatus;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::api::{ApiError, RunResult, StartRequest, Started};
use super::run::{Message, Start};
use super::watch::Watch;
use super::{Host, LONGEST_ID};

/// The end of a run that was started just now.
#[derive(Debug)]
pub struct Ending {
    host: Host,
    key: RunKey,
    /// Begun before the run; absent where an earlier request had started it.
    watch: Option<Watch>,
}

impl Ending {
    /// How the run stands once it has ended, or after `wait`. A run that continued as new is followed.
    ///
    /// # Errors
    /// As [`Host::result`].
    pub async fn within(self, wait: Duration) -> Result<RunResult, ApiError> {
        let Self { host, mut key, watch } = self;
        let deadline = Instant::now() + wait;
        if let Some(mut watch) = watch {
            let Some(closed) = host.ended(&mut watch, deadline).await else {
                return Ok(RunResult { key, status: RunStatus::Running, outcome: None });
            };
            match closed.outcome.clone() {
                Outcome::ContinuedAs(next) => key.run_id = next,
                outcome @ (Outcome::Result(_) | Outcome::Failure(_)) => {
                    return Ok(RunResult { key, status: closed.status, outcome: Some(outcome) });
                }
            }
        }
        host.end_of(key, deadline).await
    }
}

impl Host {
    /// Starts a run; it is on disk when this returns.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `AlreadyStarted`, `InvalidInput` (too large), `Busy`.
    pub async fn start(&self, request: StartRequest) -> Result<Started, ApiError> {
        let key = self.new_key(&request);
        self.start_as(key, request).await
    }

    /// The same, with the run's end to wait for, which needs no look at the store.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_to_end(&self, request: StartRequest) -> Result<(Started, Ending), ApiError> {
        let key = self.new_key(&request);
        // Begun before the run is: its end cannot be missed.
        let watch = self.parts.watchers.watch_end(&key);
        let started = self.start_as(key.clone(), request).await?;
        let watch = (!started.is_duplicate).then_some(watch);
        let key = RunKey { run_id: started.run_id, ..key };
        Ok((started, Ending { host: self.clone(), key, watch }))
    }

    fn new_key(&self, request: &StartRequest) -> RunKey {
        RunKey { namespace: request.namespace.clone(), run_id: self.parts.clock.new_run_id() }
    }

    async fn start_as(&self, key: RunKey, request: StartRequest) -> Result<Started, ApiError> {
        self.check_start(&request)?;
        let parts = &self.parts;
        let _admitted = parts.admit_start()?;
        let workflow_id = request.workflow_id.clone().unwrap_or_else(|| {
            WorkflowId(request.request_id.clone().unwrap_or_else(|| parts.clock.new_uuid().to_string()))
        });
        let digest = self.digest_for(&request, &workflow_id).await?;
        let started = WorkflowStarted {
            workflow_type: request.workflow_type.clone(),
            workflow_id: workflow_id.clone(),
            namespace: request.namespace,
            run_id: key.run_id,
            original_run_id: key.run_id,
            digest,
            input: request.input,
            headers: request.headers,
            seed: parts.clock.new_seed(),
            attempt: 1,
            continued_from_run_id: None,
        };
        let new_run = NewRun {
            workflow_id,
            workflow_type: request.workflow_type,
            digest,
            started_at: parts.clock.now(),
            request_id: request.request_id,
        };
        let (reply, answered) = oneshot::channel();
        parts.send(&key, Message::Start(Box::new(Start { started, new_run, reply })));
        answered.await.unwrap_or_else(|_| Err(ApiError::Busy("the host is stopping".to_owned())))
    }

    fn check_start(&self, request: &StartRequest) -> Result<(), ApiError> {
        if self.parts.stopping.is_cancelled() {
            return Err(ApiError::Busy("the host is stopping".to_owned()));
        }
        self.parts.limits.check_payload("the input", request.input.size()).map_err(ApiError::InvalidInput)?;
        let ids = [
            ("workflow_id", request.workflow_id.as_ref().map(|id| id.0.as_str())),
            ("workflow_type", Some(request.workflow_type.as_str())),
            ("request_id", request.request_id.as_deref()),
        ];
        for (name, value) in ids {
            if value.is_some_and(|value| value.is_empty() || value.len() > LONGEST_ID) {
                return Err(ApiError::InvalidInput(format!("{name} must have 1 to {LONGEST_ID} bytes")));
            }
        }
        Ok(())
    }

    /// The component that a new run starts on.
    async fn digest_for(&self, request: &StartRequest, workflow_id: &WorkflowId) -> Result<Digest, ApiError> {
        let workflow_type = &request.workflow_type;
        let Some(digest) = request.digest else {
            let routes = self.parts.versions.routes();
            let routed = routes.digest_for(&request.namespace, workflow_type, workflow_id).await?;
            return routed.ok_or_else(|| {
                ApiError::UnknownWorkflowType(format!(
                    "no component with workflow type {workflow_type} is deployed"
                ))
            });
        };
        self.must_have(&request.namespace, workflow_type, digest).await.map(|()| digest)
    }
}
