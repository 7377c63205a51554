-- Components and the workflow types in them.

CREATE TABLE components (
    namespace   TEXT    NOT NULL,
    -- SHA-256 of the bytes.
    digest      BLOB    NOT NULL,
    size        INTEGER NOT NULL,
    sdk         TEXT    NOT NULL,
    deployed_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;

-- Named by their content alone: namespaces share them.
CREATE TABLE component_bytes (
    digest BLOB NOT NULL PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE component_types (
    namespace     TEXT NOT NULL,
    digest        BLOB NOT NULL,
    workflow_type TEXT NOT NULL,
    PRIMARY KEY (namespace, digest, workflow_type),
    FOREIGN KEY (namespace, digest) REFERENCES components (namespace, digest)
) STRICT, WITHOUT ROWID;

-- The component that new runs of a type start on.
CREATE TABLE workflow_types (
    namespace      TEXT NOT NULL,
    workflow_type  TEXT NOT NULL,
    current_digest BLOB NOT NULL,
    PRIMARY KEY (namespace, workflow_type),
    FOREIGN KEY (namespace, current_digest) REFERENCES components (namespace, digest)
) STRICT, WITHOUT ROWID;
