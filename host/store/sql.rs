//! SQL text that SQLite and PostgreSQL both understand. What only one of them understands stands in
//! that backend's own files and in `migrations/`.
//!
//! Placeholders are `$1`, `$2`, … and appear for the first time in that order: PostgreSQL goes by
//! the number, rusqlite by the first appearance.

/// The epoch of the store's present owner.
pub(super) const EPOCH: &str = "SELECT epoch FROM shards WHERE shard = 0";

/// Whether the owner before stopped in order.
pub(super) const WAS_CLOSED_IN_ORDER: &str = "SELECT closed_in_order FROM shards WHERE shard = 0";

/// Takes the store over: owner, time → epoch.
pub(super) const TAKE_SHARD: &str = "\
    UPDATE shards SET epoch = epoch + 1, owner = $1, opened_at = $2, closed_in_order = FALSE \
    WHERE shard = 0 RETURNING epoch";

/// Notes that the owner stops in order: epoch.
pub(super) const CLOSE_SHARD: &str =
    "UPDATE shards SET closed_in_order = TRUE WHERE shard = 0 AND epoch = $1";

/// Writes a row that tells nobody anything, to see whether it can be written: owner, epoch.
pub(super) const PROBE: &str = "UPDATE shards SET owner = $1 WHERE shard = 0 AND epoch = $2";

/// The run that did a request: namespace, workflow id, operation, request id → run id.
pub(super) const REQUEST: &str = "\
    SELECT run_id FROM requests \
    WHERE namespace = $1 AND workflow_id = $2 AND operation = $3 AND request_id = $4";

/// Remembers the run that did a request.
pub(super) const REQUEST_PUT: &str = "\
    INSERT INTO requests (namespace, workflow_id, operation, request_id, run_id) \
    VALUES ($1, $2, $3, $4, $5)";

/// The workflow id of a run.
pub(super) const WORKFLOW_ID: &str = "SELECT workflow_id FROM runs WHERE run_id = $1";

/// The open run of a workflow id: namespace, workflow id → run id, inputs in its inbox.
pub(super) const OPEN_RUN: &str = "\
    SELECT run_id, inbox_length FROM runs WHERE namespace = $1 AND workflow_id = $2 AND status = 'running'";

/// Whether a run is open: run id.
pub(super) const IS_OPEN: &str = "SELECT 1 FROM runs WHERE run_id = $1 AND status = 'running'";

/// The open run of a child: its parent's run id, the parent's command.
pub(super) const OPEN_CHILD: &str = "\
    SELECT run_id FROM runs WHERE parent_run_id = $1 AND parent_event_id = $2 AND status = 'running'";

/// The open children of a run: its run id → run id, parent-close policy, the parent's workflow id.
pub(super) const OPEN_CHILDREN: &str = "\
    SELECT run_id, parent_close_policy, parent_workflow_id FROM runs \
    WHERE parent_run_id = $1 AND status = 'running' ORDER BY parent_event_id, run_id";

/// The last run of a child: its parent's run id, the parent's command → run id, status, closed at, outcome. A run that goes
/// on from another one has the later run id.
pub(super) const LAST_OF_CHILD: &str = "\
    SELECT run_id, status, closed_at, outcome FROM runs \
    WHERE parent_run_id = $1 AND parent_event_id = $2 ORDER BY run_id DESC LIMIT 1";

/// The run that is told of a run's end: run id.
pub(super) const PARENT: &str = "SELECT parent_run_id FROM runs WHERE run_id = $1";

/// Makes the children that a run began up to an event another run's: to, from, event.
pub(super) const CHILDREN_HAND_OVER: &str =
    "UPDATE runs SET parent_run_id = $1 WHERE parent_run_id = $2 AND parent_event_id <= $3";

/// The last run of a workflow id and how it closed: namespace, workflow id → run id, status.
pub(super) const LAST_RUN: &str = "\
    SELECT run_id, status FROM runs WHERE namespace = $1 AND workflow_id = $2 \
    ORDER BY started_at DESC, run_id DESC LIMIT 1";

/// A new run. No row: its run id is taken.
pub(super) const RUN_PUT: &str = "\
    INSERT INTO runs (run_id, namespace, workflow_id, workflow_type, digest, status, next_event_id, \
        open_activities, inbox_length, started_at, closed_at, outcome, \
        parent_run_id, parent_workflow_id, parent_event_id, parent_close_policy, start_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
    ON CONFLICT (run_id) DO NOTHING";

