//! What a version of a workflow type has other than the current one, by what each says about itself.

use everfold_core::ids::{Digest, Namespace};

use super::Versions;
use crate::guest::{Handler, LoadedComponent, WorkflowType};
use crate::runner::api::{ApiError, HandlerChange, TypeChanges};

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

    /// Workflow types that `component` lacks beside a type of its own: those of the `current` component
    /// of that type which are current there too. Their runs can never move to it.
    ///
    /// # Errors
    /// `Internal` when the routes cannot be read.
    pub(super) async fn missing_beside(
        &self,
        component: &LoadedComponent,
        namespace: &Namespace,
        current: Digest,
    ) -> Result<Vec<String>, ApiError> {
        if current == component.digest() {
            return Ok(Vec::new());
        }
        // A current version that cannot be had has no runs that could move.
        let Ok(before) = self.component(current).await else { return Ok(Vec::new()) };
        let lacked = lacking(&component.description().workflow_types, &before.description().workflow_types);
        let mut missing = Vec::new();
        for name in lacked {
            let route = self.routes.of(namespace, &name).await?;
            if route.is_some_and(|row| row.route.current == current) {
                missing.push(name);
            }
        }
        Ok(missing)
    }
}

/// The names of the types in `before` that are not in `now`.
fn lacking(now: &[WorkflowType], before: &[WorkflowType]) -> Vec<String> {
    let is_there = |kind: &&WorkflowType| now.iter().any(|other| other.name == kind.name);
    before.iter().filter(|kind| !is_there(kind)).map(|kind| kind.name.clone()).collect()
}

/// The handlers of one list that the other does not have.
fn missing_in(handlers: &[Handler], others: &[Handler]) -> Vec<HandlerChange> {
    let is_there = |handler: &Handler| {
        others.iter().any(|other| (other.kind, &other.name) == (handler.kind, &handler.name))
    };
    let missing = handlers.iter().filter(|handler| !is_there(handler));
    missing.map(|handler| HandlerChange { kind: handler.kind, name: handler.name.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::HandlerKind;

    fn kind(name: &str, handlers: &[(HandlerKind, &str)]) -> WorkflowType {
        let handler = |(kind, name): &(HandlerKind, &str)| Handler {
            kind: *kind,
            name: (*name).to_owned(),
            summary: String::new(),
        };
        let handlers = handlers.iter().map(handler).collect();
        WorkflowType { name: name.to_owned(), summary: String::new(), handlers }
    }

    #[test]
    fn a_handler_is_known_by_its_kind_and_name() {
        use HandlerKind::{Query, Signal, Update};
        let now = kind("a", &[(Signal, "cancel"), (Query, "status"), (Update, "address")]);
        let mut before = kind("a", &[(Query, "status"), (Query, "cancel"), (Signal, "hold")]);
        before.handlers[0].summary = "other words change nothing".to_owned();
        let names = |changes: Vec<HandlerChange>| -> Vec<_> {
            changes.into_iter().map(|change| (change.kind, change.name)).collect()
        };
        let added = names(missing_in(&now.handlers, &before.handlers));
        assert_eq!(added, [(Signal, "cancel".to_owned()), (Update, "address".to_owned())]);
        let removed = names(missing_in(&before.handlers, &now.handlers));
        assert_eq!(removed, [(Query, "cancel".to_owned()), (Signal, "hold".to_owned())]);
        assert_eq!(missing_in(&now.handlers, &now.handlers), []);
    }

    #[test]
    fn types_are_lacking_by_name() {
        let (a, b, c) = (kind("a", &[]), kind("b", &[]), kind("c", &[]));
        assert_eq!(lacking(std::slice::from_ref(&b), &[a.clone(), b.clone(), c.clone()]), ["a", "c"]);
        assert_eq!(lacking(&[a.clone(), b.clone()], &[b]), [""; 0]);
        assert_eq!(lacking(&[], &[c]), ["c"]);
    }
}
