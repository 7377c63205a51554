//! What a run is described by beside its input: search attributes, by which lists find it, and a memo, which people and
//! programs read. Both are given at the start, changed by the workflow, and go over to the run that goes on from it.
//!
//! A search attribute's type is its value's: nobody registers it. Must never know how a store finds runs by it.

mod value;

use std::collections::BTreeMap;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::query::Field;

pub use value::AttributeValue;
pub(crate) use value::time;

/// The most search attributes of a run, and entries of its memo (Temporal's default).
pub const MOST_NAMES: usize = 100;
/// The longest name of a search attribute, in bytes.
pub const LONGEST_NAME: usize = 64;
/// Bytes of one search attribute's value (Temporal's default).
pub const VALUE_BYTES: usize = 2 * 1024;
/// Bytes of all search attributes of a run, names included (Temporal's default).
pub const ATTRIBUTES_BYTES: usize = 40 * 1024;
/// The longest name in a memo, in bytes.
pub const LONGEST_MEMO_NAME: usize = 255;
/// Bytes of a run's memo, names included: lists show it.
pub const MEMO_BYTES: usize = 32 * 1024;

/// The search attribute of a run that a schedule started: the schedule's id.
pub const SCHEDULED_BY: &str = "scheduled_by";
/// The search attribute of a run that a schedule started: its nominal time.
pub const SCHEDULED_START_TIME: &str = "scheduled_start_time";

/// Names that are the host's own, or may become fields of a run.
const RESERVED: [&str; 7] =
    [SCHEDULED_BY, SCHEDULED_START_TIME, "namespace", "memo", "parent", "root_run_id", "task_queue"];

/// Words of the query language.
const WORDS: [&str; 13] =
    ["and", "or", "not", "in", "is", "null", "order", "by", "asc", "desc", "true", "false", "starts_with"];

/// What a run can be found by, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SearchAttributes(BTreeMap<String, AttributeValue>);

/// What is written on a run, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memo(BTreeMap<String, Payload>);

/// What a run is described by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// What it can be found by.
    pub search_attributes: SearchAttributes,
    /// What is written on it.
    pub memo: Memo,
}

/// New values by name; an absent one removes what is there.
pub type Changes<T> = Vec<(String, Option<T>)>;

impl Details {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { search_attributes: SearchAttributes::new(), memo: Memo::new() }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.search_attributes.is_empty() && self.memo.is_empty()
    }

    /// The same where there is something.
    #[must_use]
    pub fn into_some(self) -> Option<Box<Self>> {
        (!self.is_empty()).then(|| Box::new(self))
    }
}

impl SearchAttributes {
    /// No attribute.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.get(name)
    }

    /// Sets a value, whoever may.
    pub fn set(&mut self, name: impl Into<String>, value: AttributeValue) {
        self.0.insert(name.into(), value);
    }

    /// Takes changes over.
    pub fn change(&mut self, changes: &Changes<AttributeValue>) {
        for (name, value) in changes {
            match value {
                Some(value) => _ = self.0.insert(name.clone(), value.clone()),
                None => _ = self.0.remove(name),
            }
        }
    }

    /// Reads changes from JSON; `null` and an empty list remove.
    ///
    /// # Errors
    /// Which name or value cannot be, and why.
    pub fn read_changes<'a>(
        values: impl IntoIterator<Item = (&'a str, &'a serde_json::Value)>,
    ) -> Result<Changes<AttributeValue>, String> {
        let change = |(name, value): (&str, &serde_json::Value)| {
            check_name(name)?;
            let value =
                AttributeValue::read(value).map_err(|why| format!("search attribute `{name}`: {why}"))?;
            Ok((name.to_owned(), value))
        };
        values.into_iter().map(change).collect()
    }

    /// Says whether a run may have all of them.
    ///
    /// # Errors
    /// Which limit they pass.
    pub fn check(&self) -> Result<(), String> {
        if self.0.len() > MOST_NAMES {
            return Err(format!("a run has at most {MOST_NAMES} search attributes, not {}", self.0.len()));
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.size()).sum();
        if bytes > ATTRIBUTES_BYTES {
            return Err(format!(
                "the search attributes of a run have at most {ATTRIBUTES_BYTES} bytes, not {bytes}"
            ));
        }
        Ok(())
    }

    /// Each as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.iter().map(|(name, value)| (name.clone(), value.to_json())).collect()
    }
}

impl FromIterator<(String, AttributeValue)> for SearchAttributes {
    fn from_iter<I: IntoIterator<Item = (String, AttributeValue)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Memo {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and payloads, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Payload)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Takes changes over.
    pub fn change(&mut self, changes: &Changes<Payload>) {
        for (name, value) in changes {
            match value {
                Some(value) => _ = self.0.insert(name.clone(), value.clone()),
                None => _ = self.0.remove(name),
            }
        }
    }

    /// Takes payloads as changes; one that is the JSON `null` removes.
    ///
    /// # Errors
    /// Which name cannot be.
    pub fn read_changes(
        values: impl IntoIterator<Item = (String, Payload)>,
    ) -> Result<Changes<Payload>, String> {
        let change = |(name, value): (String, Payload)| {
            if name.is_empty() || name.len() > LONGEST_MEMO_NAME || name.chars().any(char::is_control) {
                return Err(format!(
                    "a name in a memo has 1 to {LONGEST_MEMO_NAME} bytes without control characters"
                ));
            }
            let is_null = value.is_json() && value.data.trim_ascii() == b"null";
            Ok((name, (!is_null).then_some(value)))
        };
        values.into_iter().map(change).collect()
    }

