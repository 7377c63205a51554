-- Children: the run that began each, its command, and what becomes of the child when that run closes. All are null in
-- runs that are nobody's children.

ALTER TABLE runs ADD COLUMN parent_run_id BLOB;
ALTER TABLE runs ADD COLUMN parent_workflow_id TEXT;
ALTER TABLE runs ADD COLUMN parent_event_id INTEGER;
-- terminate, request_cancel, abandon.
ALTER TABLE runs ADD COLUMN parent_close_policy TEXT;

-- The open children of a run. Runs that are nobody's children pay nothing.
CREATE INDEX runs_open_children ON runs (parent_run_id, parent_event_id)
    WHERE parent_run_id IS NOT NULL AND status = 'running';

DROP VIEW run_overview;
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
    lower(hex(digest)) AS digest,
    parent_workflow_id,
    parent_close_policy
FROM runs JOIN run_names AS names ON names.run_key = runs.run_id;
