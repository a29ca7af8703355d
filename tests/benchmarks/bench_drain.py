"""How fast the ingester drains a backlog, against a bare loop that does the least that could be called storing.

Floor: list, read, validate with the same models, one executemany per 500 into one table (synchronous=FULL), unlink.
Run: python tests/benchmarks/bench_drain.py [events]
"""

import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tasks.config import load
from tasks.database import Database
from tasks.events import Parsed, parse_event
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.words import PrivacyLevel

ROUNDS = 3


def payloads(count: int) -> list[bytes]:
    """Calls of a few sessions as the client reports them: start, result, batch."""
    made: list[bytes] = []
    number = 0
    while len(made) < count:
        number += 1
        session = f"00000000-0000-4000-8000-{number // 200:012d}"
        common = {
            "session_id": session,
            "transcript_path": f"/home/dev/.claude/projects/-home-dev-project/{session}.jsonl",
            "cwd": "/home/dev/project",
            "prompt_id": f"10000000-0000-4000-8000-{number // 20:012d}",
            "permission_mode": "acceptEdits",
            "effort": {"level": "high"},
        }
        call = {
            "tool_name": "Bash" if number % 3 else "Read",
            "tool_input": {"command": f"pytest -q tests/unit/test_{number}.py", "description": "run the tests"}
            if number % 3
            else {"file_path": f"/home/dev/project/src/module_{number % 50}.py"},
            "tool_use_id": f"toolu_01{number:022d}",
        }
        output = {"stdout": f"{number} passed in 0.1s\n" * 8, "stderr": "", "interrupted": False, "isImage": False}
        made.append(json.dumps(common | {"hook_event_name": "PreToolUse"} | call).encode())
        if number % 10:
            result = {"hook_event_name": "PostToolUse", "tool_response": output, "duration_ms": number % 700}
        else:
            result = {"hook_event_name": "PostToolUseFailure", "error": "Exit code 1\nE   assert 1 == 2",
                      "is_interrupt": False, "duration_ms": number % 700}  # fmt: skip
        made.append(json.dumps(common | call | result).encode())
        batch = {"hook_event_name": "PostToolBatch", "tool_calls": [call | {"tool_response": output["stdout"]}]}
        made.append(json.dumps(common | batch).encode())
    return made[:count]


def fill(spool: Path, events: list[bytes]) -> None:
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number, raw in enumerate(events):
        fd = os.open(spool / f"-.0.{number + 1}.0.json", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, raw)
        os.close(fd)


def floor(root: Path, events: list[bytes]) -> float:
    spool = root / "spool"
    fill(spool, events)
    connection = sqlite3.connect(root / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE events (name TEXT PRIMARY KEY, session TEXT, kind TEXT, payload TEXT)")
    started = time.perf_counter()
    names = sorted(os.listdir(spool))
    for start in range(0, len(names), 500):
        rows = []
        for name in names[start : start + 500]:
            raw = (spool / name).read_bytes()
            parsed = parse_event(raw)
            assert isinstance(parsed, Parsed)
            rows.append((name, parsed.event.session_id, parsed.event.hook_event_name, raw.decode()))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
        connection.execute("COMMIT")
        for name in names[start : start + 500]:
            os.unlink(spool / name)
    elapsed = time.perf_counter() - started
    connection.close()
    return elapsed


async def ours(root: Path, events: list[bytes]) -> float:
    settings = load(data_dir=root)
    fill(settings.spool_dir, events)
    spool = Spool(settings.spool_dir, settings.spool)
    quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "bench")
    async with Database(settings.database_file) as database:
        ingest = Ingest(settings, database, spool, quarantine, Redactor(b"bench", PrivacyLevel.DEFAULT))
        await ingest.start()
        started = time.perf_counter()
        stored = await ingest.step()
        elapsed = time.perf_counter() - started
        assert stored == len(events), (stored, len(events))
        ingest.close()
    return elapsed


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    events = payloads(count)
    print(f"{count} events, {sum(map(len, events)) / count:.0f} bytes each, {ROUNDS} rounds")
    floors, times = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as root:
            floors.append(floor(Path(root), events))
        with tempfile.TemporaryDirectory() as root:
            times.append(asyncio.run(ours(Path(root), events)))
        print(
            f"  floor {count / floors[-1]:8.0f}/s   ingest {count / times[-1]:8.0f}/s   ratio {floors[-1] / times[-1]:.2f}"
        )
    print(
        f"ratio of the medians: {statistics.median(floors) / statistics.median(times):.2f} (at least 0.5 is asked for)"
    )


if __name__ == "__main__":
    main()
