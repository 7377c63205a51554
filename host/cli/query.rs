//! `everfold query`.

use clap::Args;
use everfold::server::wire::{QueryBody, QueryResult};

use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::{Run, input};

#[derive(Debug, Args)]
pub(super) struct Query {
    #[command(flatten)]
    run: Run,
    /// The question's name
    name: String,
    /// What is asked with it: JSON, @FILE, or @- for standard input
    #[arg(
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    input: String,
    #[command(flatten)]
    form: Form,
}

impl Query {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let body = QueryBody { input: input::parse("the query's input", &self.input)? };
        let answer: QueryResult = client.post_run(&self.run, &["queries", &self.name], &body).await?;
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&answer);
        }
        output.json(&answer.result)
    }
}