/// The fence of a step that leaves the run open. No row: the run is not where it was expected.
pub(super) const RUN_ADVANCE: &str = "\
    UPDATE runs SET next_event_id = $1, open_activities = $2, \
        start_at = CASE WHEN next_event_id = $1 THEN start_at END \
    WHERE run_id = $3 AND namespace = $4 AND next_event_id = $5 AND status = 'running'";

/// The fence of the step that closes the run. No row: the run is not where it was expected, or more waits in its
/// inbox than it knows of. Answers with the run's parent, the parent's command, its own type and workflow id.
pub(super) const RUN_CLOSE: &str = "\
    UPDATE runs SET next_event_id = $1, open_activities = $2, status = $3, closed_at = $4, outcome = $5, \
        inbox_length = 0, blocked_kind = NULL, blocked_event_id = NULL, blocked_reason = NULL, \
        blocked_backtrace = NULL, blocked_divergence = NULL, blocked_since = NULL, blocked_retries = NULL, blocked_retry_at = NULL \
    WHERE run_id = $6 AND namespace = $7 AND next_event_id = $8 AND status = 'running' AND inbox_length <= $9 \
    RETURNING parent_run_id, parent_event_id, workflow_type, workflow_id";

/// Blocks a run.
pub(super) const RUN_BLOCK: &str = "\
    UPDATE runs SET blocked_kind = $1, blocked_event_id = $2, blocked_reason = $3, blocked_backtrace = $4, \
        blocked_divergence = $5, blocked_since = $6, blocked_retries = $7, blocked_retry_at = $8 \
    WHERE run_id = $9";

/// Takes a block away.
pub(super) const RUN_UNBLOCK: &str = "\
    UPDATE runs SET blocked_kind = NULL, blocked_event_id = NULL, blocked_reason = NULL, \
        blocked_backtrace = NULL, blocked_divergence = NULL, blocked_since = NULL, blocked_retries = NULL, blocked_retry_at = NULL \
    WHERE run_id = $1";

/// Counts inbox rows that came and went.
pub(super) const RUN_INBOX_LENGTH: &str =
    "UPDATE runs SET inbox_length = inbox_length + $1 WHERE run_id = $2";

/// Appends a step to a history.
pub(super) const HISTORY_PUT: &str = "\
    INSERT INTO history (run_id, namespace, first_event_id, event_count, body) VALUES ($1, $2, $3, $4, $5)";

/// A timer that began. The run's own one takes the place of the one before.
pub(super) const TIMER_PUT: &str = "\
    INSERT INTO timers (run_id, namespace, started_event_id, fire_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (run_id, started_event_id) DO UPDATE SET fire_at = excluded.fire_at";

/// A timer that fired or was taken back.
pub(super) const TIMER_DELETE: &str = "DELETE FROM timers WHERE run_id = $1 AND started_event_id = $2";

/// All timers of a run.
pub(super) const TIMERS_DELETE: &str = "DELETE FROM timers WHERE run_id = $1";

/// The row of an open activity, new or in place of the one before.
pub(super) const ATTEMPT_PUT: &str = "\
    INSERT INTO pending_activities (run_id, namespace, scheduled_event_id, activity_type, attempt, \
        next_attempt_at, last_failure, last_failure_json, last_failure_at, heartbeat_details, \
        last_heartbeat_at, lease_id, lease_worker, leased_at, paused_at, paused_under_way, reset_at, reset_due) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
    ON CONFLICT (run_id, scheduled_event_id) DO UPDATE SET \
        activity_type = excluded.activity_type, attempt = excluded.attempt, \
        next_attempt_at = excluded.next_attempt_at, last_failure = excluded.last_failure, \
        last_failure_json = excluded.last_failure_json, last_failure_at = excluded.last_failure_at, \
        heartbeat_details = excluded.heartbeat_details, last_heartbeat_at = excluded.last_heartbeat_at, \
        lease_id = excluded.lease_id, lease_worker = excluded.lease_worker, leased_at = excluded.leased_at, \
        paused_at = excluded.paused_at, paused_under_way = excluded.paused_under_way, \
        reset_at = excluded.reset_at, reset_due = excluded.reset_due";

/// An activity that closed.
pub(super) const ATTEMPT_DELETE: &str =
    "DELETE FROM pending_activities WHERE run_id = $1 AND scheduled_event_id = $2";

/// All rows of attempts of a run.
pub(super) const ATTEMPTS_DELETE: &str = "DELETE FROM pending_activities WHERE run_id = $1";

