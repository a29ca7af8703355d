"""/v1/sessions/{id}/turns and /tree: what really happened comes through a real ingester, money through real transcripts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks import history
from tasks.database import SyncDatabase, Write
from tasks.history import tree, turns

from .service import SESSION, Service

KNOWN = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at) VALUES (?, 'ended', 0, 'h', 0, 0)
"""
TRANSCRIPT = """
INSERT INTO transcripts (transcript_id, path, session_uuid, agent_id, agent_type, began_at, last_at)
VALUES (?, ?, ?, ?, ?, 0, 0)
"""
MESSAGE = """
INSERT INTO messages (message_id, transcript_id, timestamp, prompt_id, model, input_tokens, output_tokens, cache_read_tokens,
                      cache_write_5m_tokens, cache_write_1h_tokens, web_searches, price_id, cost)
VALUES (:id, :transcript, :at, :prompt, 'm', 1, 20, 300, 4000, 50000, 0, :price, :cost)
"""
PRICE = "INSERT OR IGNORE INTO prices VALUES (1, 'm', 'config', '', 1, 1, 1, 1, 1, 1)"
NOTICE = "<task-notification>\n<task-id>b1</task-id>\n</task-notification>"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def called(service: Service, name: str, use: str, *, tool: str = "Bash", **fields: Any) -> None:
    """A call that goes well, or with `error` does not."""
    answered: dict[str, Any] = {key: fields.pop(key) for key in ("tool_response", "error") if key in fields}
    common = {"tool_name": tool, "tool_use_id": use, "prompt_id": name, "tool_input": {}} | fields
    await service.happen("PreToolUse", **common)
    if "error" in answered:
        await service.happen("PostToolUseFailure", duration_ms=10, **answered, **common)
    else:
        await service.happen("PostToolUse", duration_ms=10, tool_response=answered.get("tool_response", {}), **common)


async def spend(service: Service, *messages: tuple[str, str | None, str | None, int | None]) -> None:
    """Answers of the API: id, agent, prompt, picodollars."""
    agents = sorted({agent or "" for _, agent, _, _ in messages})
    rows = [
        (number, f"/t/{number}", SESSION, agent or None, "Explore" if agent else "")
        for number, agent in enumerate(agents)
    ]
    entries = [
        {"id": id_, "transcript": agents.index(agent or ""), "at": 5000 + number, "prompt": prompt, "cost": cost,
         "price": None if cost is None else 1}
        for number, (id_, agent, prompt, cost) in enumerate(messages)
    ]  # fmt: skip
    await service.context.database.apply([Write.one(PRICE), Write(TRANSCRIPT, rows), Write(MESSAGE, entries)])


async def ask(service: Service, what: str) -> Any:
    answer = await service.ask(f"/v1/sessions/{SESSION}/{what}")
    assert answer.status == 200, answer.body
    return answer.json()


# Turns


async def test_a_turn_has_its_prompt_its_calls_its_agents_and_what_it_cost(service: Service) -> None:
    await service.happen("SessionStart")
    await service.happen("UserPromptSubmit", prompt="mend <script>\x1b", prompt_id="p1")
    await called(service, "p1", "t1")
    await called(service, "p1", "t2", error="Exit code 1")
    await service.happen("SubagentStart", prompt_id="p1", agent_id="a1", agent_type="Explore")
    await called(service, "p1", "t3", agent_id="a1", agent_type="Explore")
    await service.happen("Stop", prompt_id="p1")
    await service.happen("UserPromptSubmit", prompt=NOTICE, prompt_id="p2")
    await spend(
        service,
        ("m1", None, "p1", 2 * 10**12),
        ("m2", "a1", "p1", 10**12),
        ("m3", None, "p1", None),
        ("m4", None, "p2", 1),
    )
    second, first = await ask(service, "turns")
    assert (first["number"], first["prompt_id"], first["by"], first["status"]) == (1, "p1", "person", "ended")
    assert (first["prompt"], first["prompt_cut"]) == ("mend <script>\x1b", False)
    assert (first["calls"], first["failed"], first["duration_ms"]) == (3, 1, 30)
    assert first["spent"] == {
        "cost": 3.0, "messages": 3, "unpriced": 1, "input_tokens": 3, "output_tokens": 60, "cache_read_tokens": 900,
        "cache_write_5m_tokens": 12_000, "cache_write_1h_tokens": 150_000,
    }  # fmt: skip
    (agent,) = first["agents"]
    assert (agent["agent_id"], agent["agent_type"], agent["calls"], agent["spent"]["cost"]) == ("a1", "Explore", 1, 1.0)
    assert first["started_at"] < first["ended_at"] <= second["started_at"]
    assert (second["number"], second["by"], second["status"], second["ended_at"]) == (2, "background", "working", None)
    assert (second["calls"], second["agents"], second["more_agents"]) == (0, [], 0)


