//! A query as SQL: the conditions as they stand, with every value bound, and pages by the place of their last run.

use everfold_core::ids::{Namespace, RunId};
use everfold_core::query::{Comparison, Condition, Direction, Field, Order, OrderBy, Query, Test, Value};
use sqlx::{QueryBuilder, Sqlite};

use super::details;
use crate::store::{PlaceValue, RunPlace, sql};

/// Behind the id of every run: no UUIDv7 has its variant and version bits.
const BEHIND_ALL: RunId = RunId([0xff; 16]);

/// The statement that finds a page.
pub(super) fn statement(
    namespace: &Namespace,
    query: &Query,
    after: Option<&RunPlace>,
    limit: i64,
) -> QueryBuilder<Sqlite> {
    let names_workflow = query.condition.as_ref().is_some_and(names_workflow);
    let driver = query.condition.as_ref().filter(|_| !names_workflow).and_then(driver);
    let mut statement = match driver {
        Some((name, value)) => driven(namespace, name, value),
        None => QueryBuilder::new(sql::SELECT_RUN),
    };
    // Where a search attribute has to have a value, its index is read, in which runs come in the order of their ids. Else
    // two orders are read as they stand, and the reading ends with the page: that of run ids from the table's key, that
    // of ends from its index. The index of a namespace would have to be read and sorted as a whole, which `COALESCE`
    // keeps from being chosen. A workflow id has few runs, and an index.
    let is_read_in_order = match query.order.by {
        _ if driver.is_some() => true,
        OrderBy::RunId | OrderBy::CloseTime => !names_workflow,
        OrderBy::StartTime | OrderBy::WorkflowId | OrderBy::WorkflowType => false,
    };
    statement.push(if is_read_in_order { "COALESCE(runs.namespace, '') = " } else { "runs.namespace = " });
    statement.push_bind(namespace.0.clone());
    if query.order.by == OrderBy::CloseTime {
        // It is so by the query; this is for the choice of the index.
        statement.push(" AND closed_at IS NOT NULL");
    }
    if let Some(condition) = &query.condition {
        statement.push(" AND ");
        push_condition(&mut statement, condition);
    }
    // Both are the same where there are both; the index in whose order it is read has to be named.
    let run_id_column = if driver.is_some() { "driver.run_id" } else { "runs.run_id" };
    let (order, direction) = (order_column(query.order.by), query.order.direction);
    // With a bound for the first page too the table's key is searched, not scanned.
    let first = RunPlace { value: None, run_id: BEHIND_ALL };
    let is_latest_first = query.order == Order::default();
    if let Some(RunPlace { value, run_id }) = after.or_else(|| is_latest_first.then_some(&first)) {
        let behind = match direction {
            Direction::Ascending => ">",
            Direction::Descending => "<",
        };
        match (order, value) {
            (Some(column), Some(value)) => {
                statement.push(format_args!(" AND ({column}, runs.run_id) {behind} ("));
                match value {
                    PlaceValue::Number(number) => statement.push_bind(*number),
                    PlaceValue::Text(text) => statement.push_bind(text.clone()),
                };
                statement.push(", ").push_bind(run_id.0.to_vec()).push(")");
            }
            (Some(_) | None, _) => {
                statement.push(format_args!(" AND {run_id_column} {behind} ")).push_bind(run_id.0.to_vec());
            }
        }
    }
    let direction = match direction {
        Direction::Ascending => "ASC",
        Direction::Descending => "DESC",
    };
    statement.push(" ORDER BY ");
    if let Some(column) = order {
        statement.push(format_args!("{column} {direction}, "));
    }
    statement.push(format_args!("{run_id_column} {direction} LIMIT ")).push_bind(limit);
    statement
}

/// A search attribute and the value that every run has of it that matches.
fn driver(condition: &Condition) -> Option<(&str, &Value)> {
    match condition {
        Condition::Attribute(name, Test::Compare(Comparison::Equal, value)) => Some((name, value)),
        Condition::All(all) => all.iter().find_map(driver),
        Condition::Compare(..)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::In(..)
        | Condition::IsNull(_)
        | Condition::Attribute(..) => None,
    }
}

/// The beginning of a statement that reads the runs of one value of a search attribute, and the condition that says so.
fn driven(namespace: &Namespace, name: &str, value: &Value) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(sql::SELECT_RUN_DRIVEN);
    statement.push_bind(namespace.0.clone()).push(" AND driver.name = ").push_bind(name.to_owned());
    statement.push(" AND driver.kind = ").push_bind(kind(value)).push(" AND driver.value = ");
    push_value(&mut statement, value);
    statement.push(" AND ");
    statement
}

/// Whether every run that matches has the one workflow id.
fn names_workflow(condition: &Condition) -> bool {
    match condition {
        Condition::Compare(Field::WorkflowId, Comparison::Equal, _) => true,
        Condition::All(all) => all.iter().any(names_workflow),
        Condition::Compare(..)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::In(..)
        | Condition::IsNull(_)
        | Condition::Attribute(..) => false,
    }
}

/// What a list is ordered by before its run ids.
const fn order_column(by: OrderBy) -> Option<&'static str> {
    match by {
        OrderBy::RunId => None,
        OrderBy::StartTime => Some("started_at"),
        OrderBy::CloseTime => Some("closed_at"),
        OrderBy::WorkflowId => Some("workflow_id"),
        OrderBy::WorkflowType => Some("workflow_type"),
    }
}

