use everfold_guest::{Context, ExternalError, Failure};
use serde::Deserialize;
use serde_json::Value;

/// What another run is sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    workflow_id: String,
    /// Absent for whichever run is open.
    run_id: Option<String>,
    /// A signal's name and input; absent where it is asked to cancel.
    signal: Option<(String, Value)>,
}

pub(crate) async fn messenger(ctx: Context, messages: Vec<Message>) -> Result<Vec<String>, Failure> {
    let mut answers = Vec::new();
    for Message { workflow_id, run_id, signal } in messages {
        let mut other = ctx.external_workflow(&workflow_id);
        if let Some(run_id) = run_id {
            other = other.run_id(run_id);
        }
        let answer = match signal {
            Some((name, input)) => other.signal(&name, &input).await,
            None => other.request_cancel("a messenger asks").await,
        };
        answers.push(match answer {
            Ok(()) => "delivered".to_owned(),
            Err(ExternalError::Failed(failure)) => failure.to_string(),
            Err(ExternalError::Canceled(canceled)) => return Err(canceled.into()),
        });
    }
    Ok(answers)
}
