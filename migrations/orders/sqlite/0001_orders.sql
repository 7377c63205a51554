-- The order application's own tables, in a file of their own. Times are milliseconds since
-- 1970-01-01T00:00:00Z, money is whole minor units.

-- No other table refers to orders by a foreign key: an order's row may be written after its first
-- step was taken (the run is started first; see host/orders/routes.rs).
CREATE TABLE orders (
    order_id         TEXT    NOT NULL PRIMARY KEY,
    workflow_id      TEXT    NOT NULL,
    customer_id      INTEGER NOT NULL CHECK (customer_id >= 0),
    items            TEXT    NOT NULL CHECK (json_valid(items)),
    currency         TEXT    NOT NULL,
    amount_cents     INTEGER NOT NULL CHECK (amount_cents >= 0),
    ship_to_name     TEXT    NOT NULL,
    ship_to_country  TEXT    NOT NULL,
    ship_to_postcode TEXT    NOT NULL,
    created_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The checks make overselling an error of the database, whatever the code above does.
CREATE TABLE inventory (
    sku      TEXT    NOT NULL PRIMARY KEY,
    on_hand  INTEGER NOT NULL CHECK (on_hand >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0 AND reserved <= on_hand)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    reservation_id TEXT    NOT NULL PRIMARY KEY,
    order_id       TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('held', 'consumed', 'released')),
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE reservation_items (
    reservation_id TEXT    NOT NULL REFERENCES reservations (reservation_id),
    sku            TEXT    NOT NULL REFERENCES inventory (sku),
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
) STRICT, WITHOUT ROWID;

CREATE TABLE payments (
    payment_id   TEXT    NOT NULL PRIMARY KEY,
    order_id     TEXT    NOT NULL,
    amount_cents INTEGER NOT NULL CHECK (amount_cents >= 0),
    state        TEXT    NOT NULL CHECK (state IN ('charged', 'refunded')),
    updated_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX payments_by_order ON payments (order_id);

CREATE TABLE shipments (
    shipment_id     TEXT    NOT NULL PRIMARY KEY,
    order_id        TEXT    NOT NULL,
    tracking_number TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('arranged', 'delivered', 'canceled')),
    updated_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX shipments_by_order ON shipments (order_id);

-- One row for each step that was taken or taken back: what makes a repeated attempt harmless.
-- `done`: the step was taken; `undone`: and taken back; `void`: taken back before it arrived.
CREATE TABLE effects (
    idempotency_key TEXT    NOT NULL PRIMARY KEY,
    activity_type   TEXT    NOT NULL,
    order_id        TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('done', 'undone', 'void')),
    subject         TEXT             CHECK (subject IS NOT NULL OR state <> 'done'),
    result          TEXT             CHECK (result IS NOT NULL OR state <> 'done'),
    undo_result     TEXT             CHECK (undo_result IS NOT NULL OR state = 'done'),
    updated_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
