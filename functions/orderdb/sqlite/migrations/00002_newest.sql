-- +goose Up
CREATE TABLE orders_newest (
    name       TEXT    NOT NULL, -- of the view
    generation INTEGER NOT NULL,
    slot       INTEGER NOT NULL, -- a process keeps to one, so that few wait for each other
    position   INTEGER NOT NULL, -- of the newest event that came by this slot
    order_id   TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    event      TEXT    NOT NULL, -- what tells it from another event at this place
    PRIMARY KEY (name, generation, slot)
) STRICT, WITHOUT ROWID;
