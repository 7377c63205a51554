-- Shipments that the carrier has taken and will confirm at `confirms_at`, asked again or not.
-- `canceled`: called off before that.
CREATE TABLE bookings (
    step_key    TEXT    NOT NULL PRIMARY KEY,
    order_id    TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'confirmed', 'canceled')),
    confirms_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX bookings_pending ON bookings (confirms_at) WHERE state = 'pending';
