"""/v1/tasks/{id}/calls and /v1/sessions/{id}/calls on a real socket, in front of a real store."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks import history
from tasks.database import SyncDatabase, Write
from tasks.history import calls

from .service import SESSION, Service

OTHER = "f0000000-1111-4222-8333-444455556666"
INSERT = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name, parameters,
                        success, error, error_category, duration_ms, background, source, model)
VALUES (:timestamp, :session, :task, :agent, :agent_type, :prompt, :tool_use_id, :tool, :parameters, :success, :error,
        :category, :duration, :background, :source, :model)
"""
SESSIONS = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at) VALUES (?, 'idle', 0, 'h', 0, 0)
"""
TASK = "INSERT INTO tasks (task_id, user_id, description, created_at) VALUES (?, 1, 'x', 0)"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    await made.context.database.apply(
        [Write(SESSIONS, [(SESSION,), (OTHER,)]), Write(TASK, [("abc123",), ("abd456",)])]
    )
    yield made
    await made.stop()


def call(number: int, **fields: Any) -> dict[str, Any]:
    """The call that finished at second `number`."""
    return {
        "timestamp": number * 1000, "session": SESSION, "task": "abc123", "agent": None, "agent_type": None, "prompt": "p",
        "tool_use_id": f"t{number}", "tool": "Bash", "parameters": json.dumps({"command": f"echo {number}"}), "success": 1,
        "error": None, "category": None, "duration": 12.5, "background": None, "source": "hook", "model": None,
    } | fields  # fmt: skip


async def store(service: Service, *entries: dict[str, Any]) -> None:
    await service.context.database.apply([Write(INSERT, list(entries))])


async def ids(service: Service, target: str) -> list[str]:
    answer = await service.ask(target)
    assert answer.status == 200, answer.body
    return [one["tool_use_id"] for one in answer.json()]


async def test_a_call_is_told_with_everything_that_is_known_of_it(service: Service) -> None:
    failed = call(
        9, success=0, error="no <script>", category="command_failed", agent="a1", agent_type="Explore",
        background="requested", model="m",
    )  # fmt: skip
    await store(service, failed)
    (one,) = (await service.ask("/v1/tasks/abc/calls")).json()
    assert one == {
        "id": 1, "timestamp": 9000, "started_at": 8988, "session_uuid": SESSION, "task_id": "abc123", "tool_name": "Bash",
        "tool_use_id": "t9", "agent_id": "a1", "agent_type": "Explore", "prompt_id": "p",
        "parameters": {"command": "echo 9"}, "cut": False, "success": False, "error": "no <script>",
        "error_category": "command_failed", "duration_ms": 12.5, "background": "requested", "source": "hook", "model": "m",
    }  # fmt: skip
    assert (await service.ask(f"/v1/sessions/{SESSION}/calls")).json() == [one]


async def test_a_call_whose_duration_is_not_known_has_no_beginning(service: Service) -> None:
    await store(service, call(1, duration=None, parameters=None))
    (one,) = (await service.ask("/v1/tasks/abc123/calls")).json()
    assert (one["started_at"], one["duration_ms"], one["parameters"], one["cut"]) == (None, None, None, False)


async def test_pages_follow_the_times_at_which_calls_finished_however_they_were_stored(service: Service) -> None:
    # A backfill stores calls in the order of their ids; three of them finished in the same millisecond.
    await store(service, *(call(number) for number in (5, 1, 3, 4, 2)), *(call(9, tool_use_id=name) for name in "abc"))
    expected = ["c", "b", "a", "t5", "t4", "t3", "t2", "t1"]
    for place in ("tasks/abc123", f"sessions/{SESSION}"):
        found, before = [], ""
        while page := (await service.ask(f"/v1/{place}/calls?limit=3{before}")).json():
            found += [one["tool_use_id"] for one in page]
            before = f"&before={page[-1]['id']}"
        assert found == expected


async def test_nothing_comes_before_a_call_that_is_gone(service: Service) -> None:
    await store(service, call(1))
    assert await ids(service, "/v1/tasks/abc123/calls?before=77") == []


async def test_calls_of_other_tasks_and_sessions_are_not_mixed_in(service: Service) -> None:
    await store(service, call(1), call(2, session=OTHER), call(3, task=None), call(4, task="abd456"))
    await store(service, call(5, tool_use_id=None, source="api"))
    assert await ids(service, "/v1/tasks/abc123/calls") == [None, "t2", "t1"]
    assert await ids(service, f"/v1/sessions/{SESSION}/calls") == ["t4", "t3", "t1"]
    assert await ids(service, f"/v1/sessions/{OTHER}/calls") == ["t2"]


async def test_calls_of_one_agent_are_found(service: Service) -> None:
    await store(service, call(1), call(2, agent="a1"), call(3, agent="a2"))
    assert await ids(service, f"/v1/sessions/{SESSION}/calls?agent=a1") == ["t2"]
    assert await ids(service, f"/v1/sessions/{SESSION}/calls?agent=") == ["t1"]
    assert await ids(service, f"/v1/sessions/{SESSION}/calls?agent=nobody") == []


async def test_calls_of_one_prompt_are_found(service: Service) -> None:
    await store(service, call(1), call(2, prompt="q"), call(3, prompt=None))
    assert await ids(service, f"/v1/sessions/{SESSION}/calls?prompt=q") == ["t2"]
    assert await ids(service, f"/v1/sessions/{SESSION}/calls?prompt=") == ["t3"]


async def test_unknown_ids_and_wrong_limits_are_refused(service: Service) -> None:
    for target in ("tasks/ffffff/calls", "tasks/ab/calls", "sessions/nothing/calls"):
        assert (await service.ask(f"/v1/{target}")).status == 404
    for query in ("limit=0", "limit=501", "before=-1", "before=x", f"before={1 << 63}"):
        assert (await service.ask(f"/v1/tasks/abc123/calls?{query}")).status == 422


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ('{"a":"<script>alert(1)</script>\\u0000\\u001b[31m"}', {"a": "<script>alert(1)</script>\0\x1b[31m"}),
        ('{"a":"\\ud800","\\udfff":1}', {"a": "?", "?": 1}),
        ('{"a":NaN,"b":1e999,"c":-Infinity}', {"a": "NaN", "b": "inf", "c": "-Infinity"}),
        ("[1,null,true]", [1, None, True]),
        ("no JSON", None),
        ("[" * 100_000, None),
        ('{"a":' + "9" * 5000 + "}", None),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_parameters_of_any_kind_can_be_sent(service: Service, stored: str, told: Any) -> None:
    await store(service, call(1, parameters=stored))
    answer = await service.ask("/v1/tasks/abc123/calls")
    assert answer.status == 200
    assert answer.json()[0]["parameters"] == told


async def test_parameters_that_nest_deeply_are_told_down_to_a_level(service: Service) -> None:
    await store(service, call(1, parameters="[" * 300 + "1" + "]" * 300))
    answer = await service.ask("/v1/tasks/abc123/calls")
    assert answer.body.count(b"[") == calls.DEEPEST + 1
    assert "…" in answer.body.decode()


async def test_long_parameters_are_cut_text_by_text(service: Service) -> None:
    long = json.dumps({"file_path": "/a", "content": "x" * 100_000, "edits": [{"old": "y" * 9000}]})
    await store(service, call(1, parameters=long), call(2, parameters=json.dumps({"content": "z" * 60_000})))
    whole, cut = (await service.ask("/v1/tasks/abc123/calls")).json()
    assert (whole["cut"], len(whole["parameters"]["content"])) == (False, 60_000)
    assert cut["cut"] is True
    assert cut["parameters"]["file_path"] == "/a"
    assert cut["parameters"]["content"] == "x" * calls.SHORT_TEXT + "…"
    assert cut["parameters"]["edits"] == [{"old": "y" * calls.SHORT_TEXT + "…"}]


async def test_a_page_of_huge_parameters_stays_small(service: Service) -> None:
    huge = json.dumps({"content": "x" * (3 << 20)})
    await store(
        service, *(call(number, parameters=huge) for number in range(8)), call(9, parameters=huge + " " * (2 << 20))
    )
    answer = await service.ask("/v1/tasks/abc123/calls?limit=500")
    found = answer.json()
    assert all(one["cut"] for one in found)
    assert found[0]["parameters"] is None  # beyond what is read at all
    known = [one["parameters"] is not None for one in found[1:]]
    assert known == [True] * 5 + [False] * 3  # as many as may be read for one page
    assert len(answer.body) < 100_000


def test_no_page_reads_calls_of_others(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    key: dict[str, Any] = {"before": 5, "timestamp": 5, "limit": 100}
    plans = {
        calls._OF_TASK: key | {"task": "abc123"},
        calls._OF_SESSION: key
        | {"session": SESSION, "any_agent": True, "agent": None, "any_prompt": True, "prompt": None},
        calls._ROWS.format(places="1, 2"): {},
    }
    try:
        for statement, parameters in plans.items():
            plan = [str(row[3]) for row in database.query(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if step.startswith("SCAN")], plan
            assert any(step.startswith("SEARCH tool_usage USING") for step in plan), plan
        assert "idx_tool_task" in str(database.query(f"EXPLAIN QUERY PLAN {calls._OF_TASK}", key | {"task": "a"}))
    finally:
        database.close()


def test_a_hundred_thousand_calls_are_paged_from_the_newest(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    try:
        database.apply([Write(INSERT, [call(number) for number in range(100_000)])])
        page = history.calls_of_session(database.query, SESSION, limit=100)
        assert [page[0]["tool_use_id"], page[-1]["tool_use_id"]] == ["t99999", "t99900"]
        page = history.calls_of_task(database.query, "abc123", before=page[-1]["id"], limit=2)
        assert [one["tool_use_id"] for one in page] == ["t99899", "t99898"]
    finally:
        database.close()
