"""Use of tools: what the roll-ups say is what the calls say, whatever is rolled up, and after calls were deleted."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import AnalyticsDB, tools
from tasks.database import SyncDatabase, Write
from tasks.rollups import DAY, HOUR, MINUTE, percentile

from .recorded import NOW, ROLLED, SESSIONS, TASKS, Entry, Recorded, some_calls

#: Spans of parts of hours, hours and days; None: all time.
SPANS = (None, 0.01, 0.7, 1, 2.345, 4.9)

_VALUES: dict[tools.Dimension, Callable[[Entry], str | None]] = {
    "workflow": lambda call: TASKS.get(call["task"], (None, None))[0],
    "agent_type": lambda call: call["agent_type"] or TASKS.get(call["task"], (None, None))[1] or "",
    "model": lambda call: call["model"] or "",
    "session": lambda call: call["session"],
    "task": lambda call: call["task"],
}


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def begin(days: float | None) -> int:
    return 0 if days is None else NOW - round(days * DAY)


def use(calls: list[Entry]) -> dict[str, tuple[int, int, Any]]:
    """Tool → calls, failures, average of the known durations."""
    by_tool: dict[str, list[Entry]] = {}
    for call in calls:
        by_tool.setdefault(call["tool"], []).append(call)
    return {tool: summed(some) for tool, some in by_tool.items()}


def summed(calls: list[Entry]) -> tuple[int, int, Any]:
    known = [call["duration"] for call in calls if call["duration"] is not None]
    average = pytest.approx(sum(known) / len(known)) if known else None
    return len(calls), sum(not call["success"] for call in calls), average


def answered(found: list[tools.ToolUse]) -> dict[str, tuple[int, int, Any]]:
    for one in found:
        assert one["success_rate"] == pytest.approx(1 - one["failures"] / one["count"])
    assert [one["count"] for one in found] == sorted((one["count"] for one in found), reverse=True)
    return {one["tool_name"]: (one["count"], one["failures"], one["avg_duration"]) for one in found}


@pytest.mark.parametrize("rolled", ROLLED)
@pytest.mark.parametrize("days", SPANS)
def test_use_by_what_calls_belong_to_is_that_of_the_calls(recorded: Recorded, rolled: str, days: float | None) -> None:
    calls = some_calls(hash_of(rolled, days), 1500 if rolled == "by_itself" else 600)
    recorded.calls(calls, ROLLED[rolled])
    since = begin(days)
    inside = [call for call in calls if call["timestamp"] >= since]
    assert answered(tools.tool_usage(recorded.query, since=since)) == use(inside)
    for dimension in tools.DATED:
        of = _VALUES[dimension]
        values = {value for call in calls if (value := of(call)) is not None}
        assert values
        for value in values:
            found = tools.usage_of(recorded.query, dimension, value, since=since)
            assert answered(found) == use([call for call in inside if of(call) == value]), (dimension, value)
        by = tools.usage_by(recorded.query, dimension, since=since)
        assert {(one["value"], one["tool_name"]): one["count"] for one in by} == {
            (value, tool): count
            for value in values
            for tool, (count, _, _) in use([call for call in inside if of(call) == value]).items()
        }


def hash_of(*parts: object) -> int:
    return sum(str(parts).encode())


@pytest.mark.parametrize("rolled", ROLLED)
def test_use_by_session_and_task_is_over_all_time(recorded: Recorded, rolled: str) -> None:
    calls = some_calls(3, 1500)
    recorded.calls(calls, ROLLED[rolled])
    for dimension, values in (("session", SESSIONS), ("task", tuple(TASKS))):
        of = _VALUES[dimension]  # type: ignore[index]
        for value in values:
            found = tools.usage_of(recorded.query, dimension, value)  # type: ignore[arg-type]
            assert answered(found) == use([call for call in calls if of(call) == value])
    with pytest.raises(ValueError, match="over all time"):
        tools.usage_of(recorded.query, "session", SESSIONS[0], since=NOW)


@pytest.mark.parametrize("rolled", ROLLED)
@pytest.mark.parametrize("days", SPANS)
def test_sums_by_workflow_agent_type_and_model_are_those_of_the_calls(
    recorded: Recorded, rolled: str, days: float | None
) -> None:
    calls = some_calls(4, 1500)
    recorded.calls(calls, ROLLED[rolled])
    since = begin(days)
    for dimension in tools.DATED:
        of = _VALUES[dimension]
        by_value: dict[str, list[Entry]] = {}
        for call in calls:
            if call["timestamp"] >= since and (value := of(call)) is not None:
                by_value.setdefault(value, []).append(call)
        found = tools.stats_by(recorded.query, dimension, since=since)
        assert {one["value"]: (one["calls"], one["failures"], one["avg_duration"]) for one in found} == {
            value: summed(some) for value, some in by_value.items()
        }
        assert {one["value"]: one["tools"] for one in found} == {
            value: len({call["tool"] for call in some}) for value, some in by_value.items()
        }
        assert all(one["error_rate"] == one["failures"] / one["calls"] for one in found)
        assert [one["calls"] for one in found] == sorted((one["calls"] for one in found), reverse=True)


@pytest.mark.parametrize("rolled", ROLLED)
def test_sessions_are_those_that_were_active_with_all_their_calls(recorded: Recorded, rolled: str) -> None:
    calls = some_calls(5, 1500)
    recorded.calls(calls, ROLLED[rolled])
    for number, session in enumerate(SESSIONS):
        recorded.write(
            "INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at) "
            f"VALUES ('{session}', 'idle', 0, 'h', 0, {NOW - number * DAY})"
        )
    found = tools.session_stats(recorded.query, since=NOW - 2 * DAY)
    assert {one["value"]: (one["calls"], one["failures"], one["avg_duration"]) for one in found} == {
        session: summed([call for call in calls if call["session"] == session]) for session in SESSIONS[:3]
    }
    assert len(tools.session_stats(recorded.query, since=0, limit=2)) == 2


def test_a_model_that_a_transcript_tells_later_moves_the_calls(recorded: Recorded) -> None:
    calls = some_calls(6)
    recorded.calls(calls, 0.5)
    recorded.write("UPDATE tool_usage SET model = 'opus' WHERE model IS NULL AND id % 2 = 0")
    for call in calls:
        if call["model"] is None and call["id"] % 2 == 0:
            call["model"] = "opus"
    for model in ("opus", ""):
        expected = use([call for call in calls if (call["model"] or "") == model])
        assert answered(tools.usage_of(recorded.query, "model", model, since=begin(3.3))) == use(
            [call for call in calls if (call["model"] or "") == model and call["timestamp"] >= begin(3.3)]
        )
        assert answered(tools.usage_of(recorded.query, "model", model)) == expected


@pytest.mark.parametrize("question", ["tool_usage", "workflow"])
def test_where_calls_were_deleted_the_first_slot_counts_whole(recorded: Recorded, question: str) -> None:
    calls = some_calls(7, 3000, days=1)
    recorded.calls(calls, 1.0)
    since = NOW - 12 * HOUR - 123_456
    grain = MINUTE if question == "tool_usage" else HOUR
    recorded.write(f"DELETE FROM tool_usage WHERE timestamp < {since // grain * grain + grain // 2}")

    def ask(moment: int) -> Any:
        if question == "tool_usage":
            return answered(tools.tool_usage(recorded.query, since=moment))
        return answered(tools.usage_of(recorded.query, "workflow", "code-task", since=moment))

    of = _VALUES["workflow"]
    chosen = [call for call in calls if question == "tool_usage" or of(call) == "code-task"]
    assert ask(since) == use([call for call in chosen if call["timestamp"] >= since // grain * grain])
    # Where they are still there it is exact.
    later = since + 2 * HOUR
    assert ask(later) == use([call for call in chosen if call["timestamp"] >= later])


@pytest.mark.parametrize("rolled", ROLLED)
def test_percentiles_of_few_calls_are_exact(recorded: Recorded, rolled: str) -> None:
    calls = some_calls(8, 1500)
    recorded.calls(calls, ROLLED[rolled])
    since = begin(2.2)
    found = tools.tool_durations(recorded.query, since=since, quantiles=(0, 0.25, 0.999))
    for one in found:
        known = sorted(
            call["duration"]
            for call in calls
            if call["tool"] == one["tool_name"] and call["timestamp"] >= since and call["duration"] is not None
        )
        assert one["timed"] == len(known)
        assert one["max_duration"] == known[-1]
        assert one["avg_duration"] == pytest.approx(sum(known) / len(known))
        assert one["percentiles"] == {
            "p0": known[0], "p25": percentile(known, 0.25), "p99.9": percentile(known, 0.999)
        }  # fmt: skip


@pytest.mark.parametrize("rolled", ["rolled", "half"])
def test_percentiles_of_many_calls_are_within_a_bucket(recorded: Recorded, rolled: str) -> None:
    rng = random.Random(9)
    calls = some_calls(9, 12_000)
    for call in calls:
        call["duration"] = rng.lognormvariate(5, 1.5)
    recorded.calls(calls, ROLLED[rolled])
    since = begin(4.321)
    for one in tools.tool_durations(recorded.query, since=since):
        known = sorted(
            call["duration"] for call in calls if call["tool"] == one["tool_name"] and call["timestamp"] >= since
        )
        assert one["timed"] == len(known)
        for part in tools.QUANTILES:
            assert one["percentiles"][f"p{part * 100:g}"] == pytest.approx(percentile(known, part), rel=0.27)


def test_percentiles_survive_the_deletion_of_calls(recorded: Recorded) -> None:
    recorded.calls(some_calls(10, 4000), 1.0)
    before = tools.tool_durations(recorded.query)
    recorded.write("DELETE FROM tool_usage WHERE id <= 3900")
    after = tools.tool_durations(recorded.query)
    assert [one["timed"] for one in after] == [one["timed"] for one in before]
    for one, other in zip(after, before, strict=True):
        assert one["percentiles"]["p90"] == pytest.approx(other["percentiles"]["p90"], rel=0.27)


def test_a_quantile_has_to_be_one(recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        tools.tool_durations(recorded.query, quantiles=(0.5, 95))


def test_the_example_of_the_specification_has_its_shape(recorded: Recorded) -> None:
    recorded.calls(
        [call | {"tool": "Read" if call["id"] % 3 else "Edit", "task": "aaaaaa"} for call in numbered(some_calls(11))],
        0.5,
    )
    analytics = AnalyticsDB(recorded.root)
    stats = analytics.get_tool_usage_by_workflow("code-task")
    assert [one["tool_name"] for one in stats] == ["Read", "Edit"]
    assert [one["count"] for one in stats] == [400, 200]
    assert all(isinstance(one["avg_duration"], float) for one in stats)
    assert analytics.get_tool_usage_by_workflow("no-such-workflow") == []
    analytics.close()


def numbered(calls: list[Entry]) -> list[Entry]:
    return [call | {"id": number} for number, call in enumerate(calls)]


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_a_span_that_is_none_is_refused(recorded: Recorded, days: float) -> None:
    analytics = AnalyticsDB(recorded.root)
    for ask in (
        analytics.get_tool_usage,
        analytics.get_tool_durations,
        analytics.get_workflow_stats,
        analytics.get_agent_type_stats,
        analytics.get_model_stats,
        analytics.get_session_stats,
        analytics.get_hot_files,
        analytics.get_agent_time,
    ):
        with pytest.raises(ValueError, match="above 0"):
            ask(days=days)
    analytics.close()


def test_nothing_recorded_is_an_empty_answer(tmp_path: Path) -> None:
    SyncDatabase(tmp_path / "tasks.db").apply([Write.one("DELETE FROM counters")])
    analytics = AnalyticsDB(tmp_path)
    answers: list[list[Any]] = [
        [*analytics.get_tool_usage(), *analytics.get_tool_durations(), *analytics.get_workflow_stats()],
        [*analytics.get_session_stats(), *analytics.get_hot_files(), *analytics.get_contended_files()],
        [*analytics.get_tool_usage_by_session("x"), *analytics.get_session_files("x")],
    ]
    assert answers == [[], [], []]
    assert {one["seconds"] for one in analytics.get_agent_time().values()} == {0.0}
    analytics.close()
