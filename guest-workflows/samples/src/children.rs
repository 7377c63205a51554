use std::time::Duration;

use everfold_guest::{
    CancellationType, Child, ChildError, ChildWorkflow, Context, Failure, IdReusePolicy, ParentClosePolicy,
    RetryPolicy, Stop,
};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a family is to do.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Family {
    children: Vec<Member>,
    then: Then,
}

/// A child to begin.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Member {
    workflow_type: String,
    workflow_id: Option<String>,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    parent_close_policy: Policy,
    #[serde(default)]
    cancellation: Cancellation,
    #[serde(default)]
    once: bool,
    /// How often it is tried in all.
    attempts: Option<u32>,
    run_timeout_ms: Option<u64>,
    /// What it is described by.
    search_attributes: Option<Value>,
    memo: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Policy {
    #[default]
    Terminate,
    RequestCancel,
    Abandon,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cancellation {
    #[default]
    Wait,
    Try,
    Abandon,
}

/// What follows when all children have begun, or were refused.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    /// Waits for what each returns.
    Results,
    /// Asks each to cancel, and waits for it.
    Cancel,
    /// Returns without waiting.
    Return,
    /// Fails without waiting.
    Fail,
    /// Goes on as a new run without children.
    ContinueAsNew,
    /// Waits for the signal `go` before it returns.
    Go,
}

pub(crate) async fn family(ctx: Context, family: Family) -> Result<Vec<String>, Stop> {
    let Family { children, then } = family;
    let starts = children.into_iter().map(|member| {
        let (child, input) = member.into_child();
        ctx.start_child(child, &input)
    });
    let begun = join_all(starts).await;
    match then {
        Then::Results => Ok(ends(begun).await?),
        Then::Cancel => {
            begun.iter().flatten().for_each(|child| child.request_cancel("a family asks"));
            Ok(ends(begun).await?)
        }
        Then::Return => Ok(begun.iter().map(start).collect()),
        Then::Fail => Err(Failure::application("Divorced", "the family falls apart").into()),
        Then::ContinueAsNew => {
            Err(ctx.continue_as_new(&Family { children: Vec::new(), then: Then::Go }).into())
        }
        Then::Go => {
            ctx.signal::<()>("go").recv().await?;
            Ok(begun.iter().map(start).collect())
        }
    }
}

fn start(begun: &Result<Child<Value>, ChildError>) -> String {
    match begun {
        Ok(child) => format!("started {}", child.workflow_id()),
        Err(error) => error.to_string(),
    }
}

async fn ends(begun: Vec<Result<Child<Value>, ChildError>>) -> Result<Vec<String>, Failure> {
    let ends = begun.into_iter().map(async |child| match child {
        Ok(child) => match child.result().await {
            Ok(result) => result.to_string(),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    });
    Ok(join_all(ends).await)
}

impl Member {
    fn into_child(self) -> (ChildWorkflow<Value, Value>, Value) {
        let Self {
            workflow_type,
            workflow_id,
            input,
            parent_close_policy,
            cancellation,
            once,
            attempts,
            run_timeout_ms,
            search_attributes,
            memo,
        } = self;
        let mut child = ChildWorkflow::named(workflow_type)
            .parent_close_policy(match parent_close_policy {
                Policy::Terminate => ParentClosePolicy::Terminate,
                Policy::RequestCancel => ParentClosePolicy::RequestCancel,
                Policy::Abandon => ParentClosePolicy::Abandon,
            })
            .cancellation(match cancellation {
                Cancellation::Wait => CancellationType::WaitCancellationCompleted,
                Cancellation::Try => CancellationType::TryCancel,
                Cancellation::Abandon => CancellationType::Abandon,
            });
        if let Some(attempts) = attempts {
            child = child.retry(RetryPolicy::new().maximum_attempts(attempts));
        }
        if let Some(ms) = run_timeout_ms {
            child = child.run_timeout(Duration::from_millis(ms));
        }
        if let Some(search_attributes) = search_attributes {
            child = child.search_attributes(&search_attributes);
        }
        if let Some(memo) = memo {
            child = child.memo(&memo);
        }
        if once {
            child = child.id_reuse_policy(IdReusePolicy::RejectDuplicate);
        }
        if let Some(workflow_id) = workflow_id {
            child = child.workflow_id(workflow_id);
        }
        (child, input)
    }
}