/// An input that has to wait.
pub(super) const INBOX_PUT: &str =
    "INSERT INTO inbox (run_id, namespace, received_at, input_type, input) VALUES ($1, $2, $3, $4, $5)";

/// An input that was folded or dropped.
pub(super) const INBOX_DELETE: &str = "DELETE FROM inbox WHERE seq = $1 AND run_id = $2";

/// All inputs that wait for a run.
pub(super) const INBOX_CLEAR: &str = "DELETE FROM inbox WHERE run_id = $1";

/// Whether a run is about to be terminated: run id.
pub(super) const IS_TO_BE_TERMINATED: &str =
    "SELECT 1 FROM inbox WHERE run_id = $1 AND input_type = 'WorkflowTerminated'";

/// Hands what waits for a run over to the run that goes on from it: to, from.
pub(super) const INBOX_HAND_OVER: &str = "\
    INSERT INTO inbox (run_id, namespace, received_at, input_type, input) \
    SELECT $1, namespace, received_at, input_type, input FROM inbox \
    WHERE run_id = $2 AND \
        input_type IN ('SignalReceived', 'WorkflowCancelRequested', 'WorkflowTerminated', 'UpdateAdmitted') \
    ORDER BY seq";

/// A component. No row: it is there already.
pub(super) const COMPONENT_PUT: &str = "\
    INSERT INTO components (namespace, digest, size, sdk, deployed_at) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (namespace, digest) DO NOTHING";

/// A component's bytes.
pub(super) const COMPONENT_BYTES_PUT: &str =
    "INSERT INTO component_bytes (digest, bytes) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";

/// A workflow type of a component.
pub(super) const COMPONENT_TYPE_PUT: &str = "\
    INSERT INTO component_types (namespace, digest, workflow_type) VALUES ($1, $2, $3) \
    ON CONFLICT (namespace, digest, workflow_type) DO NOTHING";

/// Brings the retired types of a component back: namespace, digest.
pub(super) const COMPONENT_REVIVE: &str = "\
    UPDATE component_types SET retired_at = NULL WHERE namespace = $1 AND digest = $2";

/// Makes a component current for a type that has none.
pub(super) const WORKFLOW_TYPE_PUT: &str = "\
    INSERT INTO workflow_types (namespace, workflow_type, current_digest, changed_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (namespace, workflow_type) DO NOTHING";

/// The components of a namespace, a row for each of their types.
pub(super) const COMPONENTS: &str = "\
    SELECT c.digest, c.size, c.sdk, c.deployed_at, t.workflow_type, \
        w.workflow_type IS NOT NULL AS is_current \
    FROM components AS c \
    LEFT JOIN component_types AS t ON t.namespace = c.namespace AND t.digest = c.digest \
    LEFT JOIN workflow_types AS w ON w.namespace = t.namespace AND w.workflow_type = t.workflow_type \
        AND w.current_digest = c.digest \
    WHERE c.namespace = $1 ORDER BY c.deployed_at, c.digest, t.workflow_type";

/// A component's bytes: digest.
pub(super) const COMPONENT_BYTES: &str = "SELECT bytes FROM component_bytes WHERE digest = $1";

/// The routes of all types: namespace.
pub(super) const ROUTES: &str = "\
    SELECT workflow_type, current_digest, candidate_digest, ramp_percent, previous_digest, revision, changed_at \
    FROM workflow_types WHERE namespace = $1 ORDER BY workflow_type";

/// The route of one type: namespace, type.
pub(super) const ROUTE: &str = "\
    SELECT workflow_type, current_digest, candidate_digest, ramp_percent, previous_digest, revision, changed_at \
    FROM workflow_types WHERE namespace = $1 AND workflow_type = $2";

/// The components that some route leads to.
pub(super) const ROUTED: &str = "\
    SELECT current_digest FROM workflow_types \
    UNION SELECT candidate_digest FROM workflow_types WHERE candidate_digest IS NOT NULL";

/// Changes a route. No row: it is at another revision.
pub(super) const ROUTE_SET: &str = "\
    UPDATE workflow_types SET current_digest = $1, candidate_digest = $2, ramp_percent = $3, \
        previous_digest = $4, revision = revision + 1, changed_at = $5 \
    WHERE namespace = $6 AND workflow_type = $7 AND revision = $8";

