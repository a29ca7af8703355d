"""Answers for when no daemon runs: from the database file, read-only, in the shape of the API's."""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks import analytics, history, retention, rollups, tracker
from tasks.cli.questions import Question
from tasks.client import START_HINT, DaemonSilent
from tasks.config import Settings
from tasks.database import Reader
from tasks.errors import DaemonNotRunning, NoSuchTask, StoreUnavailable
from tasks.spool import Quarantine, QuarantinedFile, Spool
from tasks.spool.directory import FULL_MARKER
from tasks.words import PrivacyLevel, SessionStatus, TaskStatus

#: As in the API.
QUARANTINE_FIELDS = ("id", "name", "reason", "detail", "size", "quarantined_at", "sha256", "version")
QUARANTINE_PREVIEW = 16 << 10


def dumps(answer: Any) -> bytes:
    """As the API writes it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def answer(question: Question, settings: Settings) -> Any:
    """Raises DaemonNotRunning when there is no database either, StoreError when it cannot be read."""
    with reading(settings) as reader:
        return _from_file(question, reader)


def session(id_: str, settings: Settings) -> Any:
    with reading(settings) as reader:
        return history.session(reader.query, id_)


def task(id_: str, settings: Settings) -> Any:
    with reading(settings) as reader:
        found = history.task(reader.query, id_)
    return found | {"why": _why(found)}


def activity(id_: str, settings: Settings) -> Any:
    with reading(settings) as reader:
        return history.activity(reader.query, history.whole_task_id(reader.query, id_))[1]


def output(id_: str, settings: Settings, stream: str, attempt: int | None) -> Iterator[str]:
    """What an agent wrote so far, piece by piece. Raises NoSuchTask, also when that run is not there."""
    from tasks.config import secret_key
    from tasks.redaction import Redactor

    with reading(settings) as reader:
        whole = history.whole_task_id(reader.query, id_)
        _, latest, _ = history.run_state(reader.query, whole, attempt)
    path = settings.runs_dir / whole / str(attempt or latest) / stream
    if not path.is_file():
        raise NoSuchTask(history.no_output(whole, attempt or latest))
    written = history.Output(path, Redactor(secret_key(settings), PrivacyLevel.FULL).text)
    while (text := written.piece(final=True)) is not None:
        yield text


def _why(found: dict[str, Any]) -> str | None:
    match found["status"]:
        case "pending" | "queued":
            return f"no daemon runs: it is started when one does ({START_HINT})"
        case "running":
            return "no daemon runs: its agent goes on by itself, and is looked after again when one does"
        case _:
            return None


def status(settings: Settings, silence: DaemonNotRunning) -> dict[str, Any]:
    """`daemon` and `pool` are null; `ingest`, `tasks`, `retention` and `accounting` too when there is no database.
    `silence` is why no daemon answered."""
    _require_access(settings)
    accounting: dict[str, Any] | None = None
    ingest, tasks, kept, sessions = None, None, None, dict.fromkeys(map(str, SessionStatus), 0)
    if settings.database_file.exists():
        with reading(settings) as reader:
            counters: dict[str, int] = dict(map(tuple, reader.query("SELECT name, value FROM counters")))
            ingest = {
                "events_total": counters.get("events", 0),
                "last_event_at": reader.query("SELECT max(last_event_at) FROM sessions")[0][0],
                "duplicates": counters.get("duplicates", 0),
                "degraded": None,
            }
            sessions = history.session_counts(reader.query, now=_now())
            tasks = history.task_counts(reader.query, now=_now())
            kept = dataclasses.asdict(retention.state(reader.query))
            accounting = history.accounting(reader.query, now=_now())
    return {
        "daemon": None,
        "spool": spool_status(settings),
        "ingest": ingest,
        "sessions": sessions,
        "tasks": tasks,
        "pool": None,
        "retention": kept,
        "accounting": accounting and {"transcripts": 0, "behind_bytes": 0, "degraded": None} | accounting,
        "watcher": "not answering" if isinstance(silence, DaemonSilent) else "not running",
        "web": "off",
    }


def spool_status(settings: Settings) -> dict[str, Any]:
    """What waits, from the directory itself."""
    spool = Spool(settings.spool_dir, settings.spool)
    # Listing a missing spool would make one.
    entries = spool.scan() if settings.spool_dir.is_dir() else []
    usage = spool.usage(entries)
    oldest = usage.oldest_mtime_ns
    return {
        "pending": usage.files,
        "oldest_age_s": None if oldest is None else round(max(0.0, (time.time_ns() - oldest) / 1e9), 3),
        "bytes": usage.bytes,
        "full": (settings.spool_dir / FULL_MARKER).exists(),
        "dropped": spool.dropped(),
        "quarantined": quarantine(settings).count(),
    }


def quarantine(settings: Settings) -> Quarantine:
    from tasks import __version__

    return Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, __version__)


def quarantine_entry(one: QuarantinedFile) -> dict[str, Any]:
    entry = {name: getattr(one, name) for name in QUARANTINE_FIELDS}
    return entry | {"name": one.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")}


def _from_file(question: Question, reader: Reader) -> Any:
    values, now = question.values, _now()
    match question.name:
        case "sessions":
            live = [status for status in SessionStatus if not (values["live"] and status.is_over)]
            return history.sessions(reader.query, statuses=live, limit=values["limit"])
        case "tasks":
            statuses = values["statuses"] or list(TaskStatus)
            live_tasks = [one for one in statuses if not (values["live"] and TaskStatus(one).is_over)]
            return live_tasks and history.tasks(
                reader.query, statuses=live_tasks, workflow=values["workflow"], limit=values["limit"]
            )
        case "tools":
            since = now - round(values["hours"] * rollups.HOUR)
            return tracker.tool_stats(reader.query, since=since)
        case "errors":
            since = now - round(values["days"] * rollups.DAY)
            return analytics.error_rates(reader.query, since=since)
        case "failures":
            days, filters = values["days"], {name: values[name] for name in ("category", "tool", "limit")}
            return history.failures(
                reader.query, since=None if days is None else now - round(days * history.DAY), **filters
            )
        case "events":
            return history.events(reader.query, **values)
        case other:
            raise ValueError(f"no answer is known for {other}")


@contextmanager
def reading(settings: Settings) -> Iterator[Reader]:
    _require_access(settings)
    if not settings.database_file.exists():
        raise DaemonNotRunning(
            f"no daemon runs and {settings.database_file} does not exist yet: start `tasksd up`, or run `tasksd backfill`"
        )
    reader = Reader(settings.database_file)
    try:
        yield reader
    finally:
        reader.close()


def _require_access(settings: Settings) -> None:
    """Raises StoreUnavailable when the data directory is there, but not for this user."""
    folder = settings.data_dir
    try:
        owner = folder.stat().st_uid
        if os.access(folder, os.R_OK | os.X_OK):
            return
    except PermissionError:
        owner = None
    except OSError:
        return
    if owner == os.geteuid():
        raise StoreUnavailable(f"{folder} cannot be read, although it is yours: run `chmod 700 {folder}`")
    raise StoreUnavailable(
        f"{folder} cannot be read, it is another user's: run tasksd as that user, or choose your own data directory "
        "with --data-dir or TASKSD_DATA_DIR"
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