async def test_a_turn_that_was_given_up_failed_or_goes_on_says_so(service: Service) -> None:
    await service.happen("UserPromptSubmit", prompt="one", prompt_id="p1")
    await service.happen("UserPromptSubmit", prompt="two", prompt_id="p2")
    await service.happen("StopFailure", prompt_id="p2", error="overloaded")
    await service.happen("UserPromptSubmit", prompt="three", prompt_id="p3")
    await service.happen("Stop", prompt_id="p3")
    await called(service, "p3", "t1")  # the stop was sent back
    assert [(one["number"], one["status"]) for one in await ask(service, "turns")] == [
        (3, "working"),
        (2, "failed"),
        (1, "interrupted"),
    ]
    await service.happen("SessionEnd", reason="other")
    assert (await ask(service, "turns"))[0]["status"] == "ended"


async def test_a_session_without_hooks_has_turns_by_what_transcripts_tell(service: Service) -> None:
    await service.context.database.apply([Write.one(KNOWN, (SESSION,))])
    assert await ask(service, "turns") == []
    await spend(service, ("m1", None, None, 5), ("m2", None, "p1", 7), ("m3", "a1", "p1", 7))
    told, outside = await ask(service, "turns")
    assert (outside["number"], outside["prompt_id"], outside["started_at"]) == (1, None, 5000)
    assert (told["number"], told["prompt_id"], told["spent"]["messages"]) == (2, "p1", 2)
    assert {told[name] for name in ("by", "prompt", "status", "ended_at")} == {None}
    assert [one["agent_id"] for one in told["agents"]] == ["a1"]


async def test_turns_are_paged_by_their_numbers(service: Service) -> None:
    for number in range(1, 6):
        await service.happen("UserPromptSubmit", prompt=f"do {number}", prompt_id=f"p{number}")
    assert [one["prompt"] for one in await ask(service, "turns?limit=2")] == ["do 5", "do 4"]
    assert [one["prompt"] for one in await ask(service, "turns?limit=2&before=4")] == ["do 3", "do 2"]
    assert [one["number"] for one in await ask(service, "turns?before=2")] == [1]
    assert await ask(service, "turns?before=1") == []
    assert len(await ask(service, "turns?before=99")) == 5


async def test_a_prompt_of_an_old_client_without_an_id_is_a_turn_too(service: Service) -> None:
    await service.happen("UserPromptSubmit", prompt="one")
    await service.happen("UserPromptSubmit", prompt="two")
    assert [one["prompt"] for one in await ask(service, "turns")] == ["two", "one"]


async def test_a_prompt_that_is_no_text_or_long_is_told_as_far_as_it_can_be(service: Service) -> None:
    await service.happen("UserPromptSubmit", prompt="x", prompt_id="p1")
    await service.happen("UserPromptSubmit", prompt="x", prompt_id="p2")
    change = "UPDATE events SET body = ? WHERE prompt_id = ?"
    long = '{"prompt": "' + "ä" * 9000 + '"}'
    await service.context.database.apply([Write(change, [("no JSON", "p1"), (long, "p2")])])
    second, first = await ask(service, "turns")
    assert (first["prompt"], first["by"]) == (None, None)
    assert (second["prompt"], second["prompt_cut"]) == ("ä" * turns.LONGEST_PROMPT, True)


