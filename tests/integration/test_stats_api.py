"""/v1/stats on a real socket, in front of a real store: the answers are those of AnalyticsDB, and of what happened."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import AnalyticsDB
from tasks.database import SyncDatabase, Write
from tasks.rollups import DAY

from .recorded import NOW, SESSIONS, Recorded, some_calls, some_files
from .service import Service

REFUSED = (
    "tools?days=1&hours=1", "tools?days=0", "tools?hours=-1", "tools?days=nan", "tools?days=many",
    "tools?workflow=a&model=b", "tools?session=a&days=1", "tools?task=a&hours=1", "tools/durations?quantile=1.5",
    "tools/durations?quantile=x", "tools/by/session", "files?order=path", "files?limit=0", "files?limit=1001",
    "files/contended?limit=201", "sessions?limit=0", "agents?days=4000",
)  # fmt: skip


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


def record(root: Path) -> None:
    """Calls and files of the last days, half of them rolled up."""
    recorded = Recorded(root)
    shift = time.time_ns() // 1_000_000 - NOW
    calls, files = some_calls(1), some_files(1)
    for one in (*calls, *files):
        one["timestamp"] += shift
    recorded.calls(calls, 0.5)
    recorded.files(files, 0.5)
    session = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at) VALUES (?, ?, ?, 'h', ?, ?)
"""
    ended = NOW + shift - DAY
    recorded.database.apply([Write(session, [(one, "ended", ended, ended, ended) for one in SESSIONS])])


async def test_the_answers_are_those_of_the_analytics(service: Service, tmp_path: Path) -> None:
    record(tmp_path)
    analytics = AnalyticsDB(tmp_path)
    answers: dict[str, Any] = {
        "tools?days=30": analytics.get_tool_usage(30),
        "tools?workflow=code-task&days=30": analytics.get_tool_usage_by_workflow("code-task", 30),
        "tools?agent_type=Explore&days=30": analytics.get_tool_usage_by_agent_type("Explore", 30),
        "tools?agent_type=&days=30": analytics.get_tool_usage_by_agent_type("", 30),
        "tools?model=opus&days=30": analytics.get_tool_usage_by_model("opus", 30),
        f"tools?session={SESSIONS[0]}": analytics.get_tool_usage_by_session(SESSIONS[0]),
        "tools?task=aaaaaa": analytics.get_tool_usage_by_task("aaaaaa"),
        "tools/durations?days=30": analytics.get_tool_durations(30),
        "tools/durations?days=30&quantile=0.25&quantile=0.75": analytics.get_tool_durations(30, (0.25, 0.75)),
        "workflows?days=30": analytics.get_workflow_stats(30),
        "models?days=30": analytics.get_model_stats(30),
        "sessions?days=30&limit=2": analytics.get_session_stats(30, limit=2),
        "files?days=30&limit=7": analytics.get_hot_files(30, limit=7),
        "files?days=30&order=rereads": analytics.get_rereads(30),
        "files?days=30&project=/srv/one": analytics.get_hot_files(30, project="/srv/one"),
        "files/contended?days=30&limit=3": analytics.get_contended_files(30, limit=3),
        f"files/session/{SESSIONS[0]}": analytics.get_session_files(SESSIONS[0], limit=50),
        "agents?days=30": {
            "states": analytics.get_agent_time(30),
            "agent_types": analytics.get_agent_type_stats(30),
        },
        f"agents/session/{SESSIONS[0]}": analytics.get_session_time(SESSIONS[0]),
    }
    for target, expected in answers.items():
        assert expected, target
        answer = await service.ask(f"/v1/stats/{target}")
        assert answer.status == 200, (target, answer.body)
        assert answer.json() == expected, target
    analytics.close()


async def test_without_a_span_the_last_week_is_meant(service: Service, tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    now = time.time_ns() // 1_000_000
    call = "INSERT INTO tool_usage (timestamp, tool_name, success, source) VALUES (?, ?, 1, 'api')"
    database.apply([Write(call, [(now - 6 * DAY, "Read"), (now - 8 * DAY, "Edit"), (now - 1000, "Bash")])])
    database.close()

    async def tools(query: str) -> set[str]:
        return {one["tool_name"] for one in (await service.ask(f"/v1/stats/tools{query}")).json()}

    assert await tools("") == {"Read", "Bash"}
    assert await tools("?days=9") == {"Read", "Edit", "Bash"}
    assert await tools("?hours=24") == {"Bash"}


async def test_use_by_a_dimension_names_its_values(service: Service, tmp_path: Path) -> None:
    record(tmp_path)
    analytics = AnalyticsDB(tmp_path)
    for dimension in ("workflow", "agent_type", "model"):
        found = (await service.ask(f"/v1/stats/tools/by/{dimension}?days=30")).json()
        assert len({one["value"] for one in found}) > 1
        for value in {one["value"] for one in found}:
            ask = getattr(analytics, f"get_tool_usage_by_{dimension}")
            mine = [{name: one[name] for name in one if name != "value"} for one in found if one["value"] == value]
            assert sorted(mine, key=str) == sorted(ask(value, 30), key=str)
    analytics.close()


@pytest.mark.parametrize("target", REFUSED)
async def test_questions_without_a_sense_are_refused_with_a_reason(service: Service, target: str) -> None:
    answer = await service.ask(f"/v1/stats/{target}")
    assert answer.status == 422
    assert answer.json()["detail"]


async def test_time_passes_while_an_agent_works(service: Service, eventually_async: Any) -> None:
    await service.happen("UserPromptSubmit", prompt="go")

    async def working() -> float:
        states = (await service.ask("/v1/stats/agents")).json()["states"]
        assert set(states) == {"starting", "working", "waiting_permission", "waiting_input", "idle"}
        return float(states["working"]["seconds"])

    first = await working()

    async def more() -> bool:
        return await working() > first

    await eventually_async(more)


async def test_every_answer_has_its_type_in_the_description_of_the_api(service: Service) -> None:
    paths = (await service.ask("/openapi.json")).json()["paths"]
    for name in ("tools", "tools/durations", "tools/by/{dimension}", "workflows", "models", "sessions", "files",
                 "files/contended", "files/session/{session_uuid}", "agents", "agents/session/{session_uuid}"):  # fmt: skip
        operation = paths[f"/v1/stats/{name}"]["get"]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert operation["description"]


async def test_a_session_is_found_by_its_beginning_and_an_unknown_one_is_told(service: Service, tmp_path: Path) -> None:
    record(tmp_path)
    whole = SESSIONS[0]
    unique = next(
        whole[:n] for n in range(1, len(whole) + 1) if sum(one.startswith(whole[:n]) for one in SESSIONS) == 1
    )
    for what in ("files", "agents"):
        by_beginning = (await service.ask(f"/v1/stats/{what}/session/{unique}")).json()
        assert by_beginning == (await service.ask(f"/v1/stats/{what}/session/{whole}")).json()
        for unknown in ("no-such", "%25"):
            answer = await service.ask(f"/v1/stats/{what}/session/{unknown}")
            assert (answer.status, "no session has the id" in answer.json()["detail"]) == (404, True)
