"""Time of agents by state, as the ingester keeps it, against the changes of status that it stored."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import agents
from tasks.database import Reader, Write
from tasks.database.migrations import statements
from tasks.database.steps import MIGRATIONS
from tasks.rollups import DAY, HOUR, LONGEST_STATE

from .test_ingest import SESSION, START, History

SESSIONS = (SESSION, "21111111-2222-4333-8444-555555555555", "31111111-2222-4333-8444-555555555555")
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "SessionStart", "source": "startup"}, {"kind": "SessionStart", "source": "resume"},
    {"kind": "UserPromptSubmit", "prompt": "go"}, {"kind": "Stop"}, {"kind": "StopFailure", "error": "overloaded"},
    {"kind": "PermissionRequest", "tool_name": "Bash", "tool_input": {}}, {"kind": "SessionEnd", "reason": "other"},
    {"kind": "Notification", "notification_type": "idle_prompt", "message": "waits"},
    {"kind": "SubagentStart", "agent_id": "a1", "agent_type": "Explore"}, {"kind": "SubagentStop", "agent_id": "a1"},
    {"kind": "UserPromptSubmit", "prompt": "more"}, {"kind": "PreToolUse", "tool_name": "Bash", "tool_input": {}},
)  # fmt: skip


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    made = await History(tmp_path).open()
    yield made
    made.ingest.close()
    await made.database.close()


async def work(history: History, rng: random.Random, events: int) -> None:
    """Events of several sessions over days, read in batches; sometimes the clock steps back."""
    at = START
    for number in range(events):
        at += rng.choice((500, 20_000, 700_000, 9_000_000)) * rng.randrange(1, 4)
        if rng.random() < 0.03:
            at -= rng.choice((3_000, 7_200_000))
        fields = dict(rng.choice(KINDS))
        if fields["kind"] == "PreToolUse":
            fields["tool_use_id"] = f"t{number}"
        history.event(fields.pop("kind"), at=at, session=rng.choice(SESSIONS), **fields)
        if rng.random() < 0.2:
            await history.ingest.step()
    await history.ingest.step()


async def intervals(history: History, now: int) -> list[tuple[str, int, int, str]]:
    """(status, from, to, session) of main agents, as the changes tell; the last of a session lasts until `now`."""
    rows = await history.rows(
        "SELECT session_uuid, status, timestamp FROM agent_status WHERE agent_id IS NULL ORDER BY id"
    )
    found = []
    for session in SESSIONS:
        own = [row[1:] for row in rows if row[0] == session]
        ends = [*(began for _, began in own[1:]), now]
        found += [
            (status, began, end, session)
            for (status, began), end in zip(own, ends, strict=True)
            if status not in ("ended", "failed", "lost")
        ]
    return found


def seconds(answer: dict[str, agents.StateTime]) -> dict[str, float]:
    return {status: one["seconds"] for status, one in answer.items()}


@pytest.mark.parametrize("seed", range(6))
async def test_time_by_state_is_that_of_the_changes_of_status(history: History, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    await work(history, rng, 300)
    now = history.now + 5_000_000
    told = await intervals(history, now)
    reader = Reader(tmp_path / "tasks.db")
    for since in (0, START + DAY, *(rng.randrange(START, now) for _ in range(40))):
        expected = dict.fromkeys(map(str, agents.LIVE), 0.0)
        for status, began, ended, _ in told:
            expected[status] += max(0, ended - max(began, since)) / 1000
        found = agents.agent_time(reader.query, since=since, now=now)
        assert seconds(found) == pytest.approx(expected), since
        assert sum(one["share"] for one in found.values()) == pytest.approx(1.0)
    for session in SESSIONS:
        expected = dict.fromkeys(map(str, agents.LIVE), 0.0)
        for status, began, ended, whose in told:
            expected[status] += max(0, ended - began) / 1000 if whose == session else 0
        assert seconds(agents.session_time(reader.query, session, now=now)) == pytest.approx(expected)
    reader.close()


async def test_a_migrated_database_knows_the_time_of_before(history: History) -> None:
    await work(history, random.Random(9), 300)
    kept = await history.rows("SELECT * FROM state_rollup ORDER BY 1, 2, 3")
    assert len(kept) > 50
    statement = next(one for one in statements(MIGRATIONS[3]) if "INSERT INTO state_rollup" in one)
    await history.database.apply([Write.one("DELETE FROM state_rollup"), Write.one(statement)])
    assert await history.rows("SELECT * FROM state_rollup ORDER BY 1, 2, 3") == kept


async def test_slots_split_a_state_exactly(history: History) -> None:
    base = START // DAY * DAY + DAY - 90_000_000 % HOUR - 1_234_567
    history.event("SessionStart", at=base, source="startup")
    history.event("UserPromptSubmit", at=base + 1_000, prompt="go")
    history.event("Stop", at=base + 1_000 + 30 * HOUR)
    await history.ingest.step()
    for grain in (HOUR, DAY):
        rows = await history.rows(
            f"SELECT slot, ms FROM state_rollup WHERE grain = {grain} AND status = 'working' ORDER BY slot"
        )
        first, last = base + 1_000, base + 1_000 + 30 * HOUR
        assert rows == [
            (slot, min(last, (slot + 1) * grain) - max(first, slot * grain))
            for slot in range(first // grain, last // grain + 1)
        ]


async def test_events_that_are_read_again_add_no_time(history: History) -> None:
    def leave() -> None:
        history.files = 0
        history.event("SessionStart", at=START, source="startup")
        history.event("UserPromptSubmit", at=START + 60_000, prompt="go")
        history.event("Stop", at=START + 120_000)

    leave()
    await history.ingest.step()
    before = await history.rows("SELECT * FROM state_rollup")
    assert before
    await history.restart()
    leave()
    assert await history.ingest.step() == 0
    assert await history.rows("SELECT * FROM state_rollup") == before


async def test_a_clock_that_was_set_ahead_by_years_adds_nothing(history: History) -> None:
    history.event("SessionStart", at=START, source="startup")
    history.event("UserPromptSubmit", at=START + LONGEST_STATE + 1, prompt="go")
    history.event("Stop", at=START + LONGEST_STATE + 60_001)
    await history.ingest.step()
    rows = await history.rows("SELECT status, sum(ms) FROM state_rollup WHERE grain = 86400000 GROUP BY status")
    assert rows == [("working", 60_000)]


async def test_a_lost_session_spends_no_more_time(history: History, tmp_path: Path) -> None:
    history.event("UserPromptSubmit", at=START, prompt="go")
    await history.ingest.step()
    await history.ingest.lose([SESSION])
    reader = Reader(tmp_path / "tasks.db")
    lost_at = reader.query("SELECT status_since FROM sessions")[0][0]
    told = seconds(agents.agent_time(reader.query, now=lost_at + DAY))
    # From the event until it was noticed: longer than a year, which is a clock, or to the millisecond.
    assert told["working"] == (0 if lost_at - START > LONGEST_STATE else (lost_at - START) / 1000)
    reader.close()


async def test_where_changes_of_status_were_deleted_the_first_hour_counts_whole(
    history: History, tmp_path: Path
) -> None:
    base = START // HOUR * HOUR
    history.event("SessionStart", at=base, source="startup")
    history.event("UserPromptSubmit", at=base + 600_000, prompt="go")
    history.event("SessionEnd", at=base + 1_800_000, reason="other")
    await history.ingest.step()
    reader = Reader(tmp_path / "tasks.db")
    assert seconds(agents.agent_time(reader.query, since=base + 1_200_000))["working"] == 600
    await history.database.transaction(lambda connection: connection.execute("DELETE FROM agent_status"))
    assert seconds(agents.agent_time(reader.query, since=base + 1_200_000))["working"] == 1200
    reader.close()
