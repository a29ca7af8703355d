"""What a rule said about a workspace, as a value and as a row."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.database import Row, Write
from tasks.database.writes import Value
from tasks.words import RuleMode, Stage

Query = Callable[[str, Any], list[Row]]

#: Names of files in a message; more are counted.
NAMED = 5

FIELDS = (
    "id", "timestamp", "stage", "mode", "passed", "message", "workspace", "agent_type", "task_id", "session_uuid",
)  # fmt: skip

_RECORD = """
INSERT INTO verdicts (timestamp, stage, mode, passed, message, workspace, agent_type, task_id, session_uuid)
VALUES (:timestamp, :stage, :mode, :passed, :message, :workspace, :agent_type, :task_id, :session_uuid)
"""

_LIST = f"""
SELECT {", ".join(FIELDS)} FROM verdicts
WHERE {{task}} timestamp >= :since ORDER BY timestamp DESC, id DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of one rule. `passed` says whether the rule is met, `mode` what it means if it is not."""

    stage: Stage
    mode: RuleMode
    passed: bool
    #: empty where there is nothing to say
    message: str = ""
    #: what is uncommitted, printable, from the top of the repository
    paths: tuple[str, ...] = ()
    workspace: str = ""
    agent_type: str | None = None
    task_id: str | None = None
    session_uuid: str | None = None

    @property
    def is_off(self) -> bool:
        """The rule is switched off: nothing was checked."""
        return self.mode is RuleMode.OFF

    @property
    def blocks(self) -> bool:
        return self.mode is RuleMode.BLOCK and not self.passed


def verdict_write(verdict: Verdict, *, timestamp: int | None = None) -> Write:
    """The row of a verdict. `timestamp` is in epoch milliseconds (None: now)."""
    row: dict[str, Value] = {
        "timestamp": time.time_ns() // 1_000_000 if timestamp is None else timestamp,
        "stage": verdict.stage,
        "mode": verdict.mode,
        "passed": int(verdict.passed),
        "message": _storable(verdict.message),
        "workspace": _storable(verdict.workspace),
        "agent_type": verdict.agent_type,
        "task_id": verdict.task_id,
        "session_uuid": verdict.session_uuid,
    }
    return Write.one(_RECORD, row)


def verdicts(
    query: Query, *, task_id: str | None = None, since: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Recorded verdicts as FIELDS, newest first; of one task, and not before `since` (epoch milliseconds), where given."""
    statement = _LIST.format(task="" if task_id is None else "task_id = :task_id AND")
    wanted = {"since": since or 0, "limit": limit} | ({} if task_id is None else {"task_id": task_id})
    rows = query(statement, wanted)
    found = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    return [one | {"passed": bool(one["passed"])} for one in found]


def named(paths: Sequence[str], most: int = NAMED) -> str:
    """`a.py, b.py and 3 more`."""
    more = len(paths) - most
    return ", ".join(paths[:most]) + (f" and {more} more" if more > 0 else "")


def _storable(text: str) -> str:
    """Names of files can hold bytes that are no text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
