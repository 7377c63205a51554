//! A workflow that asks which versions it follows.

use everfold_guest::{Context, DEFAULT_VERSION, Failure};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Versioned {
    /// How many signals to take.
    count: usize,
    /// The latest version of every change.
    latest: i32,
}

/// Takes as many signals `change` as it is told, each the id of a change, asks which version of it the run
/// follows, and returns the answers in order.
pub(crate) async fn versioned(ctx: Context, input: Versioned) -> Result<Vec<i32>, Failure> {
    let changes = ctx.signal::<String>("change");
    let mut answers = Vec::new();
    while answers.len() < input.count {
        let change_id = changes.recv().await?;
        answers.push(ctx.version(&change_id, DEFAULT_VERSION..=input.latest));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn each_change_is_asked_about_by_name_and_marked_once() {
        let mut run =
            TestRun::following("old", DEFAULT_VERSION).start(versioned, &json!({"count": 4, "latest": 2}));
        for change_id in ["new", "old", "new", "old"] {
            run.signal("change", change_id);
        }
        assert_eq!(run.closed(), Some(Closed::Completed(json!([2, -1, 2, -1]))));
        let markers = run.history().into_iter().filter(|line| line.contains("VersionMarkerRecorded"));
        assert_eq!(markers.collect::<Vec<_>>(), ["4 VersionMarkerRecorded new 2"]);
    }
}
