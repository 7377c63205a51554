//! Payloads: bytes with metadata pairs, and their two encodings.
//!
//! In CBOR a payload is its pairs and its bytes. In JSON, a payload whose only pair is
//! `encoding = json/plain` and whose bytes are compact JSON is `{"json": value}`; any other is
//! `{"metadata": [[key, value], …], "base64": "…"}`. Reading either gives the same bytes back,
//! also after a tool has re-indented the file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The metadata key that names how the bytes are encoded.
pub const ENCODING: &str = "encoding";
/// The encoding of UTF-8 JSON.
pub const JSON_PLAIN: &str = "json/plain";

/// Bytes, and pairs that say what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Payload {
    /// Pairs in the sender's order.
    #[n(0)]
    pub metadata: Vec<(String, String)>,
    /// The content.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub data: Vec<u8>,
}

/// Bytes of named payloads.
#[must_use]
pub fn headers_bytes(headers: &[(String, Payload)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.size()).sum()
}

impl Payload {
    /// A payload of JSON text that is known to be valid.
    #[must_use]
    pub fn json_text(data: Vec<u8>) -> Self {
        Self { metadata: vec![(ENCODING.to_owned(), JSON_PLAIN.to_owned())], data }
    }

    /// A payload of compact JSON.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON (a map whose keys are not text, say).
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self::json_text)
    }

    /// Whether the pairs say that the bytes are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.metadata.iter().any(|(key, value)| key == ENCODING && value == JSON_PLAIN)
    }

    /// Reads the bytes as JSON.
    ///
    /// # Errors
    /// When they are not JSON of the shape of `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }

    /// The content for people and for JSON replies: the JSON value itself where it is JSON, else
    /// the pairs and base64.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        if self.is_json()
            && let Ok(value) = serde_json::from_slice(&self.data)
        {
            return value;
        }
        serde_json::json!({ "metadata": self.metadata, "base64": BASE64.encode(&self.data) })
    }

    /// How many bytes the payload counts towards limits.
    #[must_use]
    pub fn size(&self) -> usize {
        let pairs: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        pairs + self.data.len()
    }

    /// The value that stands for the whole payload in `{"json": …}`, if there is one.
    fn exact_json(&self) -> Option<serde_json::Value> {
        let [(key, encoding)] = self.metadata.as_slice() else { return None };
        if key != ENCODING || encoding != JSON_PLAIN {
            return None;
        }
        let value = serde_json::from_slice::<serde_json::Value>(&self.data).ok()?;
        let again = serde_json::to_vec(&value).ok()?;
        (again == self.data).then_some(value)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.exact_json() {
            // `null` would read back as an absent field.
            Some(value) if !value.is_null() => {
                Shape { json: Some(value), metadata: Vec::new(), base64: None }
            }
            _ => {
                Shape { json: None, metadata: self.metadata.clone(), base64: Some(BASE64.encode(&self.data)) }
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let shape = Shape::deserialize(deserializer)?;
        match (shape.json, shape.base64) {
            (Some(value), None) => Self::json(&value).map_err(D::Error::custom),
            (None, Some(text)) => {
                Ok(Self { metadata: shape.metadata, data: BASE64.decode(text).map_err(D::Error::custom)? })
            }
            _ => Err(D::Error::custom("a payload has either `json` or `base64`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(payload: &Payload) -> String {
        let text = serde_json::to_string_pretty(payload).expect("a payload is JSON");
        let back: Payload = serde_json::from_str(&text).expect("it reads back");
        assert_eq!(&back, payload);
        serde_json::to_string(payload).expect("a payload is JSON")
    }

    #[test]
    fn compact_json_is_shown_as_itself_and_anything_else_as_base64() {
        let cases: [(&[u8], &str); 5] = [
            (
                br#"{"b":1,"a":[1.5,18446744073709551615]}"#,
                r#"{"json":{"b":1,"a":[1.5,18446744073709551615]}}"#,
            ),
            (br#"{"b": 1}"#, r#"{"metadata":[["encoding","json/plain"]],"base64":"eyJiIjogMX0="}"#),
            (
                b"123456789012345678901234567890",
                r#"{"metadata":[["encoding","json/plain"]],"base64":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw"}"#,
            ),
            (b"null", r#"{"metadata":[["encoding","json/plain"]],"base64":"bnVsbA=="}"#),
            (b"\xff", r#"{"metadata":[["encoding","json/plain"]],"base64":"/w=="}"#),
        ];
        for (data, expected) in cases {
            assert_eq!(round_trip(&Payload::json_text(data.to_vec())), expected);
        }
        assert_eq!(round_trip(&Payload::default()), r#"{"base64":""}"#);
    }
}
