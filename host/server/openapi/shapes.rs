//! The JSON of types that do not describe themselves: the core's, and those whose form depends on what
//! they hold. Each shape is the description of the type of the same name.

use std::borrow::Cow;

use utoipa::openapi::schema::{AdditionalProperties, SchemaType};
use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use everfold_core::machine::update::UpdateStage as UpdateStages;
use everfold_core::{machine, schedule};

use crate::runner::api;

/// Types that stand for a schema; after `uses` those that it refers to.
macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident uses [$($used:ident),*] = $schema:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(in crate::server) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                let _ = &schemas;
                $(
                    schemas.push(($used::name().into_owned(), $used::schema()));
                    $used::schemas(schemas);
                )*
            }
        }
    )+};
}

shapes! {
    /// How a run stands.
    RunStatus uses [] = text()
        .description(Some("How a run stands"))
        .enum_values(Some(machine::RunStatus::ALL.map(machine::RunStatus::name)));

    /// Whether a new run may have the workflow id of a closed one.
    IdReusePolicy uses [] = text()
        .enum_values(Some(["allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"]));

    /// How a workflow is tried again.
    RetryPolicy uses [] = object()
        .description(Some("How it is tried again: the delay before try n + 1 is min(initial · coefficient^(n − 1), maximum)"))
        .property("initial_interval_ms", integer().minimum(Some(0)).description(Some("Default 1,000")))
        .property("backoff_coefficient", ObjectBuilder::new().schema_type(Type::Number).minimum(Some(1)).description(Some("Default 2")))
        .property("maximum_interval_ms", integer().minimum(Some(0)).description(Some("Default 100 × the initial interval")))
        .property("maximum_attempts", integer().minimum(Some(0)).maximum(Some(u32::MAX)).description(Some("The first try counts; absent or 0 means no limit")))
        .property("non_retryable_types", utoipa::openapi::Array::new(text()));

    /// What a start makes of a run that is open under its workflow id.
    IdConflictPolicy uses [] = text().enum_values(Some(["fail", "use_existing", "terminate_existing"]));

    /// What becomes of a scheduled start that meets an open run.
    OverlapPolicy uses [] = text()
        .description(Some(
            "What becomes of a start that is due while a run of the schedule is open: it is left out, waits (one or all), has the \
             run cancelled or terminated, or begins beside it",
        ))
        .enum_values(Some(schedule::OverlapPolicy::ALL.map(schedule::OverlapPolicy::name)));

    /// When a schedule is due.
    ScheduleSpec uses [Calendar, Interval] = object()
        .description(Some("The union of all times that are named, without those that are excluded; at least one is named"))
        .property("cron", utoipa::openapi::Array::new(text()))
        .property("calendars", utoipa::openapi::Array::new(Ref::from_schema_name("Calendar")))
        .property("intervals", utoipa::openapi::Array::new(Ref::from_schema_name("Interval")))
        .property("exclude", utoipa::openapi::Array::new(Ref::from_schema_name("Calendar")))
        .property("start_at", time().description(Some("Nothing before this time")))
        .property("end_at", time().description(Some("Nothing behind this time")))
        .property("jitter", text().description(Some(
            "Each time is acted on up to so much later, as `30s`, but before the next one")))
        .property("time_zone", text().description(Some("An IANA name; UTC if absent")))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));

    /// Times of the clock.
    Calendar uses [] = object()
        .description(Some(
            "Times of the clock each of whose fields is one of those named: `*`, `5`, `1-5`, `*/10`, `MON`, several with commas",
        ))
        .property("second", text().description(Some("`0` if absent")))
        .property("minute", text().description(Some("`0` if absent")))
        .property("hour", text().description(Some("`0` if absent")))
        .property("day_of_month", text().description(Some("`*` if absent")))
        .property("month", text().description(Some("`*` if absent")))
        .property("year", text().description(Some("`*` if absent; 2000 to 2100")))
        .property("day_of_week", text().description(Some("`*` if absent; 0 and 7 are Sunday")))
        .property("comment", text().description(Some("For people")))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));

    /// Times at equal distances.
    Interval uses [] = object()
        .description(Some("Times at equal distances, counted from 1970-01-01T00:00:00Z"))
        .property("every", text().description(Some("The distance, as `1h 30m`; at least `1s`")))
        .required("every")
        .property("offset", text().description(Some("How much later than a multiple of it")))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));

    /// The event that a run is reset to.
    ResetPoint uses [] = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::String]))
        .description(Some("The number of an event, `\"start\"` or `\"last\"`"));

    /// How far an update is.
    UpdateStage uses [] = text().enum_values(Some(UpdateStages::ALL.map(UpdateStages::name)));

    /// The answer to an update.
    UpdateEnd uses [Failure] = object()
        .description(Some("Its answer, once it is completed: one of the two"))
        .property("result", ObjectBuilder::new().schema_type(SchemaType::AnyValue))
        .property("failure", Ref::from_schema_name("Failure"));

    /// A status, and the end of a closed run.
    Standing uses [RunStatus, Failure] = standing()
        .description(Some("How a run stands, with its end if it has ended"))
        .required("status");

    /// The same for a start, which tells it only to those who wait.
    StandingIfWaited uses [RunStatus, Failure] = standing()
        .description(Some("How the run stands; absent if nobody waited"));

    /// A failure with its causes.
    Failure uses [FailureKind] = object()
        .description(Some("What went wrong, with its causes"))
        .property("message", text().description(Some("For people")))
        .required("message")
        .property("kind", Ref::from_schema_name("FailureKind"))
        .required("kind")
        .property("stack_trace", text().description(Some("Where it arose, one frame a line; absent if unknown")))
        .property("cause", Ref::from_schema_name("Failure"));

    /// What sort of failure it is. The other members depend on `kind`.
    FailureKind uses [] = open_object()
        .description(Some("What sort of failure it is, for programs; more members depend on `kind`"))
        .property("kind", text().enum_values(Some(FAILURE_KINDS)))
        .required("kind")
        .property("type", text().description(Some("Of `application`: its name")))
        .property("non_retryable", ObjectBuilder::new().schema_type(Type::Boolean));

    /// How an open activity stands.
    ActivityState uses [] = text()
        .description(Some("How an open activity stands"))
        .enum_values(Some(api::ActivityState::ALL.map(api::ActivityState::name)));

    /// An activity's time-outs.
    ActivityTimeouts uses [] = object()
        .description(Some("Time-outs in milliseconds"))
        .property("schedule_to_start_ms", integer().minimum(Some(0)))
        .property("start_to_close_ms", integer().minimum(Some(0)))
        .property("schedule_to_close_ms", integer().minimum(Some(0)))
        .property("heartbeat_ms", integer().minimum(Some(0)));

    /// One event of a history.
    Event uses [] = object()
        .description(Some("One event of a history"))
        .property("event_id", integer().minimum(Some(1)))
        .required("event_id")
        .property("time", time())
        .required("time")
        .property("type", text().description(Some("`WorkflowStarted`, `ActivityScheduled`, …")))
        .required("type")
        .property("attributes", open_object().description(Some("They depend on `type`")))
        .required("attributes");

    /// Where a history and a replay part.
    Divergence uses [Call] = object()
        .description(Some("Where what the code does and what the history has part"))
        .property("event_id", integer().minimum(Some(1)))
        .required("event_id")
        .property("expected", Ref::from_schema_name("Call"))
        .required("expected")
        .property("actual", Ref::from_schema_name("Call"))
        .required("actual")
        .property("fields", utoipa::openapi::Array::new(field_change()))
        .required("fields")
        .property("backtrace", text().description(Some("The code's functions, one a line; may be empty")));

    /// What a guest asked for.
    Call uses [] = object()
        .description(Some("What the code asked for"))
        .property("type", ObjectBuilder::new()
            .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
            .description(Some("The event's type; null where it asked for nothing more")))
        .required("type")
        .property("name", text().description(Some("The activity's, signal's or change's name; may be empty")))
        .required("name");

    /// The lines of a long answer.
    Lines uses [] = text().description(Some(
        "JSON in lines: `{\"progress\": {\"done\", \"total\"}}` while it goes on, then `{\"report\": …}`, which is \
         the answer of the other form, or `{\"problem\": …}`"
    ));

    /// A history in a file.
    Export uses [Event] = object()
        .description(Some("A whole history, to be replayed anywhere"))
        .property("format", text())
        .required("format")
        .property("version", integer())
        .required("version")
        .property("namespace", text())
        .required("namespace")
        .property("workflow_id", text())
        .required("workflow_id")
        .property("run_id", run_id())
        .required("run_id")
        .property("workflow_type", text())
        .required("workflow_type")
        .property("digest", text())
        .required("digest")
        .property("exported_at", time())
        .required("exported_at")
        .property("events", utoipa::openapi::Array::new(Ref::from_schema_name("Event")))
        .required("events");

    /// A refused request.
    Problem uses [] = open_object()
        .description(Some("A refused request (RFC 9457); some codes come with more members"))
        .property("type", text())
        .required("type")
        .property("title", text().description(Some("The status's own phrase")))
        .required("title")
        .property("status", integer().minimum(Some(400)).maximum(Some(599)))
        .required("status")
        .property("code", text().description(Some("For programs: a name that never changes its meaning")))
        .required("code")
        .property("detail", text().description(Some("For people: what was wrong with this request")))
        .required("detail");

    /// Bytes as they are.
    Bytes uses [] = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));

    /// Whether the host is there.
    Health uses [] = object().property("status", text()).required("status");
}

/// The kinds of a failure, as the core names them.
pub(super) const FAILURE_KINDS: [&str; 7] =
    ["application", "timed_out", "canceled", "terminated", "activity", "child_workflow", "other"];

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

fn time() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn run_id() -> ObjectBuilder {
    text().format(Some(SchemaFormat::Custom("uuid".to_owned())))
}

fn object() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object)
}

fn open_object() -> ObjectBuilder {
    object().additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

fn field_change() -> ObjectBuilder {
    let any = |what| ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(what));
    object()
        .property("path", text().description(Some("Where the two differ")))
        .required("path")
        .property("expected", any("The recorded value"))
        .property("actual", any("The code's value"))
}

fn standing() -> ObjectBuilder {
    let any: Object = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("What it returned; of a completed run"))
        .build();
    object()
        .property("status", Ref::from_schema_name("RunStatus"))
        .property("result", any)
        .property("failure", Ref::from_schema_name("Failure"))
        .property("continued_as_run_id", run_id().description(Some("The run that goes on from this one")))
}
