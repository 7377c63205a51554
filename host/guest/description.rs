//! What a component says about itself, and the rules for it.

use std::collections::BTreeSet;

use super::bindings::exports::everfold::workflow::workflow as wit;
use super::inspect::InvalidComponent;

/// Bytes of a workflow type's or a handler's name.
const NAME_BYTES: usize = 255;
/// Bytes of a summary, or of the SDK's name.
const LINE_BYTES: usize = 4_096;
/// Workflow types of one component; handlers of one type.
const ENTRIES: usize = 1_000;

/// What a component offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The workflow types in it, in its own order; at least one.
    pub workflow_types: Vec<WorkflowType>,
    /// The SDK and its version, for people.
    pub sdk: String,
}

/// A workflow type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowType {
    /// Its name, unique in the component.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// What can be said to its runs.
    pub handlers: Vec<Handler>,
}

/// A signal, query or update that a workflow type knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Which of the three.
    pub kind: HandlerKind,
    /// Its name, unique among the type's handlers of that kind.
    pub name: String,
    /// One line for people.
    pub summary: String,
}

/// What a handler answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandlerKind {
    /// A message without an answer.
    Signal,
    /// A question that changes nothing.
    Query,
    /// A message with an answer.
    Update,
}

impl HandlerKind {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Query => "query",
            Self::Update => "update",
        }
    }
}

impl Description {
    /// Takes what `describe` returned.
    pub(super) fn checked(description: wit::Description) -> Result<Self, InvalidComponent> {
        let wit::Description { workflow_types, sdk } = description;
        check_line("the SDK's name", &sdk)?;
        check_count("workflow types", workflow_types.len())?;
        if workflow_types.is_empty() {
            return Err(InvalidComponent::NoWorkflowTypes);
        }
        let mut names = BTreeSet::new();
        let workflow_types = workflow_types
            .into_iter()
            .map(|workflow_type| {
                let workflow_type = WorkflowType::checked(workflow_type)?;
                if names.insert(workflow_type.name.clone()) {
                    Ok(workflow_type)
                } else {
                    Err(invalid(format!("two workflow types are named `{}`", workflow_type.name)))
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { workflow_types, sdk })
    }
}

impl WorkflowType {
    fn checked(workflow_type: wit::WorkflowType) -> Result<Self, InvalidComponent> {
        let wit::WorkflowType { name, summary, handlers } = workflow_type;
        check_name("workflow type", &name)?;
        check_line(&format!("the summary of `{name}`"), &summary)?;
        check_count(&format!("handlers of `{name}`"), handlers.len())?;
        let mut names = BTreeSet::new();
        let handlers = handlers
            .into_iter()
            .map(|handler| {
                let handler = Handler::checked(handler)?;
                if names.insert((handler.kind, handler.name.clone())) {
                    return Ok(handler);
                }
                let kind = handler.kind.name();
                Err(invalid(format!("two {kind} handlers of `{name}` are named `{}`", handler.name)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { name, summary, handlers })
    }
}

impl Handler {
    fn checked(handler: wit::Handler) -> Result<Self, InvalidComponent> {
        let wit::Handler { kind, name, summary } = handler;
        let kind = match kind {
            wit::HandlerKind::Signal => HandlerKind::Signal,
            wit::HandlerKind::Query => HandlerKind::Query,
            wit::HandlerKind::Update => HandlerKind::Update,
        };
        check_name(&format!("{} handler", kind.name()), &name)?;
        check_line(&format!("the summary of {} `{name}`", kind.name()), &summary)?;
        Ok(Self { kind, name, summary })
    }
}

fn check_name(what: &str, name: &str) -> Result<(), InvalidComponent> {
    if name.is_empty() {
        return Err(invalid(format!("a {what} has an empty name")));
    }
    if name.len() > NAME_BYTES {
        return Err(invalid(format!(
            "the name of a {what} has {} bytes; at most {NAME_BYTES} are allowed",
            name.len()
        )));
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err(invalid(format!(
            "the name of a {what} has control characters, or spaces at an end: {name:?}"
        )));
    }
    Ok(())
}

fn check_line(what: &str, line: &str) -> Result<(), InvalidComponent> {
    if line.len() <= LINE_BYTES {
        return Ok(());
    }
    Err(invalid(format!("{what} has {} bytes; at most {LINE_BYTES} are allowed", line.len())))
}

fn check_count(what: &str, count: usize) -> Result<(), InvalidComponent> {
    if count <= ENTRIES {
        return Ok(());
    }
    Err(invalid(format!("there are {count} {what}; at most {ENTRIES} are allowed")))
}

fn invalid(reason: String) -> InvalidComponent {
    InvalidComponent::BadDescription(reason)
}
