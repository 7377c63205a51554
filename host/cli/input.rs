//! JSON that is given on the command line: as itself, as `@FILE`, or as `@-` for standard input.

use std::io::Read as _;

use serde_json::Value;

use super::failure::{Exit, Failure};

/// The JSON that `input` names; `argument` is what the reader knows it by.
pub(super) fn parse(argument: &str, input: &str) -> Result<Value, Failure> {
    let (text, source) = match input.strip_prefix('@') {
        None => (input.to_owned(), argument.to_owned()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                Failure::new(Exit::Failed, format!("standard input cannot be read: {error}"))
            })?;
            (text, "standard input".to_owned())
        }
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::new(Exit::Usage, format!("{argument}: {file} cannot be read: {error}"))
            })?;
            (text, file.to_owned())
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{source} is not JSON: {error}")).hint(
            "quote it for the shell, as in '{\"name\": \"Ada\"}' or '\"a text\"', or read it from a file with @FILE",
        )
    })
}
