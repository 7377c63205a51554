//! The comparison of a guest's call with the recorded one, and what is said when they differ.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::ids::{Digest, EventId};

/// Which component replays a history, and how it is compared where another one recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaying {
    /// The component that replays.
    pub digest: Digest,
    /// How it is compared with what another one recorded.
    pub strictness: Strictness,
}

/// What counts as divergence where another component recorded the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Kind, name and order.
    #[default]
    Lenient,
    /// Every byte.
    Strict,
}

impl Replaying {
    /// A replay that forgives what does not change the order of calls.
    #[must_use]
    pub const fn with(digest: Digest) -> Self {
        Self { digest, strictness: Strictness::Lenient }
    }

    /// How events are compared that `recorded_by` recorded.
    #[must_use]
    pub fn comparison(self, recorded_by: Digest) -> Comparison {
        match self.strictness {
            _ if recorded_by == self.digest => Comparison::SameDigest,
            Strictness::Lenient => Comparison::OtherDigest,
            Strictness::Strict => Comparison::OtherDigestStrict,
        }
    }
}

/// How strictly a call is compared with the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The component that recorded the history: every byte must match.
    SameDigest,
    /// Another component: kind, name and order must match; other differences are changes.
    OtherDigest,
    /// Another component, and changes count as divergence.
    OtherDigestStrict,
}

/// The first difference between a record and a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nondeterminism {
    /// The event at which they part.
    pub event_id: EventId,
    /// What the history has.
    pub expected: Call,
    /// What the guest did.
    pub actual: Call,
    /// For the same kind and name: what differs inside.
    pub fields: Vec<FieldChange>,
    /// The guest's frames, one a line, innermost first; empty if unknown.
    pub backtrace: String,
}

/// A call, or its absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The event's type; absent where the activation ends.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The operation's name, may be empty.
    pub name: String,
}

/// A difference that is no divergence: the same operation with other input or options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The event.
    pub event_id: EventId,
    /// The call.
    pub call: Call,
    /// What differs inside.
    pub fields: Vec<FieldChange>,
}

/// One differing field of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where: `attributes.input.json.amount_cents`, say.
    pub path: String,
    /// The recorded value.
    pub expected: serde_json::Value,
    /// The guest's value.
    pub actual: serde_json::Value,
}

impl Comparison {
    /// Compares a recorded command with the one made; an absent one is the activation's end.
    ///
    /// # Errors
    /// When they diverge.
    pub(crate) fn compare(
        self,
        event_id: EventId,
        recorded: Option<&Command>,
        made: Option<&Command>,
    ) -> Result<Option<Change>, Nondeterminism> {
        if recorded == made {
            return Ok(None);
        }
        let same_call = match (recorded, made) {
            (Some(recorded), Some(made)) => {
                recorded.type_name() == made.type_name() && recorded.name() == made.name()
            }
            _ => false,
        };
        let fields = if same_call { field_changes(recorded, made) } else { Vec::new() };
        let expected = Call::of(recorded);
        match self {
            Self::OtherDigest if same_call => Ok(Some(Change { event_id, call: expected, fields })),
            Self::SameDigest | Self::OtherDigest | Self::OtherDigestStrict => Err(Nondeterminism {
                event_id,
                expected,
                actual: Call::of(made),
                fields,
                backtrace: String::new(),
            }),
        }
    }
}

impl Call {
    /// The call that a command is; without one, the activation's end.
    #[must_use]
    pub fn of(command: Option<&Command>) -> Self {
        Self {
            event_type: command.map(|command| command.type_name().to_owned()),
            name: command.map(Command::name).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event_type {
            None => f.write_str("the end of the activation"),
            Some(event_type) if self.name.is_empty() => f.write_str(event_type),
            Some(event_type) => write!(f, "{event_type} {}", self.name),
        }
    }
}

impl fmt::Display for Nondeterminism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at event {} the history has {}, the workflow did {}",
            self.event_id, self.expected, self.actual
        )?;
        for field in &self.fields {
            write!(f, "; {field}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, self.expected, self.actual)
    }
}

fn field_changes(recorded: Option<&Command>, made: Option<&Command>) -> Vec<FieldChange> {
    let (Ok(expected), Ok(actual)) = (serde_json::to_value(recorded), serde_json::to_value(made)) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    collect_changes("", &expected, &actual, &mut changes);
    if changes.is_empty() {
        // Values compare without regard to the order of keys; payloads are bytes.
        let says = |what: &str| serde_json::Value::from(what);
        changes.push(FieldChange {
            path: "attributes".to_owned(),
            expected: says("these bytes"),
            actual: says("the same JSON in other bytes"),
        });
    }
    changes
}

fn collect_changes(
    path: &str,
    expected: &serde_json::Value,
    actual: &serde_json::Value,
    changes: &mut Vec<FieldChange>,
) {
    use serde_json::Value;
    if expected == actual {
        return;
    }
    let (Value::Object(left), Value::Object(right)) = (expected, actual) else {
        changes.push(FieldChange {
            path: path.to_owned(),
            expected: expected.clone(),
            actual: actual.clone(),
        });
        return;
    };
    let added = right.keys().filter(|key| !left.contains_key(*key));
    for key in left.keys().chain(added) {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
        collect_changes(&inner, &value(left), &value(right), changes);
    }
}