async def test_unknown_sessions_and_wrong_limits_are_refused(service: Service) -> None:
    for what in ("turns", "tree"):
        assert (await service.ask(f"/v1/sessions/nothing/{what}")).status == 404
    await service.happen("SessionStart")
    for query in ("limit=0", "limit=201", "before=0", "before=x"):
        assert (await service.ask(f"/v1/sessions/{SESSION}/turns?{query}")).status == 422


# The tree


def drawn(agents: Any) -> list[tuple[Any, ...]]:
    return [(one["depth"], one["agent_id"], one["parent_id"], one["parent_by"], one["children"]) for one in agents]


async def start(service: Service, use: str, agent: str, *, by: str | None = None, kind: str = "Explore") -> None:
    """A call that starts a subagent, which then begins."""
    asked = {"description": f"look into {agent}", "subagent_type": kind}
    who = {} if by is None else {"agent_id": by, "agent_type": "Explore"}
    await service.happen("PreToolUse", tool_name="Agent", tool_use_id=use, tool_input=asked, prompt_id="p1", **who)
    await service.happen("SubagentStart", agent_id=agent, agent_type=kind, prompt_id="p1")


async def finish(service: Service, use: str, agent: str, *, by: str | None = None, **response: Any) -> None:
    who = {} if by is None else {"agent_id": by, "agent_type": "Explore"}
    await service.happen("SubagentStop", agent_id=agent, prompt_id="p1")
    await service.happen(
        "PostToolUse", tool_name="Agent", tool_use_id=use, tool_input={"description": f"look into {agent}"},
        tool_response={"agentId": agent} | response, prompt_id="p1", duration_ms=10_000, **who,
    )  # fmt: skip


async def test_agents_are_told_below_those_that_started_them(service: Service) -> None:
    await service.happen("SessionStart")
    await start(service, "t1", "a1")
    await start(service, "t2", "a2", by="a1")
    await called(service, "p1", "t3", agent_id="a2", agent_type="Explore")
    await spend(service, ("m1", None, "p1", 10**12), ("m2", "a2", "p1", 3 * 10**12))
    running = await ask(service, "tree")
    assert drawn(running) == [
        (0, None, None, None, 1), (1, "a1", None, "matched", 1), (2, "a2", "a1", "matched", 0),
    ]  # fmt: skip
    await finish(service, "t2", "a2", by="a1")
    await finish(service, "t1", "a1")
    main, first, second = await ask(service, "tree")
    assert drawn([main, first, second]) == [
        (0, None, None, None, 1), (1, "a1", None, "reported", 1), (2, "a2", "a1", "reported", 0),
    ]  # fmt: skip
    assert (main["status"], main["agent_type"], main["calls"], main["spent"]["cost"]) == ("working", None, 1, 1.0)
    assert (second["status"], second["agent_type"], second["calls"]) == ("ended", "Explore", 1)
    assert (second["description"], second["tool_use_id"], second["spent"]["cost"]) == ("look into a2", "t2", 3.0)
    assert second["started_at"] <= second["ended_at"]


async def test_agents_that_started_at_once_are_told_apart_by_type_until_they_are_reported(service: Service) -> None:
    for use, kind in (("t1", "Explore"), ("t2", "Plan")):
        asked = {"description": kind, "subagent_type": kind}
        await service.happen("PreToolUse", tool_name="Agent", tool_use_id=use, tool_input=asked)
    await service.happen("SubagentStart", agent_id="a2", agent_type="Plan")
    await service.happen("SubagentStart", agent_id="a1", agent_type="Explore")
    found = {one["agent_id"]: one for one in await ask(service, "tree")}
    assert (found["a1"]["description"], found["a2"]["description"]) == ("Explore", "Plan")


