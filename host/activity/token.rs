//! Tokens: what names one attempt to whoever ends it from outside.
//!
//! A token is base64 (the alphabet for URLs of RFC 4648, no padding) of a version byte, the run id (16 bytes), the
//! scheduling event's number (8, big-endian), the attempt's (4), the lease's id (16 bytes of real
//! randomness, by which it cannot be guessed), and the namespace.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use everfold_core::decision::LeaseId;
use everfold_core::ids::{EventId, Namespace, RunId, RunKey};

const VERSION: u8 = 1;
/// The longest token in bytes; a namespace has at most 64.
const LONGEST: usize = 160;

/// One attempt of one activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskToken {
    pub(crate) key: RunKey,
    pub(crate) scheduled_event_id: EventId,
    pub(crate) attempt: u32,
    pub(crate) lease_id: LeaseId,
}

impl TaskToken {
    /// The text that is handed out.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.key.run_id.0);
        bytes.extend(self.scheduled_event_id.0.to_be_bytes());
        bytes.extend(self.attempt.to_be_bytes());
        bytes.extend(self.lease_id.0);
        bytes.extend(self.key.namespace.0.as_bytes());
        BASE64.encode(bytes)
    }

    /// Reads a text; none that this host would hand out reads otherwise than it was written.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = BASE64.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (run_id, rest) = rest.split_first_chunk()?;
        let (event_id, rest) = rest.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (lease_id, namespace) = rest.split_first_chunk()?;
        let namespace = std::str::from_utf8(namespace).ok()?;
        (*version == VERSION && !namespace.is_empty()).then(|| Self {
            key: RunKey { namespace: Namespace(namespace.to_owned()), run_id: RunId(*run_id) },
            scheduled_event_id: EventId(u64::from_be_bytes(*event_id)),
            attempt: u32::from_be_bytes(*attempt),
            lease_id: LeaseId(*lease_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_is_one() {
        let namespace = Namespace("n".repeat(64));
        let token = TaskToken {
            key: RunKey { namespace, run_id: RunId([7; 16]) },
            scheduled_event_id: EventId(u64::MAX),
            attempt: 3,
            lease_id: LeaseId([0xFB; 16]),
        };
        let text = token.encode();
        assert!(
            text.len() <= LONGEST
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert_eq!(TaskToken::decode(&text), Some(token));
        let other_version = BASE64.encode([&[9][..], &[0; 50]].concat());
        for bad in ["", "?", "AA", &text[..40], &format!("{text}="), &"A".repeat(161), &other_version] {
            assert_eq!(TaskToken::decode(bad), None, "{bad}");
        }
    }
}
