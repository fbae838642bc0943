-- Runs on SQLite and PostgreSQL: TEXT and BIGINT only. Times are microseconds since 1970, in UTC;
-- truth values are 0 and 1; names that are not UTF-8 have \xNN escapes.

CREATE TABLE cleanups (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    directory TEXT NOT NULL,
    pattern TEXT NOT NULL,
    layout TEXT,
    retention_days BIGINT,
    max_files BIGINT,
    max_size_mb BIGINT,
    priority BIGINT NOT NULL,
    description TEXT NOT NULL,
    schedule TEXT,
    watch BIGINT NOT NULL,
    read_only BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_run BIGINT,
    UNIQUE (owner, directory, pattern)
);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    cleanup TEXT NOT NULL,
    cause TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    outcome TEXT NOT NULL,
    dry_run BIGINT NOT NULL,
    files_deleted BIGINT NOT NULL,
    bytes_freed BIGINT NOT NULL,
    files_kept BIGINT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX runs_by_cleanup ON runs (cleanup, started_at);
CREATE INDEX runs_by_time ON runs (started_at);

CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    event TEXT NOT NULL,
    root TEXT,
    session TEXT,
    path TEXT,
    bytes BIGINT,
    rule TEXT,
    because TEXT NOT NULL,
    usage_bytes BIGINT,
    limit_bytes BIGINT,
    plan TEXT
);
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_session ON audit (session, at);

CREATE TABLE pins (
    root TEXT NOT NULL,
    session TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    until BIGINT,
    PRIMARY KEY (root, session)
);

CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    target TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);
CREATE INDEX outbox_by_next ON outbox (next_at);

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
