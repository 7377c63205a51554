//! Versions of workflow types as callers see and change them. Which runs move is in `moves`; what a
//! version would do to them in `check`.

use std::sync::Arc;

use everfold_core::ids::{Digest, Namespace, Timestamp};

use super::api::{
    ApiError, Deployed, Routed, RoutingRequest, TypeRouting, TypeVersions, Version, VersionState,
};
use super::run::Message;
use super::sweep;
use super::{Host, Parts, RECOVERY_PAGE, internal};
use crate::store::{
    ComponentRow, OpenRunFilter, RetiredVersion, Retirement, RouteRow, Standing, StoreError, VersionRow,
};
use crate::version::Unavailable;
use crate::version::loaded::Unused;

impl Host {
    /// Checks, compiles and keeps a component.
    ///
    /// # Errors
    /// `InvalidComponent` with the reason.
    pub async fn deploy(&self, namespace: &Namespace, bytes: Vec<u8>) -> Result<Deployed, ApiError> {
        self.parts.versions.deploy(namespace, bytes).await
    }

    /// All components, oldest first.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, ApiError> {
        self.parts.store.components(namespace).await.map_err(|error| internal(&error))
    }

    /// All workflow types and where their new runs go, by name.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn workflow_types(&self, namespace: &Namespace) -> Result<Vec<TypeRouting>, ApiError> {
        let rows = self.parts.store.routes(namespace).await.map_err(|error| internal(&error))?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Where new runs of a workflow type go.
    ///
    /// # Errors
    /// `UnknownWorkflowType`.
    pub async fn routing(&self, namespace: &Namespace, workflow_type: &str) -> Result<TypeRouting, ApiError> {
        let row = self.parts.versions.routes().of(namespace, workflow_type).await?;
        row.map(Into::into).ok_or_else(|| unknown_type(workflow_type))
    }

    /// The host's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The versions of a workflow type, and the runs on each.
    ///
    /// # Errors
    /// `UnknownWorkflowType`.
    pub async fn versions(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<TypeVersions, ApiError> {
        let parts = &self.parts;
        let row = parts.versions.routes().of(namespace, workflow_type).await?;
        let row = row.ok_or_else(|| unknown_type(workflow_type))?;
        let rows = parts.store.versions(namespace, workflow_type).await.map_err(|error| internal(&error))?;
        let versions = rows.into_iter().map(|version| Version {
            state: state_of(&version, &row),
            is_loaded: parts.versions.loaded().has(version.digest),
            row: version,
        });
        Ok(TypeVersions { versions: versions.collect(), routing: row.into() })
    }

    /// Changes where new runs of a workflow type go, at once and for all of them; runs under way stay
    /// where they are. Blocked runs of the type are tried again, on the version that is current now if
    /// it takes them.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `UnknownVersion`, `VersionConflict`, `Busy`.
    pub async fn route(&self, request: RoutingRequest) -> Result<Routed, ApiError> {
        let parts = &self.parts;
        let (namespace, workflow_type) = (&request.namespace, &request.workflow_type);
        let may_route = |digest| self.must_have(namespace, workflow_type, digest);
        let filter =
            OpenRunFilter { workflow_type: Some(workflow_type.clone()), blocked: Some(true), digest: None };
        let versions =
            parts.store.versions(namespace, workflow_type).await.map_err(|error| internal(&error))?;
        let blocked_runs = versions.iter().map(|version| version.blocked).sum();
        // Nothing can fail from here on: what follows from a change follows.
        let row = parts.versions.routes().change(&request, may_route).await?;
        parts.runtime.spawn(retry_blocked(Arc::clone(parts), namespace.clone(), filter));
        sweep::unload(parts, Unused::Now).await;
        // What is left may go later, when nothing holds it any more.
        parts.versions.loaded().look_again();
        Ok(Routed { routing: row.into(), blocked_runs })
    }

    /// Retires a version of a workflow type: no run starts on it any more. Its bytes stay, for the
    /// histories that were recorded on it.
    ///
    /// # Errors
    /// `UnknownVersion`; `VersionConflict` while new runs start on it or runs on it are open; `Busy`.
    pub async fn retire(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<(), ApiError> {
        let parts = &self.parts;
        let version = RetiredVersion {
            namespace: namespace.clone(),
            workflow_type: workflow_type.to_owned(),
            digest,
            at: parts.clock.now(),
        };
        let retirement = parts.versions.retire(version).await;
        match retirement.map_err(|error| ApiError::Busy(error.to_string()))? {
            Retirement::Retired => {
                sweep::unload(parts, Unused::Now).await;
                Ok(())
            }
            Retirement::Unknown => Err(unknown_version(workflow_type, digest)),
            Retirement::Routed => Err(ApiError::VersionConflict(format!(
                "new runs of {workflow_type} start on {}",
                digest.short()
            ))),
            Retirement::InUse(open) => Err(ApiError::VersionConflict(format!(
                "open runs of {workflow_type} on {}: {open}; move them, or wait until they end",
                digest.short()
            ))),
        }
    }

    /// Whether runs of a type may start on a component.
    ///
    /// # Errors
    /// `UnknownVersion`; `VersionConflict` if it was retired.
    pub(super) async fn must_have(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<(), ApiError> {
        let standing = self.parts.store.standing(namespace, workflow_type, digest).await;
        match standing.map_err(|error| internal(&error))? {
            Standing::Version => {}
            Standing::Unknown => return Err(unknown_version(workflow_type, digest)),
            Standing::Retired(_) => {
                return Err(ApiError::VersionConflict(format!(
                    "version {} of {workflow_type} is retired: deploy it again",
                    digest.short()
                )));
            }
        }
        match self.parts.versions.component(digest).await {
            Ok(_) => Ok(()),
            Err(error @ (Unavailable::Missing(_) | Unavailable::Refused { .. })) => {
                Err(ApiError::UnknownVersion(error.to_string()))
            }
            Err(Unavailable::Store(error)) => Err(internal(&error)),
        }
    }
}

/// Tries blocked runs again, a page at a time.
async fn retry_blocked(parts: Arc<Parts>, namespace: Namespace, filter: OpenRunFilter) {
    let mut after = None;
    loop {
        let page = parts.store.open_runs(&namespace, &filter, after.as_ref(), RECOVERY_PAGE).await;
        match page {
            Ok(page) => {
                for row in &page {
                    parts.send(&row.key, Message::RetryNow);
                }
                let Some(last) = page.last() else { return };
                after = Some(last.workflow_id.clone());
                parts.cells.below(RECOVERY_PAGE).await;
            }
            // They are tried again at their time.
            Err(error) => return tell_unread(&error),
        }
    }
}

fn tell_unread(error: &StoreError) {
    tracing::error!(%error, "blocked runs cannot be read");
}

fn state_of(version: &VersionRow, routed: &RouteRow) -> VersionState {
    if routed.route.current == version.digest {
        VersionState::Current
    } else if version.retired_at.is_some() && version.open == 0 {
        VersionState::Retired
    } else if routed.route.leads_to(version.digest) || (version.routed_at.is_none() && version.runs == 0) {
        VersionState::Candidate
    } else if version.open > 0 {
        VersionState::Draining
    } else {
        VersionState::Drained
    }
}

fn unknown_type(workflow_type: &str) -> ApiError {
    ApiError::UnknownWorkflowType(format!("no component with workflow type {workflow_type} is deployed"))
}

fn unknown_version(workflow_type: &str, digest: Digest) -> ApiError {
    ApiError::UnknownVersion(format!("workflow type {workflow_type} has no version {}", digest.short()))
}

impl From<RouteRow> for TypeRouting {
    fn from(row: RouteRow) -> Self {
        Self { workflow_type: row.workflow_type, route: row.route, changed_at: row.changed_at }
    }
}
