-- The whole store of tasksd. SQLite 3.37 or newer.
--
-- Times are INTEGER milliseconds since 1970-01-01 UTC; durations are REAL milliseconds; JSON is TEXT.
-- `session_uuid` is the client's session id, `tool_use_id` the API's id of one tool call, `agent_id` the client's id of a
-- subagent (NULL: the main agent). `task_id` is a correlation, not a foreign key: calls may be recorded for tasks that
-- another store keeps.
-- This file is the schema of a new database; daemon/tasks/database/migrations.py brings older ones to the same state.

-- Work asked for. One row per task, its whole life.
CREATE TABLE tasks (
    task_id             TEXT PRIMARY KEY,           -- 6 hexadecimal characters
    user_id             INTEGER NOT NULL,
    description         TEXT NOT NULL,              -- redacted; the prompt itself is runs/<task>/prompt
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'queued', 'running', 'completed', 'failed', 'stopped')),
    priority            INTEGER NOT NULL DEFAULT 1 CHECK (priority IN (0, 1, 2)),  -- 0 high, 1 normal, 2 low
    agent_type          TEXT,
    workflow            TEXT,
    model               TEXT,
    workspace           TEXT,                       -- absolute
    isolate             INTEGER NOT NULL DEFAULT 1 CHECK (isolate IN (0, 1)),  -- 0: works in the workspace itself
    budget_usd          REAL,                       -- NULL: as configured
    max_turns           INTEGER,                    -- NULL: as configured
    hold_reason         TEXT,                       -- why it is not started although there is a slot …
    hold_until          INTEGER,                    -- … and when that is looked at again
    attempt             INTEGER NOT NULL DEFAULT 0, -- runs begun; the latest is in runs
    session_uuid        TEXT,                       -- of the latest run
    host                TEXT,                       -- where pid means something
    pid                 INTEGER,                    -- the agent's process …
    process_started     INTEGER,                    -- … its start time in the platform's unit …
    boot                TEXT,                       -- … and the boot in which both mean something
    worktree            TEXT,                       -- absolute; NULL: none, or removed
    branch              TEXT,                       -- task/<id>, while it exists or as it was
    base_branch         TEXT,                       -- what it is merged into; NULL: HEAD was detached
    base_commit         TEXT,
    commits             INTEGER NOT NULL DEFAULT 0, -- on the branch since base_commit
    merge_state         TEXT NOT NULL DEFAULT 'none'
                        CHECK (merge_state IN ('none', 'waiting', 'merging', 'merged', 'conflict', 'kept')),
    merge_detail        TEXT,                       -- why it waits, conflicts or is kept
    merge_paths         TEXT,                       -- JSON array: the files in conflict, relative to the repository
    merge_commit        TEXT,
    result              TEXT,
    error               TEXT,
    failure             TEXT CHECK (failure IS NULL OR status = 'failed'),
    turns               INTEGER,                    -- this and the following: sums over its runs, as the client reported them
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    activity_log        TEXT NOT NULL DEFAULT '[]', -- JSON array of {"at", "message"}
    created_at          INTEGER NOT NULL,
    started_at          INTEGER,                    -- of the first run
    finished_at         INTEGER
) STRICT;
CREATE INDEX idx_tasks_user_status ON tasks (user_id, status, created_at);
CREATE INDEX idx_tasks_status ON tasks (status, priority, created_at);
CREATE INDEX idx_tasks_workflow ON tasks (workflow, created_at);
CREATE INDEX idx_tasks_created ON tasks (created_at);
CREATE INDEX idx_tasks_merge ON tasks (merge_state) WHERE merge_state IN ('waiting', 'merging', 'conflict', 'kept');

-- Every start of an agent for a task. Its files are in runs/<task>/<attempt>/.
CREATE TABLE runs (
    task_id             TEXT NOT NULL REFERENCES tasks ON DELETE CASCADE,
    attempt             INTEGER NOT NULL,
    session_uuid        TEXT,
    resumed             INTEGER NOT NULL DEFAULT 0 CHECK (resumed IN (0, 1)),  -- went on with an earlier run's session
    host                TEXT NOT NULL,
    shim_pid            INTEGER,                    -- the shell that keeps the exit status; NULL: not started yet …
    shim_started        INTEGER,
    boot                TEXT,
    started_at          INTEGER NOT NULL,
    started_monotonic   REAL NOT NULL,              -- seconds of the boot's clock, which stands still in suspend
    finished_at         INTEGER,
    exit_status         INTEGER,                    -- as the shell says it: 128 + signal
    outcome             TEXT,                       -- completed, stopped, limited, or a failure
    turns               INTEGER,
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    PRIMARY KEY (task_id, attempt)
) STRICT, WITHOUT ROWID;

