-- Schedules: what each is, and what it has seen and done.

CREATE TABLE schedules (
    namespace   TEXT    NOT NULL,
    schedule_id TEXT    NOT NULL,
    -- Grows with every change, so that two changes at once cannot both happen.
    revision    INTEGER NOT NULL,
    -- JSON: host/core/schedule/definition.rs, state.rs.
    definition  TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    -- When there is something to do; null while there is nothing but to wait for a run's end.
    wake_at     INTEGER,
    -- Runs that it started and that have not ended, as far as it knows.
    running     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    PRIMARY KEY (namespace, schedule_id)
) STRICT, WITHOUT ROWID;

-- The rest of the order (namespace, schedule_id) is the primary key, which SQLite appends.
CREATE INDEX schedules_by_wake ON schedules (wake_at) WHERE wake_at IS NOT NULL;
-- What a starting host reads: those whose runs it has to follow.
CREATE INDEX schedules_running ON schedules (namespace, schedule_id) WHERE running > 0;

CREATE VIEW schedule_overview AS
SELECT
    namespace,
    schedule_id,
    definition ->> '$.action.workflow_type' AS workflow_type,
    state ->> '$.paused' AS paused,
    running,
    strftime('%Y-%m-%dT%H:%M:%fZ', wake_at / 1000.0, 'unixepoch') AS wake_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', changed_at / 1000.0, 'unixepoch') AS changed_at
FROM schedules;
