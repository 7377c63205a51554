//! What a run is described by, as arguments: `--search-attribute NAME=VALUE` and `--memo NAME=JSON`.

use clap::Args;
use serde_json::{Map, Value};

use super::failure::{Exit, Failure};
use super::input;

#[derive(Debug, Args)]
pub(super) struct Described {
    /// What the run can be found by; the value is JSON, or else a text: `customer_id=100`, `city=Ulm`, `tags=["a","b"]`. May
    /// be given several times
    #[arg(long = "search-attribute", value_name = "NAME=VALUE")]
    search_attributes: Vec<String>,
    /// What is written on the run: JSON, or @FILE. May be given several times
    #[arg(long, value_name = "NAME=JSON|@FILE")]
    memo: Vec<String>,
}

/// Values by name.
pub(super) type Named = Map<String, Value>;

impl Described {
    /// The search attributes and the memo.
    pub(super) fn read(&self) -> Result<(Named, Named), Failure> {
        let mut search_attributes = Named::new();
        for text in &self.search_attributes {
            let (name, value) = split("--search-attribute", text)?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            put(&mut search_attributes, "--search-attribute", name, value)?;
        }
        let mut memo = Named::new();
        for text in &self.memo {
            let (name, value) = split("--memo", text)?;
            put(&mut memo, "--memo", name, input::parse("--memo", value)?)?;
        }
        Ok((search_attributes, memo))
    }
}

fn split<'a>(argument: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::new(Exit::Usage, format!("{argument}: `{text}` has no `=` behind its name")))
}

fn put(values: &mut Named, argument: &str, name: &str, value: Value) -> Result<(), Failure> {
    match values.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Failure::new(Exit::Usage, format!("{argument}: `{name}` is given twice"))),
    }
}
