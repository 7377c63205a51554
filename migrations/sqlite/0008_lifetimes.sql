-- Runs that begin later than they were started: until then their first event waits in the inbox, and a starting host has
-- nothing to do for them. Null in all others.

ALTER TABLE runs ADD COLUMN start_at INTEGER;

DROP INDEX runs_needing_attention;
CREATE INDEX runs_needing_attention ON runs (namespace)
    WHERE status = 'running'
        AND (open_activities > 0 OR (inbox_length > 0 AND start_at IS NULL) OR blocked_kind IS NOT NULL);
