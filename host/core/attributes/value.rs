//! The value of a search attribute, and its JSON.
//!
//! | JSON | type |
//! |---|---|
//! | a text that is an RFC 3339 time | datetime, to the millisecond |
//! | any other text | keyword |
//! | a whole number | integer |
//! | any other number | float |
//! | `true`, `false` | boolean |
//! | a list of texts | keyword list: it is found by each of them |

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::VALUE_BYTES;
use crate::ids::Timestamp;

/// What a run can be found by. The numbers are persisted: none is ever reused.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum AttributeValue {
    /// A text, found as a whole.
    #[n(0)]
    Keyword(#[n(0)] String),
    /// A whole number.
    #[n(1)]
    Integer(#[n(0)] i64),
    /// Any number.
    #[n(2)]
    Float(#[n(0)] f64),
    /// True or false.
    #[n(3)]
    Bool(#[n(0)] bool),
    /// A time.
    #[n(4)]
    Time(#[n(0)] Timestamp),
    /// Several texts, at least one.
    #[n(5)]
    Keywords(#[n(0)] Vec<String>),
}

impl AttributeValue {
    /// Reads a value from JSON; absent for `null` and for an empty list.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn read(value: &Value) -> Result<Option<Self>, String> {
        let read = match value {
            Value::Null => return Ok(None),
            Value::Array(items) if items.is_empty() => return Ok(None),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::String(text) => match time(text) {
                Some(time) => Self::Time(time),
                None => Self::Keyword(text.clone()),
            },
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Self::Integer(integer),
                (None, Some(float)) if !number.is_u64() => Self::Float(float),
                (None, _) => return Err(format!("{number} is no number of 64 bits")),
            },
            Value::Array(items) => Self::Keywords(items.iter().map(keyword).collect::<Result<_, _>>()?),
            Value::Object(_) => return Err("an object is no value of a search attribute".to_owned()),
        };
        if read.size() > VALUE_BYTES {
            return Err(format!("a value has at most {VALUE_BYTES} bytes, not {}", read.size()));
        }
        Ok(Some(read))
    }

    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Keyword(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Bool(truth) => (*truth).into(),
            Self::Time(time) => time.to_string().into(),
            Self::Keywords(texts) => texts.clone().into(),
        }
    }

    /// How many bytes it counts towards limits.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Keyword(text) => text.len(),
            Self::Keywords(texts) => texts.iter().map(String::len).sum(),
            Self::Integer(_) | Self::Float(_) | Self::Time(_) => 8,
            Self::Bool(_) => 1,
        }
    }
}

/// The time that a text is, if it is one.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    // All that is one begins with a year; asking the parser of every keyword would take longer.
    text.starts_with(|first: char| first.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn keyword(item: &Value) -> Result<String, String> {
    match item {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("a list holds texts, not {other}")),
    }
}

impl Serialize for AttributeValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = Value::deserialize(deserializer)?;
        let read = Self::read(&value).map_err(D::Error::custom)?;
        read.ok_or_else(|| D::Error::custom("a search attribute has a value"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_type_is_that_of_the_value_and_reads_back() {
        let cases = [
            (json!("paid"), AttributeValue::Keyword("paid".to_owned())),
            (json!("2026-13-01T00:00:00Z"), AttributeValue::Keyword("2026-13-01T00:00:00Z".to_owned())),
            (json!("2026-01-31"), AttributeValue::Keyword("2026-01-31".to_owned())),
            (json!("1970-01-01T00:00:01.500Z"), AttributeValue::Time(Timestamp(1_500))),
            (json!(-3), AttributeValue::Integer(-3)),
            (json!(i64::MAX), AttributeValue::Integer(i64::MAX)),
            (json!(2.0), AttributeValue::Float(2.0)),
            (json!(false), AttributeValue::Bool(false)),
            (json!(["a", "b"]), AttributeValue::Keywords(vec!["a".to_owned(), "b".to_owned()])),
        ];
        for (json, value) in cases {
            assert_eq!(AttributeValue::read(&json), Ok(Some(value.clone())), "{json}");
            assert_eq!(value.to_json(), json);
            let bytes = minicbor::to_vec(&value).expect("it is written");
            assert_eq!(minicbor::decode::<AttributeValue>(&bytes).expect("it reads back"), value);
        }
        let elsewhere = AttributeValue::read(&json!("1970-01-01T01:00:00.0019+01:00"));
        assert_eq!(elsewhere, Ok(Some(AttributeValue::Time(Timestamp(1)))));
    }

    #[test]
    fn what_is_no_value_is_told() {
        let cases = [
            (json!({}), "an object"),
            (json!([1]), "a list holds texts"),
            (json!(u64::MAX), "no number of 64 bits"),
            (json!("x".repeat(VALUE_BYTES + 1)), "at most 2048 bytes"),
        ];
        for (json, why) in cases {
            assert!(AttributeValue::read(&json).is_err_and(|error| error.contains(why)), "{json}");
        }
        assert_eq!(AttributeValue::read(&json!(null)), Ok(None));
    }
}
