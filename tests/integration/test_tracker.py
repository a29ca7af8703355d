"""The synchronous tracker: recording, statistics, and company of every kind."""

import asyncio
import json
import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import AnalyticsDB, error_rates
from tasks.database import Database, Reader, Write
from tasks.errors import StoreUnavailable, TasksError
from tasks.rollups import HOUR, MINUTE
from tasks.tracker import EXACT_LIMIT, ToolUsageTracker, tool_stats
from tasks.words import ErrorCategory

QUARTER = 15 * MINUTE

#: A whole hour in the past.
NOON = 1_700_000_000_000 // HOUR * HOUR

INSERT = """
INSERT INTO tool_usage (timestamp, tool_name, success, error_category, duration_ms, source)
VALUES (?, ?, ?, ?, ?, 'api')
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TASKSD_DATA_DIR", "TASKSD_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TASKSD_PRIVACY_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[ToolUsageTracker]:
    made = ToolUsageTracker(data_dir=tmp_path)
    yield made
    made.close()


def rows(path: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    reader = Reader(path / "tasks.db")
    found = reader.query(f"SELECT {columns} FROM tool_usage ORDER BY id")
    reader.close()
    return found


def insert(tracker: ToolUsageTracker, calls: Sequence[tuple[int, str, int, str | None, float | None]]) -> None:
    tracker._database.apply([Write(INSERT, calls)])


def test_the_example_of_the_specification_runs_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from tasks.tracker import ToolUsageTracker

    tracker = ToolUsageTracker(data_dir="data")

    # Record tool usage
    tracker.record_tool_usage(
        task_id="abc123",
        tool_name="Read",
        duration_ms=150.5,
        success=True,
        parameters={"file_path": "/path/to/file.py"},
    )

    # Record error
    tracker.record_tool_usage(
        task_id="abc123",
        tool_name="Write",
        duration_ms=50.0,
        success=False,
        error="Permission denied",
        parameters={"file_path": "/etc/passwd"},
    )

    # Get tool statistics
    stats = tracker.get_tool_stats(hours=24)
    assert stats["Read"]["count"] == 1
    assert stats["Read"]["success_rate"] == 1.0
    assert stats["Write"] == {
        "count": 1, "success_rate": 0.0, "errors": {"permission_denied": 1},
        "avg_duration_ms": 50.0, "p50_duration_ms": 50.0, "p95_duration_ms": 50.0, "max_duration_ms": 50.0,
    }  # fmt: skip
    tracker.close()

    analytics = AnalyticsDB(data_dir="data")
    assert analytics.get_error_rates(days=7) == {"permission_denied": 1}
    analytics.close()
    assert rows(
        tmp_path / "data", "task_id, tool_name, parameters, success, error, error_category, duration_ms, source"
    ) == [
        ("abc123", "Read", '{"file_path":"/path/to/file.py"}', 1, None, None, 150.5, "api"),
        ("abc123", "Write", '{"file_path":"/etc/passwd"}', 0, "Permission denied", "permission_denied", 50.0, "api"),
    ]


def test_every_parameter_is_stored(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    tracker.record_tool_usage(
        "t1", "Shot", 1, False, "No such file or directory", {"a": [1, None, {"é": 2.5}]},
        tokens=7, screenshot_path=tmp_path / "shot.png", session_uuid="u-1",
    )  # fmt: skip
    columns = "task_id, tool_name, duration_ms, success, error, parameters, tokens, screenshot_path, session_uuid"
    assert rows(tmp_path, columns) == [
        (
            "t1",
            "Shot",
            1.0,
            0,
            "No such file or directory",
            '{"a":[1,null,{"é":2.5}]}',
            7,
            f"{tmp_path}/shot.png",
            "u-1",
        )
    ]
    ((at, category),) = rows(tmp_path, "timestamp, error_category")
    assert before <= at <= time.time_ns() // 1_000_000
    assert category == "file_not_found"


def test_what_is_left_out_is_unknown(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    tracker.record_tool_usage(tool_name="Read")
    columns = "task_id, session_uuid, parameters, error, error_category, duration_ms, tokens, screenshot_path"
    assert rows(tmp_path, columns) == [(None,) * 8]
    stats = tracker.get_tool_stats()["Read"]
    assert (stats["avg_duration_ms"], stats["p50_duration_ms"], stats["max_duration_ms"]) == (None, None, None)


def test_a_failure_without_a_text_has_a_category_too(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    tracker.record_tool_usage(tool_name="Bash", success=False)
    ((category,),) = rows(tmp_path, "error_category")
    assert category in set(ErrorCategory)


@pytest.mark.parametrize(
    "bad",
    [
        {"tool_name": ""}, {}, {"duration_ms": -1}, {"duration_ms": math.nan}, {"duration_ms": math.inf},
        {"tokens": -1}, {"tokens": 2**63}, {"tokens": 1.5}, {"tool_name": "a\ud800"}, {"task_id": "\udfff"},
        {"tool_name": 5}, {"duration_ms": "fast"}, {"parameters": [1]}, {"parameters": "text"},
        {"duration_ms": 10**400},
    ],
    ids=str,
)  # fmt: skip
def test_bad_input_is_refused_and_stores_nothing(
    tracker: ToolUsageTracker, tmp_path: Path, bad: dict[str, Any]
) -> None:
    arguments = {"tool_name": "Read", **bad} if bad else {}
    with pytest.raises((ValueError, TypeError)):
        tracker.record_tool_usage(**arguments)
    assert rows(tmp_path) == []
    tracker.record_tool_usage(tool_name="Read")
    assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "\ud83d cut", "nul \x00", Path("/x"), b"\xff", {1, 2}, 2**70, {"deep": [[[[1]]]]}, object()],
    ids=lambda value: type(value).__name__ if type(value) is object else ascii(value),
)
def test_parameters_of_any_kind_are_kept_as_json(tracker: ToolUsageTracker, tmp_path: Path, value: object) -> None:
    tracker.record_tool_usage(tool_name="Odd", parameters={"value": value})
    ((text,),) = rows(tmp_path, "parameters")
    assert "value" in json.loads(text)


def test_an_error_with_a_lone_surrogate_is_kept(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    tracker.record_tool_usage(tool_name="Bash", success=False, error="cut \ud83d")
    assert rows(tmp_path, "error") == [("cut \ufffd",)]


def test_secrets_are_redacted_in_parameters_and_errors(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    tracker.record_tool_usage(
        tool_name="Bash",
        success=False,
        error=f"fatal: {secret} refused",
        parameters={"command": f"GITHUB_TOKEN={secret} x"},
    )
    for path in tmp_path.rglob("tasks.db*"):
        assert secret.encode() not in path.read_bytes()
    ((parameters, error),) = rows(tmp_path, "parameters, error")
    assert "command" in parameters
    assert error.startswith("fatal: ")


def test_at_the_minimal_level_no_content_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSD_PRIVACY_LEVEL", "minimal")
    tracker = ToolUsageTracker(data_dir=tmp_path)
    tracker.record_tool_usage(tool_name="Bash", success=False, error="Permission denied", parameters={"a": 1})
    tracker.close()
    assert rows(tmp_path, "parameters, error, error_category") == [(None, None, "permission_denied")]


# Statistics.


def test_the_most_used_tool_comes_first(tracker: ToolUsageTracker) -> None:
    for tool in ("A", "B", "B", "C", "C", "C"):
        tracker.record_tool_usage(tool_name=tool)
    assert list(tracker.get_tool_stats()) == ["C", "B", "A"]


def test_counts_and_rates_by_category(tracker: ToolUsageTracker) -> None:
    calls = [("Bash", 1, None)] * 5 + [("Bash", 0, "timeout")] * 2 + [("Bash", 0, "blocked")] * 3 + [("Read", 1, None)]
    insert(tracker, [(NOON, tool, success, category, 5.0) for tool, success, category in calls])
    stats = tool_stats(tracker._database.query, since=NOON, until=NOON)
    assert (stats["Bash"]["count"], stats["Bash"]["success_rate"]) == (10, 0.5)
    assert list(stats["Bash"]["errors"].items()) == [("blocked", 3), ("timeout", 2)]
    assert stats["Read"]["errors"] == {}
    assert error_rates(tracker._database.query, since=NOON, until=NOON) == {"blocked": 3, "timeout": 2}


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 1000])
def test_percentiles_of_few_calls_are_exact(tracker: ToolUsageTracker, count: int) -> None:
    chance = random.Random(count)
    durations = [chance.lognormvariate(4, 2) for _ in range(count)]
    insert(tracker, [(NOON + number, "Read", 1, None, value) for number, value in enumerate(durations)])
    stats = tool_stats(tracker._database.query, since=NOON, until=NOON + count)["Read"]
    durations.sort()
    for name, part in (("p50_duration_ms", 0.5), ("p95_duration_ms", 0.95)):
        place = (count - 1) * part
        low, high = durations[math.floor(place)], durations[math.ceil(place)]
        assert stats[name] == pytest.approx(low + (high - low) * (place - math.floor(place)))  # type: ignore[literal-required]
    assert stats["avg_duration_ms"] == pytest.approx(sum(durations) / count)
    assert stats["max_duration_ms"] == durations[-1]


def test_untimed_calls_count_but_have_no_part_in_durations(tracker: ToolUsageTracker) -> None:
    insert(tracker, [(NOON, "Read", 1, None, 10.0), (NOON, "Read", 0, "blocked", None), (NOON, "Read", 1, None, 30.0)])
    stats = tool_stats(tracker._database.query, since=NOON, until=NOON)["Read"]
    assert (stats["count"], stats["avg_duration_ms"], stats["p50_duration_ms"]) == (3, 20.0, 20.0)


@pytest.mark.parametrize(("mu", "sigma"), [(3.0, 0.5), (5.0, 1.0), (6.0, 2.0)])
def test_the_estimate_over_many_calls_is_within_10_percent(tracker: ToolUsageTracker, mu: float, sigma: float) -> None:
    chance = random.Random(7)
    durations = [chance.lognormvariate(mu, sigma) for _ in range(50_000)]
    insert(tracker, [(NOON + number * 200, "Read", 1, None, value) for number, value in enumerate(durations)])
    assert len(durations) > EXACT_LIMIT
    stats = tool_stats(tracker._database.query, since=NOON, until=NOON + 3 * HOUR)["Read"]
    durations.sort()
    assert stats["p50_duration_ms"] == pytest.approx(durations[25_000], rel=0.1)
    assert stats["p95_duration_ms"] == pytest.approx(durations[47_500], rel=0.1)
    assert stats["avg_duration_ms"] == pytest.approx(sum(durations) / 50_000)
    assert stats["max_duration_ms"] == durations[-1]


def test_an_estimate_is_never_above_the_longest_call(tracker: ToolUsageTracker) -> None:
    insert(tracker, [(NOON, "Read", 1, None, 100.0)] * (EXACT_LIMIT + 1))
    stats = tool_stats(tracker._database.query, since=NOON, until=NOON)["Read"]
    assert stats["p95_duration_ms"] is not None
    assert stats["p95_duration_ms"] <= 100.0


@pytest.mark.parametrize("offset", [0, 1, QUARTER - 1, QUARTER // 2])
@pytest.mark.parametrize("span", [1, QUARTER - 1, QUARTER, HOUR, 24 * HOUR])
def test_the_beginning_of_a_span_is_exact_to_the_millisecond(tracker: ToolUsageTracker, offset: int, span: int) -> None:
    since, until = NOON + offset, NOON + offset + span
    inside, outside = (since, since + span // 2), (since - 1, since - QUARTER, since - HOUR)
    insert(
        tracker, [(at, "In", 0, "timeout", 1.0) for at in inside] + [(at, "Out", 0, "blocked", 1.0) for at in outside]
    )
    stats = tool_stats(tracker._database.query, since=since, until=until)
    assert {tool: one["count"] for tool, one in stats.items()} == {"In": 2}
    assert stats["In"]["p50_duration_ms"] == 1.0
    assert error_rates(tracker._database.query, since=since, until=until) == {"timeout": 2}


def test_a_span_of_parts_of_days_and_hours_is_taken_as_given(tracker: ToolUsageTracker) -> None:
    now = time.time_ns() // 1_000_000
    insert(tracker, [(now - HOUR // 2, "Half", 1, None, 1.0), (now - 2 * HOUR, "Two", 0, "timeout", 1.0)])
    assert set(tracker.get_tool_stats(hours=0.75)) == {"Half"}
    assert set(tracker.get_tool_stats(hours=2.5)) == {"Half", "Two"}


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, "1"])
def test_an_impossible_span_is_refused(tracker: ToolUsageTracker, tmp_path: Path, hours: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        tracker.get_tool_stats(hours=hours)
    analytics = AnalyticsDB(tmp_path)
    with pytest.raises((ValueError, TypeError)):
        analytics.get_error_rates(days=hours)
    analytics.close()


def test_a_span_of_ages_is_everything(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    tracker.record_tool_usage(tool_name="Read", success=False, error="Permission denied")
    assert tracker.get_tool_stats(hours=1e15)["Read"]["count"] == 1
    analytics = AnalyticsDB(tmp_path)
    assert analytics.get_error_rates(days=1e15) == {"permission_denied": 1}
    analytics.close()


def test_nothing_recorded_is_an_empty_answer(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    assert tracker.get_tool_stats() == {}
    analytics = AnalyticsDB(tmp_path)
    assert analytics.get_error_rates() == {}
    analytics.close()


def test_error_rates_without_a_database_say_so_and_create_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"tasks\.db"):
        AnalyticsDB(tmp_path / "none")
    assert not (tmp_path / "none").exists()


# Company.


def test_trackers_made_and_used_in_threads_at_once_lose_nothing(tmp_path: Path) -> None:
    ready, failures = threading.Barrier(6), list[BaseException]()

    def work(number: int) -> None:
        try:
            ready.wait()
            tracker = ToolUsageTracker(data_dir=tmp_path)
            for _ in range(25):
                tracker.record_tool_usage(tool_name=f"T{number}", duration_ms=1)
            tracker.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    tracker = ToolUsageTracker(data_dir=tmp_path)
    assert {tool: one["count"] for tool, one in tracker.get_tool_stats().items()} == {f"T{n}": 25 for n in range(6)}
    tracker.close()


def test_one_tracker_serves_several_threads(tracker: ToolUsageTracker, tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(25):
            tracker.record_tool_usage(tool_name="Shared")
            tracker.get_tool_stats()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.get_tool_stats()["Shared"]["count"] == 100


def test_trackers_in_several_processes_lose_nothing(programs: Any, tmp_path: Path) -> None:
    source = """
