//! The query language of the list of runs: conditions over a run's fields, and an order.
//!
//! ```text
//! query      = [ condition ] [ "order" "by" field [ "asc" | "desc" ] ]
//! condition  = all { "or" all }
//! all        = single { "and" single }
//! single     = "not" single | "(" condition ")" | comparison
//! comparison = name ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "starts_with" ) value
//!            | name [ "not" ] "in" "(" value { "," value } ")"
//!            | name "is" [ "not" ] "null"
//! name       = field | search attribute
//! value      = "text" | 'text' | number | true | false
//! ```
//!
//! A name that is no field is a search attribute. Its values compare with those of their own type only; of a list each
//! text counts: it equals a text if one of its own does.
//!
//! Words of the language may be written in capitals. In a text the quote that began it is written twice, as SQL has
//! it. Times are texts (RFC 3339). What is not there (the closing time of an open run) compares to nothing: neither a
//! comparison nor its opposite holds, and `is null` asks for it.
//!
//! This file says what a query is; [`parse`] reads one, and a store finds the runs.

pub mod parse;

use crate::ids::{Digest, RunId, Timestamp};
use crate::machine::RunStatus;

pub use parse::QueryError;

/// Which runs, in which order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// All runs if absent.
    pub condition: Option<Condition>,
    /// In which order.
    pub order: Order,
}

/// What holds of a run, or does not.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All of these hold.
    All(Vec<Self>),
    /// One of these holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// A field compared with a value of its kind.
    Compare(Field, Comparison, Value),
    /// A field is one of these values of its kind.
    In(Field, Vec<Value>),
    /// The field is not there.
    IsNull(Field),
    /// A search attribute is such.
    Attribute(String, Test),
}

/// What holds of a search attribute, or does not. Its values are texts, numbers, truth values or times.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is of the value's type, and compares so.
    Compare(Comparison, Value),
    /// It is one of these values, which are of one type.
    In(Vec<Value>),
    /// It is not there.
    IsNull,
}

/// A run's fields. Names are those of JSON where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `workflow_type`: text.
    WorkflowType,
    /// `workflow_id`: text.
    WorkflowId,
    /// `run_id`: a UUID.
    RunId,
    /// `status`: one of the names of [`RunStatus`].
    Status,
    /// `digest`: the component, 64 hexadecimal digits.
    Digest,
    /// `start_time`: a time.
    StartTime,
    /// `close_time`: a time; not there while the run is open.
    CloseTime,
    /// `history_length`: events, a whole number.
    HistoryLength,
    /// `blocked`: whether a fault of its code blocks the run.
    Blocked,
    /// `parent_workflow_id`: text; not there of a run that is no child.
    ParentWorkflowId,
    /// `parent_run_id`: a UUID; not there of a run that is no child.
    ParentRunId,
}

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A UUID.
    RunId,
    /// A status's name.
    Status,
    /// 64 hexadecimal digits.
    Digest,
    /// RFC 3339.
    Time,
    /// A whole number.
    Number,
    /// True or false.
    Bool,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `starts_with`: of a text alone.
    StartsWith,
}

/// A value of a field's or a search attribute's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A run.
    RunId(RunId),
    /// A status.
    Status(RunStatus),
    /// A component.
    Digest(Digest),
    /// A time.
    Time(Timestamp),
    /// A whole number.
    Number(i64),
    /// Any other number.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

/// The order of a list. Where two runs are equal, their run ids decide, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// By which field: one that a run keeps, so that pages stay in place while runs come and go.
    pub by: OrderBy,
    /// In which direction.
    pub direction: Direction,
}

/// What a list can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// The time in the run's id.
    RunId,
    /// When it started.
    StartTime,
    /// When it closed; of closed runs alone, because an open one would change its place.
    CloseTime,
    /// Its workflow id, byte by byte.
    WorkflowId,
    /// Its type, byte by byte.
    WorkflowType,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

impl Query {
    /// All runs of which every one of these holds, the latest first.
    #[must_use]
    pub fn all(conditions: impl IntoIterator<Item = Condition>) -> Self {
        Self::default().narrowed(conditions)
    }

    /// The same runs as far as every one of these holds too.
    #[must_use]
    pub fn narrowed(self, conditions: impl IntoIterator<Item = Condition>) -> Self {
        let Self { condition, order } = self;
        let all: Vec<Condition> = condition.into_iter().chain(conditions).collect();
        Self { condition: (!all.is_empty()).then_some(Condition::All(all)), order }
    }
}

impl Condition {
    /// A field has that value.
    #[must_use]
    pub const fn equal(field: Field, value: Value) -> Self {
        Self::Compare(field, Comparison::Equal, value)
    }

    /// A field has that value or a greater one.
    #[must_use]
    pub const fn at_least(field: Field, value: Value) -> Self {
        Self::Compare(field, Comparison::GreaterOrEqual, value)
    }
}

impl Default for Order {
    /// The latest first.
    fn default() -> Self {
        Self { by: OrderBy::RunId, direction: Direction::Descending }
    }
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 11] = [
        Self::WorkflowType,
        Self::WorkflowId,
        Self::RunId,
        Self::Status,
        Self::Digest,
        Self::StartTime,
        Self::CloseTime,
        Self::HistoryLength,
        Self::Blocked,
        Self::ParentWorkflowId,
        Self::ParentRunId,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WorkflowType => "workflow_type",
            Self::WorkflowId => "workflow_id",
            Self::RunId => "run_id",
            Self::Status => "status",
            Self::Digest => "digest",
            Self::StartTime => "start_time",
            Self::CloseTime => "close_time",
            Self::HistoryLength => "history_length",
            Self::Blocked => "blocked",
            Self::ParentWorkflowId => "parent_workflow_id",
            Self::ParentRunId => "parent_run_id",
        }
    }

    /// The field of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// What kind of value it has.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::WorkflowType | Self::WorkflowId | Self::ParentWorkflowId => Kind::Text,
            Self::RunId | Self::ParentRunId => Kind::RunId,
            Self::Status => Kind::Status,
            Self::Digest => Kind::Digest,
            Self::StartTime | Self::CloseTime => Kind::Time,
            Self::HistoryLength => Kind::Number,
            Self::Blocked => Kind::Bool,
        }
    }

    /// The order by it, if a list can be ordered by it.
    #[must_use]
    pub const fn order(self) -> Option<OrderBy> {
        match self {
            Self::RunId => Some(OrderBy::RunId),
            Self::StartTime => Some(OrderBy::StartTime),
            Self::CloseTime => Some(OrderBy::CloseTime),
            Self::WorkflowId => Some(OrderBy::WorkflowId),
            Self::WorkflowType => Some(OrderBy::WorkflowType),
            Self::Status
            | Self::Digest
            | Self::HistoryLength
            | Self::Blocked
            | Self::ParentWorkflowId
            | Self::ParentRunId => None,
        }
    }
}

impl Kind {
    /// What it is, for people.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::RunId => "a run id in quotes",
            Self::Status => "a status in quotes",
            Self::Digest => "64 hexadecimal digits in quotes",
            Self::Time => "a time in quotes, as \"2026-01-31T08:00:00Z\"",
            Self::Number => "a whole number",
            Self::Bool => "true or false",
        }
    }

    /// Whether its values have an order of their own that somebody asks for.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        match self {
            Self::Text | Self::RunId | Self::Time | Self::Number => true,
            Self::Status | Self::Digest | Self::Bool => false,
        }
    }
}
