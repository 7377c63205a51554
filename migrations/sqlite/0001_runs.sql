-- Runs and everything that waits for them.
--
-- Times are milliseconds since 1970-01-01T00:00:00Z. A run_id is a UUIDv7 in 16 bytes and unique by
-- itself; `namespace` stands beside it in every table. Columns of CBOR (RFC 8949) are written with
-- numbered fields, see host/core. The *_overview views show all of it as text.

-- Who owns the store. Each opening raises the epoch; a batch of another epoch is refused.
CREATE TABLE shards (
    shard           INTEGER NOT NULL PRIMARY KEY,
    epoch           INTEGER NOT NULL,
    owner           TEXT    NOT NULL,
    opened_at       INTEGER,
    -- The host of this epoch stopped in order: no activity was under way.
    closed_in_order INTEGER NOT NULL
) STRICT;

INSERT INTO shards (shard, epoch, owner, opened_at, closed_in_order) VALUES (0, 0, '', NULL, 1);

CREATE TABLE runs (
    run_id            BLOB    NOT NULL PRIMARY KEY,
    namespace         TEXT    NOT NULL,
    workflow_id       TEXT    NOT NULL,
    workflow_type     TEXT    NOT NULL,
    -- SHA-256 of the component that folds it.
    digest            BLOB    NOT NULL,
    -- running, completed, failed, canceled, terminated, timed_out, continued_as_new.
    status            TEXT    NOT NULL,
    next_event_id     INTEGER NOT NULL,
    open_activities   INTEGER NOT NULL,
    -- Rows in `inbox`.
    inbox_length      INTEGER NOT NULL DEFAULT 0,
    started_at        INTEGER NOT NULL,
    closed_at         INTEGER,
    -- CBOR: what callers of a closed run get.
    outcome           BLOB,
    -- Why the run is blocked. All are null while it is not.
    blocked_kind      TEXT,
    blocked_event_id  INTEGER,
    blocked_reason    TEXT,
    blocked_backtrace TEXT,
    blocked_since     INTEGER,
    blocked_retries   INTEGER,
    blocked_retry_at  INTEGER
) STRICT, WITHOUT ROWID;

-- At most one open run of a workflow id.
CREATE UNIQUE INDEX runs_open ON runs (namespace, workflow_id) WHERE status = 'running';

-- The run of a workflow id that was started last.
CREATE INDEX runs_by_workflow ON runs (namespace, workflow_id, started_at);

-- What a starting host reads: not every open run.
CREATE INDEX runs_needing_attention ON runs (namespace)
    WHERE status = 'running' AND (open_activities > 0 OR inbox_length > 0 OR blocked_kind IS NOT NULL);

-- Which run a request_id made.
CREATE TABLE requests (
    namespace   TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    run_id      BLOB NOT NULL,
    PRIMARY KEY (namespace, workflow_id, request_id)
) STRICT, WITHOUT ROWID;

-- One row for each step of a run.
CREATE TABLE history (
    run_id         BLOB    NOT NULL,
    namespace      TEXT    NOT NULL,
    first_event_id INTEGER NOT NULL,
    event_count    INTEGER NOT NULL,
    -- The events, packed: host/core/history.rs.
    body           BLOB    NOT NULL,
    PRIMARY KEY (run_id, first_event_id)
) STRICT, WITHOUT ROWID;

-- Timers of open runs that have neither fired nor been taken back.
CREATE TABLE timers (
    run_id           BLOB    NOT NULL,
    namespace        TEXT    NOT NULL,
    started_event_id INTEGER NOT NULL,
    fire_at          INTEGER NOT NULL,
    PRIMARY KEY (run_id, started_event_id)
) STRICT, WITHOUT ROWID;

-- The rest of the order (run_id, started_event_id) is the primary key, which SQLite appends.
CREATE INDEX timers_by_time ON timers (fire_at, namespace);

-- Activities that were attempted and are to be attempted again.
CREATE TABLE pending_activities (
    run_id             BLOB    NOT NULL,
    namespace          TEXT    NOT NULL,
    scheduled_event_id INTEGER NOT NULL,
    activity_type      TEXT    NOT NULL,
    -- The next attempt, and when it begins.
    attempt            INTEGER NOT NULL,
    next_attempt_at    INTEGER NOT NULL,
    -- CBOR, and the same as JSON for people.
    last_failure       BLOB,
    last_failure_json  TEXT,
    last_failure_at    INTEGER,
    -- CBOR: what the last heartbeat said.
    heartbeat_details  BLOB,
    PRIMARY KEY (run_id, scheduled_event_id)
) STRICT, WITHOUT ROWID;

-- Inputs that wait for their run, in the order of their commits. A number is never used again.
CREATE TABLE inbox (
    seq         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run_id      BLOB    NOT NULL,
    namespace   TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    input_type  TEXT    NOT NULL,
    -- CBOR.
    input       BLOB    NOT NULL
) STRICT;

CREATE INDEX inbox_by_run ON inbox (run_id);
