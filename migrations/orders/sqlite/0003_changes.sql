-- What happens to an order after it was placed: its address is changed, its shipping begins, it is
-- canceled or delivered. Shipping and cancellation are no columns of orders: an order's row may be
-- written after its run has begun (see host/orders/routes.rs), and what its steps say must not be lost.

-- Counts the changes; an ETag begins with it. `changed_by` is the request_id of the last one.
ALTER TABLE orders ADD COLUMN version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0);
ALTER TABLE orders ADD COLUMN changed_by TEXT;

-- The list of orders, newest first, of all customers or of one.
CREATE INDEX orders_by_time ON orders (created_at, order_id);
CREATE INDEX orders_by_customer ON orders (customer_id, created_at, order_id);

-- Where an order is sent, fixed before the carrier is first asked.
CREATE TABLE destinations (
    order_id TEXT    NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    country  TEXT    NOT NULL,
    postcode TEXT    NOT NULL,
    fixed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cancellations (
    order_id    TEXT    NOT NULL PRIMARY KEY,
    reason      TEXT    NOT NULL,
    canceled_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `direct`: the goods were taken off the shelf without a reservation before; restocked, they are free.
ALTER TABLE reservations ADD COLUMN kind TEXT NOT NULL DEFAULT 'reserved'
    CHECK (kind IN ('reserved', 'direct'));

ALTER TABLE shipments ADD COLUMN delivered_at INTEGER;
