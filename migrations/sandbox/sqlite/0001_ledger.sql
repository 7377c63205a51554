-- What the sandbox's payment gateway and carrier did. Times are milliseconds since
-- 1970-01-01T00:00:00Z, money is whole minor units.

-- `idempotency_key` is the key of the request that had the effect; `step_key` names the charge or
-- the shipment that it is about (their own key, or the one that was taken back).
CREATE TABLE effects (
    sequence        INTEGER NOT NULL PRIMARY KEY,
    kind            TEXT    NOT NULL CHECK (kind IN ('charge', 'refund', 'shipment', 'shipment_cancellation')),
    idempotency_key TEXT    NOT NULL,
    step_key        TEXT    NOT NULL,
    order_id        TEXT    NOT NULL,
    reference       TEXT    NOT NULL,
    tracking_number TEXT,
    amount_cents    INTEGER NOT NULL CHECK (amount_cents >= 0),
    currency        TEXT,
    at              INTEGER NOT NULL,
    UNIQUE (kind, step_key),
    UNIQUE (kind, idempotency_key)
) STRICT;

CREATE INDEX effects_by_order ON effects (order_id);

-- Steps that were taken back before they arrived.
CREATE TABLE voided (
    kind     TEXT    NOT NULL CHECK (kind IN ('charge', 'shipment')),
    step_key TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (kind, step_key)
) STRICT, WITHOUT ROWID;

-- How often a flaky step has been refused so far.
CREATE TABLE faults (
    kind     TEXT    NOT NULL CHECK (kind IN ('charge', 'shipment')),
    step_key TEXT    NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (kind, step_key)
) STRICT, WITHOUT ROWID;
