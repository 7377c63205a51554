-- What an open activity's row keeps of attempts outside the host, of pauses and of resets.

-- Who holds the attempt that is under way outside. All are null while nobody does.
ALTER TABLE pending_activities ADD COLUMN lease_id BLOB;
-- Null too where native code has said that it completes later.
ALTER TABLE pending_activities ADD COLUMN lease_worker TEXT;
ALTER TABLE pending_activities ADD COLUMN leased_at INTEGER;

-- Since when no attempt may begin, and whether one had begun before (0 or 1). Both are null while it is not paused.
ALTER TABLE pending_activities ADD COLUMN paused_at INTEGER;
ALTER TABLE pending_activities ADD COLUMN paused_under_way INTEGER;

-- When its attempts were last taken back, and whether that waits for the end of one (0 or 1).
ALTER TABLE pending_activities ADD COLUMN reset_at INTEGER;
ALTER TABLE pending_activities ADD COLUMN reset_due INTEGER;

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
    strftime('%Y-%m-%dT%H:%M:%fZ', last_heartbeat_at / 1000.0, 'unixepoch') AS last_heartbeat_at,
    lease_worker AS worker,
    strftime('%Y-%m-%dT%H:%M:%fZ', leased_at / 1000.0, 'unixepoch') AS leased_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', paused_at / 1000.0, 'unixepoch') AS paused_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', reset_at / 1000.0, 'unixepoch') AS reset_at
FROM pending_activities JOIN run_names AS names ON names.run_key = pending_activities.run_id;