    /// Says whether a run may have it.
    ///
    /// # Errors
    /// Which limit it passes.
    pub fn check(&self) -> Result<(), String> {
        if self.0.len() > MOST_NAMES {
            return Err(format!("a memo has at most {MOST_NAMES} entries, not {}", self.0.len()));
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.size()).sum();
        if bytes > MEMO_BYTES {
            return Err(format!("a memo has at most {MEMO_BYTES} bytes, not {bytes}"));
        }
        Ok(())
    }

    /// Each for JSON replies.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.iter().map(|(name, value)| (name.clone(), value.to_value())).collect()
    }
}

/// Says whether callers and workflows may use a name for a search attribute.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "`{}` is no name of a search attribute: 1 to {LONGEST_NAME} letters, digits and `_`, the first no digit",
            name.escape_debug().take(LONGEST_NAME).collect::<String>()
        ));
    }
    let is_field = Field::from_name(name).is_some() || RESERVED.contains(&name);
    if is_field {
        return Err(format!("`{name}` is a name of the host's own and cannot be a search attribute"));
    }
    if is_word(name) {
        return Err(format!("`{name}` is a word of the query language and cannot be a search attribute"));
    }
    Ok(())
}

/// Whether a query may ask for a search attribute of that name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether the query language knows it as a word of its own.
#[must_use]
pub fn is_word(name: &str) -> bool {
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// A map that is left out of a record while it is empty: histories without it are as they were before.
macro_rules! absent_while_empty {
    ($map:ident) => {
        impl<C> Encode<C> for $map {
            fn encode<W: Write>(
                &self,
                encoder: &mut Encoder<W>,
                context: &mut C,
            ) -> Result<(), EncodeError<W::Error>> {
                self.0.encode(encoder, context)
            }

            fn is_nil(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl<'b, C> Decode<'b, C> for $map {
            fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, DecodeError> {
                BTreeMap::decode(decoder, context).map(Self)
            }

            fn nil() -> Option<Self> {
                Some(Self::default())
            }
        }
    };
}

absent_while_empty!(SearchAttributes);
absent_while_empty!(Memo);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(values: serde_json::Value) -> Result<Changes<AttributeValue>, String> {
        let values = values.as_object().expect("an object").clone();
        SearchAttributes::read_changes(values.iter().map(|(name, value)| (name.as_str(), value)))
    }

    #[test]
    fn changes_set_replace_and_remove() {
        let mut attributes = SearchAttributes::new();
        attributes.change(&changes(json!({ "a": 1, "b": "x", "c": ["p"] })).expect("they can be"));
        attributes
            .change(&changes(json!({ "a": null, "b": true, "c": [], "d": null })).expect("they can be"));
        assert_eq!(serde_json::Value::from(attributes.to_json()), json!({ "b": true }));
        let text = |value: &str| Payload::json_text(value.into());
        let mut memo = Memo::new();
        memo.change(
            &Memo::read_changes([("note".to_owned(), text("1")), ("x".to_owned(), text("2"))]).unwrap(),
        );
        memo.change(&Memo::read_changes([("note".to_owned(), text(" null"))]).unwrap());
        assert_eq!(serde_json::Value::from(memo.to_json()), json!({ "x": 2 }));
    }

    #[test]
    fn names_are_bounded_and_no_field_or_word() {
        for name in ["a", "_", "customer_id", "A9", "n".repeat(64).as_str()] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let cases = [
            ("", "is no name"),
            ("9a", "is no name"),
            ("a-b", "is no name"),
            ("ä", "is no name"),
            (&"n".repeat(65), "is no name"),
            ("workflow_id", "the host's own"),
            ("scheduled_by", "the host's own"),
            ("parent_run_id", "the host's own"),
            ("Order", "a word of the query language"),
            ("NULL", "a word of the query language"),
        ];
        for (name, why) in cases {
            assert!(check_name(name).is_err_and(|error| error.contains(why)), "{name}");
        }
    }

    #[test]
    fn number_and_size_are_bounded() {
        let many = (0..=MOST_NAMES).map(|n| (format!("a{n}"), AttributeValue::Bool(true)));
        let error = many.collect::<SearchAttributes>().check().unwrap_err();
        assert_eq!(error, "a run has at most 100 search attributes, not 101");
        let long = (0..25).map(|n| (format!("a{n}"), AttributeValue::Keyword("x".repeat(2_000))));
        assert!(long.collect::<SearchAttributes>().check().unwrap_err().contains("at most 40960 bytes"));
        let mut memo = Memo::new();
        memo.change(&vec![("m".to_owned(), Some(Payload::json_text(vec![b'1'; MEMO_BYTES])))]);
        assert!(memo.check().unwrap_err().contains("at most 32768 bytes"));
    }

    #[test]
    fn what_is_empty_takes_no_room_in_a_record() {
        #[derive(Debug, PartialEq, Encode, Decode)]
        struct Old {
            #[n(0)]
            number: u8,
        }
        #[derive(Debug, PartialEq, Encode, Decode)]
        struct New {
            #[n(0)]
            number: u8,
            #[n(3)]
            attributes: SearchAttributes,
            #[n(4)]
            memo: Memo,
        }
        let old = minicbor::to_vec(Old { number: 7 }).expect("it is written");
        let empty = New { number: 7, attributes: SearchAttributes::new(), memo: Memo::new() };
        assert_eq!(minicbor::to_vec(&empty).expect("it is written"), old);
        assert_eq!(minicbor::decode::<New>(&old).expect("it reads back"), empty);
        let mut full = empty;
        full.attributes.set("a", AttributeValue::Float(1.5));
        let bytes = minicbor::to_vec(&full).expect("it is written");
        assert_eq!(minicbor::decode::<New>(&bytes).expect("it reads back"), full);
        assert_eq!(minicbor::decode::<Old>(&bytes).expect("what is new is passed over").number, 7);
    }
}
