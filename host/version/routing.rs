//! The routes of workflow types. They are read from the store once and kept; every change is written
//! first. A start that is under way goes where the route led when it was decided.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use everfold_core::ids::{Digest, Namespace, WorkflowId};
use everfold_core::route::{Route, Unroutable};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::runner::api::{ApiError, RoutingChange, RoutingRequest};
use crate::store::{RetiredVersion, Retirement, RouteChange, RouteRow, Store, StoreError};

/// The routes of this host.
pub struct Routes {
    store: Arc<dyn Store>,
    clock: Clock,
    known: RwLock<HashMap<(Namespace, String), RouteRow>>,
    /// Held while a route is changed, so that what is known is what was written last.
    changing: Mutex<()>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("known", &self.known.read().len()).finish_non_exhaustive()
    }
}

impl Routes {
    pub(super) fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, known: RwLock::default(), changing: Mutex::default() }
    }

    /// The route of a workflow type; none if no component has the type.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn of(&self, namespace: &Namespace, workflow_type: &str) -> Result<Option<RouteRow>, ApiError> {
        let name = (namespace.clone(), workflow_type.to_owned());
        if let Some(row) = self.known.read().get(&name) {
            return Ok(Some(row.clone()));
        }
        let _changing = self.changing.lock().await;
        self.read(name).await
    }

    /// The route as it is known, else as the store has it. Nobody may change it meanwhile.
    async fn read(&self, name: (Namespace, String)) -> Result<Option<RouteRow>, ApiError> {
        if let Some(row) = self.known.read().get(&name) {
            return Ok(Some(row.clone()));
        }
        let found = self.store.route(&name.0, &name.1).await.map_err(|error| unread(&error))?;
        if let Some(row) = &found {
            self.known.write().insert(name, row.clone());
        }
        Ok(found)
    }

    /// The component that a new run starts on; none if no component has its type.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn digest_for(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        workflow_id: &WorkflowId,
    ) -> Result<Option<Digest>, ApiError> {
        let name = (namespace.clone(), workflow_type.to_owned());
        let known = self.known.read().get(&name).map(|row| row.route);
        let route = match known {
            Some(route) => Some(route),
            None => self.of(namespace, workflow_type).await?.map(|row| row.route),
        };
        Ok(route.map(|route| route.digest_for(workflow_id)))
    }

    /// Changes a route. Runs that begin from now on go by it. `may_route` says whether the type has the
    /// version that the route would lead to.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `UnknownVersion`, `VersionConflict`; `Busy` when it was not written.
    pub async fn change<F>(
        &self,
        request: &RoutingRequest,
        may_route: impl Fn(Digest) -> F,
    ) -> Result<RouteRow, ApiError>
    where
        F: Future<Output = Result<(), ApiError>>,
    {
        let RoutingRequest { namespace, workflow_type, change } = request;
        let _changing = self.changing.lock().await;
        let name = (namespace.clone(), workflow_type.clone());
        let before = self.read(name.clone()).await?.ok_or_else(|| {
            ApiError::UnknownWorkflowType(format!(
                "no component with workflow type {workflow_type} is deployed"
            ))
        })?;
        let route = changed(before.route, *change)?;
        for digest in [Some(route.current), route.candidate.map(|candidate| candidate.digest)] {
            if let Some(digest) = digest.filter(|digest| !before.route.leads_to(*digest)) {
                may_route(digest).await?;
            }
        }
        let at = self.clock.now();
        let written = self.store.set_route(RouteChange {
            namespace: namespace.clone(),
            workflow_type: workflow_type.clone(),
            expected_revision: before.revision,
            route,
            at,
        });
        if !written.await.map_err(|error| ApiError::Busy(error.to_string()))? {
            self.known.write().remove(&name);
            return Err(ApiError::Busy(format!("the route of {workflow_type} was changed meanwhile")));
        }
        let row = RouteRow {
            workflow_type: workflow_type.clone(),
            route,
            revision: before.revision + 1,
            changed_at: at,
        };
        self.known.write().insert(name, row.clone());
        Ok(row)
    }

    /// Retires a version of a workflow type; the way back to it may go with it.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        let _changing = self.changing.lock().await;
        let name = (version.namespace.clone(), version.workflow_type.clone());
        let retirement = self.store.retire(version).await?;
        self.known.write().remove(&name);
        Ok(retirement)
    }
}

fn changed(route: Route, change: RoutingChange) -> Result<Route, ApiError> {
    let changed = match change {
        RoutingChange::Promote(digest) => route.promote(digest),
        RoutingChange::RollBack => route.roll_back(),
        RoutingChange::Ramp(digest, ramp) => digest
            .or(route.candidate.map(|candidate| candidate.digest))
            .ok_or(Unroutable::NoCandidate)
            .and_then(|digest| route.ramp(digest, ramp)),
    };
    changed.map_err(|error| ApiError::VersionConflict(error.to_string()))
}

fn unread(error: &StoreError) -> ApiError {
    ApiError::Internal(error.to_string())
}
