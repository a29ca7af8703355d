"""/v1/tasks and /v1/pool of a real daemon, whose agents are shells that run what they are asked."""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks import assets
from tasks.errors import ApiError

from .desk import TIMEOUT, Desk, desk_in, until

#: As an agent could print it; made up.
TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    yield from desk_in(tmp_path_factory.mktemp("d"))


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One agent at a time, and three tasks that may wait."""
    yield from desk_in(tmp_path_factory.mktemp("n"), agents=1, queue=3)


# Handing over


def test_work_is_handed_over_carried_out_and_merged(desk: Desk) -> None:
    order = {
        "description": "echo x >api-new; git add .; git commit -qm x", "workspace": str(desk.repository), "priority": "high",
        "agent_type": "code_agent", "workflow": "smart-fix", "model": "sonnet", "user_id": 7, "budget_usd": 1.5,
        "max_turns": 9,
    }  # fmt: skip
    status, _, made = desk.ask("POST", "/v1/tasks", order)
    assert status == 201
    assert {name: made[name] for name in order} == order
    assert re.fullmatch("[0-9a-f]{6}", made["task_id"])
    assert isinstance(made["warnings"], list)
    ended = desk.ended(made["task_id"])
    assert (ended["merge_state"], ended["commits"], ended["worktree"], ended["why"]) == ("merged", 1, None, None)
    assert [run["outcome"] for run in ended["runs"]] == ["completed"]
    assert (desk.repository / "api-new").read_text() == "x\n"
    assert any("merged into main" in one["message"] for one in ended["activity"])


@pytest.mark.parametrize(
    "change",
    [
        {"odd": 1}, {"description": ""}, {"description": " \n"}, {"description": "a\0b"},
        {"description": "x" * ((1 << 20) + 1)},
        {"description": None}, {"workspace": "relative"}, {"workspace": "/x\0"}, {"priority": "urgent"}, {"priority": 0},
        {"budget_usd": 0}, {"budget_usd": -1}, {"budget_usd": "nan"}, {"max_turns": 0}, {"max_turns": 1.5},
        {"model": "--dangerous"}, {"model": ""}, {"model": "a\nb"}, {"agent_type": "x" * 200}, {"user_id": "me"},
        {"workflow": "\u200b"},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_what_cannot_be_a_task_is_refused_with_422(desk: Desk, change: dict[str, Any]) -> None:
    before = len(desk.client.get("/v1/tasks?limit=1000"))
    status, _, answer = desk.ask("POST", "/v1/tasks", {"description": "true", "workspace": "/"} | change)
    assert status == 422
    assert answer["detail"]
    assert len(desk.client.get("/v1/tasks?limit=1000")) == before


def test_a_body_that_is_no_object_is_refused(desk: Desk) -> None:
    for raw in (b"", b"[]", b"{", b'{"description":"\xff","workspace":"/"}'):
        assert desk.ask("POST", "/v1/tasks", raw=raw)[0] in (400, 422)


def test_a_workspace_that_cannot_be_worked_in_is_refused_with_400(desk: Desk) -> None:
    empty = desk.folder / "empty"
    empty.mkdir(exist_ok=True)
    desk.git("init", "-q", cwd=empty)
    for workspace in (desk.folder / "missing", desk.repository / "file", empty):
        status, _, answer = desk.ask("POST", "/v1/tasks", {"description": "true", "workspace": str(workspace)})
        assert status == 400
        assert str(workspace) in answer["detail"]


@pytest.mark.parametrize("size", [200_000, 1 << 20])
def test_a_long_specification_reaches_the_agent_whole(desk: Desk, size: int) -> None:
    script = "exit 0\n# ü"
    script += "\n" * (size - len(script.encode()))  # two bytes each in JSON: the most that plain text grows
    id_ = desk.hand_over(script)
    assert (desk.data / "runs" / id_ / "prompt").read_bytes() == script.encode()
    desk.ended(id_)


def test_only_work_handed_over_may_be_long(desk: Desk) -> None:
    long = json.dumps({"description": "x" * 100_000, "workspace": "/"}).encode()
    for method, target in (
        ("POST", "/v1/pool/resize"),
        ("POST", "/v1/tasks/clean"),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/status"),
    ):
        with pytest.raises(OSError):
            desk.ask(method, target, raw=long)
    with pytest.raises(OSError):
        desk.ask("POST", "/v1/tasks", raw=b" " * (3 << 20))


def test_a_long_specification_may_arrive_slowly_and_in_pieces(desk: Desk) -> None:
    body = json.dumps({"description": "true #" + "x" * 300_000, "workspace": str(desk.repository)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(desk.data / "tasksd.sock"))
        head = b"POST /v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
        message = head + b"content-length: %d\r\n\r\n" % len(body) + body
        for start in range(0, len(message), 7919):
            connection.sendall(message[start : start + 7919])
        assert b" 201 " in connection.recv(100)


def test_a_full_queue_is_429_and_stores_nothing(narrow: Desk) -> None:
    assert narrow.ask("POST", "/v1/pool/pause")[0] == 200
    ids = [narrow.hand_over("true") for _ in range(3)]
    status, _, answer = narrow.ask("POST", "/v1/tasks", {"description": "true", "workspace": str(narrow.repository)})
    assert status == 429
    assert "queue_size" in answer["detail"]
    assert {one["task_id"] for one in narrow.client.get("/v1/tasks")} == set(ids)


# Finding


def test_tasks_are_listed_newest_first_and_filtered(desk: Desk) -> None:
    for workflow in ("alpha", "alpha", "beta"):
        desk.hand_over("true", workflow=workflow, agent_type=f"type-{workflow}", user_id=41)
    found = desk.client.get("/v1/tasks?workflow=alpha")
    assert [one["workflow"] for one in found] == ["alpha"] * 2
    assert found[0]["created_at"] >= found[1]["created_at"]
    for one in found:
        desk.ended(one["task_id"])

    def count(query: str) -> int:
        return len(desk.client.get(f"/v1/tasks?limit=1000&{query}"))

    assert count("user=41") == 3
    assert count("user=41&agent_type=type-beta") == 1
    assert count("user=41&workspace=/nowhere") == 0
    assert count("workflow=alpha&status=completed&status=failed") == 2
    assert count("workflow=alpha&live=true") == 0
    assert count("live=true&status=completed") == 0
    assert count(f"user=41&since={found[0]['created_at'] + 10_000_000}") == 0
    assert len(desk.client.get("/v1/tasks?limit=1")) == 1


def test_a_long_description_is_short_in_lists_and_whole_in_its_task(desk: Desk) -> None:
    id_ = desk.hand_over("true # " + "x" * 3000, workflow="long")
    (listed,) = desk.client.get("/v1/tasks?workflow=long")
    assert len(listed["description"]) == 500
    assert len(desk.task(id_)["description"]) == 3007


@pytest.mark.parametrize("query", ["status=odd", "limit=0", "limit=1001", "since=-1", "user=x", "live=perhaps"])
def test_wrong_filters_are_answered_with_422(desk: Desk, query: str) -> None:
    assert desk.ask("GET", f"/v1/tasks?{query}")[0] == 422


def test_a_task_is_found_by_a_unique_beginning_of_its_id(desk: Desk) -> None:
    ids = {desk.hand_over("true") for _ in range(2)}
    for id_ in ids:
        assert desk.task(id_[:5])["task_id"] == id_ or len({one[:5] for one in ids}) < 2
    for unknown in ("zzzzzz", "%25", "_", "'", "%00", "x" * 70):
        assert desk.ask("GET", f"/v1/tasks/{unknown}")[0] in (404, 422)
        assert desk.ask("POST", f"/v1/tasks/{unknown}/cancel")[0] in (404, 422)


def test_an_ambiguous_beginning_is_404_and_says_so(desk: Desk) -> None:
    known = [one["task_id"] for one in desk.client.get("/v1/tasks?limit=1000")]
    while len({one[0] for one in known}) == len(known):
        known.append(desk.hand_over("true"))
    first = next(one[0] for one in known if sum(other[0] == one[0] for other in known) > 1)
    status, _, answer = desk.ask("GET", f"/v1/tasks/{first}")
    assert (status, answer["detail"]) == (404, f"several task ids begin with {first}")


def test_what_its_agent_did_is_counted_with_the_task(desk: Desk) -> None:
    id_ = desk.hand_over("true")
    session = "22222222-2222-4222-8222-" + id_.rjust(12, "0")
    events: list[dict[str, Any]] = [
        {"hook_event_name": "SessionStart", "source": "startup"},
        {"hook_event_name": "PostToolUse", "tool_name": "Read", "tool_use_id": "t1", "tool_input": {"file_path": "/x/a"},
         "tool_response": {}, "duration_ms": 1},
        {"hook_event_name": "PostToolUseFailure", "tool_name": "Bash", "tool_use_id": "t2", "tool_input": {"command": "x"},
         "error": "Exit code 1"},
        {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "t3", "tool_input": {"command": "y"}},
    ]  # fmt: skip
    for event in events:
        payload = json.dumps({"session_id": session, "cwd": "/x", **event}).encode()
        environ = desk.environ | {"TASKS_TASK_ID": id_}
        subprocess.run([assets.path("hooks/record")], input=payload, env=environ, check=True, timeout=TIMEOUT)
    one = until(lambda: (one := desk.task(id_))["running"] and one, "the events are stored")
    assert one["calls"] == {"Bash": [1, 1], "Read": [1, 0]}
    assert one["files"] == {"read": 1, "write": 0, "edit": 0}
    assert [call["tool_use_id"] for call in one["running"]] == ["t3"]


# Steering


def test_a_waiting_task_is_cancelled_and_tried_again(narrow: Desk) -> None:
    narrow.ask("POST", "/v1/pool/pause")
    id_ = narrow.hand_over("echo done")
    status, _, answer = narrow.ask("POST", f"/v1/tasks/{id_[:5]}/cancel")
    assert (status, answer["status"]) == (200, "stopped")
    assert narrow.ask("GET", "/v1/pool")[2]["waiting"] == []
    narrow.ask("POST", "/v1/pool/resume")
    status, _, answer = until(
        lambda: (found := narrow.ask("POST", f"/v1/tasks/{id_}/retry"))[0] != 409 and found, "it can be tried again"
    )
    assert (status, answer["status"]) == (200, "queued")
    narrow.ended(id_)


def test_a_running_task_is_cancelled_with_its_agent(desk: Desk) -> None:
    id_ = desk.hand_over("sleep 1000 & echo $!; wait")
    desk.running(id_)
    pid = until(lambda: _log(desk, id_).strip(), "the agent said its child")
    assert desk.ask("POST", f"/v1/tasks/{id_}/cancel")[2]["status"] == "stopped"
    until(lambda: not Path(f"/proc/{int(pid)}").exists() or not Path("/proc/self").exists(), "its child is gone")
    assert desk.ended(id_, "stopped")["merge_state"] == "none"


def test_what_cannot_be_done_with_a_task_is_409(desk: Desk) -> None:
    id_ = desk.hand_over("true")
    desk.ended(id_)
    for order in ("cancel", "retry"):
        status, _, answer = desk.ask("POST", f"/v1/tasks/{id_}/{order}")
        assert status == 409
        assert id_ in answer["detail"]
    running = desk.hand_over("sleep 1000")
    desk.running(running)
    assert desk.ask("POST", f"/v1/tasks/{running}/merge")[0] == 409
    desk.ask("POST", f"/v1/tasks/{running}/cancel")


def test_a_conflict_names_its_files_and_can_be_merged_once_it_is_resolved(desk: Desk) -> None:
    (desk.repository / "clash").write_text("base\n")
    desk.git("add", "clash")
    desk.git("commit", "-qm", "base")
    id_ = desk.hand_over(f"until [ -e {desk.folder}/go ]; do sleep 0.05; done; echo theirs >clash; git commit -qam t")
    worktree = Path(desk.running(id_)["worktree"])
    (desk.repository / "clash").write_text("ours\n")
    desk.git("commit", "-qam", "o")
    (desk.folder / "go").touch()
    one = desk.ended(id_)
    assert (one["merge_state"], one["merge_paths"]) == ("conflict", ["clash"])
    assert desk.ask("GET", "/v1/status")[2]["tasks"]["conflicts"] == [id_]
    assert desk.ask("POST", f"/v1/tasks/{id_}/merge")[2]["merge_state"] == "conflict"
    with pytest.raises(subprocess.CalledProcessError):
        desk.git("merge", "main", cwd=worktree)
    (worktree / "clash").write_text("both\n")
    desk.git("commit", "-qam", "resolved", cwd=worktree)
    status, _, answer = desk.ask("POST", f"/v1/tasks/{id_}/merge", {"into": "main"})
    assert (status, answer["merge_state"]) == (200, "merged")
    assert (desk.repository / "clash").read_text() == "both\n"
    assert desk.ask("POST", f"/v1/tasks/{id_}/merge", {"odd": 1})[0] == 422


def test_cleaning_tells_what_it_would_remove_and_then_removes_it(desk: Desk) -> None:
    id_ = desk.hand_over("true")
    desk.ended(id_)
    folder = desk.data / "runs" / id_

    def cleaned(**order: Any) -> list[dict[str, Any]]:
        status, _, answer = desk.ask("POST", "/v1/tasks/clean", order)
        assert status == 200
        return [one for one in answer if one["task_id"] == id_]

    assert cleaned(older_than_ms=86_400_000) == []
    found = cleaned(older_than_ms=0, dry_run=True)
    for one, what in zip(found, [str(folder), f"refs/tasksd/backup/{id_}"], strict=True):
        assert one == {"task_id": id_, "what": one["what"], "removed": True, "reason": None}
        assert what in one["what"]
    assert folder.exists()
    assert cleaned(older_than_ms=0) == found
    assert not folder.exists()
    for wrong in ({}, {"older_than_ms": -1}, {"older_than_ms": 1, "force": True}):
        assert desk.ask("POST", "/v1/tasks/clean", wrong)[0] == 422


# The pool


def test_the_pool_tells_what_waits_and_why_and_does_as_it_is_told(narrow: Desk) -> None:
    first = narrow.hand_over("sleep 1000")
    narrow.running(first)
    low, high = narrow.hand_over("true", priority="low"), narrow.hand_over("true", priority="high")
    pool = until(lambda: (pool := narrow.ask("GET", "/v1/pool")[2])["queued_tasks"] == 2 and pool, "two wait")
    assert [(one["task_id"], one["priority"], one["position"]) for one in pool["waiting"]] == [
        (high, "high", 1),
        (low, "low", 2),
    ]
    assert all(one["reason"] for one in pool["waiting"])
    assert (pool["total_workers"], pool["active_workers"], pool["queue_size"]) == (1, 1, 3)
    assert "number 2 in the queue" in narrow.task(low)["why"]
    assert narrow.ask("POST", "/v1/pool/pause")[2]["paused"] is True
    assert narrow.ask("POST", "/v1/pool/resize", {"total_workers": 2})[2]["total_workers"] == 2
    assert narrow.ask("GET", "/v1/status")[2]["pool"] == {
        "total_workers": 2, "active_workers": 1, "queued_tasks": 2, "queue_size": 3, "paused": True, "hold_reason": None,
        "hold_until": None,
    }  # fmt: skip
    for wrong in ({}, {"total_workers": 0}, {"total_workers": "many"}, {"total_workers": 2, "x": 1}):
        assert narrow.ask("POST", "/v1/pool/resize", wrong)[0] == 422
    assert narrow.ask("POST", "/v1/pool/resume")[2]["paused"] is False
    narrow.ended(high)
    narrow.ended(low)


def test_the_status_counts_tasks_and_merges(narrow: Desk) -> None:
    narrow.ended(narrow.hand_over("exit 3"), "failed")
    narrow.ended(narrow.hand_over("true"))
    running = narrow.hand_over("sleep 1000")
    narrow.running(running)
    counts = narrow.ask("GET", "/v1/status")[2]["tasks"]
    assert counts["statuses"] == {"pending": 0, "queued": 0, "running": 1, "completed": 1, "failed": 1, "stopped": 0}
    assert counts["merges"] == {"waiting": 0, "merging": 0, "conflict": 0, "kept": 0}


# Logs and activity


def _log(desk: Desk, id_: str, query: str = "") -> str:
    status, headers, text = desk.ask("GET", f"/v1/tasks/{id_}/logs?{query}")
    if status == 404:
        return ""
    assert status == 200
    assert headers["content-type"] == "text/plain; charset=utf-8"
    return str(text.decode())


def test_what_an_agent_wrote_is_given_without_secrets(desk: Desk) -> None:
    id_ = desk.hand_over(f"echo 'the token {TOKEN} is mine'; echo ü; echo oops {TOKEN} >&2")
    desk.ended(id_)
    text = _log(desk, id_)
    assert re.fullmatch(r"the token \[REDACTED:github:\w+\] is mine\nü\n", text)
    assert re.fullmatch(r"oops \[REDACTED:github:\w+\]\n", _log(desk, id_, "stream=errors"))
    assert TOKEN in (desk.data / "runs" / id_ / "1/output").read_text()


def test_a_long_output_is_given_part_by_part(desk: Desk) -> None:
    id_ = desk.hand_over("seq 200000")
    desk.ended(id_)
    expected = "".join(f"{number}\n" for number in range(1, 200_001))
    assert _log(desk, id_) == expected
    parts, offset = [], 0
    while True:
        status, headers, text = desk.ask("GET", f"/v1/tasks/{id_}/logs?limit=100000&offset={offset}")
        assert status == 200
        assert len(text) < 200_000
        if int(headers["x-next-offset"]) == offset:
            break
        offset = int(headers["x-next-offset"])
        parts.append(text.decode())
    assert "".join(parts) == expected
    assert len(parts) > 5
    assert _log(desk, id_, "offset=3") == expected[expected.index("3\n") :]


def test_the_output_of_each_run_is_kept_apart(desk: Desk) -> None:
    id_ = desk.hand_over(f"if [ -e {desk.folder}/again ]; then echo second; else echo first; exit 1; fi")
    desk.ended(id_, "failed")
    (desk.folder / "again").touch()
    until(lambda: desk.ask("POST", f"/v1/tasks/{id_}/retry")[0] == 200, "it can be tried again")
    one = desk.ended(id_)
    assert [run["attempt"] for run in one["runs"]] == [1, 2]
    assert (_log(desk, id_), _log(desk, id_, "attempt=1"), _log(desk, id_, "attempt=2")) == (
        "second\n",
        "first\n",
        "second\n",
    )
    assert desk.ask("GET", f"/v1/tasks/{id_}/logs?attempt=3")[0] == 404


def test_a_task_that_was_not_started_has_no_output(narrow: Desk) -> None:
    narrow.ask("POST", "/v1/pool/pause")
    id_ = narrow.hand_over("true")
    status, _, answer = narrow.ask("GET", f"/v1/tasks/{id_}/logs")
    assert (status, answer["detail"]) == (404, f"task {id_} has not been started yet")


@pytest.mark.parametrize(
    "query", ["stream=prompt", "attempt=0", "offset=-1", "limit=0", "after=x", "after=0.1", "after=1.2.3"]
)
def test_wrong_parameters_of_logs_are_422(desk: Desk, query: str) -> None:
    assert desk.ask("GET", f"/v1/tasks/any/logs?{query}")[0] == 422


def test_output_is_followed_as_it_comes_and_to_its_end(desk: Desk) -> None:
    gate = desk.folder / "gate"
    id_ = desk.hand_over(f"echo one; until [ -e {gate} ]; do sleep 0.05; done; printf 'two\\nno end'")
    stream = desk.client.follow(f"/v1/tasks/{id_}/logs?follow=true")
    first = json.loads(next(stream))
    assert first == {"attempt": 1, "offset": 4, "text": "one\n"}
    gate.touch()
    rest = [json.loads(one) for one in stream]
    assert "".join(one["text"] for one in rest[:-1]) == "two\nno end"
    assert rest[-1] == {"status": "completed"}
    again = [json.loads(one) for one in desk.client.follow(f"/v1/tasks/{id_}/logs?follow=true&after=1.4")]
    assert "".join(one["text"] for one in again[:-1]) == "two\nno end"


def test_following_goes_on_with_the_next_run(narrow: Desk) -> None:
    gate = narrow.folder / "gate"
    id_ = narrow.hand_over(f"if [ -e {gate} ]; then echo second; else echo first; touch {gate}; exit 1; fi")
    narrow.ended(id_, "failed")
    narrow.ask("POST", "/v1/pool/pause")
    until(lambda: narrow.ask("POST", f"/v1/tasks/{id_}/retry")[0] == 200, "it can be tried again")
    stream = narrow.client.follow(f"/v1/tasks/{id_}/logs?follow=true")
    assert json.loads(next(stream))["text"] == "first\n"
    narrow.ask("POST", "/v1/pool/resume")
    rest = [json.loads(one) for one in stream]
    assert [(one.get("attempt"), one.get("text")) for one in rest] == [(2, "second\n"), (None, None)]
    only = [json.loads(one) for one in narrow.client.follow(f"/v1/tasks/{id_}/logs?follow=true&attempt=1")]
    assert [one.get("text") for one in only] == ["first\n", None]


def test_activity_is_listed_followed_and_gone_on_with(narrow: Desk) -> None:
    narrow.ask("POST", "/v1/pool/pause")
    id_ = narrow.hand_over("echo x >f; git add .; git commit -qm x")
    found: list[Any] = []

    def follow() -> None:
        found.extend(json.loads(one) for one in narrow.client.follow(f"/v1/tasks/{id_}/activity?follow=true"))

    follower = threading.Thread(target=follow)
    follower.start()
    narrow.ask("POST", "/v1/pool/resume")
    narrow.ended(id_)
    follower.join(TIMEOUT)
    assert not follower.is_alive()
    listed = narrow.client.get(f"/v1/tasks/{id_}/activity")
    assert found[:-1] == listed
    assert found[-1] == {"status": "completed", "merge_state": "merged"}
    assert listed == narrow.task(id_)["activity"]
    assert len({one["id"] for one in listed}) == len(listed) > 1
    assert narrow.client.get(f"/v1/tasks/{id_}/activity?after={listed[0]['id']}") == listed[1:]
    with pytest.raises(ApiError):
        narrow.client.get(f"/v1/tasks/{id_}/activity?after=x")


def test_streams_of_tasks_end_when_the_daemon_stops(narrow: Desk) -> None:
    id_ = narrow.hand_over("echo here; sleep 1000")
    narrow.running(id_)
    stream = narrow.client.follow(f"/v1/tasks/{id_}/logs?follow=true")
    assert json.loads(next(stream))["text"] == "here\n"
    assert narrow.stop() == 0
    assert list(stream) == []
    narrow.start()
    assert narrow.task(id_)["status"] == "running"
