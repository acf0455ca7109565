-- +goose Up
CREATE TABLE events (
    stream         TEXT        NOT NULL,
    position       BIGINT      NOT NULL,
    aggregate      TEXT        NOT NULL,
    version        BIGINT      NOT NULL,
    id             TEXT        NOT NULL,
    type           TEXT        NOT NULL,
    time           TIMESTAMPTZ NOT NULL,
    schema         INTEGER     NOT NULL,
    source         TEXT        NOT NULL,
    causation_id   TEXT        NOT NULL,
    correlation_id TEXT        NOT NULL,
    traceparent    TEXT        NOT NULL,
    data           TEXT        NOT NULL, -- JSON, to the byte as it was appended
    -- The stream is no key's first column: a planner without statistics believes
    -- that few rows have one stream, and would look for an id among all of them.
    PRIMARY KEY (position, stream),
    CONSTRAINT events_version UNIQUE (aggregate, stream, version),
    CONSTRAINT events_id UNIQUE (id, stream)
);

CREATE TABLE heads (
    stream   TEXT   NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
);

CREATE TABLE durables (
    stream TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    config TEXT   NOT NULL, -- JSON
    floor  BIGINT NOT NULL,
    PRIMARY KEY (stream, name)
);
