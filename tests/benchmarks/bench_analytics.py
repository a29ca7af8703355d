"""What every question to AnalyticsDB costs, beside the same question asked of the rows themselves.

In a database of 10,000,000 calls and 1,000,000 messages over half a year: at most 50 ms are asked for, or a twentieth of what
the rows take. Then how fast events are ingested there (at least 0.8 of the rate with 10,000 calls), and the size of it all.
Run: python tests/benchmarks/bench_analytics.py [calls] [folder]    (a folder that is filled already is used as it is;
     `quick` instead of a number: 200,000 calls)
"""

import asyncio
import inspect
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.analytics import AnalyticsDB
from tasks.config import load
from tasks.database import Database, Reader
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.rollups import DAY
from tasks.spool import Quarantine, Spool
from tasks.words import PrivacyLevel

if TYPE_CHECKING:
    from tests.benchmarks import bench_drain, filled
else:
    import bench_drain  # beside this script
    import filled

REPEAT = 5
LIMIT_MS, LIMIT_RATIO = 50.0, 20.0
EVENTS = 20_000


@dataclass(frozen=True)
class Question:
    """A method of AnalyticsDB, and what the same question says of the rows: `:since` is the beginning of the span."""

    method: str
    arguments: Mapping[str, Any]
    #: statements; their cost is that of all
    raw: tuple[str, ...]
    days: float | None = None


_USE = "SELECT tool_name, count(*), avg(duration_ms), avg(success) FROM tool_usage "
_STATS = "SELECT {0}, count(*), sum(success = 0), avg(duration_ms) FROM tool_usage AS u LEFT JOIN tasks AS t USING (task_id) "
_AGENT_TYPE = "coalesce(nullif(u.agent_type, ''), t.agent_type, '')"
_PERCENTILES = """
SELECT tool_name, max(CASE WHEN n = c / 2 THEN duration_ms END), max(CASE WHEN n = c * 95 / 100 THEN duration_ms END)
FROM (SELECT tool_name, duration_ms, row_number() OVER (PARTITION BY tool_name ORDER BY duration_ms) AS n,
             count(*) OVER (PARTITION BY tool_name) AS c
      FROM tool_usage WHERE timestamp >= :since AND duration_ms IS NOT NULL) GROUP BY tool_name
"""
_HOT = """
SELECT path, count(*) AS n, sum(action = 'read'), sum(action = 'write'), sum(action = 'edit')
FROM files WHERE timestamp >= :since GROUP BY path ORDER BY n DESC LIMIT 50
"""
_REREADS = """
SELECT path, sum(n - 1) AS again FROM (
    SELECT path, count(*) AS n FROM files WHERE action = 'read' AND timestamp >= :since GROUP BY path, session_uuid, agent_id
) GROUP BY path ORDER BY again DESC LIMIT 50
"""
_CONTENDED = """
SELECT path, count(*) AS n FROM files AS f WHERE action <> 'read' AND timestamp >= :since AND EXISTS (
    SELECT 1 FROM files AS other WHERE other.path = f.path AND other.id < f.id AND other.action <> 'read'
      AND other.timestamp BETWEEN f.timestamp - 1800000 AND f.timestamp + 1800000
      AND (other.session_uuid <> f.session_uuid OR other.agent_id IS NOT f.agent_id))
GROUP BY path ORDER BY n DESC LIMIT 20
"""
_STATES = """
SELECT status, sum(ended - began) FROM (
    SELECT status, timestamp AS began, lead(timestamp) OVER (PARTITION BY session_uuid ORDER BY id) AS ended
    FROM agent_status WHERE agent_id IS NULL) WHERE ended > :since GROUP BY status
"""

_OF = "JOIN transcripts USING (transcript_id)"
_LOCAL_DAY = "date(timestamp / 1000, 'unixepoch', 'localtime')"
_MONEY = """
SELECT {0}, count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens),
       sum(cache_write_1h_tokens), sum(cost), sum(cost IS NULL) FROM messages {1} WHERE timestamp >= :since GROUP BY {0}
"""
_BEGUN = (
    "SELECT date(started_at / 1000, 'unixepoch', 'localtime'), count(*) FROM runs WHERE started_at >= :since GROUP BY 1"
)
_REPORTED = """
SELECT r.task_id, r.cost_usd, sum(m.cost) FROM runs AS r JOIN transcripts AS t USING (task_id)
JOIN messages AS m USING (transcript_id) WHERE r.started_at >= :since GROUP BY 1
"""

_KINDS = """
SELECT fingerprint, count(*) AS n, min(timestamp), max(timestamp) FROM tool_usage
WHERE success = 0 AND timestamp >= :since GROUP BY 1 ORDER BY n DESC LIMIT 20
"""
_KINDS_BY_DAY = """
SELECT fingerprint, timestamp / 86400000, count(*) FROM tool_usage WHERE success = 0 AND timestamp >= :since GROUP BY 1, 2
"""
_TASKS = f"""
SELECT status, count(*), sum(cost) FROM tasks LEFT JOIN (
    SELECT task_id, sum(cost) AS cost FROM messages {_OF} GROUP BY 1) USING (task_id) WHERE created_at >= :since GROUP BY 1
"""

