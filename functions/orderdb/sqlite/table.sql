CREATE TABLE {table} (
    placed      INTEGER PRIMARY KEY, -- position of the created event
    order_id    TEXT    NOT NULL UNIQUE,
    customer_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    created_on  INTEGER NOT NULL,    -- microseconds since 1970: the order of lists, with placed
    version     INTEGER NOT NULL,
    body        TEXT    NOT NULL     -- the order's JSON
) STRICT;
CREATE INDEX {table}_created ON {table} (created_on, placed);
CREATE INDEX {table}_customer ON {table} (customer_id, created_on, placed);
CREATE INDEX {table}_status ON {table} (status, created_on, placed);
CREATE INDEX {table}_customer_status ON {table} (customer_id, status, created_on, placed);
