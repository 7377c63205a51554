//! Payloads: bytes with metadata, read and written as JSON.
//!
//! Must never guess: bytes under an encoding that this module does not know are an error that
//! names the encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::everfold::workflow::types::Payload;

const ENCODING: &str = "encoding";
const JSON: &str = "json/plain";

/// Why a payload could not be read as the type that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the JSON of that type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The metadata name an encoding other than `json/plain`.
    #[error("its encoding is `{0}`, not `json/plain`")]
    Encoding(String),
}

impl Payload {
    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// When JSON cannot hold the value, such as a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { metadata: vec![(ENCODING.to_owned(), JSON.to_owned())], data: serde_json::to_vec(value)? })
    }

    /// Reads the value. Bytes without an `encoding` are taken for JSON, and no bytes for `null`.
    ///
    /// # Errors
    ///
    /// When the bytes are not the JSON of a `T`, or have another encoding.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self.encoding() {
            None | Some(JSON) => {}
            Some(other) => return Err(DecodeError::Encoding(other.to_owned())),
        }
        let data = if self.data.is_empty() { b"null".as_slice() } else { &self.data };
        Ok(serde_json::from_slice(data)?)
    }

    /// Writes a value that the workflow's code made up.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold it: a fault of that code. `what` names it.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T, what: &str) -> Self {
        match Self::encode(value) {
            Ok(payload) => payload,
            Err(reason) => panic!("{what} is not JSON: {reason}"),
        }
    }

    fn encoding(&self) -> Option<&str> {
        let (_, encoding) = self.metadata.iter().find(|(key, _)| key == ENCODING)?;
        Some(encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let payload = Payload::encode(&(1, "two")).expect("JSON holds it");
        assert_eq!(payload.metadata, [("encoding".into(), "json/plain".into())]);
        let back: (i32, String) = payload.decode().expect("it was just encoded");
        assert_eq!(back, (1, "two".to_owned()));
    }

    #[test]
    fn no_bytes_are_null() {
        let nothing = Payload { metadata: Vec::new(), data: Vec::new() };
        assert!(matches!(nothing.decode::<()>(), Ok(())));
        assert!(matches!(nothing.decode::<Option<u8>>(), Ok(None)));
    }

    #[test]
    fn a_foreign_encoding_is_named() {
        let foreign =
            Payload { metadata: vec![("encoding".into(), "binary/protobuf".into())], data: vec![1] };
        let error = foreign.decode::<u8>().expect_err("it is not JSON");
        assert_eq!(error.to_string(), "its encoding is `binary/protobuf`, not `json/plain`");
    }
}
