-- +goose Up
CREATE TABLE orders_views (
    name       TEXT    PRIMARY KEY,
    generation INTEGER NOT NULL,           -- the table in use is NAME_GENERATION
    closed     INTEGER NOT NULL DEFAULT 0, -- until when nobody applies events; ms since 1970, 0 is open
    building   INTEGER NOT NULL DEFAULT 0, -- the generation that a rebuild makes; 0 is none
    position   INTEGER NOT NULL DEFAULT 0, -- the events up to there are in that one
    program    TEXT    NOT NULL DEFAULT '', -- what makes it
    owner      TEXT    NOT NULL DEFAULT '', -- who
    leased     INTEGER NOT NULL DEFAULT 0  -- until when nobody else may; ms since 1970
) STRICT;