-- What the rules for commits said, and when.
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

-- What hooks/guard has to remember of a session between its prompt and its stop.
CREATE TABLE guarded_sessions (
    session_uuid  TEXT PRIMARY KEY,
    baseline      TEXT NOT NULL,                    -- JSON object: path → what was there when the prompt came
    sent_back     INTEGER NOT NULL DEFAULT 0,       -- stops refused since that prompt
    updated_at    INTEGER NOT NULL
) STRICT;

-- What has to survive a restart of the daemon: pool.paused, pool.max_agents, pool.hold …
CREATE TABLE daemon_state (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL                            -- JSON
) STRICT, WITHOUT ROWID;

-- One conversation with a client, with its one current status.
CREATE TABLE sessions (
    session_uuid     TEXT PRIMARY KEY,
    task_id          TEXT,
    status           TEXT NOT NULL
                     CHECK (status IN ('starting', 'working', 'waiting_permission', 'waiting_input', 'idle',
                                       'ended', 'failed', 'lost')),
    status_since     INTEGER NOT NULL,
    status_detail    TEXT,                          -- the tool, the question, the error
    before_resume    TEXT,                          -- JSON: what to take back when a resume turns out to be a fork
    origin           TEXT,                          -- startup, resume, clear, compact, fork; NULL: its start was not seen
    parent_uuid      TEXT,                          -- the session it was forked or cleared from
    cwd              TEXT,
    transcript_path  TEXT,
    model            TEXT,
    permission_mode  TEXT,
    host             TEXT NOT NULL,
    pid              INTEGER,                       -- the client's process …
    process_started  INTEGER,                       -- … its start time in the platform's unit (NULL: never seen alive) …
    boot             TEXT,                          -- … and the boot in which both mean something
    started_at       INTEGER NOT NULL,
    last_event_at    INTEGER NOT NULL,
    ended_at         INTEGER,
    end_reason       TEXT,
    events           INTEGER NOT NULL DEFAULT 0,
    prompts          INTEGER NOT NULL DEFAULT 0     -- by a person; notifications of background work do not count
) STRICT;
CREATE INDEX idx_sessions_status ON sessions (status, last_event_at);
CREATE INDEX idx_sessions_recent ON sessions (last_event_at);

-- Agents started by the agent of a session.
CREATE TABLE subagents (
    session_uuid  TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    agent_id      TEXT NOT NULL,
    agent_type    TEXT,
    status        TEXT NOT NULL CHECK (status IN ('working', 'ended', 'failed', 'lost')),
    started_at    INTEGER,                          -- NULL: no start was reported (compaction)
    ended_at      INTEGER,
    detail        TEXT,
    PRIMARY KEY (session_uuid, agent_id)
) STRICT, WITHOUT ROWID;

-- Every hook event, in order of arrival. The large parts of tool calls are not repeated here: see tool_usage.parameters.
CREATE TABLE events (
    seq           INTEGER PRIMARY KEY,
    event_id      BLOB NOT NULL UNIQUE,             -- 16 bytes: hash of the payload, hash of its time, origin
    timestamp     INTEGER NOT NULL,
    session_uuid  TEXT NOT NULL,
    kind          TEXT NOT NULL,                    -- hook_event_name
    task_id       TEXT,
    agent_id      TEXT,
    prompt_id     TEXT,
    tool_name     TEXT,
    tool_use_id   TEXT,
    pid           INTEGER,                          -- the client's
    flags         TEXT,                             -- what had to be mended: nonfinite dup_keys surrogates nul duration
    body          TEXT                              -- JSON: every other field, redacted
) STRICT;
CREATE INDEX idx_events_session ON events (session_uuid, seq);

-- Every finished tool call.
CREATE TABLE tool_usage (
    id               INTEGER PRIMARY KEY,
    timestamp        INTEGER NOT NULL,              -- when it finished
    session_uuid     TEXT,
    task_id          TEXT,
    agent_id         TEXT,
    agent_type       TEXT,
    prompt_id        TEXT,
    tool_use_id      TEXT,                          -- NULL: recorded through the Python API
    tool_name        TEXT NOT NULL,
    parameters       TEXT,                          -- JSON, redacted
    success          INTEGER NOT NULL CHECK (success IN (0, 1)),
    error            TEXT,
    error_category   TEXT CHECK ((error_category IS NULL) = (success = 1)),
    duration_ms      REAL,                          -- NULL: not known (refused, denied, interrupted)
    tokens           INTEGER,
    screenshot_path  TEXT,
    background       TEXT CHECK (background IN ('requested', 'automatic')),
    source           TEXT NOT NULL CHECK (source IN ('inferred', 'batch', 'hook', 'api'))
) STRICT;
CREATE UNIQUE INDEX idx_tool_call ON tool_usage (session_uuid, tool_use_id) WHERE tool_use_id IS NOT NULL;
-- Covers the edges of a statistic's time span, so that they cost no look-up per row.
CREATE INDEX idx_tool_timestamp ON tool_usage (timestamp, tool_name, success, duration_ms, error_category);
CREATE INDEX idx_tool_task ON tool_usage (task_id, timestamp) WHERE task_id IS NOT NULL;

