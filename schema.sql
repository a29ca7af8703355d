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
    source           TEXT NOT NULL CHECK (source IN ('inferred', 'transcript', 'batch', 'hook', 'api')),
    model            TEXT,                          -- that called; NULL: no transcript has told it yet
    fingerprint      TEXT                           -- of a failed call: see error_kinds
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

-- Kinds of errors: what failed calls said, without what differs from one to the next.
CREATE TABLE error_kinds (
    fingerprint     TEXT PRIMARY KEY,               -- 16 hexadecimal characters: hash of tool, category and message
    tool_name       TEXT NOT NULL,
    error_category  TEXT NOT NULL,
    message         TEXT,                           -- redacted, normalised; NULL: not stored at this privacy level
    session_uuid    TEXT,                           -- that the message was first seen in
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The client's transcript files, how far each was read, and whose work it holds. Their text is not stored.
CREATE TABLE transcripts (
    transcript_id  INTEGER PRIMARY KEY,
    path           TEXT NOT NULL UNIQUE,            -- absolute; 'run:<task>/<attempt>' for what only a result line told
    session_uuid   TEXT NOT NULL,
    agent_id       TEXT,                            -- of a subagent's file
    agent_type     TEXT NOT NULL DEFAULT '',        -- of the subagent, else of the task; '' the main agent
    task_id        TEXT,
    workflow       TEXT,
    project        TEXT NOT NULL DEFAULT '',        -- the task's workspace, else the folder that the session began in
    device         INTEGER NOT NULL DEFAULT 0,
    inode          INTEGER NOT NULL DEFAULT 0,
    offset         INTEGER NOT NULL DEFAULT 0,      -- bytes read: whole lines
    anchor         BLOB,                            -- hash of the bytes just before offset; another one: the file was rewritten
    prompt_id      TEXT,                            -- that the line at offset belongs to
    began_at       INTEGER NOT NULL,                -- of several files with the same message, the oldest is credited with it
    last_at        INTEGER NOT NULL,
    bad_lines      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX idx_transcripts_session ON transcripts (session_uuid);
CREATE INDEX idx_transcripts_task ON transcripts (task_id) WHERE task_id IS NOT NULL;

-- Prices that were applied. Money is INTEGER picodollars (1e-12 USD), so that sums are exact in any order; rates are
-- picodollars per token, and per web search.
CREATE TABLE prices (
    price_id        INTEGER PRIMARY KEY,
    model           TEXT NOT NULL,
    source          TEXT NOT NULL,                  -- 'config', or the price list and its version
    modifiers       TEXT NOT NULL DEFAULT '',       -- what was multiplied: fast, us, batch …
    input           INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    cache_read      INTEGER NOT NULL,
    cache_write_5m  INTEGER NOT NULL,
    cache_write_1h  INTEGER NOT NULL,
    web_search      INTEGER NOT NULL,
    UNIQUE (model, source, modifiers, input, output, cache_read, cache_write_5m, cache_write_1h, web_search)
) STRICT;

-- One row per answer of the API, over all transcripts: forks and resumes repeat old ones. Kept for ever.
CREATE TABLE messages (
    message_id             TEXT PRIMARY KEY,
    transcript_id          INTEGER NOT NULL REFERENCES transcripts,
    timestamp              INTEGER NOT NULL,
    prompt_id              TEXT,
    model                  TEXT NOT NULL,
    input_tokens           INTEGER NOT NULL,
    output_tokens          INTEGER NOT NULL,
    cache_read_tokens      INTEGER NOT NULL,
    cache_write_5m_tokens  INTEGER NOT NULL,
    cache_write_1h_tokens  INTEGER NOT NULL,
    web_searches           INTEGER NOT NULL,
    modifiers              TEXT NOT NULL DEFAULT '',
    copied                 INTEGER NOT NULL DEFAULT 0 CHECK (copied IN (0, 1)),  -- its lines are said to be copies
    price_id               INTEGER REFERENCES prices,  -- NULL: unpriced
    cost                   INTEGER,                 -- picodollars; NULL: unpriced
    CHECK ((price_id IS NULL) = (cost IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_messages_transcript ON messages (transcript_id, timestamp);
CREATE INDEX idx_messages_timestamp ON messages (timestamp);
CREATE INDEX idx_messages_unpriced ON messages (model) WHERE cost IS NULL;

-- Tool calls that a transcript told of and that no hook has reported so far.
CREATE TABLE expected_calls (
    session_uuid    TEXT NOT NULL,
    tool_use_id     TEXT NOT NULL,
    transcript_id   INTEGER NOT NULL,
    tool_name       TEXT NOT NULL,
    model           TEXT,
    prompt_id       TEXT,
    called_at       INTEGER NOT NULL,
    parameters      TEXT,                           -- JSON, redacted
    answered_at     INTEGER,                        -- NULL: no result in the transcript yet
    success         INTEGER CHECK (success IN (0, 1)),
    error           TEXT,
    error_category  TEXT,
    fingerprint     TEXT,
    read_at         INTEGER NOT NULL,               -- when the transcript was read: hooks get some time from then on
    PRIMARY KEY (session_uuid, tool_use_id)
) STRICT, WITHOUT ROWID;

-- Per session, the calls that its transcripts told of: how many hooks reported too, and how many were added.
CREATE TABLE reconciliations (
    session_uuid  TEXT PRIMARY KEY,
    expected      INTEGER NOT NULL DEFAULT 0,       -- calls with a result in a transcript
    seen          INTEGER NOT NULL DEFAULT 0,       -- of these, reported by hooks
    added         INTEGER NOT NULL DEFAULT 0,       -- of these, stored from the transcript alone
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- State of games, as JSON.
CREATE TABLE games (
    game_id     TEXT PRIMARY KEY,
    state       TEXT NOT NULL,                      -- JSON
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

-- People who may log in to the web page.
CREATE TABLE users (
    user_id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again: audit refers to people who are gone
    username             TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password_hash        TEXT NOT NULL,             -- v1$, then bcrypt of a keyed hash; the key is auth/pepper
    role                 TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    disabled             INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at           INTEGER NOT NULL,
    password_changed_at  INTEGER NOT NULL,
    last_login_at        INTEGER
) STRICT;

-- Every login, open or ended. Each request made with one is checked against its row.
CREATE TABLE logins (
    login_id      TEXT PRIMARY KEY,                 -- random; the jti of its tokens
    user_id       INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (kind IN ('cookie', 'bearer')),
    created_at    INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,                 -- to the minute
    ended_at      INTEGER,                          -- NULL: open
    end_reason    TEXT CHECK (end_reason IN ('logout', 'password', 'role', 'disabled', 'killed', 'expired')),
    address       TEXT,
    client        TEXT,                             -- what it called itself, up to 200 characters
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_logins_user ON logins (user_id);

-- Who did what.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    timestamp  INTEGER NOT NULL,
    user_id    INTEGER,                             -- NULL: the user that the daemon runs as, or nobody who is known
    username   TEXT NOT NULL,                       -- as it was then
    via        TEXT NOT NULL CHECK (via IN ('web', 'socket', 'cli')),
    action     TEXT NOT NULL,                       -- login, login_failed, users.create, POST /v1/tasks/{task_id}/cancel …
    target     TEXT,                                -- what it was done to
    outcome    INTEGER NOT NULL,                    -- HTTP status; 200 for what the command line has done
    address    TEXT,
    detail     TEXT
) STRICT;
CREATE INDEX idx_audit_timestamp ON audit (timestamp);

-- What the daemon counts over its whole life: dropped, quarantined, duplicates, …
CREATE TABLE counters (
    name   TEXT PRIMARY KEY,
    value  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Roll-ups: the same sums in slots of several lengths, so that any span of time is a few long slots and some short ones at
-- its edges. A slot is its first millisecond divided by its grain, in UTC. Every time zone's days begin on a quarter hour.
--
-- Those of tool_usage and files are kept by the triggers below and by nothing else. They hold the rows up to
-- rolled.upto, in one statement for a thousand rows; whoever asks adds the rows after it, in the same statement:
--     … WHERE id > (SELECT upto FROM rolled WHERE source = 'tool_usage')
-- Rows may be deleted once they are rolled; roll-ups are kept for ever.
CREATE TABLE rolled (
    source  TEXT PRIMARY KEY,
    upto    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO rolled (source, upto) VALUES ('tool_usage', 0), ('files', 0);

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

-- Calls by what they belong to. Grain 0 has one slot: all time.
CREATE TABLE use_grain (
    dimension  TEXT NOT NULL,
    grain      INTEGER NOT NULL,
    PRIMARY KEY (dimension, grain)
) STRICT, WITHOUT ROWID;
INSERT INTO use_grain (dimension, grain)
VALUES ('workflow', 3600000), ('workflow', 86400000), ('agent_type', 3600000), ('agent_type', 86400000),
       ('model', 3600000), ('model', 86400000), ('fingerprint', 3600000), ('fingerprint', 86400000),
       ('session', 0), ('task', 0);

CREATE TABLE use_rollup (
    dimension       TEXT NOT NULL,
    grain           INTEGER NOT NULL,
    slot            INTEGER NOT NULL,
    value           TEXT NOT NULL,                  -- '' main agent, model not known
    tool_name       TEXT NOT NULL,
    error_category  TEXT NOT NULL,                  -- '' success
    calls           INTEGER NOT NULL,
    timed           INTEGER NOT NULL,
    duration_sum    REAL NOT NULL,
    PRIMARY KEY (dimension, grain, slot, value, tool_name, error_category)
) STRICT, WITHOUT ROWID;

-- File accesses. Grains: hour and day.
CREATE TABLE file_rollup (
    grain      INTEGER NOT NULL,
    slot       INTEGER NOT NULL,
    path       TEXT NOT NULL,
    accesses   INTEGER NOT NULL,                    -- reads, writes and edits together
    reads      INTEGER NOT NULL,
    rereads    INTEGER NOT NULL,                    -- of these, by an agent that had read the file before
    writes     INTEGER NOT NULL,
    edits      INTEGER NOT NULL,
    contended  INTEGER NOT NULL,                    -- writes and edits within 30 minutes of an earlier one by another agent
    PRIMARY KEY (grain, slot, path)
) STRICT, WITHOUT ROWID;
-- The first few of every slot tell which files are the first over any span: see tasks.analytics.files.
CREATE INDEX idx_file_accesses ON file_rollup (grain, slot, accesses DESC);
CREATE INDEX idx_file_rereads ON file_rollup (grain, slot, rereads DESC) WHERE rereads > 0;
CREATE INDEX idx_file_contended ON file_rollup (grain, slot, contended DESC) WHERE contended > 0;

-- Which agent touched which file, over all time.
CREATE TABLE file_use (
    path          TEXT NOT NULL,
    session_uuid  TEXT NOT NULL,
    agent_id      TEXT NOT NULL,                    -- '' the main agent
    reads         INTEGER NOT NULL,
    writes        INTEGER NOT NULL,
    edits         INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    edited_at     INTEGER,                          -- its latest write or edit; NULL: it only read
    PRIMARY KEY (path, session_uuid, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_file_use_session ON file_use (session_uuid);

-- Money and tokens by what they belong to: kept with `messages`, in the same transactions. Grains: 15 minutes, hour, 6 hours
-- and day for 'all', 'project', 'agent_type' and 'workflow'; 15 minutes and day for 'session' and 'task'.
CREATE TABLE cost_rollup (
    dimension              TEXT NOT NULL,
    grain                  INTEGER NOT NULL,
    slot                   INTEGER NOT NULL,
    value                  TEXT NOT NULL,
    model                  TEXT NOT NULL,
    messages               INTEGER NOT NULL,
    input_tokens           INTEGER NOT NULL,
    output_tokens          INTEGER NOT NULL,
    cache_read_tokens      INTEGER NOT NULL,
    cache_write_5m_tokens  INTEGER NOT NULL,
    cache_write_1h_tokens  INTEGER NOT NULL,
    web_searches           INTEGER NOT NULL,
    cost                   INTEGER NOT NULL,        -- picodollars, of the priced messages
    unpriced               INTEGER NOT NULL,        -- messages without a price
    PRIMARY KEY (dimension, grain, slot, value, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_cost_value ON cost_rollup (value, grain) WHERE dimension IN ('session', 'task');

-- How long main agents were in which state. Grains: hour and day; the state that a session is in now is not in here yet.
CREATE TABLE state_rollup (
    grain   INTEGER NOT NULL,
    slot    INTEGER NOT NULL,
    status  TEXT NOT NULL,
    ms      INTEGER NOT NULL,
    PRIMARY KEY (grain, slot, status)
) STRICT, WITHOUT ROWID;

-- Inserting here rolls all calls up to that id. Not a table. Summed by the finest slot first: a thousand rows are few of these.
CREATE VIEW rolling_calls AS SELECT 0 AS upto WHERE 0;

CREATE TRIGGER roll_calls INSTEAD OF INSERT ON rolling_calls BEGIN
    INSERT INTO tool_rollup (grain, slot, tool_name, calls, successes, timed, duration_sum, duration_max)
    SELECT grain, minute * 60000 / grain, tool_name, sum(calls), sum(successes), sum(timed), total(duration_sum), max(duration_max)
    FROM (SELECT timestamp / 60000 AS minute, tool_name, count(*) AS calls, sum(success) AS successes,
                 count(duration_ms) AS timed, total(duration_ms) AS duration_sum, max(duration_ms) AS duration_max
          FROM tool_usage
          WHERE id > (SELECT upto FROM rolled WHERE source = 'tool_usage') AND id <= NEW.upto GROUP BY 1, 2)
         CROSS JOIN rollup_grain
    WHERE true
    GROUP BY 1, 2, 3
    ON CONFLICT (grain, slot, tool_name) DO UPDATE SET
        calls = calls + excluded.calls,
        successes = successes + excluded.successes,
        timed = timed + excluded.timed,
        duration_sum = duration_sum + excluded.duration_sum,
        duration_max = max(coalesce(duration_max, excluded.duration_max), coalesce(excluded.duration_max, duration_max));
    INSERT INTO error_rollup (grain, slot, tool_name, error_category, calls)
    SELECT grain, timestamp / grain, tool_name, error_category, count(*)
    FROM tool_usage CROSS JOIN rollup_grain
    WHERE id > (SELECT upto FROM rolled WHERE source = 'tool_usage') AND id <= NEW.upto AND success = 0
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (grain, slot, tool_name, error_category) DO UPDATE SET calls = calls + excluded.calls;
    INSERT INTO duration_rollup (grain, slot, tool_name, bucket, calls)
    SELECT grain, hour * 3600000 / grain, tool_name, bucket, sum(calls)
    FROM (SELECT timestamp / 3600000 AS hour, tool_name,
                 (SELECT bucket FROM duration_bucket WHERE lower_ms <= duration_ms ORDER BY lower_ms DESC LIMIT 1) AS bucket,
                 count(*) AS calls
          FROM tool_usage
          WHERE id > (SELECT upto FROM rolled WHERE source = 'tool_usage') AND id <= NEW.upto AND duration_ms >= 0
          GROUP BY 1, 2, 3)
         JOIN rollup_grain ON durations
    WHERE true
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (grain, slot, tool_name, bucket) DO UPDATE SET calls = calls + excluded.calls;
    INSERT INTO use_rollup (dimension, grain, slot, value, tool_name, error_category, calls, timed, duration_sum)
    SELECT dimension, grain, CASE grain WHEN 0 THEN 0 ELSE hour * 3600000 / grain END,
           CASE dimension WHEN 'workflow' THEN tasks.workflow
                          WHEN 'agent_type' THEN coalesce(nullif(u.agent_type, ''), tasks.agent_type, '')
                          WHEN 'model' THEN coalesce(u.model, '')
                          WHEN 'fingerprint' THEN u.fingerprint
                          WHEN 'session' THEN u.session_uuid
                          WHEN 'task' THEN u.task_id END AS value,
           tool_name, coalesce(error_category, ''), sum(calls), sum(timed), total(duration_sum)
    FROM (SELECT timestamp / 3600000 AS hour, session_uuid, task_id, agent_type, model, fingerprint, tool_name, error_category,
                 count(*) AS calls, count(duration_ms) AS timed, total(duration_ms) AS duration_sum
          FROM tool_usage
          WHERE id > (SELECT upto FROM rolled WHERE source = 'tool_usage') AND id <= NEW.upto GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) AS u
         LEFT JOIN tasks USING (task_id) CROSS JOIN use_grain
    WHERE value IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (dimension, grain, slot, value, tool_name, error_category) DO UPDATE SET
        calls = calls + excluded.calls, timed = timed + excluded.timed, duration_sum = duration_sum + excluded.duration_sum;
    UPDATE rolled SET upto = max(upto, NEW.upto) WHERE source = 'tool_usage';
END;

CREATE TRIGGER tool_usage_insert AFTER INSERT ON tool_usage WHEN NEW.id % 1024 = 0 BEGIN
    INSERT INTO rolling_calls (upto) VALUES (NEW.id);
END;

-- What adds one call to the roll-ups, or (sign -1) takes one back. Not a table.
CREATE VIEW counted_call AS
SELECT 0 AS sign, timestamp, tool_name, success, error_category, duration_ms, session_uuid, task_id, agent_type, model, fingerprint
FROM tool_usage WHERE 0;

CREATE TRIGGER counted_call_insert INSTEAD OF INSERT ON counted_call BEGIN
    INSERT INTO tool_rollup (grain, slot, tool_name, calls, successes, timed, duration_sum, duration_max)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, NEW.sign, NEW.sign * NEW.success,
           NEW.sign * (NEW.duration_ms IS NOT NULL), NEW.sign * coalesce(NEW.duration_ms, 0.0), NEW.duration_ms
    FROM rollup_grain WHERE true
    ON CONFLICT (grain, slot, tool_name) DO UPDATE SET
        calls = calls + excluded.calls,
        successes = successes + excluded.successes,
        timed = timed + excluded.timed,
        duration_sum = duration_sum + excluded.duration_sum,
        duration_max = max(coalesce(duration_max, excluded.duration_max), coalesce(excluded.duration_max, duration_max));
    DELETE FROM tool_rollup
    WHERE calls = 0 AND tool_name = NEW.tool_name
      AND (grain, slot) IN (SELECT grain, NEW.timestamp / grain FROM rollup_grain);
    INSERT INTO error_rollup (grain, slot, tool_name, error_category, calls)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, NEW.error_category, NEW.sign
    FROM rollup_grain WHERE NEW.success = 0
    ON CONFLICT (grain, slot, tool_name, error_category) DO UPDATE SET calls = calls + excluded.calls;
    DELETE FROM error_rollup
    WHERE calls = 0 AND tool_name = NEW.tool_name AND error_category = NEW.error_category
      AND (grain, slot) IN (SELECT grain, NEW.timestamp / grain FROM rollup_grain);
    INSERT INTO duration_rollup (grain, slot, tool_name, bucket, calls)
    SELECT grain, NEW.timestamp / grain, NEW.tool_name, bucket, NEW.sign
    FROM (SELECT bucket FROM duration_bucket WHERE lower_ms <= NEW.duration_ms ORDER BY lower_ms DESC LIMIT 1)
         JOIN rollup_grain ON durations
    WHERE true
    ON CONFLICT (grain, slot, tool_name, bucket) DO UPDATE SET calls = calls + excluded.calls;
    INSERT INTO counted_use (sign, dimension, value, timestamp, tool_name, error_category, duration_ms)
    SELECT NEW.sign, dimension, value, NEW.timestamp, NEW.tool_name, coalesce(NEW.error_category, ''), NEW.duration_ms
    FROM (SELECT 'workflow' AS dimension, (SELECT workflow FROM tasks WHERE task_id = NEW.task_id) AS value
          UNION ALL
          SELECT 'agent_type',
                 coalesce(nullif(NEW.agent_type, ''), (SELECT agent_type FROM tasks WHERE task_id = NEW.task_id), '')
          UNION ALL SELECT 'model', coalesce(NEW.model, '')
          UNION ALL SELECT 'fingerprint', NEW.fingerprint
          UNION ALL SELECT 'session', NEW.session_uuid
          UNION ALL SELECT 'task', NEW.task_id)
    WHERE value IS NOT NULL;
END;

CREATE VIEW counted_use AS
SELECT 0 AS sign, '' AS dimension, '' AS value, timestamp, tool_name, error_category, duration_ms FROM tool_usage WHERE 0;

CREATE TRIGGER counted_use_insert INSTEAD OF INSERT ON counted_use BEGIN
    INSERT INTO use_rollup (dimension, grain, slot, value, tool_name, error_category, calls, timed, duration_sum)
    SELECT dimension, grain, CASE grain WHEN 0 THEN 0 ELSE NEW.timestamp / grain END, NEW.value, NEW.tool_name,
           NEW.error_category, NEW.sign, NEW.sign * (NEW.duration_ms IS NOT NULL), NEW.sign * coalesce(NEW.duration_ms, 0.0)
    FROM use_grain WHERE dimension = NEW.dimension
    ON CONFLICT (dimension, grain, slot, value, tool_name, error_category) DO UPDATE SET
        calls = calls + excluded.calls, timed = timed + excluded.timed, duration_sum = duration_sum + excluded.duration_sum;
    DELETE FROM use_rollup
    WHERE calls = 0 AND dimension = NEW.dimension AND value = NEW.value AND tool_name = NEW.tool_name
      AND error_category = NEW.error_category
      AND (grain, slot) IN (SELECT grain, CASE grain WHEN 0 THEN 0 ELSE NEW.timestamp / grain END
                            FROM use_grain WHERE dimension = NEW.dimension);
END;

-- A stronger source replaces a weaker one in place; the roll-ups follow. Only rows without a duration are ever replaced,
-- so no maximum has to be taken back.
CREATE TRIGGER tool_usage_replace BEFORE UPDATE OF timestamp, tool_name, success, error_category, duration_ms ON tool_usage
WHEN OLD.duration_ms IS NOT NULL BEGIN
    SELECT raise(ABORT, 'a timed call cannot be replaced');
END;

CREATE TRIGGER tool_usage_update
AFTER UPDATE OF timestamp, tool_name, success, error_category, duration_ms, fingerprint ON tool_usage
WHEN OLD.id <= (SELECT upto FROM rolled WHERE source = 'tool_usage') BEGIN
    INSERT INTO counted_call (sign, timestamp, tool_name, success, error_category, duration_ms, session_uuid, task_id,
                              agent_type, model, fingerprint)
    VALUES (-1, OLD.timestamp, OLD.tool_name, OLD.success, OLD.error_category, OLD.duration_ms, OLD.session_uuid, OLD.task_id,
            OLD.agent_type, OLD.model, OLD.fingerprint),
           (1, NEW.timestamp, NEW.tool_name, NEW.success, NEW.error_category, NEW.duration_ms, NEW.session_uuid, NEW.task_id,
            NEW.agent_type, NEW.model, NEW.fingerprint);
END;

-- A transcript told which model called. Never in one statement with what the trigger above looks at.
CREATE TRIGGER tool_usage_model AFTER UPDATE OF model ON tool_usage
WHEN NEW.model IS NOT OLD.model AND OLD.id <= (SELECT upto FROM rolled WHERE source = 'tool_usage') BEGIN
    INSERT INTO counted_use (sign, dimension, value, timestamp, tool_name, error_category, duration_ms)
    VALUES (-1, 'model', coalesce(OLD.model, ''), OLD.timestamp, OLD.tool_name, coalesce(OLD.error_category, ''), OLD.duration_ms),
           (1, 'model', coalesce(NEW.model, ''), NEW.timestamp, NEW.tool_name, coalesce(NEW.error_category, ''), NEW.duration_ms);
END;

-- The ids of the newest rows are given again when these are deleted: what comes under them is new.
CREATE TRIGGER tool_usage_delete AFTER DELETE ON tool_usage WHEN OLD.id >= (SELECT upto FROM rolled WHERE source = 'tool_usage') BEGIN
    UPDATE rolled SET upto = min(upto, coalesce((SELECT max(id) FROM tool_usage), 0)) WHERE source = 'tool_usage';
END;

-- Inserting here rolls all file accesses up to that id. Not a table.
CREATE VIEW rolling_files AS SELECT 0 AS upto WHERE 0;

CREATE TRIGGER roll_files INSTEAD OF INSERT ON rolling_files BEGIN
    INSERT INTO file_rollup (grain, slot, path, accesses, reads, rereads, writes, edits, contended)
    SELECT grain, timestamp / grain, path, count(*), sum(action = 'read'), sum(reread), sum(action = 'write'),
           sum(action = 'edit'), sum(contended)
    FROM (SELECT timestamp, path, action,
                 action = 'read' AND (
                     row_number() OVER (PARTITION BY path, session_uuid, agent_id, action ORDER BY id) > 1
                     OR EXISTS (SELECT 1 FROM file_use AS u
                                WHERE u.path = f.path AND u.session_uuid = f.session_uuid
                                  AND u.agent_id = coalesce(f.agent_id, '') AND u.reads > 0)) AS reread,
                 action <> 'read' AND EXISTS (
                     SELECT 1 FROM files AS other
                     WHERE other.path = f.path AND other.timestamp BETWEEN f.timestamp - 1800000 AND f.timestamp + 1800000
                       AND other.id < f.id AND other.action <> 'read'
                       AND (other.session_uuid <> f.session_uuid OR other.agent_id IS NOT f.agent_id)) AS contended
          FROM files AS f
          WHERE id > (SELECT upto FROM rolled WHERE source = 'files') AND id <= NEW.upto)
         CROSS JOIN (SELECT 3600000 AS grain UNION ALL SELECT 86400000)
    WHERE true
    GROUP BY 1, 2, 3
    ON CONFLICT (grain, slot, path) DO UPDATE SET
        accesses = accesses + excluded.accesses, reads = reads + excluded.reads, rereads = rereads + excluded.rereads, writes = writes + excluded.writes,
        edits = edits + excluded.edits, contended = contended + excluded.contended;
    INSERT INTO file_use (path, session_uuid, agent_id, reads, writes, edits, first_at, last_at, edited_at)
    SELECT path, session_uuid, coalesce(agent_id, ''), sum(action = 'read'), sum(action = 'write'), sum(action = 'edit'),
           min(timestamp), max(timestamp), max(CASE WHEN action <> 'read' THEN timestamp END)
    FROM files WHERE id > (SELECT upto FROM rolled WHERE source = 'files') AND id <= NEW.upto
    GROUP BY 1, 2, 3
    ON CONFLICT (path, session_uuid, agent_id) DO UPDATE SET
        reads = reads + excluded.reads, writes = writes + excluded.writes, edits = edits + excluded.edits,
        first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),
        edited_at = max(coalesce(edited_at, excluded.edited_at), coalesce(excluded.edited_at, edited_at));
    UPDATE rolled SET upto = max(upto, NEW.upto) WHERE source = 'files';
END;

CREATE TRIGGER files_insert AFTER INSERT ON files WHEN NEW.id % 1024 = 0 BEGIN
    INSERT INTO rolling_files (upto) VALUES (NEW.id);
END;

CREATE TRIGGER files_delete AFTER DELETE ON files WHEN OLD.id >= (SELECT upto FROM rolled WHERE source = 'files') BEGIN
    UPDATE rolled SET upto = min(upto, coalesce((SELECT max(id) FROM files), 0)) WHERE source = 'files';
END;
