//! Failures: a chain of links, outermost first, each following link the cause of the one before.
//!
//! A failure is data: it is recorded, crosses the network and outlives the code that raised it.
//! Must never be empty, and never carries a Rust type.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bindings::everfold::workflow::types as wit;
use crate::payload::Payload;
use crate::time::whole_ms;

pub use wit::{
    ActivityFailure, ApplicationFailure, ChildWorkflowFailure, FailureKind, FailureLink, RetryState,
    TimeoutFailure, TimeoutType,
};

/// What went wrong, and why, and why that.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    links: Vec<FailureLink>,
}

impl Failure {
    /// A failure raised by the workflow's own code. Programs know it by its type.
    #[must_use]
    pub fn application(failure_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            message,
            FailureKind::Application(ApplicationFailure {
                type_: failure_type.into(),
                non_retryable: false,
                next_retry_delay: None,
                details: Vec::new(),
            }),
        )
    }

    /// The failure of what was cancelled. A run that was asked to cancel and returns one closes as
    /// cancelled, with these details.
    #[must_use]
    pub fn canceled(message: impl Into<String>, details: Vec<Payload>) -> Self {
        Self::new(message, FailureKind::Canceled(details))
    }

    /// A failure of any kind.
    #[must_use]
    pub fn new(message: impl Into<String>, kind: FailureKind) -> Self {
        Self { links: vec![FailureLink { message: message.into(), kind, stack_trace: String::new() }] }
    }

    /// A failure as the host tells it.
    ///
    /// # Panics
    ///
    /// When there are no links: the host broke the contract.
    pub(crate) fn from_links(links: Vec<FailureLink>) -> Self {
        assert!(!links.is_empty(), "the host gave a failure without a link");
        Self { links }
    }

    pub(crate) fn into_links(self) -> Vec<FailureLink> {
        self.links
    }

    /// Makes an application failure final: it is not tried again, whatever the policy says.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        if let FailureKind::Application(application) = &mut self.links[0].kind {
            application.non_retryable = true;
        }
        self
    }

    /// Names the delay before the next try, over the policy's.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        if let FailureKind::Application(application) = &mut self.links[0].kind {
            application.next_retry_delay = Some(whole_ms(delay));
        }
        self
    }

    /// Adds data for the caller, as JSON. Only application and cancelled failures hold any; what
    /// JSON cannot hold is left out.
    #[must_use]
    pub fn with_detail(mut self, detail: &(impl Serialize + ?Sized)) -> Self {
        let details = match &mut self.links[0].kind {
            FailureKind::Application(application) => &mut application.details,
            FailureKind::Canceled(details) => details,
            FailureKind::TimedOut(_)
            | FailureKind::Terminated
            | FailureKind::Activity(_)
            | FailureKind::ChildWorkflow(_)
            | FailureKind::Other(_) => return self,
        };
        details.extend(Payload::encode(detail).ok());
        self
    }

    /// Puts another failure, with its own causes, behind this chain's last link.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Self>) -> Self {
        self.links.extend(cause.into().links);
        self
    }

    /// The outermost link's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.links[0].message
    }

    /// The outermost link's kind.
    #[must_use]
    pub fn kind(&self) -> &FailureKind {
        &self.links[0].kind
    }

    /// The links, outermost first; never none.
    #[must_use]
    pub fn links(&self) -> &[FailureLink] {
        &self.links
    }

    /// The type of the first application failure in the chain.
    #[must_use]
    pub fn application_type(&self) -> Option<&str> {
        self.links.iter().find_map(|link| match &link.kind {
            FailureKind::Application(application) => Some(application.type_.as_str()),
            _ => None,
        })
    }

    /// Whether a time-out is in the chain.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        let timed_out = |link: &FailureLink| matches!(link.kind, FailureKind::TimedOut(_));
        self.links.iter().any(timed_out)
    }

    /// Whether this is a cancellation, its own or that of an activity or a child. A cancellation
    /// that an application failure wraps is that application's failure.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.cancellation_details().is_some()
    }

    /// What the cancellation says, if [it is one](Self::is_canceled).
    pub(crate) fn cancellation_details(&self) -> Option<&[Payload]> {
        for link in &self.links {
            match &link.kind {
                FailureKind::Canceled(details) => return Some(details),
                FailureKind::Activity(_) | FailureKind::ChildWorkflow(_) => {}
                FailureKind::Application(_)
                | FailureKind::TimedOut(_)
                | FailureKind::Terminated
                | FailureKind::Other(_) => return None,
            }
        }
        None
    }
}

/// The messages of the whole chain: `outer: cause: cause of the cause`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, link) in self.links.iter().enumerate() {
            if index > 0 {
                f.write_str(": ")?;
            }
            f.write_str(&link.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity_link() -> Failure {
        Failure::new(
            "activity `pay` failed",
            FailureKind::Activity(ActivityFailure {
                scheduled_event_id: 2,
                activity_type: "pay".to_owned(),
                attempt: 1,
                retry_state: RetryState::CancelRequested,
            }),
        )
    }

    #[test]
    fn causes_nest_outermost_first() {
        let failure = Failure::application("OrderFailed", "the order failed")
            .non_retryable()
            .with_cause(activity_link().with_cause(Failure::application("Declined", "no money")));
        assert_eq!(failure.to_string(), "the order failed: activity `pay` failed: no money");
        assert_eq!(failure.application_type(), Some("OrderFailed"));
        assert_eq!(failure.links().len(), 3);
    }

    #[test]
    fn a_cancelled_activity_is_a_cancellation_but_a_wrapped_one_is_not() {
        let canceled = activity_link().with_cause(Failure::canceled("stopped", Vec::new()));
        assert!(canceled.is_canceled());
        let wrapped = Failure::application("OrderFailed", "").with_cause(canceled);
        assert!(!wrapped.is_canceled());
    }
}
