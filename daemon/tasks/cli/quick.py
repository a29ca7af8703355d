"""Answers the plain readers without importing click, when stdout is no terminal and the daemon runs.

Whatever is unusual is left to the ordinary way, which gives the same answer byte for byte, only later.
"""

from __future__ import annotations

import os
import sys

from tasks.cli.place import quick_client
from tasks.errors import EXIT_OK, TasksError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.cli.questions import Question

#: Reader → its options and whether they take a number; all others are for click.
READERS: dict[str, dict[str, bool]] = {
    "status": {},
    "sessions": {"--live": False, "--limit": True},
    "tasks": {"--live": False, "--limit": True},
    "tools": {"--hours": True},
    "errors": {"--days": True},
    "events": {"--limit": True},
    "costs": {"--days": True},
}
#: Seconds to wait; the ordinary way waits again, and longer.
PATIENCE = 2.0
#: Numbers of up to this many digits are surely in range.
_DIGITS = 3


def answer(arguments: list[str]) -> int | None:
    """The exit code, or None: nothing was printed, and click has to do it."""
    if "_TASKSD_COMPLETE" in os.environ or sys.stdout is None or sys.stdout.isatty():
        return None
    values = _values(READERS[arguments[0]], arguments[1:])
    client = quick_client(PATIENCE) if values is not None else None
    if values is None or client is None:
        return None
    as_json = values.pop("json", None)
    question = _question(arguments[0], values)
    try:
        body = client.fetch(question.target)
    except TasksError:
        return None
    try:
        if as_json:
            from tasks.cli.output import emit

            emit(body + b"\n")
        else:
            show(question, body)
    except OSError as error:
        from tasks.cli.app import failed_output

        return failed_output(error)
    return EXIT_OK


def show(question: Question, body: bytes) -> None:
    """Print the answer as plain text, and on stderr that there may be more. Raises OSError."""
    import time

    from tasks.cli.output import emit
    from tasks.cli.plain import render
    from tasks.cli.quickjson import loads

    answer = loads(body)
    emit(render(question.show(answer, time.time_ns() // 1_000_000)))
    if (note := question.note(answer)) and sys.stderr is not None:
        print(note, file=sys.stderr)


def _values(options: dict[str, bool], arguments: list[str]) -> dict[str, str] | None:
    """Option → value ("" for a flag); None when there is anything that click has to judge."""
    values: dict[str, str] = {}
    left = arguments[::-1]
    while left:
        name, _, value = left.pop().partition("=")
        takes_number = options.get(name)
        if name == "--json" and not value:
            values["json"] = "yes"
        elif takes_number is None or (not takes_number and value):
            return None
        elif takes_number:
            value = value or (left.pop() if left else "")
            if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS and value[0] != "0"):
                return None
            values[name[2:]] = value
        else:
            values[name[2:]] = ""
    return values


def _question(name: str, values: dict[str, str]) -> Question:
    from tasks.cli import questions

    if name in ("sessions", "tasks"):
        listing = questions.sessions if name == "sessions" else questions.tasks
        return listing(live="live" in values, limit=values.get("limit", questions.LIMIT))
    make = {
        "status": questions.status,
        "tools": questions.tools,
        "errors": questions.errors,
        "events": questions.events,
        "costs": questions.costs,
    }
    return make[name](**values)
