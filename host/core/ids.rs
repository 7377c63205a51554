//! Names and numbers of things: newtypes that cannot be mistaken for one another.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of an event in its run's history; the first is 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct EventId(#[n(0)] pub u64);

impl EventId {
    /// The number of a history's first event.
    pub const FIRST: Self = Self(1);

    /// The number that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. RFC 3339 in text and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub i64);

impl Timestamp {
    /// The latest time that text can name in every time zone: 9999-12-30T22:00:00Z.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// This time plus `ms` milliseconds, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        let sum = self.0.saturating_add_unsigned(ms);
        Self(sum).min(Self::MAX)
    }

    /// Milliseconds from `earlier` to this time; 0 if it is not earlier.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>()
            .map(|time| Self(time.as_millisecond()))
            .map_err(|error| format!("not an RFC 3339 time: {error}"))
    }
}

/// A namespace; `default` until there are more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Namespace(#[n(0)] pub String);

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The caller's name for a workflow: at most one open run bears it at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct WorkflowId(#[n(0)] pub String);

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a workflow: a UUIDv7, so that keys arrive in order. Hyphenated in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub [u8; 16]);

impl RunId {
    /// No run that began at `time` or later has a lesser id: ids are UUIDv7, which begin with 48 bits of milliseconds.
    #[must_use]
    pub const fn at_least(time: Timestamp) -> Self {
        let ms = if time.0 < 0 { 0 } else { time.0.unsigned_abs() };
        Self(((ms as u128) << 80).to_be_bytes())
    }

    /// The id of a run that this one begins by event `event_id` at `time`: a UUIDv7 (RFC 9562) that
    /// sorts behind this one's, its random part drawn from the run's own seed.
    #[must_use]
    pub fn following(self, seed: &Seed, event_id: EventId, time: Timestamp) -> Self {
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| seed.0[at + byte]));
        let own = u128::from_be_bytes(self.0);
        // Mixed with the run's id: a reset copies the seed to another run.
        let mix = |number: u64| split_mix_64(number ^ split_mix_64(event_id.0) ^ own as u64);
        let random = u128::from(mix(word(0))) << 64 | u128::from(mix(word(8)));
        let ms = u128::from(time.0.unsigned_abs()).max((own >> 80) + 1);
        let variant_and_version = 0x7 << 76 | 0b10 << 62;
        let free = !(0xF << 76 | 0b11 << 62) & ((1 << 80) - 1);
        Self((ms << 80 | random & free | variant_and_version).to_be_bytes())
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
const fn split_mix_64(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        uuid::Uuid::from_str(text)
            .map(|id| Self(id.into_bytes()))
            .map_err(|error| format!("not a run id: {error}"))
    }
}

/// The SHA-256 of a component's bytes. 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first 12 digits: enough for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::encode(self.0).fmt(f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|error| format!("not a digest of 64 hexadecimal digits: {error}"))?;
        Ok(Self(bytes))
    }
}

/// 32 bytes of real randomness, given to a run once; base of all its random numbers. Hexadecimal
/// in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub [u8; 32]);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::encode(self.0).fmt(f)
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|error| format!("not a seed of 64 hexadecimal digits: {error}"))?;
        Ok(Self(bytes))
    }
}

/// Text in JSON (through `Display` and `FromStr`) and, for fixed-size bytes, bytes in CBOR.
macro_rules! text_in_json {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

macro_rules! bytes_in_cbor {
    ($($name:ident: $length:literal),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.0)?;
                Ok(())
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes: [u8; $length] = decoder
                    .bytes()?
                    .try_into()
                    .map_err(|_| minicbor::decode::Error::message("wrong number of bytes"))?;
                Ok(Self(bytes))
            }
        }
    )+};
}

text_in_json!(Timestamp, RunId, Digest, Seed);
bytes_in_cbor!(RunId: 16, Digest: 32, Seed: 32);

/// A run in its namespace: the key of everything that is kept about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    /// Where the run lives.
    pub namespace: Namespace,
    /// Which run.
    pub run_id: RunId,
}

/// A run id is unique by itself, so that it alone is hashed.
impl Hash for RunKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.run_id.hash(state);
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.run_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_following_run_id_is_a_uuid_v7_behind_the_one_before() {
        let first: RunId = "019aa0c0-0000-7000-8000-00000000002a".parse().expect("an id");
        let seed = Seed([7; 32]);
        let next = |event| first.following(&seed, EventId(event), Timestamp(0));
        let uuid = uuid::Uuid::from_bytes(next(5).0);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        assert!(next(5) > first);
        assert_eq!(next(5), next(5));
        assert_ne!(next(5), next(6));
        let at = |ms| first.following(&seed, EventId(5), Timestamp(ms));
        assert_eq!(&at(0x0A00_0000_0000).0[..6], [0x0A, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_latest_time_reads_back_and_is_never_passed() {
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!(Timestamp::MAX.to_string().parse(), Ok(Timestamp::MAX));
        assert_eq!(Timestamp(5).plus_ms(u64::MAX), Timestamp::MAX);
    }
}
