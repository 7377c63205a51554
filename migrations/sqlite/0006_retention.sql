-- What removing closed runs needs: to find those that closed first, and everything that names them,
-- without reading anything else.

-- Open runs are not in it: only the step that closes a run writes an entry, of some 30 bytes.
CREATE INDEX runs_by_end ON runs (closed_at) WHERE closed_at IS NOT NULL;

-- The requests that name a run. Callers that send no request_id pay nothing.
CREATE INDEX requests_by_run ON requests (run_id);

-- Runs that are gone and whose histories are not yet: a long history goes in pieces.
CREATE TABLE removed_runs (
    run_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