-- Calls in flight. A call is here or in tool_usage, never in both.
CREATE TABLE tool_running (
    session_uuid          TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    tool_use_id           TEXT NOT NULL,
    tool_name             TEXT NOT NULL,
    started_at            INTEGER NOT NULL,
    task_id               TEXT,
    agent_id              TEXT,
    agent_type            TEXT,
    prompt_id             TEXT,
    parameters            TEXT,
    permission_requested  INTEGER NOT NULL DEFAULT 0 CHECK (permission_requested IN (0, 1)),
    answered_at           INTEGER,                  -- the model was told something, but no result was reported yet: …
    answer                TEXT,                     -- … a denial, unless the result still comes
    answer_category       TEXT,
    PRIMARY KEY (session_uuid, tool_use_id)
) STRICT, WITHOUT ROWID;

-- Every change of a session's status, and of its subagents'.
CREATE TABLE agent_status (
    id            INTEGER PRIMARY KEY,
    timestamp     INTEGER NOT NULL,
    session_uuid  TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    task_id       TEXT,
    agent_id      TEXT,
    status        TEXT NOT NULL,
    previous      TEXT,
    cause         TEXT NOT NULL,                    -- the event kind, or process_gone, forked, cleared
    detail        TEXT
) STRICT;
CREATE INDEX idx_agent_status_session ON agent_status (session_uuid, timestamp);
CREATE INDEX idx_agent_status_timestamp ON agent_status (timestamp);

-- Which session and task read, wrote or edited which file when.
CREATE TABLE files (
    id            INTEGER PRIMARY KEY,
    timestamp     INTEGER NOT NULL,
    path          TEXT NOT NULL,                    -- absolute
    action        TEXT NOT NULL CHECK (action IN ('read', 'write', 'edit')),
    session_uuid  TEXT NOT NULL,
    task_id       TEXT,
    agent_id      TEXT,
    tool_use_id   TEXT NOT NULL,
    UNIQUE (session_uuid, tool_use_id)
) STRICT;
CREATE INDEX idx_files_path ON files (path, timestamp);
CREATE INDEX idx_files_timestamp ON files (timestamp);
CREATE INDEX idx_files_task ON files (task_id, timestamp) WHERE task_id IS NOT NULL;

