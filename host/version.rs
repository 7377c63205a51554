//! Versions: components by digest, and which one new runs of a type start on.
//!
//! A component's bytes are in the store, so that no run is ever without its code; its compiled
//! form is kept here while the host lives, and in the engine's code cache across restarts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use everfold_core::ids::{Digest, Namespace};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::guest::{Engine, LoadedComponent};
use crate::runner::api::{ApiError, Deployed, DeployedType};
use crate::store::{NewComponent, Store, StoreError};

/// The components of this host.
pub struct Versions {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Clock,
    loaded: Mutex<HashMap<Digest, LoadedComponent>>,
    current: Mutex<HashMap<(Namespace, String), Digest>>,
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
        f.debug_struct("Versions").field("loaded", &self.loaded.lock().len()).finish_non_exhaustive()
    }
}

impl Versions {
    /// The versions kept in `store`, run by `engine`.
    #[must_use]
    pub fn new(engine: Engine, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { engine, store, clock, loaded: Mutex::default(), current: Mutex::default() }
    }

    /// Checks, compiles and keeps a component.
    ///
    /// # Errors
    /// `InvalidComponent` with the reason; `Busy` when it could not be written.
    pub async fn deploy(&self, namespace: &Namespace, bytes: Vec<u8>) -> Result<Deployed, ApiError> {
        let (component, bytes) =
            self.compile(bytes).await.map_err(|reason| ApiError::InvalidComponent(reason.clone()))?;
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
        self.loaded.lock().insert(component.digest(), component.clone());
        let mut workflow_types = Vec::new();
        for found in &description.workflow_types {
            self.current.lock().remove(&(namespace.clone(), found.name.clone()));
            let current = self.current(namespace, &found.name).await?;
            workflow_types.push(DeployedType {
                name: found.name.clone(),
                summary: found.summary.clone(),
                is_current: current == Some(component.digest()),
            });
        }
        Ok(Deployed {
            digest: component.digest(),
            is_new,
            size: component.size() as u64,
            compile_time: component.compile_time(),
            workflow_types,
            sdk: description.sdk.clone(),
        })
    }

    /// The component that new runs of a type start on.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn current(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Option<Digest>, ApiError> {
        let name = (namespace.clone(), workflow_type.to_owned());
        if let Some(digest) = self.current.lock().get(&name) {
            return Ok(Some(*digest));
        }
        let found = self
            .store
            .current_component(namespace, workflow_type)
            .await
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        if let Some(digest) = found {
            self.current.lock().insert(name, digest);
        }
        Ok(found)
    }

    /// The component of that digest, ready to run.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn component(&self, digest: Digest) -> Result<LoadedComponent, Unavailable> {
        if let Some(component) = self.loaded.lock().get(&digest) {
            return Ok(component.clone());
        }
        let bytes = self.store.component_bytes(digest).await?.ok_or(Unavailable::Missing(digest))?;
        let (component, _) =
            self.compile(bytes).await.map_err(|reason| Unavailable::Refused { digest, reason })?;
        self.loaded.lock().insert(digest, component.clone());
        Ok(component)
    }

    /// Compiles away from the threads that serve requests; gives the bytes back.
    async fn compile(&self, bytes: Vec<u8>) -> Result<(LoadedComponent, Vec<u8>), String> {
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            engine.load(&bytes).map(|component| (component, bytes)).map_err(|error| error.to_string())
        });
        compiled.await.unwrap_or_else(|error| Err(format!("the compiler failed: {error}")))
    }
}
