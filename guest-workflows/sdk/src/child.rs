//! Children as a workflow names them: a type name, the Rust types of input and result, options.
//!
//! A child is a run of its own that tells its parent whether it began and how it ended. Must never talk to the host: that
//! is [`call`]'s part.

mod call;
mod error;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use crate::activity::RetryPolicy;
use crate::bindings::everfold::workflow::host as wit;
use crate::bindings::everfold::workflow::types::CancellationType;
use crate::continue_as_new::VersionChoice;
use crate::details;
use crate::payload::Payload;
use crate::time::whole_ms;

pub use call::{Child, ChildCall, ChildResult, StartChild};
pub use error::{ChildError, ChildErrorKind, WORKFLOW_ALREADY_STARTED};
pub use wit::{IdReusePolicy, ParentClosePolicy};

/// A child workflow: what it is called, what goes in, what comes out, and how it hangs together with its parent.
///
/// ```
/// # use everfold_guest::{ChildWorkflow, ParentClosePolicy};
/// const SHIP: ChildWorkflow<u64, String> = ChildWorkflow::new("ship-parcel");
///
/// let parcel = SHIP.workflow_id("parcel-7").parent_close_policy(ParentClosePolicy::Abandon);
/// ```
pub struct ChildWorkflow<I: ?Sized, O> {
    workflow_type: Cow<'static, str>,
    options: Options,
    types: PhantomData<fn(&I) -> O>,
}

#[derive(Clone)]
struct Options {
    workflow_id: Option<String>,
    parent_close_policy: ParentClosePolicy,
    cancellation: CancellationType,
    id_reuse_policy: IdReusePolicy,
    version: VersionChoice,
    execution_timeout: Option<Duration>,
    run_timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    headers: Vec<(String, Payload)>,
    search_attributes: Vec<(String, Payload)>,
    memo: Vec<(String, Payload)>,
    summary: Cow<'static, str>,
}

impl<I: ?Sized, O> ChildWorkflow<I, O> {
    /// A child of that type. It is terminated when its parent closes, unless another policy is given.
    #[must_use]
    pub const fn new(workflow_type: &'static str) -> Self {
        Self::with_type(Cow::Borrowed(workflow_type))
    }

    /// A child whose type is known only when the workflow runs.
    #[must_use]
    pub const fn named(workflow_type: String) -> Self {
        Self::with_type(Cow::Owned(workflow_type))
    }

    const fn with_type(workflow_type: Cow<'static, str>) -> Self {
        Self {
            workflow_type,
            options: Options {
                workflow_id: None,
                parent_close_policy: ParentClosePolicy::Terminate,
                cancellation: CancellationType::WaitCancellationCompleted,
                id_reuse_policy: IdReusePolicy::AllowDuplicate,
                version: VersionChoice::FollowRoute,
                execution_timeout: None,
                run_timeout: None,
                retry: None,
                headers: Vec::new(),
                search_attributes: Vec::new(),
                memo: Vec::new(),
                summary: Cow::Borrowed(""),
            },
            types: PhantomData,
        }
    }

    /// The child's type.
    #[must_use]
    pub fn workflow_type(&self) -> &str {
        &self.workflow_type
    }

    /// Names its workflow id. Without it that is the id of the child's first run.
    #[must_use]
    pub fn workflow_id(mut self, id: impl Into<String>) -> Self {
        self.options.workflow_id = Some(id.into());
        self
    }

    /// Says what becomes of it when its parent closes, also by continuing as new. Without it:
    /// [`ParentClosePolicy::Terminate`].
    #[must_use]
    pub const fn parent_close_policy(mut self, policy: ParentClosePolicy) -> Self {
        self.options.parent_close_policy = policy;
        self
    }

    /// Says what becomes of it when its parent is cancelled, or when its call is dropped. Without it:
    /// [`CancellationType::WaitCancellationCompleted`], so that the parent hears how it ended.
    #[must_use]
    pub const fn cancellation(mut self, cancellation: CancellationType) -> Self {
        self.options.cancellation = cancellation;
        self
    }

    /// Says whether its workflow id may have been a closed run's. Without it:
    /// [`IdReusePolicy::AllowDuplicate`].
    #[must_use]
    pub const fn id_reuse_policy(mut self, policy: IdReusePolicy) -> Self {
        self.options.id_reuse_policy = policy;
        self
    }

    /// Says which component folds it. Without it: the one that new runs of its type start on.
    #[must_use]
    pub const fn version(mut self, version: VersionChoice) -> Self {
        self.options.version = version;
        self
    }

    /// Limits how long all its runs take together, also those that it continues as.
    #[must_use]
    pub const fn execution_timeout(mut self, limit: Duration) -> Self {
        self.options.execution_timeout = Some(limit);
        self
    }

    /// Limits how long each of its runs takes.
    #[must_use]
    pub const fn run_timeout(mut self, limit: Duration) -> Self {
        self.options.run_timeout = Some(limit);
        self
    }

    /// Says how it is tried again when it fails or passes its run time-out. Without it: not at all. The parent hears of
    /// the last try.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Adds a payload that travels beside the input.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: Payload) -> Self {
        self.options.headers.push((name.into(), value));
        self
    }

    /// Gives what it can be found by: an object or a struct, as [`Context::upsert_search_attributes`] takes it.
    ///
    /// # Panics
    ///
    /// When the value is no object: a fault of the workflow's code.
    ///
    /// [`Context::upsert_search_attributes`]: crate::Context::upsert_search_attributes
    #[must_use]
    pub fn search_attributes<T: Serialize + ?Sized>(mut self, values: &T) -> Self {
        self.options.search_attributes = details::changes(values, "search attributes");
        self
    }

    /// Gives what is written on it, in the same way.
    ///
    /// # Panics
    ///
    /// When the value is no object: a fault of the workflow's code.
    #[must_use]
    pub fn memo<T: Serialize + ?Sized>(mut self, values: &T) -> Self {
        self.options.memo = details::changes(values, "a memo");
        self
    }

    /// Gives one line for people, shown beside the child.
    #[must_use]
    pub fn summary(mut self, line: impl Into<Cow<'static, str>>) -> Self {
        self.options.summary = line.into();
        self
    }

    fn into_request(self, input: Payload) -> Request {
        let Options {
            workflow_id,
            parent_close_policy,
            cancellation,
            id_reuse_policy,
            version,
            execution_timeout,
            run_timeout,
            retry,
            headers,
            search_attributes,
            memo,
            summary,
        } = self.options;
        Request {
            workflow_type: self.workflow_type,
            input,
            options: wit::ChildOptions {
                workflow_id,
                parent_close_policy,
                cancellation_type: cancellation,
                id_reuse_policy,
                version,
                execution_timeout: execution_timeout.map(whole_ms),
                run_timeout: run_timeout.map(whole_ms),
                retry_policy: retry.map(RetryPolicy::into_wit),
                headers,
                search_attributes,
                memo,
                summary: summary.into_owned(),
            },
        }
    }
}

impl<I: ?Sized, O> Clone for ChildWorkflow<I, O> {
    fn clone(&self) -> Self {
        Self { workflow_type: self.workflow_type.clone(), options: self.options.clone(), types: PhantomData }
    }
}

impl<I: ?Sized, O> fmt::Debug for ChildWorkflow<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildWorkflow").field(&self.workflow_type).finish()
    }
}

/// A child that is ready to be asked for.
pub(crate) struct Request {
    pub(crate) workflow_type: Cow<'static, str>,
    pub(crate) input: Payload,
    pub(crate) options: wit::ChildOptions,
}