SESSION = "{session}"
TASK = "{task}"

#: Every public method belongs here; those that are missing are named at the end.
QUESTIONS = (
    # Tools.
    *(
        Question("get_tool_usage_by_workflow", {"workflow": "code-task"}, (
            _USE + "JOIN tasks USING (task_id) WHERE workflow = 'code-task' AND timestamp >= :since GROUP BY 1",), days)
        for days in (None, 30)
    ),
    Question("get_tool_usage_by_agent_type", {"agent_type": "Explore"},
             (_USE + "WHERE agent_type = 'Explore' AND timestamp >= :since GROUP BY 1",)),
    Question("get_tool_usage_by_model", {"model": filled.MODELS[0]},
             (_USE + f"WHERE model = '{filled.MODELS[0]}' AND timestamp >= :since GROUP BY 1",)),
    Question("get_tool_usage_by_session", {"session_uuid": SESSION}, (_USE + f"WHERE session_uuid = '{SESSION}' GROUP BY 1",)),
    Question("get_tool_usage_by_task", {"task_id": TASK}, (_USE + f"WHERE task_id = '{TASK}' GROUP BY 1",)),
    *(Question("get_tool_usage", {}, (_USE + "WHERE timestamp >= :since GROUP BY 1",), days) for days in (None, 7)),
    *(Question("get_tool_durations", {}, (_PERCENTILES,), days) for days in (180, 30, 0.5)),
    *(
        Question(f"get_{name}_stats", {}, (_STATS.format(value) + "WHERE timestamp >= :since GROUP BY 1",), days)
        for name, value in (("workflow", "workflow"), ("agent_type", _AGENT_TYPE), ("model", "u.model"))
        for days in (180, 7)
    ),
    *(
        Question("get_session_stats", {}, (
            "SELECT session_uuid, count(*) AS n, sum(success = 0), avg(duration_ms) FROM tool_usage "
            "WHERE timestamp >= :since GROUP BY 1 ORDER BY n DESC LIMIT 50",), days)
        for days in (None, 7)
    ),
    # Files.
    *(
        Question(method, {}, (raw,), days)
        for method, raw in (("get_hot_files", _HOT), ("get_rereads", _REREADS), ("get_contended_files", _CONTENDED))
        for days in (None, 30, 7)
    ),
    Question("get_hot_files", {"project": "/home/dev/work/project-3"}, (
        _HOT.replace("WHERE", "WHERE path >= '/home/dev/work/project-3/' AND path < '/home/dev/work/project-30' AND"),), 30),
    Question("get_session_files", {"session_uuid": SESSION}, (
        f"SELECT path, agent_id, count(*) FROM files WHERE session_uuid = '{SESSION}' GROUP BY 1, 2",)),
    # Agents.
    *(Question("get_agent_time", {}, (_STATES,), days) for days in (None, 30.02, 7.02)),
    Question("get_session_time", {"session_uuid": SESSION}, (
        f"SELECT status, timestamp FROM agent_status WHERE session_uuid = '{SESSION}' ORDER BY id",)),
    # Errors.
    *(
        Question("get_error_rates", {}, (
            "SELECT error_category, count(*) FROM tool_usage WHERE success = 0 AND timestamp >= :since GROUP BY 1",), days)
        for days in (180, 7)
    ),
    *(
        Question("get_failure_rates", {"by": by}, (raw,), days)
        for by, raw in (
            ("tool", "SELECT tool_name, count(*), sum(success = 0) FROM tool_usage WHERE timestamp >= :since GROUP BY 1"),
            ("agent_type", _STATS.format(_AGENT_TYPE) + "WHERE timestamp >= :since GROUP BY 1"),
        )
        for days in (180, 7)
    ),
    *(Question("get_error_fingerprints", {}, (_KINDS, _KINDS_BY_DAY), days) for days in (None, 30, 7.02)),
    Question("get_error_fingerprints", {"tool": "Bash", "limit": 200}, (_KINDS, _KINDS_BY_DAY), 30),
    *(
        Question("get_error_trend", {}, (
            f"SELECT {_LOCAL_DAY}, error_category, count(*) FROM tool_usage WHERE timestamp >= :since GROUP BY 1, 2",), days)
        for days in (180, 30)
    ),
    # Tasks.
    *(Question(method, {}, (_TASKS,), days) for method in ("get_task_stats", "get_task_stats_by", "get_task_success_rate",
                                                           "get_task_failures") for days in (None, 30)),
    # Costs.
    *(Question("get_daily_costs", {}, (_MONEY.format(_LOCAL_DAY, ""), _BEGUN), days) for days in (365, 30)),
    *(Question("get_costs", {"by": by}, (_MONEY.format(column, join),), days) for by, column, join in (
        ("model", "model", ""), ("project", "project", _OF), ("agent_type", "agent_type", _OF), ("workflow", "workflow", _OF),
        ("session", "session_uuid", _OF), ("task", "task_id", _OF), ("day", _LOCAL_DAY, ""),
      ) for days in (180, 7)),
    Question("get_cost_summary", {}, (_MONEY.format(_LOCAL_DAY + ", model", ""), _BEGUN, _REPORTED), 30),
    Question("get_projection", {}, (_MONEY.format(_LOCAL_DAY, ""),), 90),
    Question("get_burn_rate", {}, (_MONEY.format("1", ""),), 7),
)  # fmt: skip


