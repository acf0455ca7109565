CREATE TABLE {table} (
    order_id    TEXT   NOT NULL PRIMARY KEY,
    customer_id TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    placed      BIGINT NOT NULL, -- position of the created event
    created_on  BIGINT NOT NULL, -- microseconds since 1970: the order of lists, with placed
    version     BIGINT NOT NULL,
    body        TEXT   NOT NULL, -- the order's JSON
    CONSTRAINT {table}_placed UNIQUE (placed)
);
CREATE INDEX {table}_created ON {table} (created_on, placed);
CREATE INDEX {table}_customer ON {table} (customer_id, created_on, placed);
CREATE INDEX {table}_status ON {table} (status, created_on, placed);
CREATE INDEX {table}_customer_status ON {table} (customer_id, status, created_on, placed);