/// The versions of a type with the runs on each: namespace, type.
pub(super) const VERSIONS: &str = "\
    SELECT t.digest, c.size, c.sdk, c.deployed_at, t.retired_at, t.routed_at, r.open, r.blocked, r.runs, \
        r.failed, r.first_started_at, r.last_started_at \
    FROM component_types AS t \
    JOIN components AS c ON c.namespace = t.namespace AND c.digest = t.digest \
    LEFT JOIN (\
        SELECT digest, COUNT(*) AS runs, MIN(started_at) AS first_started_at, MAX(started_at) AS last_started_at, \
            COUNT(CASE WHEN status = 'running' THEN 1 END) AS open, \
            COUNT(CASE WHEN status = 'failed' THEN 1 END) AS failed, COUNT(blocked_kind) AS blocked \
        FROM runs WHERE namespace = $1 AND workflow_type = $2 GROUP BY digest\
    ) AS r ON r.digest = t.digest \
    WHERE t.namespace = $1 AND t.workflow_type = $2 ORDER BY c.deployed_at, t.digest";

/// Whether a component is a version of a type, and when it was retired: namespace, type, digest.
pub(super) const STANDING: &str = "\
    SELECT retired_at FROM component_types WHERE namespace = $1 AND workflow_type = $2 AND digest = $3";

/// Notes that new runs are sent to a version: time, namespace, type, digest.
pub(super) const VERSION_ROUTED: &str = "\
    UPDATE component_types SET routed_at = COALESCE(routed_at, $1) \
    WHERE namespace = $2 AND workflow_type = $3 AND digest = $4";

/// Retires a version: time, namespace, type, digest. No row: there is no such version.
pub(super) const VERSION_RETIRE: &str = "\
    UPDATE component_types SET retired_at = COALESCE(retired_at, $1) \
    WHERE namespace = $2 AND workflow_type = $3 AND digest = $4";

/// Forgets a way back to a version: namespace, type, digest.
pub(super) const ROUTE_FORGET: &str = "\
    UPDATE workflow_types SET previous_digest = NULL, revision = revision + 1 \
    WHERE namespace = $1 AND workflow_type = $2 AND previous_digest = $3";

/// Whether new runs of a type may start on a component: namespace, type, digest.
pub(super) const IS_ROUTED: &str = "\
    SELECT 1 FROM workflow_types \
    WHERE namespace = $1 AND workflow_type = $2 AND (current_digest = $3 OR candidate_digest = $3)";

/// How many runs of a type are open on a component: namespace, type, digest.
pub(super) const OPEN_ON: &str = "\
    SELECT COUNT(*) FROM runs \
    WHERE namespace = $1 AND status = 'running' AND workflow_type = $2 AND digest = $3";

/// Moves a run to another component: digest, run id.
pub(super) const RUN_MOVE: &str = "UPDATE runs SET digest = $1 WHERE run_id = $2";

/// Runs that closed before a time, the earliest first: time, limit.
pub(super) const CLOSED_BEFORE: &str =
    "SELECT run_id FROM runs WHERE closed_at < $1 ORDER BY closed_at LIMIT $2";

/// When the earliest closed run closed; null without one.
pub(super) const EARLIEST_CLOSED: &str = "SELECT MIN(closed_at) FROM runs WHERE closed_at IS NOT NULL";

/// The requests that name a run: run id, limit.
pub(super) const REQUESTS_OF: &str = "\
    SELECT namespace, workflow_id, operation, request_id FROM requests WHERE run_id = $1 LIMIT $2";

/// Forgets a request: namespace, workflow id, operation, request id.
pub(super) const REQUEST_DELETE: &str = "\
    DELETE FROM requests \
    WHERE namespace = $1 AND workflow_id = $2 AND operation = $3 AND request_id = $4";

/// Removes a closed run: run id.
pub(super) const RUN_DELETE: &str = "DELETE FROM runs WHERE run_id = $1 AND closed_at IS NOT NULL";

/// What a run is described by, now or again: run id, namespace, search attributes and memo in CBOR.
pub(super) const DETAILS_PUT: &str = "\
    INSERT INTO run_details (run_id, namespace, search_attributes, memo) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (run_id) DO UPDATE SET search_attributes = excluded.search_attributes, memo = excluded.memo";

/// Forgets what a run is described by: run id.
pub(super) const DETAILS_DELETE: &str = "DELETE FROM run_details WHERE run_id = $1";

/// What runs are described by; their ids and a parenthesis follow.
pub(super) const DETAILS: &str = "SELECT run_id, search_attributes, memo FROM run_details WHERE run_id IN (";

/// A value that a run is found by: namespace, name, kind, value, run id.
pub(super) const ATTRIBUTE_PUT: &str = "\
    INSERT INTO run_attributes (namespace, name, kind, value, run_id) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (namespace, name, kind, value, run_id) DO NOTHING";

