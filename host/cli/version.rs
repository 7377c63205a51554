//! Versions as they are named on the command line: a digest, or the first digits of one.

use std::str::FromStr;

use everfold::server::wire::{TypeVersions, Version};
use everfold_core::ids::Digest;

use super::client::{Client, type_path};
use super::failure::{Exit, Failure};

/// Digits of the shortest prefix.
const LEAST_DIGITS: usize = 4;
/// Digits of a whole digest.
const DIGITS: usize = 64;

/// A digest or the first digits of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digest = (LEAST_DIGITS..=DIGITS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Err(format!("a digest, or at least its first {LEAST_DIGITS} hexadecimal digits"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Asks for a workflow type's versions.
pub(super) async fn all(client: &Client, workflow_type: &str) -> Result<TypeVersions, Failure> {
    client.get(&type_path(workflow_type, &[])?, &[]).await
}

/// The version of a workflow type that is meant.
pub(super) async fn find(client: &Client, workflow_type: &str, prefix: &Prefix) -> Result<Digest, Failure> {
    if let Ok(digest) = prefix.0.parse() {
        return Ok(digest);
    }
    one_of(&all(client, workflow_type).await?.versions, workflow_type, prefix)
}

fn one_of(versions: &[Version], workflow_type: &str, prefix: &Prefix) -> Result<Digest, Failure> {
    let digests = versions.iter().map(|version| version.digest);
    let found: Vec<Digest> = digests.filter(|digest| digest.to_string().starts_with(&prefix.0)).collect();
    match found.as_slice() {
        [digest] => Ok(*digest),
        [] => Err(Failure::new(
            Exit::NotFound,
            format!("no version of {workflow_type} begins with {}", prefix.0),
        )
        .hint(format!("see those that there are with `everfold versions {workflow_type}`"))),
        several => Err(Failure::new(
            Exit::Usage,
            format!("{} versions of {workflow_type} begin with {}", several.len(), prefix.0),
        )
        .hint("give more digits")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(digits: &str) -> Version {
        let digest = format!("{digits}{}", "0".repeat(DIGITS - digits.len()));
        serde_json::from_value(json!({
            "digest": digest, "state": "current", "open": 0, "blocked": 0, "runs": 0, "failed": 0,
            "first_started_at": null, "last_started_at": null, "deployed_at": "2026-01-01T00:00:00Z",
            "retired_at": null, "size": 1, "sdk": "", "is_loaded": true,
        }))
        .expect("a version")
    }

    #[test]
    fn a_prefix_names_one_version_or_none() {
        let versions = [version("abcd1"), version("abcd2"), version("ff00")];
        let found = |text: &str| one_of(&versions, "t", &text.parse().expect("a prefix"));
        assert_eq!(found("FF00").expect("one"), versions[2].digest);
        assert_eq!(found("abcd2").expect("one"), versions[1].digest);
        let exit = |failure| match failure {
            Failure::Told { exit, .. } | Failure::Silent(exit) => exit,
            Failure::ReaderGone => panic!("nobody was told"),
        };
        assert_eq!(exit(found("abcd").expect_err("two")), Exit::Usage);
        assert_eq!(exit(found("abcf").expect_err("none")), Exit::NotFound);
        for text in ["abc", "abcg", "", &"a".repeat(65)] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
