//! A workflow that changes what it is described by.

use std::collections::BTreeMap;

use everfold_guest::{Context, Payload, Stop};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::activities::NOOP;

#[derive(Serialize, Deserialize)]
pub(crate) struct Described {
    /// What to change, one after the other.
    #[serde(default)]
    changes: Vec<Change>,
    /// Whether to wait for the signal `go` at the end.
    #[serde(default)]
    waits: bool,
}

#[derive(Serialize, Deserialize)]
struct Change {
    #[serde(default)]
    search_attributes: Map<String, Value>,
    #[serde(default)]
    memo: Map<String, Value>,
    /// Whether to go on as a new run behind it.
    #[serde(default)]
    continues: bool,
}

/// What the run is described by in the end.
#[derive(Serialize)]
pub(crate) struct Seen {
    search_attributes: BTreeMap<String, Value>,
    memo: BTreeMap<String, Value>,
}

/// Makes each change, with a call of `noop` before it, and returns what it is described by.
pub(crate) async fn described(ctx: Context, input: Described) -> Result<Seen, Stop> {
    let Described { changes, waits } = input;
    let mut changes = changes.into_iter();
    while let Some(Change { search_attributes, memo, continues }) = changes.next() {
        ctx.execute(NOOP, &0).await?;
        if !search_attributes.is_empty() {
            ctx.upsert_search_attributes(&search_attributes);
        }
        if !memo.is_empty() {
            ctx.upsert_memo(&memo);
        }
        if continues {
            return Err(ctx.continue_as_new(&Described { changes: changes.collect(), waits }).into());
        }
    }
    if waits {
        ctx.signal::<Value>("go").recv().await?;
    }
    Ok(Seen { search_attributes: values(ctx.search_attributes()), memo: values(ctx.memo()) })
}

fn values(payloads: BTreeMap<String, Payload>) -> BTreeMap<String, Value> {
    payloads.into_iter().map(|(name, value)| (name, value.decode().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Answer, Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_changed_goes_over_to_the_next_run_and_comes_back() {
        let input = json!({ "changes": [
            { "search_attributes": { "step": "paid", "total": 5, "gone": null }, "memo": { "note": null } },
            { "search_attributes": { "tags": [] }, "memo": { "why": [1] }, "continues": true },
            { "search_attributes": { "step": "shipped" } },
        ] });
        let attributes = json!({ "gone": true, "tags": ["a"] });
        let mut first =
            TestRun::described_by(&attributes, &json!({ "note": 1, "kept": 2 })).start(described, &input);
        first.drive(|_| Answer::Complete(Value::Null));
        assert_eq!(
            first.history()[3..],
            [
                r#"4 SearchAttributesUpserted {"gone":null,"step":"paid","total":5}"#,
                r#"5 MemoUpserted {"note":null}"#,
                "6 ActivityScheduled noop 0",
                "7 ActivityCompleted noop",
                r#"8 SearchAttributesUpserted {"tags":[]}"#,
                r#"9 MemoUpserted {"why":[1]}"#,
                r#"10 WorkflowContinuedAsNew test {"changes":[{"continues":false,"memo":{},"search_attributes":{"step":"shipped"}}],"waits":false}"#,
            ],
        );
        let mut second = first.next_run(described);
        second.drive(|_| Answer::Complete(Value::Null));
        let seen = json!({
            "search_attributes": { "step": "shipped", "total": 5 }, "memo": { "kept": 2, "why": [1] },
        });
        assert_eq!(second.closed(), Some(Closed::Completed(seen.clone())));
        assert_eq!(json!(second.search_attributes()), seen["search_attributes"]);
        assert_eq!(json!(second.memo()), seen["memo"]);
    }
}
