"""What transcripts tell of tool calls, kept until it is matched with what hooks reported."""

from collections.abc import Collection, Mapping
from typing import Any

from tasks.accounting.told import Failure, Told, failure_of, tell
from tasks.database import ERROR_KIND, Connection
from tasks.redaction import Redactor
from tasks.transcripts import Answer, Chunk

#: A call that was accounted once carries its model: a file that was rewritten tells it again.
_CALL = """
INSERT INTO expected_calls (session_uuid, tool_use_id, transcript_id, tool_name, model, prompt_id, called_at, parameters,
                            read_at, answered_at, success, error, error_category, fingerprint)
SELECT :session_uuid, :tool_use_id, :transcript_id, :tool_name, :model, :prompt_id, :called_at, :parameters,
       :read_at, :answered_at, :success, :error, :category, :fingerprint
WHERE NOT EXISTS (SELECT 1 FROM tool_usage
                  WHERE session_uuid = :session_uuid AND tool_use_id = :tool_use_id AND model IS NOT NULL)
ON CONFLICT (session_uuid, tool_use_id) DO UPDATE SET
    answered_at = excluded.answered_at, success = excluded.success, error = excluded.error,
    error_category = excluded.error_category, fingerprint = excluded.fingerprint, read_at = excluded.read_at
WHERE answered_at IS NULL AND excluded.answered_at IS NOT NULL
"""

_ANSWER = """
UPDATE expected_calls SET answered_at = :answered_at, success = :success, error = :error, error_category = :category,
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
    told: Told | None = None,
) -> None:
    """Expect the calls of `chunk` whose messages are credited to this file, and take their answers down.

    Idempotent. An answer may come in a later chunk than its call; one to a call that is not expected is ignored.
    `now`: epoch milliseconds, from when on hooks get their time to report. `told`: what `tell` says of the chunk, when that
    is known already. Runs in the caller's transaction.
    """
    told = tell(chunk, redactor) if told is None else told
    owned = owned_message_ids if isinstance(owned_message_ids, set | frozenset) else frozenset(owned_message_ids)
    answers = {answer.tool_use_id: answer for answer in chunk.answers}
    common = {"session_uuid": session_uuid, "transcript_id": transcript_id, "read_at": now}
    calls, kinds = [], []
    for call, parameters in zip(chunk.calls, told.parameters, strict=True):
        if call.message_id in owned:
            row = {
                **common,
                "tool_use_id": call.tool_use_id,
                "tool_name": call.tool_name,
                "model": call.model,
                "prompt_id": call.prompt_id,
                "called_at": call.timestamp,
                "parameters": parameters,
            }
            answer, failure = answers.pop(call.tool_use_id, None), told.failures.get(call.tool_use_id)
            calls.append(row | _outcome(answer, failure))
            if answer is not None and failure is not None:
                kinds.append(_kind(session_uuid, answer, call.tool_name, failure))
    connection.executemany(_CALL, calls)
    late = []
    for answer in answers.values():
        failure = None
        if not answer.success:
            if (name := _name(connection, session_uuid, answer.tool_use_id)) is None:
                continue
            failure = told.failures.get(answer.tool_use_id) or failure_of(answer, name, redactor)
            kinds.append(_kind(session_uuid, answer, name, failure))
        late.append(common | {"tool_use_id": answer.tool_use_id} | _outcome(answer, failure))
    connection.executemany(_ANSWER, late)
    connection.executemany(ERROR_KIND, kinds)


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


def _name(connection: Connection, session_uuid: str, tool_use_id: str) -> str | None:
    found = connection.execute(_NAME, (session_uuid, tool_use_id)).fetchone()
    return None if found is None else str(found[0])


def _outcome(answer: Answer | None, failure: Failure | None) -> dict[str, Any]:
    """What is stored of a call's answer; None: it has none yet."""
    return {
        "answered_at": None if answer is None else answer.timestamp,
        "success": None if answer is None else int(answer.success),
        "error": None if failure is None else failure.error,
        "category": None if failure is None else failure.category,
        "fingerprint": None if failure is None else failure.fingerprint,
    }


def _kind(session_uuid: str, answer: Answer, tool_name: str, failure: Failure) -> tuple[str | int | None, ...]:
    at = answer.timestamp
    return (failure.fingerprint, tool_name, failure.category, failure.message, session_uuid, at, at)
