-- +goose Up
CREATE TABLE orders (
    order_id    TEXT   NOT NULL PRIMARY KEY,
    customer_id TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    placed      BIGINT NOT NULL, -- position of the created event: the order of lists
    version     BIGINT NOT NULL,
    body        TEXT   NOT NULL, -- the order's JSON
    CONSTRAINT orders_placed UNIQUE (placed)
);
CREATE INDEX orders_customer ON orders (customer_id, placed);
CREATE INDEX orders_status ON orders (status, placed);
CREATE INDEX orders_customer_status ON orders (customer_id, status, placed);
