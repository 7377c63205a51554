//! Histories outside a store: the packed encoding of rows, and the export format.
//!
//! A packed body begins with a version byte, and every version can be read for ever:
//!
//! | version | what follows |
//! |---|---|
//! | 1 | the CBOR (RFC 8949) encodings of the events, one after the other |
//! | 2 | the same bytes, compressed as [`compression`](crate::compression) says |
//!
//! Small bodies are written as version 1, large ones as version 2 if that makes them smaller. Each event is an
//! array indexed by field number; fields and variants get new numbers and never reuse one, so that an
//! old body can always be read. Ids, digests, seeds and the data of payloads are byte strings.
//!
//! The export format is JSON: a header and the events as the HTTP interface shows them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::compression::{COMPRESSED, compressed, expanded};
use crate::event::{Event, EventKind, Input, WorkflowStarted};
use crate::ids::{Digest, Namespace, RunId, Timestamp, WorkflowId};
use crate::machine::RunState;

/// The first byte of a body that is not compressed.
const PLAIN: u8 = 1;
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
    let mut body = vec![PLAIN];
    for event in events {
        match minicbor::encode(event, &mut body) {
            Ok(()) => {}
            Err(error) => unreachable!("writing to memory does not fail: {error}"),
        }
    }
    compressed(&body[1..]).unwrap_or(body)
}

/// Unpacks a body, appending to `events`.
///
/// # Errors
/// When the body was not made by [`pack`], or by one that knew more.
pub fn unpack(body: &[u8], events: &mut Vec<Event>) -> Result<(), Unreadable> {
    let damaged = |error: &dyn std::fmt::Display| Unreadable(format!("a history body is damaged: {error}"));
    let cbor: Cow<'_, [u8]> = match body.first() {
        Some(&PLAIN) => body[1..].into(),
        Some(&COMPRESSED) => expanded(body).map_err(|error| damaged(&error))?.into(),
        Some(_) | None => return Err(Unreadable("a history body of an unknown version".to_owned())),
    };
    let mut decoder = minicbor::Decoder::new(&cbor);
    while decoder.position() < cbor.len() {
        events.push(decoder.decode().map_err(|error| damaged(&error))?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, WorkflowCompleted};
    use crate::ids::EventId;
    use crate::payload::Payload;

    fn completed(id: u64, data: Vec<u8>) -> Event {
        let result = Payload { metadata: Vec::new(), data };
        let kind = EventKind::Command(Command::WorkflowCompleted(WorkflowCompleted { result }));
        Event { id: EventId(id), time: Timestamp(5), kind }
    }

    fn unpacked(body: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        unpack(body, &mut events).map(|()| events).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_of_every_size_read_back_and_large_ones_are_compressed() {
        for size in [0, 1, 23, 24, 200, 1_000, 1_025, 5_000, 300_000] {
            let text: Vec<u8> = (0..size).map(|n: usize| b"{\"order_id\":17}"[n % 15]).collect();
            let events = vec![completed(1, text.clone()), completed(2, text)];
            let body = pack(&events);
            assert_eq!(body[0], if size < 500 { PLAIN } else { COMPRESSED }, "{size}");
            assert!(size < 500 || body.len() < size / 3, "{size}: {}", body.len());
            assert_eq!(unpacked(&body), Ok(events), "{size}");
        }
    }

    #[test]
    fn a_body_of_the_first_version_reads_for_ever() {
        // Bytes as the first release wrote them: event 3 at 5 ms, a large result that is not compressed.
        let mut body = hex::decode("01830305820181820481818280591000").expect("hexadecimal");
        body.extend([b'x'; 4_096]);
        assert!(unpacked(&body) == Ok(vec![completed(3, vec![b'x'; 4_096])]));
    }

    #[test]
    fn what_is_no_body_is_refused() {
        let body = pack(&[completed(1, vec![b'x'; 5_000])]);
        let mut other = body.clone();
        other[1] ^= 1;
        let damaged = "a history body is damaged: the compressed data is damaged";
        let unknown = "a history body of an unknown version";
        assert_eq!(unpacked(&other), Err(damaged.to_owned()));
        assert_eq!(unpacked(&body[..body.len() - 1]), Err(damaged.to_owned()));
        assert_eq!(unpacked(&[3, 0, 0]), Err(unknown.to_owned()));
        assert_eq!(unpacked(&[]), Err(unknown.to_owned()));
        assert!(unpacked(&[PLAIN, 0xFF]).is_err());
    }
}