async def test_an_agent_whose_origin_nobody_knows_is_taken_for_one_of_the_main_agent(service: Service) -> None:
    await service.happen("SubagentStop", agent_id="compaction")
    await spend(service, ("m1", "a9", "p1", None))
    main, *others = await ask(service, "tree")
    assert main["children"] == 2
    assert {(one["agent_id"], one["parent_by"], one["depth"]) for one in others} == {
        ("compaction", "assumed", 1), ("a9", "assumed", 1),
    }  # fmt: skip
    (known,) = [one for one in others if one["agent_id"] == "a9"]
    assert (known["status"], known["agent_type"], known["spent"]["unpriced"]) == (None, "Explore", 1)


async def test_agents_that_claim_to_have_started_each_other_are_a_tree_all_the_same(service: Service) -> None:
    await service.happen("SessionStart")
    await start(service, "t1", "a1", by="a2")
    await start(service, "t2", "a2", by="a1")
    await finish(service, "t1", "a1", by="a2")
    await finish(service, "t2", "a2", by="a1")
    await start(service, "t3", "a3", by="a3")
    await finish(service, "t3", "a3", by="a3")
    found = await ask(service, "tree")
    assert sorted(str(one["agent_id"]) for one in found) == ["None", "a1", "a2", "a3"]


async def test_a_session_without_subagents_has_a_tree_of_one(service: Service) -> None:
    await service.happen("SessionStart")
    (main,) = await ask(service, "tree")
    assert (main["agent_id"], main["depth"], main["children"], main["running"]) == (None, 0, 0, 0)


# Cost


def test_turns_and_trees_are_found_by_indices(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    try:
        for statement in (
            turns._MARKS, turns._CALLS, turns._MESSAGES, turns._PROMPT, tree._CALLS, tree._MESSAGES, tree._REPORTED,
            tree._STARTING, tree._RUNNING, tree._SUBAGENTS, tree._MAIN,
        ):  # fmt: skip
            key = {"seq": 1} if ":seq" in statement else {"session": SESSION}
            plan = [str(row[3]) for row in database.query(f"EXPLAIN QUERY PLAN {statement}", key)]
            tables = (
                "events",
                "tool_usage",
                "messages",
                "m",
                "transcripts",
                "t",
                "sessions",
                "subagents",
                "tool_running",
            )
            assert not [step for step in plan if step.startswith(tuple(f"SCAN {table}" for table in tables))], plan
    finally:
        database.close()


def test_a_session_of_ten_thousand_turns_is_paged(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    event = "INSERT INTO events (event_id, timestamp, session_uuid, kind, prompt_id, body) VALUES (?, ?, ?, ?, ?, ?)"
    call = """
INSERT INTO tool_usage (timestamp, session_uuid, prompt_id, tool_use_id, tool_name, success, source)
VALUES (?, ?, ?, ?, 'Bash', 1, 'hook')
"""
    events, calls = [], []
    for number in range(10_000):
        for place, kind in enumerate(("UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop")):
            id_ = (number * 4 + place).to_bytes(16, "big")
            body = f'{{"prompt": "do {number}"}}' if not place else None
            events.append((id_, number * 100 + place, SESSION, kind, f"p{number}", body))
        calls += [(number * 100 + 2, SESSION, f"p{number}", f"t{number}.{place}") for place in range(3)]
    try:
        database.apply([Write.one(KNOWN, (SESSION,)), Write(event, events), Write(call, calls)])
        page = history.session_turns(database.query, SESSION, limit=200)
        assert (len(page), page[0]["number"], page[0]["prompt"], page[0]["calls"]) == (200, 10_000, "do 9999", 3)
        page = history.session_turns(database.query, SESSION, before=page[-1]["number"], limit=200)
        assert (page[0]["number"], page[0]["status"]) == (9800, "ended")
    finally:
        database.close()
