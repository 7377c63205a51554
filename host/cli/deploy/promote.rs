//! `everfold deploy --promote`: deploys, checks what open runs would do, makes the component current for
//! all its types, and moves their open runs.
//!
//! Nothing is routed before the check has held. A move is replayed once more by the host, because runs go
//! on between the two.

use everfold::server::wire::{CheckReport, Deployed, Routed, UpgradeReport};
use serde::Serialize;

use super::{Answers, Deploy, File, OpenRuns, deploy};
use crate::cli::check;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::render::{deployed, report, versions};
use crate::cli::route;
use crate::cli::upgrade::{WhoMoves, moved};

/// What was done.
#[derive(Serialize)]
struct Promoted {
    deployed: Deployed,
    /// What the check found; null where none was asked for.
    check: Option<CheckReport>,
    /// The routes that were changed.
    routed: Vec<Routed>,
    /// What became of the open runs of each type.
    moved: Vec<UpgradeReport>,
}

impl Deploy {
    pub(super) async fn promote(
        &self,
        client: &Client,
        file: File<'_>,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let deployed = deploy(client, file).await?;
        let digest = deployed.digest;
        let open_runs = self.open_runs();
        let check = match open_runs {
            OpenRuns::Move => Some(check::deployed(client, digest, None, &[], self.scope).await?),
            OpenRuns::MoveCompatible | OpenRuns::Leave => None,
        };
        let mut done = Promoted { deployed, check, routed: Vec::new(), moved: Vec::new() };
        if let Some(found) = done.check.as_ref().filter(|found| !found.holds) {
            let breaking = report::breaking(found);
            answers.tell(&done, || done.lines())?;
            return Err(Failure::new(
                Exit::Failed,
                format!("{breaking} open runs would break on {}: nothing was promoted", digest.short()),
            )
            .hint("--open-runs move-compatible moves the others and leaves those on their version; --open-runs leave moves none"));
        }
        for kind in done.deployed.types.iter().filter(|kind| kind.routing.current != digest) {
            done.routed.push(route::put(client, &kind.name, digest, None).await?);
        }
        match open_runs {
            OpenRuns::Move | OpenRuns::MoveCompatible => {
                for name in &done.deployed.workflow_types {
                    let report = moved(client, name, digest, Vec::new(), WhoMoves::Compatible).await?;
                    done.moved.push(report?);
                }
            }
            OpenRuns::Leave => {}
        }
        answers.tell(&done, || done.lines())?;
        let kept: u64 = done.moved.iter().map(|report| report.kept).sum();
        if open_runs == OpenRuns::Move && kept > 0 {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{kept} runs went on since the check so that they would break: they stay on their version"
                ),
            ));
        }
        Ok(())
    }
}

impl Promoted {
    fn lines(&self) -> Vec<String> {
        let width = Output::width();
        let mut lines = deployed::lines(&self.deployed);
        if let Some(found) = &self.check {
            lines.extend(report::check(found, width));
        }
        lines.extend(self.routed.iter().flat_map(versions::routed));
        let told = self.moved.iter().filter(|moved| !report::is_empty(moved));
        lines.extend(told.flat_map(|moved| report::upgrade(moved, width)));
        lines
    }
}
