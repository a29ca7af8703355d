"""Pruning by age and by size: what goes, what stays, and that no statistic changes by it."""

import asyncio
import json
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tasks.analytics import error_rates
from tasks.config import Settings
from tasks.config.sections import RetentionSettings
from tasks.database import Database, Write
from tasks.retention import Pruner, State, state
from tasks.retention import pruner as pruner_module
from tasks.retention.book import Book
from tasks.rollups import DAY, HOUR, MINUTE
from tasks.tracker import tool_stats

#: 2025-06-01, a whole day.
TODAY = 20_240 * DAY
NOW = TODAY + 13 * HOUR + 7

CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, tool_use_id, tool_name, parameters, success, error, error_category,
                        duration_ms, source, fingerprint)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'hook', ?)
"""
EVENT = "INSERT INTO events (event_id, timestamp, session_uuid, kind, body) VALUES (?, ?, ?, 'PostToolUse', ?)"
FILE = "INSERT INTO files (timestamp, path, action, session_uuid, tool_use_id) VALUES (?, ?, ?, ?, ?)"
SESSION = """
INSERT INTO sessions (session_uuid, status, status_since, status_detail, host, started_at, last_event_at)
VALUES (?, ?, 0, 'Bash', 'h', 0, ?)
"""
CHANGE = (
    "INSERT INTO agent_status (timestamp, session_uuid, status, cause, detail) VALUES (?, ?, 'working', 'x', 'text')"
)
VERDICT = """
INSERT INTO verdicts (timestamp, stage, mode, passed, message, workspace) VALUES (?, 'stop', 'warn', 0, 'm', 'w')
"""
ROLLUPS = (
    "tool_rollup", "error_rollup", "duration_rollup", "use_rollup", "file_rollup", "file_use", "cost_rollup", "messages",
)  # fmt: skip


def settings_of(root: Path, **limits: int) -> Settings:
    return Settings(data_dir=root, config_file=root / "none", retention=RetentionSettings(**limits))


async def at_once(_: float) -> None:
    """No pauses."""


class Store:
    """A database with a history, and pruners of it."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self.database = database
        self._numbers = 0

    async def calls(self, times: Sequence[int], *, size: int = 40, failed: int = 5, session: str = "s") -> None:
        """A call and an event each at these times; every `failed`-th call fails, every third touches a file."""
        calls, events, files = [], [], []
        for at in times:
            self._numbers = n = self._numbers + 1
            bad = n % failed == 0
            calls.append((at, session, f"t{n}", ("Bash", "Read", "Edit")[n % 3], json.dumps({"p": "x" * size}), not bad,
                          "Exit code 1" if bad else None, "timeout" if bad else None, float(n % 4000),
                          "f" * 16 if bad else None))  # fmt: skip
            events.append((n.to_bytes(16, "big"), at, session, json.dumps({"b": "y" * size})))
            if n % 3 == 0:
                files.append((at, f"/w/{n % 7}", ("read", "write", "edit")[n % 9 // 3], session, f"t{n}"))
        await self.database.apply([Write(EVENT, events), Write(CALL, calls), Write(FILE, files)])

    def pruner(self, now: int = NOW, pause: Callable[[float], Awaitable[object]] = at_once, **limits: int) -> Pruner:
        chosen = {"bodies": 30, "rows": 365, "max_bytes": 0} | limits
        return Pruner(settings_of(self.root, **chosen), self.database, clock=lambda: now, pause=pause)

    async def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self.database.query(statement, values)

    async def value(self, statement: str, *values: Any) -> Any:
        return (await self.ask(statement, *values))[0][0]

    async def state(self) -> State:
        return await self.database.read(lambda reader: state(reader.query))

    async def statistics(self, spans: Sequence[tuple[int, int | None]]) -> list[Any]:
        """Without percentiles: those of few calls are exact as long as the rows are there."""

        def ask(reader: Any) -> list[Any]:
            found: list[Any] = []
            for since, until in spans:
                stats = tool_stats(reader.query, since=since, until=until)
                for one in stats.values():
                    one["p50_duration_ms"] = one["p95_duration_ms"] = None
                    if one["avg_duration_ms"] is not None:
                        one["avg_duration_ms"] = round(one["avg_duration_ms"], 6)
                found.append((stats, error_rates(reader.query, since=since // MINUTE * MINUTE, until=until)))
            return found

        return await self.database.read(ask)

    async def roll(self) -> dict[str, list[tuple[Any, ...]]]:
        """All roll-ups, with everything rolled up."""
        await self.database.apply(
            [
                Write.one("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage"),
                Write.one("INSERT INTO rolling_files (upto) SELECT coalesce(max(id), 0) FROM files"),
            ]
        )
        return {table: await self.ask(f"SELECT * FROM {table}") for table in ROLLUPS}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Database(tmp_path / "tasks.db") as database:
        yield Store(tmp_path, database)


def days_ago(*days: float) -> list[int]:
    return [NOW - round(one * DAY) for one in days]


async def test_bodies_go_when_they_are_old_and_everything_else_stays(store: Store) -> None:
    await store.calls(days_ago(100, 45, 31, 29, 2, 0))
    before = await store.roll()
    pruned = await store.pruner().run()
    assert await store.ask("SELECT parameters IS NULL, error IS NULL FROM tool_usage ORDER BY timestamp") == [
        (1, 1), (1, 1), (1, 1), (0, 1), (0, 0), (0, 1),
    ]  # fmt: skip
    assert await store.ask("SELECT body IS NULL FROM events ORDER BY seq") == [(1,), (1,), (1,), (0,), (0,), (0,)]
    assert pruned.bodies == 6
    assert pruned.rows == 0
    assert await store.value("SELECT count(*) FROM tool_usage WHERE error_category IS NOT NULL") == 1
    assert await store.roll() == before


async def test_rows_go_when_they_are_old_and_no_statistic_changes(store: Store) -> None:
    rng = random.Random(4)
    await store.calls(sorted(NOW - rng.randrange(800 * DAY) for _ in range(5000)))
    spans = [(NOW - 900 * DAY, None), (NOW - 500 * DAY, NOW - 380 * DAY), (NOW - 366 * DAY, NOW), (NOW - 7 * DAY, None)]
    spans = [(since // MINUTE * MINUTE, until) for since, until in spans]
    before, rolled = await store.statistics(spans), await store.roll()
    pruned = await store.pruner().run()
    horizon = (NOW - 365 * DAY) // HOUR * HOUR
    for table in ("tool_usage", "files", "events"):
        assert await store.value(f"SELECT count(*) FROM {table} WHERE timestamp < ?", horizon) == 0
        assert await store.value(f"SELECT count(*) FROM {table}") > 0
    assert pruned.rows > 4000
    assert await store.statistics(spans) == before
    assert await store.roll() == rolled
    assert (await store.state()).rows_since == horizon


async def test_rows_that_no_roll_up_holds_are_rolled_up_before_they_go(store: Store) -> None:
    await store.calls(days_ago(*[400 + n / 100 for n in range(100)]))
    assert await store.value("SELECT upto FROM rolled WHERE source = 'tool_usage'") == 0
    spans = [(NOW - 900 * DAY, None)]
    before = await store.statistics(spans)
    await store.pruner().run()
    assert await store.value("SELECT count(*) FROM tool_usage") == 0
    assert await store.statistics(spans) == before
    assert await store.value("SELECT sum(reads + writes + edits) FROM file_rollup WHERE grain = 86400000") == 33


async def test_a_span_that_begins_among_pruned_rows_loses_no_call(store: Store) -> None:
    """A part of a minute is asked of the rows as long as they are there; after that the minute counts whole."""
    at = NOW - 400 * DAY
    await store.calls([at, at + 20_000, at + 40_000])
    await store.pruner().run()
    found = await store.database.read(lambda reader: tool_stats(reader.query, since=at + 30_000))
    assert sum(one["count"] for one in found.values()) == 3
    assert all(one["p50_duration_ms"] is not None for one in found.values())


@examples(max_examples=15)
@given(
    st.lists(st.integers(0, 900 * 24), min_size=1, max_size=300),
    st.integers(1, 60), st.integers(1, 600), st.booleans(), st.integers(0, 10**9),
)  # fmt: skip
def test_pruning_at_any_age_changes_no_statistic(
    tmp_path_factory: pytest.TempPathFactory, hours: list[int], bodies: int, rows: int, in_order: bool, seed: int
) -> None:
    async def story() -> None:
        root = tmp_path_factory.mktemp("store")
        rng = random.Random(seed)
        times = [NOW - hour * HOUR - rng.randrange(HOUR) for hour in hours]
        async with Database(root / "tasks.db") as database:
            store = Store(root, database)
            await store.calls(sorted(times) if in_order else times)
            if rng.random() < 0.5:
                await store.roll()
            starts = [rng.choice(times) // MINUTE * MINUTE for _ in range(3)]
            spans: list[tuple[int, int | None]] = [(start, rng.choice([None, start + DAY * 9])) for start in starts]
            before = await store.statistics(spans)
            await store.pruner(bodies=bodies, rows=rows).run()
            assert await store.statistics(spans) == before
            horizon = (NOW - rows * DAY) // HOUR * HOUR
            assert await store.value("SELECT count(*) FROM tool_usage") == sum(at >= horizon for at in times)
            assert await store.value("SELECT count(*) FROM tool_usage WHERE timestamp < ?", horizon) == 0
            young = (NOW - bodies * DAY) // HOUR * HOUR
            kept = "SELECT count(*) FROM tool_usage WHERE parameters IS NOT NULL"
            assert await store.value(kept) == sum(at >= max(horizon, young) for at in times)

    asyncio.run(story())


async def test_it_goes_on_where_it_was_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.calls(sorted(NOW - n * HOUR for n in range(12_000)))
    rolled = await store.roll()
    monkeypatch.setattr(pruner_module, "BATCH", 100)
    monkeypatch.setattr(pruner_module, "LARGEST", 100)
    stops, transactions = 0, 0
    while True:
        left = 25

        async def stop_soon(_: float) -> None:
            nonlocal left, transactions
            transactions += 1
            left -= 1
            if left == 0:
                raise KeyError("stopped")

        try:
            await store.pruner(pause=stop_soon).run()
            break
        except KeyError:
            stops += 1
    assert stops > 5
    # What was done once is not done again: 12,000 rows of three tables in batches of a hundred, with some to spare.
    assert transactions < 600
    assert await store.value("SELECT count(*) FROM tool_usage WHERE timestamp < ?", NOW - 366 * DAY) == 0
    assert await store.value("SELECT count(*) FROM events WHERE body IS NOT NULL") == 30 * 24 + 1
    assert await store.roll() == rolled
    book = await store.database.read(lambda reader: Book.read(reader.query))
    assert book.pruned_bodies > 10_000


async def test_nothing_is_pruned_when_it_is_switched_off(store: Store) -> None:
    await store.calls(days_ago(1000, 900, 1))
    pruned = await store.pruner(bodies=0, rows=0).run()
    assert (pruned.rows, pruned.bodies, pruned.transactions) == (0, 0, 0)
    assert await store.value("SELECT count(*) FROM events WHERE body IS NOT NULL") == 3


async def test_a_second_run_finds_nothing_to_do(store: Store) -> None:
    await store.calls(days_ago(*range(799, 0, -1)))
    await store.pruner().run()
    again = await store.pruner().run()
    assert (again.rows, again.bodies) == (0, 0)


async def test_a_call_that_is_stored_late_loses_its_body_too(store: Store) -> None:
    await store.calls(days_ago(60, 1))
    await store.pruner().run()
    await store.calls(days_ago(50), session="late")
    await store.pruner().run()
    assert await store.ask("SELECT parameters FROM tool_usage WHERE session_uuid = 'late'") == [(None,)]


async def test_many_calls_of_one_millisecond_are_pruned(store: Store) -> None:
    await store.calls([NOW - 400 * DAY] * 2500 + [NOW])
    await store.pruner(rows=0).run()
    assert await store.value("SELECT count(*) FROM tool_usage WHERE parameters IS NOT NULL") == 1
    await store.pruner().run()
    assert await store.value("SELECT count(*) FROM tool_usage") == 1


async def test_events_of_wrong_clocks_hold_nothing_up(store: Store) -> None:
    ahead, behind = NOW + 400 * DAY, NOW - 20_000 * DAY
    await store.calls([*days_ago(400, 399), ahead, *days_ago(398, 397), behind, *days_ago(2, 1)])
    await store.pruner().run()
    assert await store.ask("SELECT timestamp FROM events ORDER BY seq") == [(at,) for at in days_ago(2, 1)]


async def test_the_number_of_an_event_is_never_given_twice(store: Store) -> None:
    await store.calls(days_ago(400, 399, 398))
    await store.pruner().run()
    await store.calls(days_ago(0))
    assert await store.ask("SELECT seq FROM events ORDER BY seq") == [(3,), (4,)]


async def test_what_sessions_were_doing_goes_and_the_sessions_stay(store: Store) -> None:
    await store.database.apply(
        [
            Write(SESSION, [("old", "ended", NOW - 40 * DAY), ("open", "idle", NOW - 40 * DAY), ("new", "ended", NOW)]),
            Write.one("INSERT INTO subagents (session_uuid, agent_id, status, detail) VALUES ('old', 'a', 'ended', 'text')"),
            Write(
                CHANGE,
                [(NOW - 40 * DAY, "old"), (NOW - 400 * DAY, "open"), (NOW, "new")],
            ),
            Write(
                VERDICT,
                [(NOW - 40 * DAY,), (NOW - 400 * DAY,), (NOW,)],
            ),
        ]
    )  # fmt: skip
    await store.pruner().run()
    assert await store.ask("SELECT session_uuid, status_detail FROM sessions ORDER BY 1") == [
        ("new", "Bash"), ("old", None), ("open", "Bash"),
    ]  # fmt: skip
    assert await store.ask("SELECT detail FROM subagents") == [(None,)]
    assert await store.ask("SELECT session_uuid, detail FROM agent_status ORDER BY 1") == [
        ("new", "text"),
        ("old", None),
    ]
    assert await store.ask("SELECT message FROM verdicts ORDER BY timestamp") == [("",), ("m",)]


async def test_calls_that_were_only_expected_go_too(store: Store) -> None:
    expected = """
    INSERT INTO expected_calls (session_uuid, tool_use_id, transcript_id, tool_name, called_at, parameters, read_at)
    VALUES (?, 't', 1, 'Bash', ?, '{"a":1}', 0)
    """
    rows = [("a", NOW), ("b", NOW - 40 * DAY), ("c", NOW - 400 * DAY)]
    await store.database.apply([Write(expected, rows)])
    await store.pruner().run()
    assert await store.ask("SELECT session_uuid, parameters FROM expected_calls ORDER BY 1") == [
        ("a", '{"a":1}'),
        ("b", None),
    ]


# Space.


def file_size(root: Path) -> int:
    return sum((root / name).stat().st_size for name in ("tasks.db", "tasks.db-wal") if (root / name).exists())


async def test_the_file_gets_smaller(store: Store) -> None:
    await store.calls(sorted(NOW - 400 * DAY + n for n in range(6000)), size=1500)
    await store.database.checkpoint()
    before = file_size(store.root)
    await store.pruner().run()
    assert before > 20 << 20
    assert file_size(store.root) < 4 << 20
    assert (await store.state()).free_bytes <= 1 << 20


async def test_a_database_fits_into_its_bound_and_the_oldest_went_first(store: Store) -> None:
    await store.calls(sorted(NOW - HOUR - n * 30_000 for n in range(1, 4000)), size=2000)
    bound = 8 << 20
    await store.pruner(bodies=0, rows=0, max_bytes=bound).run()
    assert file_size(store.root) <= bound
    kept = await store.ask("SELECT min(timestamp), count(*) FROM tool_usage WHERE parameters IS NOT NULL")
    assert kept[0][1] > 500, "more went than had to"
    assert (
        await store.value("SELECT count(*) FROM tool_usage WHERE timestamp > ? AND parameters IS NULL", kept[0][0]) == 0
    )
    assert await store.value("SELECT count(*) FROM tool_usage") == 3999, "rows went although bodies were left"
    assert (await store.state()).short_by == 0


async def test_rows_go_for_size_when_no_body_is_left(store: Store) -> None:
    await store.calls(sorted(NOW - HOUR - n * 30_000 for n in range(1, 20_000)), size=0)
    await store.roll()
    await store.database.checkpoint()
    before = file_size(store.root)
    spans: list[tuple[int, int | None]] = [(NOW - 2000 * DAY, None)]
    stats = await store.statistics(spans)
    bound = int(before * 0.8)
    await store.pruner(bodies=0, rows=0, max_bytes=bound).run()
    assert file_size(store.root) <= bound
    assert 0 < await store.value("SELECT count(*) FROM tool_usage") < 19_999
    assert await store.statistics(spans) == stats


async def test_a_bound_that_cannot_be_held_is_said(store: Store) -> None:
    await store.calls(sorted(NOW - 1000 * n for n in range(3000)))  # nothing is older than an hour
    await store.pruner(max_bytes=4096).run()
    assert (await store.state()).short_by > 100_000
    assert await store.value("SELECT count(*) FROM tool_usage") == 3000
    await store.pruner(max_bytes=1 << 30).run()
    assert (await store.state()).short_by == 0


async def test_an_older_file_that_cannot_shrink_is_pruned_all_the_same(tmp_path: Path) -> None:
    async with Database(tmp_path / "tasks.db"):
        pass
    with sqlite3.connect(tmp_path / "tasks.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    connection.close()
    async with Database(tmp_path / "tasks.db") as database:
        store = Store(tmp_path, database)
        await store.calls(days_ago(*range(1, 500)), size=3000)
        await store.pruner().run()
        assert not (await store.state()).shrinks
        assert (await store.state()).free_bytes > 0
        assert await store.value("SELECT count(*) FROM tool_usage WHERE timestamp < ?", NOW - 366 * DAY) == 0


async def test_others_write_while_a_backlog_is_pruned(store: Store) -> None:
    await store.calls(sorted(NOW - 400 * DAY + n for n in range(20_000)), size=200)
    waits: list[float] = []

    async def write() -> None:
        while True:
            started = time.perf_counter()
            await store.calls([NOW])
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(write())
    pruned = await store.pruner(pause=asyncio.sleep).run()
    writing.cancel()
    assert pruned.transactions > 20
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 1.0


# Folders of runs.

TASK = """
INSERT INTO tasks (task_id, user_id, description, status, failure, workspace, worktree, branch, merge_state, created_at,
                   finished_at)
VALUES (:id, 0, 'd', :status, NULL, '/w', :worktree, 'task/x', :merge, 0, :finished)
"""


@pytest.mark.parametrize(
    ("change", "goes"),
    [
        pytest.param({}, True, id="settled"),
        pytest.param({"status": "running", "finished": None}, False, id="running"),
        pytest.param({"worktree": "/wt"}, False, id="with a worktree"),
        pytest.param({"merge": "kept"}, False, id="with a branch to look at"),
        pytest.param({"finished": NOW - DAY}, False, id="young"),
    ],
)
async def test_prompts_and_outputs_go_once_nobody_needs_them(store: Store, change: dict[str, Any], goes: bool) -> None:
    row = {"id": "abc123", "status": "completed", "worktree": None, "merge": "merged", "finished": NOW - 40 * DAY}
    await store.database.apply([Write.one(TASK, row | change)])
    folder = store.root / "runs" / "abc123"
    (folder / "1").mkdir(parents=True)
    (folder / "prompt").write_text("what was asked")
    (folder / "1" / "output").write_text("what was said")
    os.utime(folder, ns=((NOW - 40 * DAY) * 10**6,) * 2)
    pruned = await store.pruner().run()
    assert pruned.folders == goes
    assert folder.exists() is not goes
    assert await store.value("SELECT count(*) FROM tasks") == 1
    if goes:
        assert list((store.root / "runs").iterdir()) == []


async def test_a_folder_cut_off_on_its_way_out_goes_with_the_next_run(store: Store) -> None:
    folder = store.root / "runs" / ".leaving-abc123"
    folder.mkdir(parents=True)
    (folder / "prompt").write_text("what was asked")
    os.utime(folder, ns=((NOW - 40 * DAY) * 10**6,) * 2)
    await store.pruner().run()
    assert not folder.exists()


def test_settings_of_a_year_are_kept_by_default() -> None:
    assert replace(RetentionSettings()) == RetentionSettings(bodies=30, rows=365, max_bytes=0)
