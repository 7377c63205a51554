-- What runs are described by: search attributes, by which lists find them, and a memo. Runs that are described by
-- nothing have no row here.

CREATE TABLE run_details (
    run_id            BLOB NOT NULL PRIMARY KEY,
    namespace         TEXT NOT NULL,
    -- CBOR.
    search_attributes BLOB NOT NULL,
    -- CBOR.
    memo              BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The search attributes by value. In the order of the key, runs of one value come in the order of their ids.
CREATE TABLE run_attributes (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    -- text, number, bool, time: values compare with those of their kind only.
    kind      TEXT NOT NULL,
    -- A text, a whole or any number, 0 or 1, milliseconds.
    value     ANY  NOT NULL,
    run_id    BLOB NOT NULL,
    PRIMARY KEY (namespace, name, kind, value, run_id)
) STRICT, WITHOUT ROWID;

-- What is left of the key is appended by SQLite.
CREATE INDEX run_attributes_by_run ON run_attributes (run_id, name);

CREATE VIEW run_attribute_overview AS
SELECT
    names.namespace,
    workflow_id,
    names.run_id,
    name,
    kind,
    CASE kind
        WHEN 'time' THEN strftime('%Y-%m-%dT%H:%M:%fZ', value / 1000.0, 'unixepoch')
        WHEN 'bool' THEN iif(value, 'true', 'false')
        ELSE value
    END AS value
FROM run_attributes JOIN run_names AS names ON names.run_key = run_attributes.run_id;