-- State of games, as JSON.
CREATE TABLE games (
    game_id     TEXT PRIMARY KEY,
    state       TEXT NOT NULL,                      -- JSON
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

-- People who may log in to the web page.
CREATE TABLE users (
    user_id        INTEGER PRIMARY KEY,
    username       TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password_hash  TEXT NOT NULL,
    role           TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    disabled       INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at     INTEGER NOT NULL
) STRICT;

-- What the daemon counts over its whole life: dropped, quarantined, duplicates, …
CREATE TABLE counters (
    name   TEXT PRIMARY KEY,
    value  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Roll-ups, kept by the triggers below and by nothing else: the same sums in slots of several lengths, so that any span of
-- time is a few long slots and some short ones at its edges. A slot is its first millisecond divided by its grain, in UTC.
-- Every time zone's days begin on a quarter hour.
CREATE TABLE rollup_grain (
    grain      INTEGER PRIMARY KEY,                 -- milliseconds
    durations  INTEGER NOT NULL CHECK (durations IN (0, 1))  -- whether duration_rollup has slots of it
) STRICT;
INSERT INTO rollup_grain (grain, durations)
VALUES (60000, 0), (900000, 0), (3600000, 1), (21600000, 1), (86400000, 1);

CREATE TABLE tool_rollup (
    grain         INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    tool_name     TEXT NOT NULL,
    calls         INTEGER NOT NULL,
    successes     INTEGER NOT NULL,
    timed         INTEGER NOT NULL,                 -- calls whose duration is known
    duration_sum  REAL NOT NULL,
    duration_max  REAL,
    PRIMARY KEY (grain, slot, tool_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE error_rollup (
    grain           INTEGER NOT NULL,
    slot            INTEGER NOT NULL,
    tool_name       TEXT NOT NULL,
    error_category  TEXT NOT NULL,
    calls           INTEGER NOT NULL,
    PRIMARY KEY (grain, slot, tool_name, error_category)
) STRICT, WITHOUT ROWID;

-- For percentiles over more calls than can be sorted.
CREATE TABLE duration_rollup (
    grain      INTEGER NOT NULL,
    slot       INTEGER NOT NULL,
    tool_name  TEXT NOT NULL,
    bucket     INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (grain, slot, tool_name, bucket)
) STRICT, WITHOUT ROWID;

-- Bucket b holds durations from 2^((b-1)/3) ms up to the next one's lower bound; bucket 0 what is below 1 ms.
CREATE TABLE duration_bucket (
    lower_ms  REAL PRIMARY KEY,
    bucket    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO duration_bucket (lower_ms, bucket)
WITH RECURSIVE bound (bucket) AS (VALUES (1) UNION ALL SELECT bucket + 1 FROM bound WHERE bucket < 80)
SELECT 0.0, 0
UNION ALL
SELECT (1 << (bucket - 1) / 3) * CASE (bucket - 1) % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 1.2599210498948732 ELSE 1.5874010519681994 END,
       bucket
FROM bound;

-- What the triggers add a call to. Not a table: inserting here is adding.
CREATE VIEW counted_call AS
SELECT timestamp, tool_name, success, error_category, duration_ms FROM tool_usage WHERE 0;

CREATE TRIGGER counted_call_insert INSTEAD OF INSERT ON counted_call BEGIN
    INSERT INTO tool_rollup (grain, slot, tool_name, calls, successes, timed, duration_sum, duration_max)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, 1, NEW.success, NEW.duration_ms IS NOT NULL,
           coalesce(NEW.duration_ms, 0.0), NEW.duration_ms
    FROM rollup_grain WHERE true
    ON CONFLICT (grain, slot, tool_name) DO UPDATE SET
        calls = calls + 1,
        successes = successes + excluded.successes,
        timed = timed + excluded.timed,
        duration_sum = duration_sum + excluded.duration_sum,
        duration_max = max(coalesce(duration_max, excluded.duration_max), coalesce(excluded.duration_max, duration_max));
    INSERT INTO error_rollup (grain, slot, tool_name, error_category, calls)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, NEW.error_category, 1
    FROM rollup_grain WHERE NEW.success = 0
    ON CONFLICT (grain, slot, tool_name, error_category) DO UPDATE SET calls = calls + 1;
    INSERT INTO duration_rollup (grain, slot, tool_name, bucket, calls)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, bucket, 1
    FROM (SELECT bucket FROM duration_bucket WHERE lower_ms <= NEW.duration_ms ORDER BY lower_ms DESC LIMIT 1)
         JOIN rollup_grain ON durations
    WHERE true
    ON CONFLICT (grain, slot, tool_name, bucket) DO UPDATE SET calls = calls + 1;
END;

CREATE TRIGGER tool_usage_insert AFTER INSERT ON tool_usage BEGIN
    INSERT INTO counted_call (timestamp, tool_name, success, error_category, duration_ms)
    VALUES (NEW.timestamp, NEW.tool_name, NEW.success, NEW.error_category, NEW.duration_ms);
END;

-- A stronger source replaces a weaker one in place; the roll-ups follow. Only rows without a duration are ever replaced,
-- so no maximum and no histogram has to be taken back.
CREATE TRIGGER tool_usage_update AFTER UPDATE OF timestamp, tool_name, success, error_category, duration_ms ON tool_usage BEGIN
    SELECT raise(ABORT, 'a timed call cannot be replaced') WHERE OLD.duration_ms IS NOT NULL;
    UPDATE tool_rollup SET calls = calls - 1, successes = successes - OLD.success
    FROM rollup_grain AS g
    WHERE tool_rollup.grain = g.grain AND slot = OLD.timestamp / g.grain AND tool_name = OLD.tool_name;
    DELETE FROM tool_rollup
    WHERE calls = 0 AND tool_name = OLD.tool_name
      AND (grain, slot) IN (SELECT grain, OLD.timestamp / grain FROM rollup_grain);
    UPDATE error_rollup SET calls = calls - 1
    FROM rollup_grain AS g
    WHERE error_rollup.grain = g.grain AND slot = OLD.timestamp / g.grain AND tool_name = OLD.tool_name
      AND error_category = OLD.error_category;
    DELETE FROM error_rollup
    WHERE calls = 0 AND tool_name = OLD.tool_name AND error_category = OLD.error_category
      AND (grain, slot) IN (SELECT grain, OLD.timestamp / grain FROM rollup_grain);
    INSERT INTO counted_call (timestamp, tool_name, success, error_category, duration_ms)
    VALUES (NEW.timestamp, NEW.tool_name, NEW.success, NEW.error_category, NEW.duration_ms);
END;
