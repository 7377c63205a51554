-- All children of a run, by the parent's command: the last run of each child. Runs that are nobody's children pay nothing.
CREATE INDEX runs_children ON runs (parent_run_id, parent_event_id) WHERE parent_run_id IS NOT NULL;

-- Of two indexes that serve a question alike, SQLite takes the later one: open children are looked for among the open ones.
DROP INDEX runs_open_children;
CREATE INDEX runs_open_children ON runs (parent_run_id, parent_event_id)
    WHERE parent_run_id IS NOT NULL AND status = 'running';
