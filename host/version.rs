//! Versions: components by digest, which one new runs of a type start on, and what a component would
//! do to runs that are open.
//!
//! | file | owns |
//! |---|---|
//! | `routing` | the routes, and changing them |
//! | `changes` | what a version has other than the current one |
//! | `loaded` | compiled code in memory, as long as it is needed |
//! | `folder` | a folder whose components are deployed |
//! | `shadow` | histories folded into a component, beside everything else |
//! | `findings` | what was found about runs, equal findings together |
//! | `outlook` | what runs that stand alike would ask for next |
//! | `report` | what a shadow replay and a move tell |
//!
//! A component's bytes are in the store, so that no run is ever without its code. Its compiled form is
//! here while somebody uses it, and in the engine's code cache across restarts.

mod changes;
pub(crate) mod findings;
pub(crate) mod folder;
pub mod loaded;
pub(crate) mod outlook;
pub mod report;
mod routing;
pub(crate) mod shadow;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use everfold_core::ids::{Digest, Namespace};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::guest::{Engine, LoadedComponent};
use crate::runner::api::{ApiError, Deployed, DeployedType};
use crate::store::{NewComponent, RetiredVersion, Retirement, Store, StoreError};
use loaded::{Compiled, Loaded};
use routing::Routes;

/// The components of this host.
pub struct Versions {
    store: Arc<dyn Store>,
    clock: Clock,
    loaded: Loaded,
    routes: Routes,
    /// Held by each replay that tries a component out.
    shadow_threads: Arc<Semaphore>,
}

/// A component that a run needs and that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store does not have it.
    #[error("component {} is not in the store", .0.short())]
    Missing(Digest),
    /// This binary refuses what an earlier one accepted.
    #[error("component {} cannot be loaded: {reason}", .digest.short())]
    Refused {
        /// Which one.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

impl Versions {
    /// The versions kept in `store`, run by `engine`.
    #[must_use]
    pub fn new(engine: Engine, store: Arc<dyn Store>, clock: Clock) -> Self {
        let routes = Routes::new(Arc::clone(&store), clock.clone());
        let loaded = Loaded::new(engine, Arc::clone(&store), clock.clone());
        let shadow_threads = Arc::new(Semaphore::new(shadow::threads()));
        Self { store, clock, loaded, routes, shadow_threads }
    }

    /// What each shadow replay of this host holds while it folds.
    pub(crate) const fn shadow_threads(&self) -> &Arc<Semaphore> {
        &self.shadow_threads
    }

    /// The routes.
    #[must_use]
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The compiled code in memory.
    #[must_use]
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Checks, compiles and keeps a component.
    ///
    /// # Errors
    /// `InvalidComponent` with the reason; `Busy` when it could not be written.
    pub async fn deploy(&self, namespace: &Namespace, bytes: Vec<u8>) -> Result<Deployed, ApiError> {
        let compiled = self.loaded.compile(bytes).await.map_err(ApiError::InvalidComponent)?;
        let Compiled { component, bytes, compile_time } = compiled;
        let description = component.description();
        let new = NewComponent {
            namespace: namespace.clone(),
            digest: component.digest(),
            workflow_types: description.workflow_types.iter().map(|found| found.name.clone()).collect(),
            sdk: description.sdk.clone(),
            deployed_at: self.clock.now(),
            bytes,
        };
        let is_new =
            self.store.put_component(new).await.map_err(|error| ApiError::Busy(error.to_string()))?;
        let component = self.loaded.keep(component);
        let description = component.description();
        let mut missing_types = BTreeSet::new();
        let mut workflow_types = Vec::new();
        for found in &description.workflow_types {
            let route =
                self.routes.of(namespace, &found.name).await?.ok_or_else(|| {
                    ApiError::Internal(format!("workflow type {} has no route", found.name))
                })?;
            missing_types.extend(self.missing_beside(&component, namespace, route.route.current).await?);
            workflow_types.push(DeployedType {
                name: found.name.clone(),
                summary: found.summary.clone(),
                handlers: found.handlers.clone(),
                changes: self.changes_to(&component, found, route.route.current).await,
                route: route.route,
            });
        }
        Ok(Deployed {
            digest: component.digest(),
            is_new,
            size: component.size() as u64,
            compile_time,
            workflow_types,
            missing_types: missing_types.into_iter().collect(),
            sdk: description.sdk.clone(),
        })
    }

    /// Retires a version of a workflow type.
    ///
    /// # Errors
    /// When it was not written.
    pub async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        self.routes.retire(version).await
    }

    /// Checks and compiles a component without keeping anything of it.
    ///
    /// # Errors
    /// `InvalidComponent` with the reason.
    pub async fn try_out(&self, bytes: Vec<u8>) -> Result<LoadedComponent, ApiError> {
        let compiled = self.loaded.compile(bytes).await;
        compiled.map(|compiled| compiled.component).map_err(ApiError::InvalidComponent)
    }

    /// The component of that digest, ready to run.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn component(&self, digest: Digest) -> Result<LoadedComponent, Unavailable> {
        self.loaded.get(digest).await
    }
}
