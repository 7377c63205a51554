//! `everfold deploy`.

use std::path::{Path, PathBuf};

use clap::Args;
use everfold::server::wire::Deployed;
use owo_colors::OwoColorize as _;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render;

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// Components; with --json and more than one, the answer is a list
    #[arg(required = true, value_name = "FILE.wasm")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

impl Deploy {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::new();
        let mut all = Vec::new();
        for file in &self.files {
            let bytes = read(file)?;
            let deployed: Deployed =
                client.post_wasm(&["components"], bytes).await.map_err(|failure| match failure {
                    Failure::Told { exit, message, hint } => {
                        Failure::Told { exit, message: format!("{}: {message}", file.display()), hint }
                    }
                    Failure::Silent(_) | Failure::ReaderGone => failure,
                })?;
            if self.form.is_json() {
                all.push(deployed);
                continue;
            }
            output.line(format_args!("{} {}", deployed.digest.short().bold(), told(&deployed)))?;
            for workflow_type in &deployed.workflow_types {
                let summary = deployed.summaries.get(workflow_type).and_then(|summary| summary.as_str());
                let is_current = deployed.current_for.contains(workflow_type);
                let mark = if is_current {
                    "current".green().to_string()
                } else {
                    "beside the current version".dimmed().to_string()
                };
                output.line(format_args!("  {workflow_type}  {mark}  {}", summary.unwrap_or_default()))?;
            }
        }
        match all.as_slice() {
            [] => {}
            [one] => output.json(one)?,
            several => output.json(&several)?,
        }
        Ok(())
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{} does not exist", file.display()))
                .hint("`cargo xtask guests` builds the components into target/components/")
        }
        _ => Failure::new(Exit::Failed, format!("{} cannot be read: {error}", file.display())),
    })
}

fn told(deployed: &Deployed) -> String {
    let size = render::size(deployed.size);
    match deployed.compile_ms {
        Some(ms) => format!("{size}, compiled in {}", render::duration(ms)),
        None => format!("{size}, known already"),
    }
}