/// Forgets what a run is found by: run id.
pub(super) const ATTRIBUTES_DELETE: &str = "DELETE FROM run_attributes WHERE run_id = $1";

/// A new schedule. No row: there is one of that id.
pub(super) const SCHEDULE_CREATE: &str = "\
    INSERT INTO schedules (namespace, schedule_id, revision, definition, state, wake_at, running, created_at, changed_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (namespace, schedule_id) DO NOTHING";

/// Changes a schedule. No row: it is at another revision, or not there.
pub(super) const SCHEDULE_CHANGE: &str = "\
    UPDATE schedules SET revision = $1, definition = $2, state = $3, wake_at = $4, running = $5, changed_at = $6 \
    WHERE namespace = $7 AND schedule_id = $8 AND created_at = $9 AND revision = $10";

/// Forgets a schedule: namespace, schedule id.
pub(super) const SCHEDULE_DELETE: &str = "DELETE FROM schedules WHERE namespace = $1 AND schedule_id = $2";

/// A schedule: namespace, schedule id.
pub(super) const SCHEDULE: &str = "\
    SELECT namespace, schedule_id, revision, definition, state, wake_at, created_at, changed_at \
    FROM schedules WHERE namespace = $1 AND schedule_id = $2";

/// Schedules by id: namespace, the id to go on behind, limit.
pub(super) const SCHEDULES: &str = "\
    SELECT namespace, schedule_id, revision, definition, state, wake_at, created_at, changed_at \
    FROM schedules WHERE namespace = $1 AND schedule_id > $2 ORDER BY schedule_id LIMIT $3";

/// Schedules that have something to do: until, limit.
pub(super) const SCHEDULES_DUE: &str = "\
    SELECT namespace, schedule_id FROM schedules WHERE wake_at IS NOT NULL AND wake_at <= $1 \
    ORDER BY wake_at LIMIT $2";

/// When the first schedule has something to do.
pub(super) const SCHEDULES_WAKE: &str = "SELECT MIN(wake_at) FROM schedules WHERE wake_at IS NOT NULL";

/// Schedules that have runs: the key to go on behind, limit.
pub(super) const SCHEDULES_RUNNING: &str = "\
    SELECT namespace, schedule_id, revision, definition, state, wake_at, created_at, changed_at \
    FROM schedules WHERE running > 0 AND (namespace, schedule_id) > ($1, $2) \
    ORDER BY namespace, schedule_id LIMIT $3";

/// The rows of a history and their sizes in bytes: run id.
pub(super) const HISTORY_SIZES: &str =
    "SELECT first_event_id, LENGTH(body) FROM history WHERE run_id = $1 ORDER BY first_event_id";

/// Removes the beginning of a history: run id, the number of the last row's first event.
pub(super) const HISTORY_DELETE: &str = "DELETE FROM history WHERE run_id = $1 AND first_event_id <= $2";

/// Remembers a run that is gone and whose history is not yet: run id.
pub(super) const REMOVED_PUT: &str = "INSERT INTO removed_runs (run_id) VALUES ($1)";

/// A run that is gone and whose history is not yet.
pub(super) const REMOVED_FIRST: &str = "SELECT run_id FROM removed_runs ORDER BY run_id LIMIT 1";

/// Forgets a run all of which is gone: run id.
pub(super) const REMOVED_DELETE: &str = "DELETE FROM removed_runs WHERE run_id = $1";

macro_rules! select_run {
    ($condition:literal) => {
        select_run!(from "runs WHERE ", $condition)
    };
    (from $tables:literal, $condition:literal) => {
        concat!(
            "SELECT runs.run_id AS run_id, runs.namespace AS namespace, workflow_id, workflow_type, digest, status, \
                next_event_id, open_activities, started_at, closed_at, outcome, blocked_kind, \
                blocked_event_id, blocked_reason, blocked_backtrace, blocked_divergence, blocked_since, \
                blocked_retries, blocked_retry_at, parent_run_id, parent_workflow_id, parent_event_id, \
                parent_close_policy, start_at \
            FROM ",
            $tables,
            $condition
        )
    };
}

/// Runs, before the condition.
pub(super) const SELECT_RUN: &str = select_run!("");

/// Runs that have a value of a search attribute, read in the order of its index, before the rest of the condition.
pub(super) const SELECT_RUN_DRIVEN: &str = select_run!(
    from "run_attributes AS driver CROSS JOIN runs ON runs.run_id = driver.run_id WHERE ",
    "driver.namespace = "
);

