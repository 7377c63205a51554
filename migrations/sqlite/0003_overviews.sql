-- Views for people: ids and digests as text, times as RFC 3339. The host reads none of them.

-- The names of a run beside its key; the other views join it.
CREATE VIEW run_names AS
SELECT
    run_id AS run_key,
    namespace,
    workflow_id,
    lower(
        substr(hex(run_id), 1, 8) || '-' || substr(hex(run_id), 9, 4) || '-' ||
        substr(hex(run_id), 13, 4) || '-' || substr(hex(run_id), 17, 4) || '-' ||
        substr(hex(run_id), 21, 12)
    ) AS run_id
FROM runs;

CREATE VIEW run_overview AS
SELECT
    names.namespace,
    names.workflow_id,
    names.run_id,
    workflow_type,
    status,
    next_event_id - 1 AS events,
    open_activities,
    inbox_length,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', closed_at / 1000.0, 'unixepoch') AS closed_at,
    blocked_kind,
    blocked_event_id,
    blocked_reason,
    blocked_retries,
    strftime('%Y-%m-%dT%H:%M:%fZ', blocked_retry_at / 1000.0, 'unixepoch') AS blocked_retry_at,
    lower(hex(digest)) AS digest
FROM runs JOIN run_names AS names ON names.run_key = runs.run_id;

CREATE VIEW timer_overview AS
SELECT
    names.namespace,
    workflow_id,
    names.run_id,
    started_event_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', fire_at / 1000.0, 'unixepoch') AS fire_at
FROM timers JOIN run_names AS names ON names.run_key = timers.run_id;

CREATE VIEW pending_activity_overview AS
SELECT
    names.namespace,
    workflow_id,
    names.run_id,
    scheduled_event_id,
    activity_type,
    attempt,
    strftime('%Y-%m-%dT%H:%M:%fZ', next_attempt_at / 1000.0, 'unixepoch') AS next_attempt_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_failure_at / 1000.0, 'unixepoch') AS last_failure_at,
    last_failure_json AS last_failure
FROM pending_activities JOIN run_names AS names ON names.run_key = pending_activities.run_id;

CREATE VIEW inbox_overview AS
SELECT
    seq,
    names.namespace,
    workflow_id,
    names.run_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', received_at / 1000.0, 'unixepoch') AS received_at,
    input_type
FROM inbox JOIN run_names AS names ON names.run_key = inbox.run_id;

CREATE VIEW history_overview AS
SELECT
    names.namespace,
    workflow_id,
    names.run_id,
    first_event_id,
    first_event_id + event_count - 1 AS last_event_id,
    length(body) AS bytes
FROM history JOIN run_names AS names ON names.run_key = history.run_id;

CREATE VIEW component_overview AS
SELECT
    components.namespace,
    lower(hex(components.digest)) AS digest,
    component_types.workflow_type,
    workflow_types.workflow_type IS NOT NULL AS is_current,
    size,
    sdk,
    strftime('%Y-%m-%dT%H:%M:%fZ', deployed_at / 1000.0, 'unixepoch') AS deployed_at
FROM components
    LEFT JOIN component_types
        ON component_types.namespace = components.namespace AND component_types.digest = components.digest
    LEFT JOIN workflow_types
        ON workflow_types.namespace = component_types.namespace
        AND workflow_types.workflow_type = component_types.workflow_type
        AND workflow_types.current_digest = components.digest;