const fn column(field: Field) -> &'static str {
    match field {
        Field::WorkflowType => "workflow_type",
        Field::WorkflowId => "workflow_id",
        Field::RunId => "runs.run_id",
        Field::Status => "status",
        Field::Digest => "digest",
        Field::StartTime => "started_at",
        Field::CloseTime => "closed_at",
        Field::HistoryLength => "(next_event_id - 1)",
        Field::Blocked => "(blocked_kind IS NOT NULL)",
        Field::ParentWorkflowId => "parent_workflow_id",
        Field::ParentRunId => "parent_run_id",
    }
}

fn push_condition(statement: &mut QueryBuilder<Sqlite>, condition: &Condition) {
    match condition {
        Condition::All(all) => push_joined(statement, all, " AND "),
        Condition::Any(any) => push_joined(statement, any, " OR "),
        Condition::Not(condition) => {
            statement.push("NOT (");
            push_condition(statement, condition);
            statement.push(")");
        }
        Condition::Attribute(name, test) => push_test(statement, name, test),
        Condition::Compare(field, comparison, value) => {
            push_comparison(statement, *field, *comparison, value)
        }
        Condition::In(field, values) => {
            statement.push(column(*field)).push(" IN (");
            for (number, value) in values.iter().enumerate() {
                if number > 0 {
                    statement.push(", ");
                }
                push_value(statement, value);
            }
            statement.push(")");
        }
        Condition::IsNull(field) => {
            statement.push(column(*field)).push(" IS NULL");
        }
    }
}

/// What holds of a search attribute: null where it is not there or of another type, as a comparison with a field that is
/// not there, so that its opposite does not hold either.
fn push_test(statement: &mut QueryBuilder<Sqlite>, name: &str, test: &Test) {
    let (comparison, values) = match test {
        Test::IsNull => {
            statement.push("NOT ");
            push_entry(statement, name, None);
            statement.push(")");
            return;
        }
        // Of a list none is to be the value.
        Test::Compare(Comparison::NotEqual, value) => {
            statement.push("NOT ");
            return push_test(statement, name, &Test::Compare(Comparison::Equal, value.clone()));
        }
        Test::Compare(comparison, value) => (*comparison, std::slice::from_ref(value)),
        Test::In(values) => (Comparison::Equal, values.as_slice()),
    };
    let kind = values.first().map_or("", kind);
    statement.push("(CASE WHEN ");
    push_entry(statement, name, Some(kind));
    statement.push(" AND (");
    for (number, value) in values.iter().enumerate() {
        statement.push(if number > 0 { " OR " } else { "" });
        push_compared(statement, "entry.value", comparison, value);
    }
    statement.push(")) THEN 1 WHEN ");
    push_entry(statement, name, Some(kind));
    statement.push(") THEN 0 END)");
}

/// Whether the run has an entry of that name, and kind; more conditions on `entry` and a parenthesis follow. It is looked
/// for among the run's own few: their index is named, because the other one would have all runs of a value read.
fn push_entry(statement: &mut QueryBuilder<Sqlite>, name: &str, kind: Option<&'static str>) {
    statement.push(
        "EXISTS (SELECT 1 FROM run_attributes AS entry INDEXED BY run_attributes_by_run \
         WHERE entry.run_id = runs.run_id AND entry.name = ",
    );
    statement.push_bind(name.to_owned());
    if let Some(kind) = kind {
        statement.push(" AND entry.kind = ").push_bind(kind);
    }
}

/// The kind under which a value stands in the index.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => details::TEXT,
        Value::Number(_) | Value::Float(_) => details::NUMBER,
        Value::Bool(_) => details::BOOL,
        Value::Time(_) => details::TIME,
        Value::RunId(_) | Value::Status(_) | Value::Digest(_) => "",
    }
}

fn push_joined(statement: &mut QueryBuilder<Sqlite>, conditions: &[Condition], word: &str) {
    statement.push("(");
    for (number, condition) in conditions.iter().enumerate() {
        if number > 0 {
            statement.push(word);
        }
        push_condition(statement, condition);
    }
    statement.push(")");
}

fn push_comparison(
    statement: &mut QueryBuilder<Sqlite>,
    field: Field,
    comparison: Comparison,
    value: &Value,
) {
    push_compared(statement, column(field), comparison, value);
}

fn push_compared(statement: &mut QueryBuilder<Sqlite>, column: &str, comparison: Comparison, value: &Value) {
    let operator = match comparison {
        Comparison::Equal => " = ",
        Comparison::NotEqual => " <> ",
        Comparison::Less => " < ",
        Comparison::LessOrEqual => " <= ",
        Comparison::Greater => " > ",
        Comparison::GreaterOrEqual => " >= ",
        Comparison::StartsWith => {
            statement.push(format_args!("SUBSTR({column}, 1, LENGTH("));
            push_value(statement, value);
            statement.push(")) = ");
            return push_value(statement, value);
        }
    };
    statement.push(column).push(operator);
    push_value(statement, value);
}

fn push_value(statement: &mut QueryBuilder<Sqlite>, value: &Value) {
    match value {
        Value::Text(text) => statement.push_bind(text.clone()),
        Value::RunId(run_id) => statement.push_bind(run_id.0.to_vec()),
        Value::Status(status) => statement.push_bind(status.name()),
        Value::Digest(digest) => statement.push_bind(digest.0.to_vec()),
        Value::Time(time) => statement.push_bind(time.0),
        Value::Number(number) => statement.push_bind(*number),
        Value::Float(number) => statement.push_bind(*number),
        Value::Bool(truth) => statement.push_bind(*truth),
    };
}