/// A run: run id, namespace.
pub(super) const RUN: &str = select_run!("run_id = $1 AND namespace = $2");

/// The open, else the latest run of a workflow id: namespace, workflow id.
pub(super) const LATEST_RUN: &str = select_run!(
    "run_id = COALESCE(\
        (SELECT run_id FROM runs WHERE namespace = $1 AND workflow_id = $2 AND status = 'running'), \
        (SELECT run_id FROM runs WHERE namespace = $1 AND workflow_id = $2 \
         ORDER BY started_at DESC, run_id DESC LIMIT 1))"
);

/// Open runs: namespace, the workflow id to go on behind, type, digest, blocked, limit. It goes by the
/// index of open runs, whatever else there is.
pub(super) const OPEN_RUNS: &str = select_run!(
    "namespace = $1 AND status = 'running' AND workflow_id > $2 \
        AND ($3 IS NULL OR workflow_type = $3) AND ($4 IS NULL OR digest = $4) \
        AND ($5 IS NULL OR (blocked_kind IS NOT NULL) = $5) \
    ORDER BY workflow_id LIMIT $6"
);

/// A history from the row on that holds an event: run id, namespace, the event's number.
pub(super) const HISTORY: &str = "\
    SELECT body FROM history \
    WHERE run_id = $1 AND namespace = $2 AND first_event_id + event_count > $3 \
        AND first_event_id >= COALESCE(\
            (SELECT MAX(first_event_id) FROM history WHERE run_id = $1 AND first_event_id <= $3), 0) \
    ORDER BY first_event_id";

/// The last step of a history: run id, namespace.
pub(super) const LAST_STEP: &str = "\
    SELECT body FROM history WHERE run_id = $1 AND namespace = $2 ORDER BY first_event_id DESC LIMIT 1";

/// A run's inbox: run id, namespace.
pub(super) const INBOX: &str =
    "SELECT seq, received_at, input_type, input FROM inbox WHERE run_id = $1 AND namespace = $2 ORDER BY seq";

/// A run's rows of attempts: run id, namespace.
pub(super) const ATTEMPTS: &str = "\
    SELECT scheduled_event_id, activity_type, attempt, next_attempt_at, last_failure, last_failure_at, \
        heartbeat_details, last_heartbeat_at, lease_id, lease_worker, leased_at, paused_at, paused_under_way, \
        reset_at, reset_due \
    FROM pending_activities WHERE run_id = $1 AND namespace = $2 ORDER BY scheduled_event_id";

/// Open runs that need attention: the key to go on behind, limit. The condition is the index's own.
pub(super) const NEEDING_ATTENTION: &str = "\
    SELECT namespace, run_id FROM runs \
    WHERE status = 'running' AND (open_activities > 0 OR (inbox_length > 0 AND start_at IS NULL) OR blocked_kind IS NOT NULL) \
        AND (namespace, run_id) > ($1, $2) \
    ORDER BY namespace, run_id LIMIT $3";

/// Open runs of each type and component, and how many of them are blocked.
pub(super) const SURVEY: &str = "\
    SELECT workflow_type, digest, COUNT(*) AS open, COUNT(blocked_kind) AS blocked FROM runs \
    WHERE status = 'running' GROUP BY workflow_type, digest ORDER BY workflow_type, digest";

/// Due timers: until, the row to go on behind, limit.
pub(super) const TIMERS_DUE: &str = "\
    SELECT fire_at, namespace, run_id, started_event_id FROM timers \
    WHERE fire_at <= $1 AND (fire_at, namespace, run_id, started_event_id) > ($2, $3, $4, $5) \
    ORDER BY fire_at, namespace, run_id, started_event_id LIMIT $6";

#[cfg(test)]
mod tests {
    /// The numbers of a text's placeholders, in order.
    fn placeholders(text: &str) -> Vec<usize> {
        let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
        text.split('$').skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
    }

    #[test]
    fn placeholders_appear_in_their_order() {
        let source = include_str!("sql.rs");
        let source = source.split("#[cfg(test)]").next().expect("there is text before the tests");
        let statements: Vec<&str> = source.split("pub(super) const ").skip(1).collect();
        assert!(statements.len() > 30, "the statements were found");
        for statement in statements {
            let mut seen = 0;
            for number in placeholders(statement) {
                assert!(number <= seen + 1, "${number} too early in {statement}");
                seen = seen.max(number);
            }
        }
    }
}
