//! Starting runs.

use std::sync::Arc;
use std::time::Duration;

use everfold_core::attributes::Details;
use everfold_core::decision::{IfOpen, InboxInput, NewRun, Operation, Outcome, Request};
use everfold_core::event::{Input, SignalReceived, UpdateAdmitted, WorkflowStarted};
use everfold_core::ids::{Digest, EventId, RunId, RunKey, Seed, Timestamp, WorkflowId};
use everfold_core::lifetime::Terms;
use everfold_core::machine::RunStatus;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::api::{
    AdmittedUpdate, ApiError, IdConflictPolicy, IdReusePolicy, RunRef, RunResult, StartRequest, StartUpdate,
    Started, StopRequest,
};
use super::run::{Message, Start};
use super::talk::check_signal;
use super::updates::check_update;
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
    /// Starts a run; it is on disk when this returns. Where the open run of its workflow id is to be terminated, that
    /// is a step before: it stays done when the start is refused behind it.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `AlreadyStarted`, `IdTaken`, `InvalidInput` (too large, policies that exclude each
    /// other), `LimitExceeded` (the open run's signals), `Busy`.
    pub async fn start(&self, request: StartRequest) -> Result<Started, ApiError> {
        let key = self.new_key(&request);
        Ok(self.start_as(key, request).await?.0)
    }

    /// The same for a start that brings an update. A run that begins is sent it behind its first event: it may be
    /// refused then, as [`Host::update_progress`] tells.
    ///
    /// # Errors
    /// As [`Host::start`] and, of an open run, as [`Host::update`].
    pub async fn start_with_update(
        &self,
        request: StartRequest,
    ) -> Result<(Started, AdmittedUpdate), ApiError> {
        let key = self.new_key(&request);
        let (started, update) = self.start_as(key, request).await?;
        let update = update.ok_or_else(|| ApiError::InvalidInput("the start brings no update".to_owned()))?;
        Ok((started, update))
    }

    /// The same, with the run's end to wait for, which needs no look at the store.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_to_end(&self, request: StartRequest) -> Result<(Started, Ending), ApiError> {
        let key = self.new_key(&request);
        // Begun before the run is: its end cannot be missed.
        let watch = self.parts.watchers.watch_end(&key);
        let (started, _) = self.start_as(key.clone(), request).await?;
        let watch = (!started.is_duplicate).then_some(watch);
        let key = RunKey { run_id: started.run_id, ..key };
        Ok((started, Ending { host: self.clone(), key, watch }))
    }

    fn new_key(&self, request: &StartRequest) -> RunKey {
        RunKey { namespace: request.namespace.clone(), run_id: self.parts.clock.new_run_id() }
    }

    async fn start_as(
        &self,
        key: RunKey,
        request: StartRequest,
    ) -> Result<(Started, Option<AdmittedUpdate>), ApiError> {
        self.check_start(&request)?;
        let parts = &self.parts;
        let admitted = parts.admit_start()?;
        let workflow_id = request.workflow_id.clone().unwrap_or_else(|| {
            WorkflowId(request.request_id.clone().unwrap_or_else(|| parts.clock.new_uuid().to_string()))
        });
        let digest = self.digest_for(&request, &workflow_id).await?;
        let conflict = request.id_conflict;
        let start = Beginning::new(
            &key,
            request,
            workflow_id,
            digest,
            parts.clock.new_seed(),
            &parts.clock.new_uuid().to_string(),
        );
        let mut admitted = Some(admitted);
        loop {
            let began = self.begin(&key, &start).await;
            let Err(ApiError::AlreadyStarted { run_id, .. }) = began else {
                let started = began?;
                let update = self.update_of(&start, &started).await?;
                return Ok((started, update));
            };
            // What is done to an open run is a write of its own.
            drop(admitted.take());
            if let Some(started) = self.instead(&start, conflict, run_id).await? {
                return Ok(started);
            }
            admitted = Some(parts.admit_start()?);
        }
    }

    /// Begins a run, if its workflow id has none that is open.
    async fn begin(&self, key: &RunKey, start: &Beginning) -> Result<Started, ApiError> {
        let parts = &self.parts;
        let Beginning { mut started, new_run, signal, update, terms: _ } = start.clone();
        let now = parts.clock.now();
        let lifetime = start.terms.lifetime(now);
        let start_at = lifetime.as_ref().and_then(|lifetime| lifetime.start_at);
        if lifetime.is_some() {
            Arc::make_mut(&mut started).lifetime = lifetime;
        }
        let new_run = NewRun { started_at: now, start_at, ..new_run };
        let sent = signal.map(Input::SignalReceived).or_else(|| update.map(Input::UpdateAdmitted));
        let sent = sent.map(|input| Box::new(InboxInput { received_at: now, input }));
        let (reply, answered) = oneshot::channel();
        let start = Start { started, new_run, sent, reply };
        parts.send(key, Message::Start(Box::new(start)));
        answered.await.unwrap_or_else(|_| Err(ApiError::Busy("the host is stopping".to_owned())))
    }

    /// The update of a start whose run has begun, now or before. Where an earlier request had begun it, the update may
    /// not have got there.
    async fn update_of(
        &self,
        start: &Beginning,
        started: &Started,
    ) -> Result<Option<AdmittedUpdate>, ApiError> {
        let Some(update) = &start.update else { return Ok(None) };
        let (namespace, workflow_id) = (start.started.namespace.clone(), started.workflow_id.clone());
        if started.is_duplicate {
            let run = RunRef { namespace, workflow_id, run_id: Some(started.run_id) };
            return self.send_update(&run, update, None).await.map(Some);
        }
        Ok(Some(AdmittedUpdate {
            key: RunKey { namespace, run_id: started.run_id },
            workflow_id,
            update_id: update.update_id.clone(),
            from: EventId::FIRST,
        }))
    }

    /// What becomes of a start whose workflow id has an open run; none if that has closed, and it may begin.
    async fn instead(
        &self,
        start: &Beginning,
        conflict: IdConflictPolicy,
        run_id: RunId,
    ) -> Result<Option<(Started, Option<AdmittedUpdate>)>, ApiError> {
        let Beginning { started, new_run, signal, update, terms: _ } = start;
        let workflow_id = new_run.workflow_id.clone();
        let namespace = started.namespace.clone();
        let run = RunRef { namespace, workflow_id: workflow_id.clone(), run_id: Some(run_id) };
        let open = |run_id| Started { workflow_id: workflow_id.clone(), run_id, is_duplicate: true };
        match (conflict, signal, update) {
            (IdConflictPolicy::Fail, _, _) => Err(ApiError::AlreadyStarted { workflow_id, run_id }),
            (IdConflictPolicy::UseExisting, None, None) => Ok(Some((open(run_id), None))),
            (IdConflictPolicy::UseExisting, Some(signal), _) => {
                let taken = self.send_signal(&run, Arc::clone(signal), new_run.request_id.clone()).await;
                Ok(if_open(taken)?.map(|taken| (open(taken.run_id), None)))
            }
            (IdConflictPolicy::UseExisting, None, Some(update)) => {
                let operation = Operation::Update;
                let request = new_run.request_id.clone().map(|request_id| Request { operation, request_id });
                let update = self.send_update(&run, update, request.as_ref()).await;
                Ok(if_open(update)?.map(|update| (open(update.key.run_id), Some(update))))
            }
            (IdConflictPolicy::TerminateExisting, _, _) => {
                let reason = "another run starts under its workflow id".to_owned();
                if_open(self.terminate(StopRequest { run, reason, request_id: None }).await)?;
                Ok(None)
            }
        }
    }

    fn check_start(&self, request: &StartRequest) -> Result<(), ApiError> {
        if self.parts.stopping.is_cancelled() {
            return Err(ApiError::Busy("the host is stopping".to_owned()));
        }
        self.parts.limits.check_payload("the input", request.input.size()).map_err(ApiError::InvalidInput)?;
        request.terms.check().map_err(ApiError::InvalidInput)?;
        let (reuse, conflict) = (request.id_reuse, request.id_conflict);
        if conflict == IdConflictPolicy::TerminateExisting && reuse == IdReusePolicy::RejectDuplicate {
            let message = "id_reuse_policy reject_duplicate would refuse the run for which terminate_existing makes room";
            return Err(ApiError::InvalidInput(message.to_owned()));
        }
        if let Some(signal) = &request.signal {
            check_signal(&self.parts.limits, &signal.name, &signal.input)?;
            if conflict == IdConflictPolicy::Fail {
                let message =
                    "a start with a signal is for an open run too: its id_conflict_policy cannot be fail";
                return Err(ApiError::InvalidInput(message.to_owned()));
            }
        }
        let Details { search_attributes, memo } = &request.details;
        search_attributes.check().and_then(|()| memo.check()).map_err(ApiError::InvalidInput)?;
        if let Some(StartUpdate { name, input, headers: _, update_id }) = &request.update {
            check_update(&self.parts.limits, name, input, update_id.as_deref())?;
            let wrong = match (&request.signal, conflict) {
                (Some(_), _) => "a start brings a signal or an update, not both",
                (None, IdConflictPolicy::Fail) => {
                    "a start with an update is for an open run too: its id_conflict_policy cannot be fail"
                }
                (None, IdConflictPolicy::UseExisting | IdConflictPolicy::TerminateExisting) => "",
            };
            if !wrong.is_empty() {
                return Err(ApiError::InvalidInput(wrong.to_owned()));
            }
        }
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

/// The answer of a run, if it is still open.
fn if_open<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Err(ApiError::NotFound(_)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// What a run begins with; it is tried again where an open run made way.
#[derive(Clone, Debug)]
struct Beginning {
    started: Arc<WorkflowStarted>,
    new_run: NewRun,
    signal: Option<Arc<SignalReceived>>,
    terms: Terms,
    update: Option<Arc<UpdateAdmitted>>,
}

impl Beginning {
    /// `new_update_id` is for an update that nothing names.
    fn new(
        key: &RunKey,
        request: StartRequest,
        workflow_id: WorkflowId,
        digest: Digest,
        seed: Seed,
        new_update_id: &str,
    ) -> Self {
        let if_open = match (request.id_conflict, &request.signal, &request.update) {
            (_, Some(_), _) => IfOpen::Signalled,
            (_, None, Some(_)) => IfOpen::Updated,
            (IdConflictPolicy::UseExisting, None, None) => IfOpen::Used,
            (IdConflictPolicy::Fail | IdConflictPolicy::TerminateExisting, None, None) => IfOpen::Refused,
        };
        let update = request.update.map(|StartUpdate { name, input, headers, update_id }| {
            let update_id = update_id.or_else(|| request.request_id.clone());
            let update_id = update_id.unwrap_or_else(|| new_update_id.to_owned());
            Arc::new(UpdateAdmitted { update_id, name, input, headers })
        });
        let new_run = NewRun {
            workflow_id: workflow_id.clone(),
            workflow_type: request.workflow_type.clone(),
            digest,
            // When it is tried.
            started_at: Timestamp(0),
            request_id: request.request_id,
            id_reuse: request.id_reuse,
            if_open,
            parent: None,
            // When it is tried, as above.
            start_at: None,
            details: request.details.clone().into_some(),
            inherits: None,
        };
        let Details { search_attributes, memo } = request.details;
        let started = WorkflowStarted {
            workflow_type: request.workflow_type,
            workflow_id,
            namespace: request.namespace,
            run_id: key.run_id,
            original_run_id: key.run_id,
            digest,
            input: request.input,
            headers: request.headers,
            seed,
            attempt: 1,
            continued_from_run_id: None,
            parent: None,
            // When it is tried, as above.
            lifetime: None,
            reset: None,
            search_attributes,
            memo,
        };
        let signal = request.signal.map(Arc::new);
        Self { started: Arc::new(started), new_run, signal, update, terms: request.terms }
    }
}
