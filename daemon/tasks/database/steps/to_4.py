"""Accounts with their logins, and who did what. Released, and never changed again."""

STATEMENTS = """
ALTER TABLE users RENAME TO users_3;
CREATE TABLE users (
    user_id              INTEGER PRIMARY KEY AUTOINCREMENT,
    username             TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password_hash        TEXT NOT NULL,
    role                 TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    disabled             INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at           INTEGER NOT NULL,
    password_changed_at  INTEGER NOT NULL,
    last_login_at        INTEGER
) STRICT;
INSERT INTO users (user_id, username, password_hash, role, disabled, created_at, password_changed_at)
SELECT user_id, username, password_hash, role, disabled, created_at, created_at FROM users_3;
DROP TABLE users_3;
CREATE TABLE logins (
    login_id      TEXT PRIMARY KEY,
    user_id       INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (kind IN ('cookie', 'bearer')),
    created_at    INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    ended_at      INTEGER,
    end_reason    TEXT CHECK (end_reason IN ('logout', 'password', 'role', 'disabled', 'killed', 'expired')),
    address       TEXT,
    client        TEXT,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_logins_user ON logins (user_id);
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    timestamp  INTEGER NOT NULL,
    user_id    INTEGER,
    username   TEXT NOT NULL,
    via        TEXT NOT NULL CHECK (via IN ('web', 'socket', 'cli')),
    action     TEXT NOT NULL,
    target     TEXT,
    outcome    INTEGER NOT NULL,
    address    TEXT,
    detail     TEXT
) STRICT;
CREATE INDEX idx_audit_timestamp ON audit (timestamp);
"""
