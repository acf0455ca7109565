-- +goose Up
CREATE TABLE orders (
    order_id    TEXT    PRIMARY KEY,
    customer_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    placed      INTEGER NOT NULL, -- position of the created event: the order of lists
    version     INTEGER NOT NULL,
    body        TEXT    NOT NULL  -- the order's JSON
) STRICT;
CREATE UNIQUE INDEX orders_placed ON orders (placed);
CREATE INDEX orders_customer ON orders (customer_id, placed);
CREATE INDEX orders_status ON orders (status, placed);
CREATE INDEX orders_customer_status ON orders (customer_id, status, placed);
