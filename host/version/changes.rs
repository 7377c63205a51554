//! What a version of a workflow type has other than the current one, by what each says about itself.

use everfold_core::ids::Digest;

use super::Versions;
use crate::guest::{Handler, LoadedComponent, WorkflowType};
use crate::runner::api::{HandlerChange, TypeChanges};

impl Versions {
    /// What `found`, a type of `component`, has other than the current version; none if that is itself,
    /// or cannot be had.
    pub(super) async fn changes_to(
        &self,
        component: &LoadedComponent,
        found: &WorkflowType,
        current: Digest,
    ) -> Option<TypeChanges> {
        if current == component.digest() {
            return None;
        }
        let before = self.component(current).await.ok()?;
        let before = before.description().workflow_types.iter().find(|kind| kind.name == found.name)?;
        Some(TypeChanges {
            since: current,
            added: missing_in(&found.handlers, &before.handlers),
            removed: missing_in(&before.handlers, &found.handlers),
        })
    }
}

/// The handlers of one list that the other does not have.
fn missing_in(handlers: &[Handler], others: &[Handler]) -> Vec<HandlerChange> {
    let is_there = |handler: &Handler| {
        others.iter().any(|other| (other.kind, &other.name) == (handler.kind, &handler.name))
    };
    let missing = handlers.iter().filter(|handler| !is_there(handler));
    missing.map(|handler| HandlerChange { kind: handler.kind, name: handler.name.clone() }).collect()
}
