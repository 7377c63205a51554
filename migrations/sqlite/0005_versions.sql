-- Versions side by side: routes of workflow types, versions that were retired, and what a blocked run
-- did otherwise than its history.

-- A share of new runs starts on the candidate, the others on the current component.
ALTER TABLE workflow_types ADD COLUMN candidate_digest BLOB;
ALTER TABLE workflow_types ADD COLUMN ramp_percent INTEGER NOT NULL DEFAULT 0;
-- Where a rollback leads.
ALTER TABLE workflow_types ADD COLUMN previous_digest BLOB;
-- Grows with every change, so that two changes at once cannot both happen.
ALTER TABLE workflow_types ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workflow_types ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;

-- A retired version starts no runs. Its bytes stay, for the histories that were recorded on it.
ALTER TABLE component_types ADD COLUMN retired_at INTEGER;
-- When new runs were first sent to it, as the current version or as a candidate.
ALTER TABLE component_types ADD COLUMN routed_at INTEGER;
UPDATE component_types SET routed_at = 0 WHERE EXISTS (
    SELECT 1 FROM workflow_types AS w
    WHERE w.namespace = component_types.namespace AND w.workflow_type = component_types.workflow_type
        AND w.current_digest = component_types.digest
);

-- The runs of a version: they are counted without reading their rows.
CREATE INDEX runs_by_version ON runs (namespace, workflow_type, digest, status, blocked_kind, started_at);

-- JSON: the recorded call and the one made, when a run is blocked because they differ.
ALTER TABLE runs ADD COLUMN blocked_divergence TEXT;

CREATE VIEW route_overview AS
SELECT
    namespace,
    workflow_type,
    lower(hex(current_digest)) AS current_digest,
    lower(hex(candidate_digest)) AS candidate_digest,
    ramp_percent,
    lower(hex(previous_digest)) AS previous_digest,
    strftime('%Y-%m-%dT%H:%M:%fZ', changed_at / 1000.0, 'unixepoch') AS changed_at
FROM workflow_types;
