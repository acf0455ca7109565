-- +goose Up
CREATE TABLE events (
    stream         TEXT    NOT NULL,
    position       INTEGER NOT NULL,
    aggregate      TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    id             TEXT    NOT NULL,
    type           TEXT    NOT NULL,
    time           TEXT    NOT NULL,
    schema         INTEGER NOT NULL,
    source         TEXT    NOT NULL,
    causation_id   TEXT    NOT NULL,
    correlation_id TEXT    NOT NULL,
    traceparent    TEXT    NOT NULL,
    data           TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_position ON events (stream, position);
CREATE UNIQUE INDEX events_version ON events (stream, aggregate, version);
CREATE UNIQUE INDEX events_id ON events (stream, id);

CREATE TABLE heads (
    stream   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE durables (
    stream TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    config TEXT    NOT NULL,
    floor  INTEGER NOT NULL,
    PRIMARY KEY (stream, name)
) STRICT, WITHOUT ROWID;
