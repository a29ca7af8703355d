"""What transcripts tell of tool calls, kept until it is matched with what hooks reported."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic_core import to_json

from tasks.categories import categorize
from tasks.categories.fingerprints import fingerprint
from tasks.database import ERROR_KIND, Connection
from tasks.redaction import Redactor, may_contain_secret
from tasks.transcripts import Answer, Call, Chunk
from tasks.words import FILE_TOOLS, PrivacyLevel

#: Longest error text stored, in characters, before the privacy level cuts it.
ERROR_LIMIT = 12_000
#: Bytes of a call's input below which nothing in it is long enough to be cut at any privacy level.
SMALL = 8 << 10

#: A call that was accounted once carries its model: a file that was rewritten tells it again.
_CALL = """
INSERT INTO expected_calls (session_uuid, tool_use_id, transcript_id, tool_name, model, prompt_id, called_at, parameters,
                            read_at)
SELECT :session_uuid, :tool_use_id, :transcript_id, :tool_name, :model, :prompt_id, :called_at, :parameters, :read_at
WHERE NOT EXISTS (SELECT 1 FROM tool_usage
                  WHERE session_uuid = :session_uuid AND tool_use_id = :tool_use_id AND model IS NOT NULL)
ON CONFLICT (session_uuid, tool_use_id) DO NOTHING
"""

_ANSWER = """
UPDATE expected_calls SET answered_at = :at, success = :success, error = :error, error_category = :category,
                          fingerprint = :fingerprint, read_at = :read_at
WHERE session_uuid = :session_uuid AND tool_use_id = :tool_use_id AND answered_at IS NULL
"""

_NAME = "SELECT tool_name FROM expected_calls WHERE session_uuid = ? AND tool_use_id = ? AND answered_at IS NULL"

_COUNTED = """
SELECT source = 'transcript' FROM tool_usage WHERE session_uuid = ? AND tool_use_id = ? AND model IS NOT NULL
"""

#: Taken back from the roll-ups, where it is in them already.
_UNCOUNT_CALL = """
INSERT INTO counted_call (sign, timestamp, tool_name, success, error_category, duration_ms, session_uuid, task_id, agent_type,
                          model, fingerprint)
SELECT -1, timestamp, tool_name, success, error_category, duration_ms, session_uuid, task_id, agent_type, model, fingerprint
FROM tool_usage
WHERE session_uuid = ? AND tool_use_id = ? AND id <= (SELECT upto FROM rolled WHERE source = 'tool_usage')
"""

_UNCOUNT = """
UPDATE reconciliations SET expected = expected - 1, seen = seen - :seen, added = added - :added
WHERE session_uuid = :session_uuid
"""


def note(
    connection: Connection,
    transcript_id: int,
    session_uuid: str,
    chunk: Chunk,
    owned_message_ids: Collection[str],
    now: int,
    redactor: Redactor,
) -> None:
    """Expect the calls of `chunk` whose messages are credited to this file, and take their answers down.

    Idempotent. An answer may come in a later chunk than its call; one to a call that is not expected is ignored.
    `now`: epoch milliseconds, from when on hooks get their time to report. Runs in the caller's transaction.
    """
    owned = owned_message_ids if isinstance(owned_message_ids, set | frozenset) else frozenset(owned_message_ids)
    calls = [call for call in chunk.calls if call.message_id in owned]
    connection.executemany(
        _CALL,
        [
            {
                "session_uuid": session_uuid,
                "tool_use_id": call.tool_use_id,
                "transcript_id": transcript_id,
                "tool_name": call.tool_name,
                "model": call.model,
                "prompt_id": call.prompt_id,
                "called_at": call.timestamp,
                "parameters": parameters_of(call, redactor),
                "read_at": now,
            }
            for call in calls
        ],
    )
    names = {call.tool_use_id: call.tool_name for call in calls}
    answers = []
    for answer in chunk.answers:
        name = names.get(answer.tool_use_id) or _name(connection, session_uuid, answer.tool_use_id)
        if name is not None:
            answers.append(_row(session_uuid, answer, name, now, redactor))
    connection.executemany(_ANSWER, answers)
    connection.executemany(
        ERROR_KIND,
        [
            (row["fingerprint"], row["tool_name"], row["category"], row["message"], session_uuid, row["at"], row["at"])
            for row in answers
            if row["fingerprint"] is not None
        ],
    )


def withdraw(connection: Connection, chunk: Chunk, moved: Mapping[str, str]) -> None:
    """Take back what other sessions were credited with: of the calls of `chunk` whose message is a key of `moved`, whatever
    was expected, counted or added under the session that is its value.

    For messages whose credit goes to an older file of another session. Rows that hooks reported stay. Runs in the caller's
    transaction.
    """
    for call in chunk.calls:
        if (session_uuid := moved.get(call.message_id)) is None:
            continue
        key = session_uuid, call.tool_use_id
        dropped = connection.execute("DELETE FROM expected_calls WHERE session_uuid = ? AND tool_use_id = ?", key)
        if dropped.rowcount:
            continue
        found = connection.execute(_COUNTED, key).fetchone()
        if found is None:
            continue
        added = int(found[0])
        connection.execute(_UNCOUNT, {"session_uuid": session_uuid, "seen": 1 - added, "added": added})
        if added:
            connection.execute(_UNCOUNT_CALL, key)
            connection.execute("DELETE FROM tool_usage WHERE session_uuid = ? AND tool_use_id = ?", key)


def parameters_of(call: Call, redactor: Redactor) -> str | None:
    """The JSON of the call's input as it may be stored; None when there is none, or none may be kept.

    At the lowest privacy level that is a JSON string, the file that the call touches: `reconcile` knows it by that.
    """
    raw = call.parameters
    if redactor.level is PrivacyLevel.MINIMAL:
        return _file_name(call, redactor)
    if raw in (b"", b"{}", b"null"):
        return None
    if len(raw) < SMALL and b"\\u" not in raw and not may_contain_secret(raw):
        return raw.decode(errors="replace")
    try:
        value: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return to_json(redactor.value(value), inf_nan_mode="strings").decode()


def _file_name(call: Call, redactor: Redactor) -> str | None:
    if call.tool_name not in FILE_TOOLS:
        return None
    try:
        value = json.loads(call.parameters)
    except (ValueError, RecursionError):
        return None
    path = value.get(FILE_TOOLS[call.tool_name][1]) if isinstance(value, dict) else None
    return to_json(redactor.text(path)).decode() if isinstance(path, str) else None


def _name(connection: Connection, session_uuid: str, tool_use_id: str) -> str | None:
    found = connection.execute(_NAME, (session_uuid, tool_use_id)).fetchone()
    return None if found is None else str(found[0])


def _row(session_uuid: str, answer: Answer, tool_name: str, now: int, redactor: Redactor) -> dict[str, Any]:
    row: dict[str, Any] = {
        "session_uuid": session_uuid,
        "tool_use_id": answer.tool_use_id,
        "at": answer.timestamp,
        "success": int(answer.success),
        "error": None,
        "category": None,
        "fingerprint": None,
        "read_at": now,
    }
    if not answer.success:
        row["category"] = categorize(answer.text, tool_name=tool_name)
        kind = fingerprint(tool_name, row["category"], redactor.ends(answer.text))
        row |= {"fingerprint": kind.id, "tool_name": tool_name, "message": None}
        if redactor.level is not PrivacyLevel.MINIMAL:
            row["error"], row["message"] = redactor.text(answer.text[:ERROR_LIMIT]), kind.message or None
    return row