def timed(work: Callable[[], object], repeat: int) -> float:
    """Milliseconds, the median."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def ask_all(root: Path) -> list[str]:
    """Prints every question; returns the methods that miss the limit."""
    reader, analytics = Reader(root / "tasks.db"), AnalyticsDB(root)
    newest = reader.query(
        "SELECT session_uuid, task_id FROM sessions WHERE task_id IS NOT NULL ORDER BY started_at LIMIT 1 OFFSET 9"
    )
    names = dict(zip((SESSION, TASK), newest[0], strict=True))
    slow = []
    print(
        f"{'':45} {'ms':>9} {'rows, ms':>10} {'ratio':>7}   at most {LIMIT_MS:g} ms or 1/{LIMIT_RATIO:g} is asked for"
    )
    for one in QUESTIONS:
        method = getattr(analytics, one.method)
        arguments = {
            key: names.get(value, value) if isinstance(value, str) else value for key, value in one.arguments.items()
        }
        if "days" in inspect.signature(method).parameters:
            arguments["days"] = one.days
        took = timed(partial(method, **arguments), REPEAT)
        since = 0 if one.days is None else time.time_ns() // 1_000_000 - round(one.days * DAY)
        rows = timed(partial(_raw, reader, one.raw, names, since), 1)
        good = took <= LIMIT_MS or took * LIMIT_RATIO <= rows
        label = f"{one.method}({'' if one.days is None else f'{one.days:g} days'})"
        print(f"{label:45} {took:9.2f} {rows:10.1f} {rows / took:7.1f}   {'' if good else 'TOO SLOW'}", flush=True)
        if not good:
            slow.append(label)
    public = {name for name in dir(AnalyticsDB) if name.startswith("get_")}
    if missing := sorted(public - {one.method for one in QUESTIONS}):
        print(f"not measured: {', '.join(missing)}")
    reader.close()
    analytics.close()
    return slow


def _raw(reader: Reader, statements: tuple[str, ...], names: Mapping[str, str], since: int) -> None:
    for statement in statements:
        for mark, value in names.items():
            statement = statement.replace(mark, value)
        reader.query(statement, {"since": since} if ":since" in statement else {})


async def ingest_rate(root: Path) -> tuple[float, float]:
    """Events per second through the real ingester, and what they add to the database, in bytes each."""
    settings = load(data_dir=root)
    events = bench_drain.payloads(EVENTS)
    bench_drain.fill(settings.spool_dir, events)
    spool = Spool(settings.spool_dir, settings.spool)
    quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "bench")
    async with Database(settings.database_file) as database:
        await database.checkpoint()
        before = settings.database_file.stat().st_size
        ingest = Ingest(settings, database, spool, quarantine, Redactor(b"bench", PrivacyLevel.DEFAULT))
        await ingest.start()
        started = time.perf_counter()
        assert await ingest.step() == len(events)
        took = time.perf_counter() - started
        ingest.close()
        await database.checkpoint()
        return len(events) / took, (settings.database_file.stat().st_size - before) / len(events)


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else "10000000"
    calls = 200_000 if word == "quick" else int(word)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch, "large")
        if not (root / "tasks.db").exists():
            root.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            filled.fill(root, calls)
            print(f"{calls:,} calls, {calls // 10:,} messages: filled in {time.monotonic() - started:.0f} s")
        size = (root / "tasks.db").stat().st_size
        print(f"{size:,} bytes, {size / calls:.0f} a call with its files, message and roll-ups")
        slow = ask_all(root)
        small = Path(scratch, "small")
        small.mkdir()
        filled.fill(small, 10_000)
        rates = [asyncio.run(ingest_rate(where)) for where in (small, root)]
        print(
            f"ingest: {rates[0][0]:.0f} events/s with 10,000 calls, {rates[1][0]:.0f} here; "
            f"ratio {rates[1][0] / rates[0][0]:.2f} (at least 0.8 is asked for); {rates[1][1]:.0f} bytes an event"
        )
        print(f"too slow: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
