-- +goose Up
CREATE TABLE orders_views (
    name       TEXT   NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,            -- the table in use is NAME_GENERATION
    closed     BIGINT NOT NULL DEFAULT 0,  -- until when nobody applies events; ms since 1970, 0 is open
    building   BIGINT NOT NULL DEFAULT 0,  -- the generation that a rebuild makes; 0 is none
    position   BIGINT NOT NULL DEFAULT 0,  -- the events up to there are in that one
    program    TEXT   NOT NULL DEFAULT '', -- what makes it
    owner      TEXT   NOT NULL DEFAULT '', -- who
    leased     BIGINT NOT NULL DEFAULT 0   -- until when nobody else may; ms since 1970
);
