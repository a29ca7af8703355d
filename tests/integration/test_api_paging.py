"""Lists that go on: tasks, sessions and calls page by page, on a real socket in front of a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tasks import history
from tasks.database import Write

from .service import Service

SESSIONS = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at) VALUES (?, ?, 0, 'h', 0, ?)
"""
TASKS = "INSERT INTO tasks (task_id, user_id, description, workflow, status, created_at) VALUES (?, 1, 'x', ?, ?, ?)"
CALLS = """
INSERT INTO tool_usage (timestamp, session_uuid, prompt_id, tool_use_id, tool_name, success, source)
VALUES (?, 's0', ?, ?, 'Bash', 1, 'hook')
"""
FILES = "INSERT INTO files (timestamp, path, action, session_uuid, task_id, tool_use_id) VALUES (?, ?, ?, 's0', ?, ?)"
COSTS = """
INSERT INTO cost_rollup (dimension, grain, slot, value, model, messages, input_tokens, output_tokens, cache_read_tokens,
                         cache_write_5m_tokens, cache_write_1h_tokens, web_searches, cost, unpriced)
VALUES (?, 86400000, ?, ?, 'm', 2, 0, 0, 0, 0, 0, 0, 1500000000000, ?)
"""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def paged(service: Service, target: str, key: str) -> list[str]:
    """What all pages of two hold, in order."""
    found: list[str] = []
    while True:
        before = f"&before={found[-1]}" if found else ""
        page = [str(one[key]) for one in (await service.ask(f"{target}limit=2{before}")).json()]
        found += page
        if len(page) < 2:
            return found


async def test_tasks_go_on_after_the_last_one_also_among_those_of_one_moment(service: Service) -> None:
    rows = [(f"a{number}", "w" if number % 2 else None, "pending", 1000 + number // 4) for number in range(11)]
    await service.context.database.apply([Write(TASKS, rows)])
    whole = [one["task_id"] for one in (await service.ask("/v1/tasks?limit=100")).json()]
    assert sorted(whole) == sorted(id_ for id_, *_ in rows)
    assert await paged(service, "/v1/tasks?", "task_id") == whole
    assert await paged(service, "/v1/tasks?workflow=w&", "task_id") == [one for one in whole if int(one[1:]) % 2]
    assert (await service.ask("/v1/tasks?before=gone")).json() == []


async def test_sessions_go_on_after_the_last_one_also_among_those_of_one_moment(service: Service) -> None:
    rows = [(f"s{number}", "ended" if number % 2 else "idle", 1000 + number // 4) for number in range(11)]
    await service.context.database.apply([Write(SESSIONS, rows)])
    whole = [one["session_uuid"] for one in (await service.ask("/v1/sessions?limit=100")).json()]
    assert sorted(whole) == sorted(id_ for id_, *_ in rows)
    assert await paged(service, "/v1/sessions?", "session_uuid") == whole
    ended = [one for one in whole if int(one[1:]) % 2]
    assert await paged(service, "/v1/sessions?status=ended&", "session_uuid") == ended


async def test_calls_of_one_prompt_are_found(service: Service) -> None:
    rows = [(number, ("p", "q", None)[number % 3], f"t{number}") for number in range(9)]
    await service.context.database.apply([Write(SESSIONS, [("s0", "idle", 0)]), Write(CALLS, rows)])
    for prompt, expected in (("p", "t6 t3 t0"), ("", "t8 t5 t2"), ("x", "")):
        answer = (await service.ask(f"/v1/sessions/s0/calls?prompt={prompt}")).json()
        assert " ".join(one["tool_use_id"] for one in answer) == expected


async def test_files_of_a_task_are_told_with_what_was_done_to_them(service: Service) -> None:
    rows = [
        (1, "/a", "read", "t1", "u1"), (2, "/a", "edit", "t1", "u2"), (3, "/b", "read", "t1", "u3"),
        (4, "/b", "read", "t1", "u4"), (5, "/a", "write", "t2", "u5"),
    ]  # fmt: skip
    await service.context.database.apply([Write(FILES, rows)])
    found = await service.context.database.read(lambda reader: history.files_of_task(reader.query, "t1", limit=5))
    assert found == [
        {"path": "/a", "reads": 1, "writes": 0, "edits": 1, "last_at": 2},
        {"path": "/b", "reads": 2, "writes": 0, "edits": 0, "last_at": 4},
    ]


async def test_money_of_several_is_found_at_once(service: Service) -> None:
    rows = [("session", 1, "a", 0), ("session", 2, "a", 2), ("task", 1, "a", 0), ("session", 1, "b", 0)]
    await service.context.database.apply([Write(COSTS, rows)])
    found = await service.context.database.read(
        lambda reader: history.spent_by(reader.query, "session", ["a", "b", "c"])
    )
    assert found == {
        "a": {"cost": 3.0, "messages": 4, "unpriced": 2},
        "b": {"cost": 1.5, "messages": 2, "unpriced": 0},
    }
