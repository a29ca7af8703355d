"""Why calls failed: figures against the rows themselves, rolled up and not."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tasks.analytics import AnalyticsDB, errors
from tasks.analytics.days import period, today
from tasks.analytics.span import now_ms
from tasks.database import ERROR_KIND, SyncDatabase, Write
from tasks.rollups import DAY, HOUR, MINUTE

#: Some minute in the past, to which no slot is aligned.
NOW = 1_700_000_000_000 // DAY * DAY + 15 * HOUR + 37 * MINUTE + 12_345

TOOLS, CATEGORIES = ("Bash", "Edit", "Read"), ("command_failed", "timeout", "stale_edit")
KINDS = [(f"{n:016x}", tool, category) for n, (tool, category) in enumerate((t, c) for t in TOOLS for c in CATEGORIES)]
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Paris")

_CALL = """
INSERT INTO tool_usage (timestamp, tool_name, success, error_category, fingerprint, task_id, agent_type, model, source)
VALUES (:timestamp, :tool_name, :success, :error_category, :fingerprint, :task_id, :agent_type, :model, 'api')
"""
_TASK = "INSERT INTO tasks (task_id, user_id, description, workflow, created_at) VALUES (?, 1, 'x', ?, 0)"

Call = dict[str, Any]


def history(seed: int, count: int = 400, days: int = 12) -> list[Call]:
    """Random calls of the last `days` before NOW; some failures are older than kinds of errors."""
    rng = random.Random(seed)
    calls = []
    for _ in range(count):
        kind = rng.choice(KINDS) if rng.random() < 0.6 else None
        calls.append({
            "timestamp": NOW - rng.randrange(days * DAY), "tool_name": kind[1] if kind else rng.choice(TOOLS),
            "success": int(kind is None), "error_category": kind and kind[2],
            "fingerprint": kind[0] if kind and rng.random() < 0.9 else None,
            "task_id": rng.choice((None, "aaaaaa", "bbbbbb")), "agent_type": rng.choice((None, "", "Explore", "Plan")),
            "model": rng.choice((None, "opus", "haiku")),
        })  # fmt: skip
    return calls


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = SyncDatabase(root / "tasks.db")
        self.query = self.database.query
        self.database.apply([Write(_TASK, [("aaaaaa", "review"), ("bbbbbb", None)])])

    def add(self, calls: list[Call], rolled: float = 0.0) -> None:
        """The first part of the calls, `rolled` of them, is rolled up."""
        self.database.apply([Write(_CALL, calls)])
        seen: dict[str, list[int]] = {}
        for call in calls:
            if call["fingerprint"]:
                seen.setdefault(call["fingerprint"], []).append(call["timestamp"])
        rows = [(f"{n:016x}", *KINDS[n][1:], f"kind {n}", f"s{n}", min(seen[KINDS[n][0]]), max(seen[KINDS[n][0]]))
                for n in range(len(KINDS)) if KINDS[n][0] in seen]  # fmt: skip
        self.database.apply([Write(ERROR_KIND, rows)])
        upto = round(rolled * len(calls))
        self.database.apply([Write.one("INSERT INTO rolling_calls (upto) VALUES (?)", (upto,))])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.database.close()


def failed(calls: list[Call], since: int) -> list[Call]:
    return [call for call in calls if not call["success"] and call["timestamp"] >= since]


@pytest.mark.parametrize("rolled", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_kinds_agree_with_the_rows(store: Store, seed: int, rolled: float) -> None:
    calls = history(seed)
    store.add(calls, rolled)
    for since in (0, NOW - 7 * DAY, NOW - 3 * DAY - 7 * HOUR - 1, NOW - 50 * MINUTE):
        for tool, category in ((None, None), ("Bash", None), (None, "timeout"), ("Edit", "timeout")):
            rows = [call for call in failed(calls, since) if call["fingerprint"]
                    and tool in (None, call["tool_name"]) and category in (None, call["error_category"])]  # fmt: skip
            counts = Counter(call["fingerprint"] for call in rows)
            found = errors.error_kinds(store.query, since=since, limit=5, tool=tool, category=category, now=NOW)
            top = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:5]
            assert [(one["fingerprint"], one["calls"]) for one in found] == top
            for one in found:
                all_ = [call["timestamp"] for call in calls if call["fingerprint"] == one["fingerprint"]]
                number = int(one["fingerprint"], 16)
                assert (one["tool_name"], one["error_category"]) == KINDS[number][1:]
                assert (one["message"], one["session_uuid"]) == (f"kind {number}", f"s{number}")
                assert (one["first_seen"], one["last_seen"]) == (min(all_), max(all_))
                assert one["share"] == pytest.approx(one["calls"] / len(rows))
                days = Counter(c["timestamp"] // DAY for c in rows if c["fingerprint"] == one["fingerprint"])
                first = datetime.fromisoformat(one["daily_from"]).replace(tzinfo=UTC).timestamp() * 1000 // DAY
                assert {int(first) + n: calls for n, calls in enumerate(one["daily"]) if calls} == days
                assert first + len(one["daily"]) - 1 == NOW // DAY


@pytest.mark.parametrize("rolled", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("by", ["category", "tool", "agent_type", "workflow", "model"])
def test_rates_agree_with_the_rows(store: Store, by: errors.By, rolled: float) -> None:
    calls = history(11)
    store.add(calls, rolled)
    workflows = {"aaaaaa": "review", "bbbbbb": None, None: None}
    for since in (0, NOW - 5 * DAY - 1234):
        chosen = [call for call in calls if call["timestamp"] >= since]
        values: dict[str, Callable[[Call], Any]] = {
            "category": lambda call: call["error_category"],
            "tool": lambda call: call["tool_name"],
            "agent_type": lambda call: call["agent_type"] or "",
            "workflow": lambda call: workflows[call["task_id"]],
            "model": lambda call: call["model"] or "",
        }
        value = values[by]
        totals, failures = Counter(map(value, chosen)), Counter(value(call) for call in chosen if not call["success"])
        del totals[None], failures[None]
        found = errors.failure_rates(store.query, by, since=since)
        everything = {name: len(chosen) for name in totals} if by == "category" else totals
        assert {one["value"]: (one["calls"], one["failures"]) for one in found} == {
            name: (everything[name], failures[name]) for name in totals
        }
        assert sum(one["share"] for one in found) == pytest.approx(1)
        assert all(one["rate"] == pytest.approx(one["failures"] / one["calls"]) for one in found)
        assert [one["failures"] for one in found] == sorted((one["failures"] for one in found), reverse=True)


@pytest.mark.parametrize("rolled", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("zone", ZONES)
def test_the_trend_agrees_with_the_rows_in_every_zone(store: Store, zone: str, rolled: float) -> None:
    calls = history(5, count=800)
    store.add(calls, rolled)
    local = ZoneInfo(zone)
    found = errors.error_trend(store.query, period(local, NOW, days=7))
    assert len(found) == 7
    assert found[-1]["date"] == today(local, NOW).isoformat()
    for one in found:
        of_day = [call for call in calls if today(local, call["timestamp"]).isoformat() == one["date"]]
        categories = Counter(call["error_category"] for call in of_day if not call["success"])
        assert one["calls"] == len(of_day)
        assert one["categories"] == categories
        assert one["failures"] == sum(categories.values())
        assert one["rate"] == (one["failures"] / one["calls"] if one["calls"] else None)


def failure(kind: int, at: int) -> Call:
    fingerprint, tool, category = KINDS[kind]
    return {"timestamp": at, "tool_name": tool, "success": 0, "error_category": category, "fingerprint": fingerprint,
            "task_id": None, "agent_type": None, "model": None}  # fmt: skip


def test_a_trend_is_told_from_when_calls_failed(store: Store) -> None:
    def spread(kind: int, numbers: list[int]) -> list[Call]:
        """So many calls on each of the nine days before NOW."""
        return [
            failure(kind, NOW - (9 - day) * DAY + 60_000 + n)
            for day, number in enumerate(numbers)
            for n in range(number)
        ]

    store.add([
        *spread(0, [5, 5, 5, 5, 5, 5, 5, 5, 5]), *spread(1, [1, 0, 1, 0, 1, 0, 9, 9, 9]),
        *spread(2, [9, 9, 9, 9, 9, 9, 0, 0, 1]),
        *spread(3, [0, 0, 0, 0, 0, 0, 0, 1, 1]), *spread(4, [1, 0, 0, 0, 0, 0, 0, 0, 1]),
    ], rolled=0.7)  # fmt: skip
    found = errors.error_kinds(store.query, since=NOW - 9 * DAY, now=NOW)
    assert {int(one["fingerprint"], 16): one["trend"] for one in found} == {
        0: "steady", 1: "rising", 2: "falling", 3: "new", 4: "steady"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("recent", "calls", "word"),
    [(0, 0, "steady"), (1, 1, "steady"), (2, 2, "steady"), (3, 3, "rising"), (3, 9, "steady"), (0, 9, "falling"),
     (0, 4, "steady"), (600, 1_000, "rising"), (333, 1_000, "steady"), (100, 1_000, "falling")],
)  # fmt: skip
def test_what_chance_explains_is_no_trend(recent: int, calls: int, word: str) -> None:
    assert errors.trend_of(recent, calls) == word


def test_a_history_of_one_day_has_no_trends(store: Store) -> None:
    store.add([failure(0, NOW - n * 1000) for n in range(5)])
    # All of it lies in the first day that there is anything of.
    [one] = errors.error_kinds(store.query, now=NOW - NOW % DAY + 16 * HOUR)
    assert one["calls"] == sum(one["daily"]) == 5
    assert len(one["daily"]) == errors.DAILY


def test_calls_ahead_of_the_clock_cost_no_endless_list(store: Store) -> None:
    store.add([failure(0, NOW), failure(0, 4_000_000_000_000)], rolled=1)
    [one] = errors.error_kinds(store.query, since=NOW - DAY, now=NOW)
    assert (one["calls"], sum(one["daily"])) == (2, 1)


def test_nothing_stored_is_an_empty_answer(store: Store) -> None:
    assert errors.error_kinds(store.query, now=NOW) == []
    assert errors.failure_rates(store.query, "tool") == []
    assert [one["rate"] for one in errors.error_trend(store.query, period(ZoneInfo("UTC"), NOW, days=2))] == [
        None,
        None,
    ]


def test_counts_outlive_the_rows(store: Store) -> None:
    calls = history(3)
    store.add(calls, rolled=1)
    before = errors.error_kinds(store.query, since=NOW // DAY * DAY - 5 * DAY, now=NOW)
    store.database.apply([Write.one("DELETE FROM tool_usage WHERE id < ?", (len(calls),))])
    assert errors.error_kinds(store.query, since=NOW // DAY * DAY - 5 * DAY, now=NOW) == before
    # A span that begins within a slot without rows counts that slot whole.
    whole = errors.error_kinds(store.query, since=NOW // HOUR * HOUR - 5 * DAY, now=NOW)
    assert errors.error_kinds(store.query, since=NOW // HOUR * HOUR - 5 * DAY + 1, now=NOW) == whole


def test_the_methods_ask_about_the_last_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(store.root))
    now = now_ms()
    store.add([failure(0, now - 2 * DAY), failure(0, now - HOUR), failure(1, now - HOUR), failure(2, now - 9 * DAY)])
    analytics = AnalyticsDB(store.root)
    try:
        assert {one["fingerprint"]: one["calls"] for one in analytics.get_error_fingerprints(days=7)} == {
            KINDS[0][0]: 2, KINDS[1][0]: 1
        }  # fmt: skip
        assert [one["calls"] for one in analytics.get_error_fingerprints(days=1, limit=1)] == [1]
        assert [one["calls"] for one in analytics.get_error_fingerprints(days=None, tool="Bash")] == [2, 1, 1]
        assert [one["calls"] for one in analytics.get_error_fingerprints(category="timeout")] == [1]
        assert [(one["value"], one["failures"]) for one in analytics.get_failure_rates(by="tool")] == [("Bash", 3)]
        assert [one["failures"] for one in analytics.get_error_trend(days=11, zone="UTC")].count(0) >= 7
        with pytest.raises(ValueError, match="days = 0"):
            analytics.get_error_fingerprints(days=0)
    finally:
        analytics.close()