from tasks.tracker import ToolUsageTracker
say("ready"); hear()
tracker = ToolUsageTracker(data_dir=args[0])
for _ in range(60): tracker.record_tool_usage(tool_name=args[1], duration_ms=2.5, parameters={"n": 1})
tracker.close()
"""
    running = [programs.start(source, tmp_path / "data", name) for name in "abc"]
    for program in running:
        assert program.stdout.readline() == "ready\n"
    for program in running:
        program.stdin.write("go\n")
        program.stdin.flush()
    assert [program.communicate(timeout=60) for program in running] == [("", "")] * 3
    tracker = ToolUsageTracker(data_dir=tmp_path / "data")
    assert {tool: one["count"] for tool, one in tracker.get_tool_stats().items()} == dict.fromkeys("abc", 60)
    tracker.close()


async def test_a_tracker_works_beside_an_open_database(tmp_path: Path) -> None:
    async with Database(tmp_path / "tasks.db") as database:
        tracker = await asyncio.to_thread(ToolUsageTracker, data_dir=tmp_path)
        for _ in range(30):
            await asyncio.gather(
                asyncio.to_thread(tracker.record_tool_usage, tool_name="Beside"),
                database.apply([Write.one(INSERT, (time.time_ns() // 1_000_000, "Daemon", 1, None, 1.0))]),
            )
        counts = {tool: one["count"] for tool, one in (await asyncio.to_thread(tracker.get_tool_stats)).items()}
        assert counts == {"Beside": 30, "Daemon": 30}
        tracker.close()
        assert (await database.query("SELECT count(*) FROM tool_usage")) == [(60,)]


def test_a_closed_tracker_says_so(tmp_path: Path) -> None:
    tracker = ToolUsageTracker(data_dir=tmp_path)
    tracker.close()
    with pytest.raises(TasksError):
        tracker.record_tool_usage(tool_name="Read")
    with pytest.raises(TasksError):
        tracker.get_tool_stats()


def test_a_data_directory_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        ToolUsageTracker(data_dir=tmp_path / "file")
