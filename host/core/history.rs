//! Histories outside a store: the packed encoding of rows, and the export format.
//!
//! A packed body is one version byte (1) and then the CBOR (RFC 8949) encodings of the events, one
//! after the other. Each event is an array indexed by field number; fields and variants get new
//! numbers and never reuse one, so that an old body can always be read.
//!
//! The export format is JSON: a header and the events as the HTTP interface shows them.

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Input, WorkflowStarted};
use crate::ids::{Digest, Namespace, RunId, Timestamp, WorkflowId};
use crate::machine::RunState;

/// The first byte of a packed body.
const PACKED_VERSION: u8 = 1;
/// The `format` of an export.
pub const EXPORT_FORMAT: &str = "everfold-history";
/// The `version` of an export.
pub const EXPORT_VERSION: u32 = 1;

/// A history that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Packs events into one body.
#[must_use]
pub fn pack(events: &[Event]) -> Vec<u8> {
    let mut body = vec![PACKED_VERSION];
    for event in events {
        match minicbor::encode(event, &mut body) {
            Ok(()) => {}
            Err(error) => unreachable!("writing to memory does not fail: {error}"),
        }
    }
    body
}

/// Unpacks a body, appending to `events`.
///
/// # Errors
/// When the body was not made by [`pack`] or by a later version of it.
pub fn unpack(body: &[u8], events: &mut Vec<Event>) -> Result<(), Unreadable> {
    let Some((&PACKED_VERSION, body)) = body.split_first() else {
        return Err(Unreadable("a history body of an unknown version".to_owned()));
    };
    let mut decoder = minicbor::Decoder::new(body);
    while decoder.position() < body.len() {
        let event =
            decoder.decode().map_err(|error| Unreadable(format!("a history body is damaged: {error}")))?;
        events.push(event);
    }
    Ok(())
}

/// A history in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// [`EXPORT_FORMAT`].
    pub format: String,
    /// [`EXPORT_VERSION`].
    pub version: u32,
    /// Where the run lives.
    pub namespace: Namespace,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// Its type.
    pub workflow_type: String,
    /// The component that it is on.
    pub digest: Digest,
    /// When it was exported.
    pub exported_at: Timestamp,
    /// All events so far.
    pub events: Vec<Event>,
}

impl Export {
    /// The export of a run that stands on `digest`.
    ///
    /// # Errors
    /// When the first event is not WorkflowStarted.
    pub fn of(events: Vec<Event>, digest: Digest, exported_at: Timestamp) -> Result<Self, Unreadable> {
        let started = first_event(&events)?;
        Ok(Self {
            format: EXPORT_FORMAT.to_owned(),
            version: EXPORT_VERSION,
            namespace: started.namespace.clone(),
            workflow_id: started.workflow_id.clone(),
            run_id: started.run_id,
            workflow_type: started.workflow_type.clone(),
            digest,
            exported_at,
            events,
        })
    }

    /// Reads an export.
    ///
    /// # Errors
    /// When it is not one, names an unknown version, contradicts its first event, or when an event
    /// cannot stand where it does.
    pub fn from_json(text: &[u8]) -> Result<Self, Unreadable> {
        let export: Self = serde_json::from_slice(text)
            .map_err(|error| Unreadable(format!("not an exported history: {error}")))?;
        if export.format != EXPORT_FORMAT || export.version != EXPORT_VERSION {
            return Err(Unreadable(format!(
                "this is {} version {}; only {EXPORT_FORMAT} version {EXPORT_VERSION} can be read",
                export.format, export.version
            )));
        }
        export.check_header(first_event(&export.events)?)?;
        RunState::of(&export.events)
            .map_err(|error| Unreadable(format!("the history is not well-formed: {error}")))?;
        Ok(export)
    }

    /// The header repeats what the first event says.
    fn check_header(&self, started: &WorkflowStarted) -> Result<(), Unreadable> {
        let said = (&self.namespace, &self.workflow_id, self.run_id, &self.workflow_type);
        let holds = (&started.namespace, &started.workflow_id, started.run_id, &started.workflow_type);
        if said == holds {
            return Ok(());
        }
        Err(Unreadable(format!(
            "the header speaks of {} {} ({}), the first event of {} {} ({})",
            said.3, said.1, said.2, holds.3, holds.1, holds.2
        )))
    }
}

fn first_event(events: &[Event]) -> Result<&WorkflowStarted, Unreadable> {
    match events.first() {
        Some(Event { kind: EventKind::Input(Input::WorkflowStarted(started)), .. }) => Ok(started),
        _ => Err(Unreadable("the history does not begin with WorkflowStarted".to_owned())),
    }
}
