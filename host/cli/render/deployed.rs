//! What a deployment found: the component, its types with what can be said to them, what changed, and
//! what to do next.

use std::path::Path;

use everfold::server::wire::{Deployed, DeployedType, Handler, HandlerChange};
use owo_colors::OwoColorize as _;

use super::{duration, one_line, size};

/// What was found.
pub(in crate::cli) fn lines(deployed: &Deployed) -> Vec<String> {
    let size = size(deployed.size);
    let compiled = match (deployed.is_new, deployed.compile_ms) {
        (false, _) => "deployed before".to_owned(),
        (true, Some(ms)) => format!("compiled in {}", duration(ms)),
        (true, None) => "compiled before".to_owned(),
    };
    let mut lines = vec![format!("{} {size}, {compiled}", deployed.digest.short().bold())];
    for kind in &deployed.types {
        let summary = one_line(&kind.summary);
        let gap = if summary.is_empty() { "" } else { "  " };
        lines.push(format!("  {}  {}{gap}{summary}", one_line(&kind.name).bold(), place(deployed, kind)));
        let handlers = [("signals", &kind.signals), ("queries", &kind.queries), ("updates", &kind.updates)];
        let told = handlers.into_iter().filter(|(_, handlers)| !handlers.is_empty());
        lines.extend(told.map(|(what, handlers)| member(what, &names(handlers))));
        if let Some(changes) = &kind.changes {
            let added =
                changes.added.iter().map(|handler| format!("+ {}", named(handler)).green().to_string());
            let removed =
                changes.removed.iter().map(|handler| format!("- {}", named(handler)).red().to_string());
            let told: Vec<String> = added.chain(removed).collect();
            let told = match told.as_slice() {
                [] => "the same signals, queries and updates".to_owned(),
                told => told.join(", "),
            };
            lines.push(member("changes", &format!("{told} (against {})", changes.since.short())));
        }
    }
    if !deployed.missing_types.is_empty() {
        let missing: Vec<String> = deployed.missing_types.iter().map(|name| one_line(name)).collect();
        lines.push(format!("  {} {}", "not in it:".yellow(), missing.join(", ")));
    }
    lines
}

/// What to do next with a version that stands beside the current one.
pub(in crate::cli) fn next(deployed: &Deployed, file: &Path) -> Vec<String> {
    let beside = deployed.types.iter().find(|kind| {
        let candidate = kind.routing.candidate.map(|candidate| candidate.digest);
        kind.routing.current != deployed.digest && candidate != Some(deployed.digest)
    });
    let Some(kind) = beside else { return Vec::new() };
    let (file, name, digest) = (file.display(), one_line(&kind.name), deployed.digest.short());
    vec![
        "no run starts on it yet. Next:".to_owned(),
        format!("  everfold deploy {file} --check      what it would do to the runs that are open"),
        format!(
            "  everfold deploy {file} --promote    the same, then new runs start on it and open ones move"
        ),
        format!("  everfold ramp {name} 10 --to {digest}    a tenth of new runs starts on it"),
    ]
}

fn place(deployed: &Deployed, kind: &DeployedType) -> String {
    let routing = &kind.routing;
    let candidate = routing.candidate.filter(|candidate| candidate.digest == deployed.digest);
    match candidate {
        _ if routing.current == deployed.digest => "current".green().to_string(),
        Some(candidate) => {
            format!("candidate at {} %", u8::from(candidate.ramp_percent)).yellow().to_string()
        }
        None => format!("beside {}, which is current", routing.current.short()).dimmed().to_string(),
    }
}

fn member(what: &str, text: &str) -> String {
    format!("    {} {text}", format!("{what:<8}").dimmed())
}

fn names(handlers: &[Handler]) -> String {
    handlers.iter().map(|handler| one_line(&handler.name)).collect::<Vec<_>>().join(", ")
}

fn named(handler: &HandlerChange) -> String {
    format!("{} {}", handler.kind, one_line(&handler.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployed(changes: Value) -> Deployed {
        let (own, other) = ("ab".repeat(32), "cd".repeat(32));
        let route = |current: &str| json!({ "current": current, "candidate": null, "previous": null });
        let handler = |name: &str| json!({ "name": name, "summary": "" });
        let mut deployed = json!({
            "digest": own, "is_new": true, "size": 548_687, "compile_ms": 1_240, "sdk": "everfold-sdk 0.1.0",
            "workflow_types": ["order-saga", "order-tracking"], "current_for": ["order-tracking"],
            "types": [
                {
                    "name": "order-saga", "summary": "An order, undone if a step fails.",
                    "signals": [handler("address-changed"), handler("hold")], "queries": [handler("status")],
                    "updates": [], "routing": route(&other),
                    "changes": {
                        "since": other, "added": [{ "kind": "signal", "name": "hold" }],
                        "removed": [{ "kind": "query", "name": "items" }],
                    },
                },
                {
                    "name": "order-tracking", "summary": "", "signals": [], "queries": [], "updates": [],
                    "routing": route(&own), "changes": null,
                },
            ],
            "missing_types": ["order-processing"],
        });
        if let (Value::Object(deployed), Value::Object(changes)) = (&mut deployed, changes) {
            deployed.extend(changes);
        }
        serde_json::from_value(deployed).expect("an answer")
    }

    fn text(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn a_deployment_names_what_it_found() {
        insta::assert_snapshot!(text(&lines(&deployed(json!({})))), @r"
        abababababab 535 KB, compiled in 1.24 s
          order-saga  beside cdcdcdcdcdcd, which is current  An order, undone if a step fails.
            signals  address-changed, hold
            queries  status
            changes  + signal hold, - query items (against cdcdcdcdcdcd)
          order-tracking  current
          not in it: order-processing
        ");
        let again = deployed(json!({ "is_new": false, "compile_ms": null }));
        assert!(text(&lines(&again)).starts_with("abababababab 535 KB, deployed before\n"));
    }

    #[test]
    fn what_stands_beside_the_current_version_has_a_next_step() {
        insta::assert_snapshot!(text(&next(&deployed(json!({})), Path::new("order.wasm"))), @r"
        no run starts on it yet. Next:
          everfold deploy order.wasm --check      what it would do to the runs that are open
          everfold deploy order.wasm --promote    the same, then new runs start on it and open ones move
          everfold ramp order-saga 10 --to abababababab    a tenth of new runs starts on it
        ");
        assert!(next(&deployed(json!({ "types": [] })), Path::new("order.wasm")).is_empty());
    }
}
