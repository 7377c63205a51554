-- What signals, heartbeats and the list of runs need.

-- A request_id is unique for the workflow id and the operation: start, signal, cancel, terminate.
CREATE TABLE requests_by_operation (
    namespace   TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    operation   TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    run_id      BLOB NOT NULL,
    PRIMARY KEY (namespace, workflow_id, operation, request_id)
) STRICT, WITHOUT ROWID;

INSERT INTO requests_by_operation (namespace, workflow_id, operation, request_id, run_id)
SELECT namespace, workflow_id, 'start', request_id, run_id FROM requests;

DROP TABLE requests;
ALTER TABLE requests_by_operation RENAME TO requests;

-- When the attempt under way last sent a heartbeat, as far as that was written down.
ALTER TABLE pending_activities ADD COLUMN last_heartbeat_at INTEGER;

DROP VIEW pending_activity_overview;
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
    last_failure_json AS last_failure,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_heartbeat_at / 1000.0, 'unixepoch') AS last_heartbeat_at
FROM pending_activities JOIN run_names AS names ON names.run_key = pending_activities.run_id;
