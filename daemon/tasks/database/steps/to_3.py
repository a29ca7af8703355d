"""Money, transcripts, more roll-ups, made anew from the rows. Released, and never changed again."""

# ruff: noqa: E501

STATEMENTS = """
DROP TRIGGER counted_call_insert;
DROP TRIGGER tool_usage_insert;
DROP TRIGGER tool_usage_update;
DROP VIEW counted_call;
DROP INDEX idx_tool_call;
DROP INDEX idx_tool_timestamp;
DROP INDEX idx_tool_task;
ALTER TABLE tool_usage RENAME TO tool_usage_2;
CREATE TABLE tool_usage (
    id               INTEGER PRIMARY KEY,
    timestamp        INTEGER NOT NULL,
    session_uuid     TEXT,
    task_id          TEXT,
    agent_id         TEXT,
    agent_type       TEXT,
    prompt_id        TEXT,
    tool_use_id      TEXT,
    tool_name        TEXT NOT NULL,
    parameters       TEXT,
    success          INTEGER NOT NULL CHECK (success IN (0, 1)),
    error            TEXT,
    error_category   TEXT CHECK ((error_category IS NULL) = (success = 1)),
    duration_ms      REAL,
    tokens           INTEGER,
    screenshot_path  TEXT,
    background       TEXT CHECK (background IN ('requested', 'automatic')),
    source           TEXT NOT NULL CHECK (source IN ('inferred', 'transcript', 'batch', 'hook', 'api')),
    model            TEXT,
    fingerprint      TEXT
) STRICT;
INSERT INTO tool_usage (id, timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name, parameters, success, error,
    error_category, duration_ms, tokens, screenshot_path, background, source)
SELECT id, timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name, parameters, success, error,
    error_category, duration_ms, tokens, screenshot_path, background, source FROM tool_usage_2;
DROP TABLE tool_usage_2;
CREATE UNIQUE INDEX idx_tool_call ON tool_usage (session_uuid, tool_use_id) WHERE tool_use_id IS NOT NULL;
CREATE INDEX idx_tool_timestamp ON tool_usage (timestamp, tool_name, success, duration_ms, error_category);
CREATE INDEX idx_tool_task ON tool_usage (task_id, timestamp) WHERE task_id IS NOT NULL;
CREATE TABLE error_kinds (
    fingerprint     TEXT PRIMARY KEY,
    tool_name       TEXT NOT NULL,
    error_category  TEXT NOT NULL,
    message         TEXT,
    session_uuid    TEXT,
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE transcripts (
    transcript_id  INTEGER PRIMARY KEY,
    path           TEXT NOT NULL UNIQUE,
    session_uuid   TEXT NOT NULL,
    agent_id       TEXT,
    agent_type     TEXT NOT NULL DEFAULT '',
    task_id        TEXT,
    workflow       TEXT,
    project        TEXT NOT NULL DEFAULT '',
    device         INTEGER NOT NULL DEFAULT 0,
    inode          INTEGER NOT NULL DEFAULT 0,
    offset         INTEGER NOT NULL DEFAULT 0,
    anchor         BLOB,
    prompt_id      TEXT,
    began_at       INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    bad_lines      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX idx_transcripts_session ON transcripts (session_uuid);
CREATE INDEX idx_transcripts_task ON transcripts (task_id) WHERE task_id IS NOT NULL;
CREATE TABLE prices (
    price_id        INTEGER PRIMARY KEY,
    model           TEXT NOT NULL,
    source          TEXT NOT NULL,
    modifiers       TEXT NOT NULL DEFAULT '',
    input           INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    cache_read      INTEGER NOT NULL,
    cache_write_5m  INTEGER NOT NULL,
    cache_write_1h  INTEGER NOT NULL,
    web_search      INTEGER NOT NULL,
    UNIQUE (model, source, modifiers, input, output, cache_read, cache_write_5m, cache_write_1h, web_search)
) STRICT;
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
    copied                 INTEGER NOT NULL DEFAULT 0 CHECK (copied IN (0, 1)),
    price_id               INTEGER REFERENCES prices,
    cost                   INTEGER,
    CHECK ((price_id IS NULL) = (cost IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_messages_transcript ON messages (transcript_id, timestamp);
CREATE INDEX idx_messages_timestamp ON messages (timestamp);
CREATE INDEX idx_messages_unpriced ON messages (model) WHERE cost IS NULL;
CREATE TABLE expected_calls (
    session_uuid    TEXT NOT NULL,
    tool_use_id     TEXT NOT NULL,
    transcript_id   INTEGER NOT NULL,
    tool_name       TEXT NOT NULL,
    model           TEXT,
    prompt_id       TEXT,
    called_at       INTEGER NOT NULL,
    parameters      TEXT,
    answered_at     INTEGER,
    success         INTEGER CHECK (success IN (0, 1)),
    error           TEXT,
    error_category  TEXT,
    fingerprint     TEXT,
    read_at         INTEGER NOT NULL,
    PRIMARY KEY (session_uuid, tool_use_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE reconciliations (
    session_uuid  TEXT PRIMARY KEY,
    expected      INTEGER NOT NULL DEFAULT 0,
    seen          INTEGER NOT NULL DEFAULT 0,
    added         INTEGER NOT NULL DEFAULT 0,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rolled (
    source  TEXT PRIMARY KEY,
    upto    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO rolled (source, upto) VALUES ('tool_usage', 0), ('files', 0);
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
    value           TEXT NOT NULL,
    tool_name       TEXT NOT NULL,
    error_category  TEXT NOT NULL,
    calls           INTEGER NOT NULL,
    timed           INTEGER NOT NULL,
    duration_sum    REAL NOT NULL,
    PRIMARY KEY (dimension, grain, slot, value, tool_name, error_category)
) STRICT, WITHOUT ROWID;
CREATE TABLE file_rollup (
    grain      INTEGER NOT NULL,
    slot       INTEGER NOT NULL,
    path       TEXT NOT NULL,
    accesses   INTEGER NOT NULL,
    reads      INTEGER NOT NULL,
    rereads    INTEGER NOT NULL,
    writes     INTEGER NOT NULL,
    edits      INTEGER NOT NULL,
    contended  INTEGER NOT NULL,
    PRIMARY KEY (grain, slot, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_file_accesses ON file_rollup (grain, slot, accesses DESC);
CREATE INDEX idx_file_rereads ON file_rollup (grain, slot, rereads DESC) WHERE rereads > 0;
CREATE INDEX idx_file_contended ON file_rollup (grain, slot, contended DESC) WHERE contended > 0;
CREATE TABLE file_use (
    path          TEXT NOT NULL,
    session_uuid  TEXT NOT NULL,
    agent_id      TEXT NOT NULL,
    reads         INTEGER NOT NULL,
    writes        INTEGER NOT NULL,
    edits         INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    edited_at     INTEGER,
    PRIMARY KEY (path, session_uuid, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_file_use_session ON file_use (session_uuid);
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
    cost                   INTEGER NOT NULL,
    unpriced               INTEGER NOT NULL,
    PRIMARY KEY (dimension, grain, slot, value, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_cost_value ON cost_rollup (value, grain) WHERE dimension IN ('session', 'task');
CREATE TABLE state_rollup (
    grain   INTEGER NOT NULL,
    slot    INTEGER NOT NULL,
    status  TEXT NOT NULL,
    ms      INTEGER NOT NULL,
    PRIMARY KEY (grain, slot, status)
) STRICT, WITHOUT ROWID;
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
CREATE TRIGGER tool_usage_model AFTER UPDATE OF model ON tool_usage
WHEN NEW.model IS NOT OLD.model AND OLD.id <= (SELECT upto FROM rolled WHERE source = 'tool_usage') BEGIN
    INSERT INTO counted_use (sign, dimension, value, timestamp, tool_name, error_category, duration_ms)
    VALUES (-1, 'model', coalesce(OLD.model, ''), OLD.timestamp, OLD.tool_name, coalesce(OLD.error_category, ''), OLD.duration_ms),
           (1, 'model', coalesce(NEW.model, ''), NEW.timestamp, NEW.tool_name, coalesce(NEW.error_category, ''), NEW.duration_ms);
END;
CREATE TRIGGER tool_usage_delete AFTER DELETE ON tool_usage WHEN OLD.id >= (SELECT upto FROM rolled WHERE source = 'tool_usage') BEGIN
    UPDATE rolled SET upto = min(upto, coalesce((SELECT max(id) FROM tool_usage), 0)) WHERE source = 'tool_usage';
END;
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
DELETE FROM tool_rollup;
DELETE FROM error_rollup;
DELETE FROM duration_rollup;
INSERT INTO rolling_calls (upto) SELECT max(id) FROM tool_usage WHERE true HAVING max(id) IS NOT NULL;
INSERT INTO rolling_files (upto) SELECT max(id) FROM files WHERE true HAVING max(id) IS NOT NULL;
INSERT INTO state_rollup (grain, slot, status, ms)
WITH RECURSIVE part (grain, status, began, ended) AS (
    SELECT grain, status, began, ended
    FROM (SELECT status, timestamp AS began, lead(timestamp) OVER (PARTITION BY session_uuid ORDER BY id) AS ended
          FROM agent_status WHERE agent_id IS NULL)
         CROSS JOIN (SELECT 3600000 AS grain UNION ALL SELECT 86400000)
    WHERE ended > began AND ended - began <= 31622400000 AND status NOT IN ('ended', 'failed', 'lost')
    UNION ALL
    SELECT grain, status, (began / grain + 1) * grain, ended FROM part WHERE ended > (began / grain + 1) * grain
)
SELECT grain, began / grain, status, sum(min(ended, (began / grain + 1) * grain) - began) FROM part GROUP BY 1, 2, 3;
"""
