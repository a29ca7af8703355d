"""Tasks in full: runs, verdicts, the guard's memory, the daemon's state. Released, and never changed again."""

STATEMENTS = """
DROP INDEX idx_tasks_user_status;
DROP INDEX idx_tasks_status;
DROP INDEX idx_tasks_workflow;
ALTER TABLE tasks RENAME TO tasks_1;
CREATE TABLE tasks (
    task_id             TEXT PRIMARY KEY,
    user_id             INTEGER NOT NULL,
    description         TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'queued', 'running', 'completed', 'failed', 'stopped')),
    priority            INTEGER NOT NULL DEFAULT 1 CHECK (priority IN (0, 1, 2)),
    agent_type          TEXT,
    workflow            TEXT,
    model               TEXT,
    workspace           TEXT,
    isolate             INTEGER NOT NULL DEFAULT 1 CHECK (isolate IN (0, 1)),
    budget_usd          REAL,
    max_turns           INTEGER,
    hold_reason         TEXT,
    hold_until          INTEGER,
    attempt             INTEGER NOT NULL DEFAULT 0,
    session_uuid        TEXT,
    host                TEXT,
    pid                 INTEGER,
    process_started     INTEGER,
    boot                TEXT,
    worktree            TEXT,
    branch              TEXT,
    base_branch         TEXT,
    base_commit         TEXT,
    commits             INTEGER NOT NULL DEFAULT 0,
    merge_state         TEXT NOT NULL DEFAULT 'none'
                        CHECK (merge_state IN ('none', 'waiting', 'merging', 'merged', 'conflict', 'kept')),
    merge_detail        TEXT,
    merge_paths         TEXT,
    merge_commit        TEXT,
    result              TEXT,
    error               TEXT,
    failure             TEXT CHECK (failure IS NULL OR status = 'failed'),
    turns               INTEGER,
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    activity_log        TEXT NOT NULL DEFAULT '[]',
    created_at          INTEGER NOT NULL,
    started_at          INTEGER,
    finished_at         INTEGER
) STRICT;
INSERT INTO tasks (task_id, user_id, description, status, priority, agent_type, workflow, model, workspace, session_uuid,
                   host, pid, branch, result, error, failure, activity_log, created_at, started_at, finished_at)
SELECT task_id, user_id, description, status, max(0, min(2, priority)), agent_type, workflow, model, workspace, session_uuid,
       host, pid, branch, result, error, CASE status WHEN 'failed' THEN 'agent_error' END, activity_log,
       created_at, started_at, finished_at
FROM tasks_1;
DROP TABLE tasks_1;
CREATE INDEX idx_tasks_user_status ON tasks (user_id, status, created_at);
CREATE INDEX idx_tasks_status ON tasks (status, priority, created_at);
CREATE INDEX idx_tasks_workflow ON tasks (workflow, created_at);
CREATE INDEX idx_tasks_created ON tasks (created_at);
CREATE INDEX idx_tasks_merge ON tasks (merge_state) WHERE merge_state IN ('waiting', 'merging', 'conflict', 'kept');
CREATE TABLE runs (
    task_id             TEXT NOT NULL REFERENCES tasks ON DELETE CASCADE,
    attempt             INTEGER NOT NULL,
    session_uuid        TEXT,
    resumed             INTEGER NOT NULL DEFAULT 0 CHECK (resumed IN (0, 1)),
    host                TEXT NOT NULL,
    shim_pid            INTEGER,
    shim_started        INTEGER,
    boot                TEXT,
    started_at          INTEGER NOT NULL,
    started_monotonic   REAL NOT NULL,
    finished_at         INTEGER,
    exit_status         INTEGER,
    outcome             TEXT,
    turns               INTEGER,
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    PRIMARY KEY (task_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE verdicts (
    id            INTEGER PRIMARY KEY,
    timestamp     INTEGER NOT NULL,
    stage         TEXT NOT NULL CHECK (stage IN ('pre_task', 'post_task', 'prompt', 'stop', 'commit')),
    mode          TEXT NOT NULL CHECK (mode IN ('off', 'warn', 'block')),
    passed        INTEGER NOT NULL CHECK (passed IN (0, 1)),
    message       TEXT NOT NULL,
    workspace     TEXT NOT NULL,
    agent_type    TEXT,
    task_id       TEXT,
    session_uuid  TEXT
) STRICT;
CREATE INDEX idx_verdicts_timestamp ON verdicts (timestamp);
CREATE INDEX idx_verdicts_task ON verdicts (task_id) WHERE task_id IS NOT NULL;
CREATE TABLE guarded_sessions (
    session_uuid  TEXT PRIMARY KEY,
    baseline      TEXT NOT NULL,
    sent_back     INTEGER NOT NULL DEFAULT 0,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE TABLE daemon_state (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
