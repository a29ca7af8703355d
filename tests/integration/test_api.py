"""The API on a real Unix socket, in front of a real store, spool and ingester."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.api import Bell, Limits, bind_unix_socket
from tasks.errors import StoreUnavailable
from tasks.tracker import ToolUsageTracker
from tasks.words import QuarantineReason, SessionStatus

from .service import HEAD, SESSION, Service, is_cut, read_answer


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Service]:
    """With limits of half a second."""
    made = Service(tmp_path, Limits(connections=4, arrival=0.5, drain=0.5))
    await made.start()
    yield made
    await made.stop()


# Resources.


async def test_the_status_has_the_promised_shape(service: Service) -> None:
    status = (await service.ask("/v1/status")).json()
    assert list(status) == [
        "daemon",
        "spool",
        "ingest",
        "sessions",
        "tasks",
        "pool",
        "retention",
        "accounting",
        "watcher",
        "web",
    ]
    assert status["daemon"].keys() >= {"pid", "uptime_s", "version"}
    assert status["spool"].keys() >= {"pending", "oldest_age_s", "dropped", "quarantined"}
    assert status["ingest"].keys() >= {"events_total", "last_event_at"}
    assert status["sessions"] == dict.fromkeys(SessionStatus, 0)
    assert (status["daemon"]["pid"], status["daemon"]["version"]) == (os.getpid(), "1.2.3")
    assert (status["spool"]["pending"], status["spool"]["oldest_age_s"], status["watcher"]) == (0, None, "watching")
    assert status["ingest"] == {"events_total": 0, "last_event_at": None, "duplicates": 0, "degraded": None}


async def test_the_status_counts_what_waits_what_was_dropped_and_what_was_set_aside(service: Service) -> None:
    await service.happen("SessionStart", source="startup")
    path = service.leave("Stop")
    os.utime(path, (time.time() - 60,) * 2)
    (service.spool.path / ".dropped").write_bytes(b"...")
    (service.spool.path / "odd").touch(0o600)
    service.quarantine.put("odd", QuarantineReason.BAD_NAME, "", 0)
    status = (await service.ask("/v1/status")).json()
    assert (status["spool"]["pending"], status["spool"]["dropped"], status["spool"]["quarantined"]) == (1, 3, 1)
    assert 59 < status["spool"]["oldest_age_s"] < 120
    assert status["ingest"]["events_total"] == 1
    assert abs(status["ingest"]["last_event_at"] - time.time() * 1000) < 60_000
    assert sum(status["sessions"].values()) == 1


async def test_the_status_answers_while_the_store_is_busy_and_the_spool_unreadable(service: Service) -> None:
    await service.happen("SessionStart", source="startup")
    await service.ask("/v1/status")
    slow = asyncio.create_task(service.context.database.read(lambda reader: time.sleep(4)))
    service.spool.path.rename(service.spool.path.with_name("aside"))
    service.spool.path.touch()
    started = time.monotonic()
    status = (await service.ask("/v1/status")).json()
    assert time.monotonic() - started < 3
    assert sum(status["sessions"].values()) == 1
    assert "spool" in status["ingest"]["degraded"]
    await slow
    service.spool.path.unlink()


async def test_sessions_are_listed_with_what_they_do_now(service: Service) -> None:
    await service.happen("SessionStart", source="startup")
    await service.happen("UserPromptSubmit", prompt="go")
    await service.happen("PreToolUse", tool_name="Bash", tool_use_id="t1", tool_input={"command": "ls"})
    await service.happen("SessionStart", session="ffff", source="startup")
    await service.happen("SessionEnd", session="ffff", reason="other")
    sessions = (await service.ask("/v1/sessions")).json()
    assert [one["session_uuid"] for one in sessions] == ["ffff", SESSION]
    assert [call["tool_name"] for call in sessions[1]["running"]] == ["Bash"]
    live = (await service.ask("/v1/sessions?live=true")).json()
    assert [one["session_uuid"] for one in live] == [SESSION]
    assert [one["session_uuid"] for one in (await service.ask("/v1/sessions?status=ended")).json()] == ["ffff"]
    assert len((await service.ask("/v1/sessions?limit=1")).json()) == 1


async def test_a_session_is_found_by_the_beginning_of_its_id(service: Service) -> None:
    for session in ("abc", "abcd", "abce", "x%y"):
        await service.happen("SessionStart", session=session, source="startup")
    await service.happen("SubagentStart", session="abcd", agent_id="a1", agent_type="Explore")
    details = (await service.ask("/v1/sessions/abcd")).json()
    assert details["session_uuid"] == "abcd"
    assert [agent["agent_id"] for agent in details["subagents"]] == ["a1"]
    assert details["changes"][0]["status"] == "starting"
    assert (await service.ask("/v1/sessions/x")).json()["session_uuid"] == "x%y"
    assert (await service.ask("/v1/sessions/abc")).json()["session_uuid"] == "abc"
    for unknown in ("ab", "zzz", "%25", "a_c", "'", "%00"):
        assert (await service.ask(f"/v1/sessions/{unknown}")).status == 404


async def test_tools_and_errors_say_what_calls_add_up_to(service: Service) -> None:
    tracker = await asyncio.to_thread(ToolUsageTracker, data_dir=service.data_dir)
    for success in (True, True, False):
        error = None if success else "Permission denied"
        tracker.record_tool_usage("t1", "Read", 10.0, success, error, session_uuid="s")
    tools = (await service.ask("/v1/tools")).json()
    assert tools["Read"].keys() == {"count", "success_rate", "errors", "avg_duration_ms", "p50_duration_ms",
                                    "p95_duration_ms", "max_duration_ms"}  # fmt: skip
    assert (tools["Read"]["count"], tools["Read"]["errors"]) == (3, {"permission_denied": 1})
    assert (await service.ask("/v1/errors?days=7")).json() == {"permission_denied": 1}
    (failed,) = (await service.ask("/v1/errors/recent?tool=Read&category=permission_denied")).json()
    assert (failed["error"], failed["task_id"]) == ("Permission denied", "t1")
    assert (await service.ask("/v1/errors/recent?tool=Bash")).json() == []
    tracker.close()


async def test_events_are_listed_in_order_and_paged(service: Service) -> None:
    for number in range(5):
        await service.happen("Notification", message=f"m{number}")
    await service.happen("Stop", session="other")
    events = (await service.ask("/v1/events")).json()
    assert [one["kind"] for one in events] == ["Notification"] * 5 + ["Stop"]
    assert [one["seq"] for one in events] == sorted(one["seq"] for one in events)
    first = (await service.ask("/v1/events?after=0&limit=2")).json()
    rest = (await service.ask(f"/v1/events?after={first[-1]['seq']}&limit=1000")).json()
    assert first + rest == events
    assert [one["body"]["message"] for one in (await service.ask("/v1/events?limit=2&kind=Notification")).json()] == [
        "m3",
        "m4",
    ]
    assert [one["kind"] for one in (await service.ask("/v1/events?session=other")).json()] == ["Stop"]


async def test_quarantined_files_can_be_read_retried_and_dropped(service: Service) -> None:
    for name in ("odd\udcff", "even"):
        path = os.path.join(os.fsencode(service.spool.path), os.fsencode(name))
        Path(os.fsdecode(path)).write_bytes(b"\xffraw")
        service.quarantine.put(name, QuarantineReason.BAD_NAME, "why", 4)
    first, second = (await service.ask("/v1/quarantine")).json()
    assert (first["name"], first["reason"], first["detail"]) == ("odd\\xff", "bad_name", "why")
    assert (await service.ask(f"/v1/quarantine/{first['id']}")).json()["content"] == "\ufffdraw"
    assert (await service.ask(f"/v1/quarantine/{first['id']}/retry", "POST")).status == 204
    assert service.poked.is_set()
    assert (await service.ask(f"/v1/quarantine/{second['id']}", "DELETE")).status == 204
    assert (await service.ask("/v1/quarantine")).json() == []
    assert [entry.size for entry in service.spool.scan()] == [4]
    for method, target in (("GET", ""), ("POST", "/retry"), ("DELETE", "")):
        assert (await service.ask(f"/v1/quarantine/{first['id']}{target}", method)).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/v1/tools?hours=0", "/v1/tools?hours=-1", "/v1/tools?hours=x", "/v1/tools?hours=nan", "/v1/tools?hours=inf",
        "/v1/errors?days=0", "/v1/errors?days=1e9", "/v1/errors/recent?category=odd", "/v1/errors/recent?limit=0",
        "/v1/events?limit=0", "/v1/events?limit=1001", "/v1/events?after=-1", "/v1/events?after=x",
        f"/v1/events?after={2**63}", "/v1/events?follow=perhaps", "/v1/sessions?status=odd", "/v1/sessions?limit=1.5",
        "/v1/sessions/" + "x" * 300,
    ],
)  # fmt: skip
async def test_wrong_parameters_are_answered_with_422(service: Service, target: str) -> None:
    answer = await service.ask(target)
    assert answer.status == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize("id_", ["x", "-1", str(2**63)])
async def test_a_wrong_place_to_go_on_is_answered_with_422(service: Service, id_: str) -> None:
    assert (await service.ask("/v1/events?follow=true", headers={"Last-Event-ID": id_})).status == 422


async def test_unknown_paths_and_methods_are_refused(service: Service) -> None:
    assert (await service.ask("/v1/nothing")).status == 404
    assert (await service.ask("/v1/status", "POST")).status == 405
    for target in ("/v1/quarantine/..%2f..%2fsecret", "/v1/quarantine/%00", "/docs", "/"):
        assert (await service.ask(target)).status == 404


async def test_the_description_is_valid_and_names_every_route(service: Service) -> None:
    document = (await service.ask("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert document["info"] == {"title": "tasksd", "version": "1.2.3", "summary": document["info"]["summary"]}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        ("/metrics", "get"), ("/v1/costs", "get"), ("/v1/costs/by/{dimension}", "get"), ("/v1/costs/daily", "get"),
        ("/v1/costs/projection", "get"), ("/v1/stats/agents", "get"), ("/v1/stats/agents/session/{session_uuid}", "get"),
        ("/v1/stats/errors", "get"), ("/v1/stats/errors/by/{dimension}", "get"), ("/v1/stats/errors/daily", "get"),
        ("/v1/stats/errors/kinds", "get"), ("/v1/stats/files", "get"), ("/v1/stats/files/contended", "get"),
        ("/v1/stats/files/session/{session_uuid}", "get"), ("/v1/stats/models", "get"), ("/v1/stats/sessions", "get"),
        ("/v1/stats/tasks", "get"), ("/v1/stats/tasks/by/{dimension}", "get"), ("/v1/stats/tools", "get"),
        ("/v1/stats/tools/by/{dimension}", "get"), ("/v1/stats/tools/durations", "get"), ("/v1/stats/workflows", "get"),
        ("/v1/status", "get"), ("/v1/sessions", "get"), ("/v1/sessions/{session_uuid}", "get"), ("/v1/tools", "get"),
        ("/v1/errors", "get"), ("/v1/errors/recent", "get"), ("/v1/events", "get"), ("/v1/quarantine", "get"),
        ("/v1/quarantine/{id_}", "get"), ("/v1/quarantine/{id_}", "delete"), ("/v1/quarantine/{id_}/retry", "post"),
        ("/v1/tasks", "get"), ("/v1/tasks", "post"), ("/v1/tasks/{task_id}", "get"),
        ("/v1/tasks/{task_id}/activity", "get"), ("/v1/tasks/{task_id}/logs", "get"),
        ("/v1/tasks/{task_id}/cancel", "post"), ("/v1/tasks/{task_id}/retry", "post"),
        ("/v1/tasks/{task_id}/merge", "post"), ("/v1/tasks/clean", "post"), ("/v1/pool", "get"),
        ("/v1/verdicts", "get"), ("/v1/guard", "post"), ("/v1/pool/pause", "post"), ("/v1/pool/resume", "post"),
        ("/v1/pool/resize", "post"), ("/v1/tasks/{task_id}/calls", "get"), ("/v1/sessions/{session_uuid}/calls", "get"),
        ("/v1/sessions/{session_uuid}/turns", "get"), ("/v1/sessions/{session_uuid}/tree", "get"),
        ("/v1/tasks/{task_id}/diff", "get"), ("/v1/tasks/{task_id}/conflict", "get"), ("/v1/doctor", "get"),
        ("/v1/settings", "get"), ("/v1/audit", "get"), ("/v1/dashboard", "post"), ("/v1/login", "post"),
        ("/v1/logout", "post"), ("/v1/renew", "post"), ("/v1/logins", "get"), ("/v1/logins/{login_id}", "delete"),
        ("/v1/me", "get"), ("/v1/me/password", "post"), ("/v1/users", "get"), ("/v1/users", "post"),
        ("/v1/users/{name}", "get"), ("/v1/users/{name}", "delete"), ("/v1/users/{name}/disable", "post"),
        ("/v1/users/{name}/enable", "post"), ("/v1/users/{name}/password", "post"), ("/v1/users/{name}/role", "post"),
    }  # fmt: skip
    references = set()

    def collect(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if key == "$ref":
                references.add(value)
            collect(value)

    collect(document)
    assert references
    for reference in references:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["responses"] and one["summary"] for one in operations)


# The live stream.


class Stream:
    """A reader of server-sent events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, service: Service, query: str = "", last: int | None = None) -> "Stream":
        reader, writer = await service.connect()
        header = "" if last is None else f"last-event-id: {last}\r\n"
        writer.write(f"GET /v1/events?follow=true{query} HTTP/1.1\r\nhost: x\r\n{header}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"text/event-stream" in head
        stream = cls(reader, writer)
        assert await stream.line() == ": tasksd"
        return stream

    async def line(self, seconds: float = 5) -> str:
        """The next line that is neither empty nor part of the transfer encoding."""
        async with asyncio.timeout(seconds):
            while line := (await self._reader.readuntil(b"\n")).decode().strip():
                if line[0] in ":ied" and ":" in line:
                    return line
            return await self.line(seconds)

    async def event(self) -> dict[str, Any]:
        id_, name, data = await self.line(), await self.line(), await self.line()
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert (id_, name) == (f"id: {event['seq']}", f"event: {event['kind']}")
        return event

    def close(self) -> None:
        self._writer.close()


async def test_an_event_reaches_the_stream_when_it_is_stored(service: Service) -> None:
    await service.happen("Notification", message="before")
    stream = await Stream.open(service)
    for number in range(30):
        await service.happen("Notification", message=f"m{number}")
        assert (await stream.event())["body"]["message"] == f"m{number}"
    stream.close()


async def test_an_interrupted_stream_goes_on_without_a_gap(service: Service) -> None:
    last, seen = 0, []
    for number in range(4):
        stream = await Stream.open(service, last=last)
        for turn in range(3):
            await service.happen("Notification", message=f"{number}.{turn}")
        for _ in range(2):
            event = await stream.event()
            seen.append(event["body"]["message"])
            last = event["seq"]
        stream.close()
    stream = await Stream.open(service, last=last)
    seen += [(await stream.event())["body"]["message"] for _ in range(4)]
    assert seen == [f"{number}.{turn}" for number in range(4) for turn in range(3)]
    stream.close()


async def test_a_stream_gives_only_what_was_asked_for(service: Service) -> None:
    stream = await Stream.open(service, f"&session={SESSION}&kind=Stop")
    await service.happen("Notification", message="no")
    await service.happen("Stop", session="other")
    await service.happen("Stop")
    event = await stream.event()
    assert (event["session_uuid"], event["kind"]) == (SESSION, "Stop")
    await service.happen("Stop", stop_hook_active=True)
    assert (await stream.event())["body"] == {"stop_hook_active": True}
    stream.close()


async def test_a_ring_during_the_look_is_not_missed() -> None:
    bell = Bell()
    seen = bell.rings
    bell.ring()
    assert await bell.wait(seen, 0)
    assert not await bell.wait(bell.rings, 0)
    waiting = asyncio.create_task(bell.wait(bell.rings, 10))
    await asyncio.sleep(0)
    bell.ring()
    assert await waiting


async def test_streams_end_when_the_daemon_stops(tmp_path: Path) -> None:
    service = Service(tmp_path)
    await service.start()
    stream = await Stream.open(service)
    idle, writer = await service.connect()
    writer.write(HEAD + b"\r\n")
    await read_answer(idle)
    started = time.monotonic()
    await service.stop()
    assert time.monotonic() - started < 10
    assert await is_cut(stream._reader)
    assert await is_cut(idle)
    stream.close()
    writer.close()


# Limits.


async def test_the_33rd_connection_is_told_to_come_back(service: Service) -> None:
    held = [await service.connect() for _ in range(32)]
    for reader, writer in held:
        writer.write(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await read_answer(reader)).status == 200
    reader, writer = await service.connect()
    refused = await read_answer(reader)
    assert (refused.status, refused.headers["connection"]) == (503, "close")
    assert "too many" in refused.json()["detail"]
    writer.close()
    held[0][1].close()
    async with asyncio.timeout(5):
        while (await service.ask("/v1/status")).status != 200:
            await asyncio.sleep(0.01)
    for _, writer in held:
        writer.close()


async def drip(service: Service, beginning: bytes, endless: bytes) -> float:
    """Send byte by byte until cut off. Returns after how many seconds that was."""
    reader, writer = await service.connect()
    writer.write(beginning)
    cut = asyncio.create_task(is_cut(reader))
    started = time.monotonic()
    while not cut.done():
        assert time.monotonic() - started < 10, "never cut off"
        writer.write(endless)
        await asyncio.sleep(0.05)
    assert await cut
    writer.close()
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("beginning", "endless"),
    [
        (b"", b""),
        (b"GET /v1/status HTTP/1.1\r\nx: ", b"x"),
        (b"POST /v1/quarantine/1-a/retry HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n", b"x"),
        (HEAD + b"content-length: 60000\r\n\r\n", b"x"),
        (HEAD + b"\r\n" + b"GET /v1/status HTTP/1.1\r\nx: ", b"x"),
    ],
    ids=["silence", "head", "body", "body of an answered request", "second head"],
)
async def test_a_request_that_takes_too_long_to_arrive_is_cut_off(
    impatient: Service, beginning: bytes, endless: bytes
) -> None:
    assert 0.4 < await drip(impatient, beginning, endless) < 20


async def test_the_patience_of_a_daemon_is_5_seconds(service: Service) -> None:
    assert 4 < await drip(service, b"GET /v1/status HTTP/1.1\r\nx: ", b"x") < 20


async def test_a_connection_between_requests_is_not_cut_off_so_soon(impatient: Service) -> None:
    reader, writer = await impatient.connect()
    for _ in range(2):
        writer.write(HEAD + b"\r\n")
        assert (await read_answer(reader)).status == 200
        await asyncio.sleep(0.8)
    writer.write(HEAD + b"connection: close\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    writer.close()


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 10485760\r\n\r\n",
        b"POST /v1/quarantine/1-a/retry HTTP/1.1\r\nhost: x\r\ncontent-length: 10485760\r\n\r\n",
        b"POST /v1/status HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nA00000\r\n",
        b"GET /v1/status HTTP/1.1\r\nx: ",
    ],
    ids=["body of a GET", "body of a POST", "chunk", "head"],
)
async def test_a_request_of_10_megabytes_is_cut_off(service: Service, beginning: bytes) -> None:
    _, writer = await service.connect()
    writer.write(beginning)
    sent = 0
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(10):
            while sent < 10 << 20:
                writer.write(b"x" * 8192)
                await writer.drain()
                sent += 8192
    assert sent < 2 << 20
    writer.close()
    assert (await service.ask("/v1/status")).status == 200


@pytest.mark.parametrize("size", [70_000, 130_000, 200_000])
async def test_a_head_that_is_too_long_is_refused_also_when_it_arrives_at_once(service: Service, size: int) -> None:
    reader, writer = await service.connect()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    writer.write(HEAD + b"x: " + b"x" * size + b"\r\n\r\n")  # the loop runs only when all of it is sent
    try:
        answer = await reader.readline()
    except ConnectionError:
        answer = b""  # cut off
    assert answer == b"" or b" 431 " in answer
    writer.close()
    assert (await service.ask("/v1/status")).status == 200


async def test_a_head_just_below_the_limit_is_answered_also_in_two_pieces(service: Service) -> None:
    reader, writer = await service.connect()
    head = HEAD + b"x: " + b"x" * 65_000 + b"\r\n\r\n"
    writer.write(head)
    assert (await read_answer(reader)).status == 200
    writer.write(head[:40_000])
    await writer.drain()
    writer.write(head[40_000:])
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_a_long_second_head_behind_a_request_under_way_is_refused(service: Service) -> None:
    reader, writer = await service.connect()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    writer.write(HEAD + b"\r\n" + HEAD + b"x: " + b"x" * 100_000 + b"\r\n\r\n")
    received = b""
    with contextlib.suppress(ConnectionError):
        received = await reader.read()
    assert received.count(b"HTTP/1.1 200") <= 1
    writer.close()


async def test_garbage_is_answered_with_400(service: Service) -> None:
    reader, writer = await service.connect()
    writer.write(b"\x16\x03\x01 this is no request\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_many_small_requests_on_one_connection_are_no_large_one(service: Service) -> None:
    reader, writer = await service.connect()
    for _ in range(300):
        writer.write(HEAD + b"x-filler: " + b"x" * 400 + b"\r\n\r\n")
        assert (await read_answer(reader)).status == 200
    writer.close()


async def test_a_reader_that_takes_nothing_is_cut_off_and_one_that_takes_some_is_not(impatient: Service) -> None:
    for number in range(300):
        impatient.leave("Notification", message=f"{number} " + "x" * 7000)
    await impatient.ingest.step()
    _, writer = await impatient.connect()
    transport = writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /v1/events?follow=true&after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(10):
        while impatient.server._state.connections:
            await asyncio.sleep(0.02)
    writer.close()
    stream = await Stream.open(impatient, "&after=0")
    for _ in range(300):
        await stream.event()
    stream.close()


async def test_idle_clients_do_not_stop_the_ingestion(service: Service) -> None:
    held = []
    for _ in range(200):
        try:
            held.append(await service.connect())
        except OSError:
            break
    for number in range(20):
        await service.happen("Notification", message=f"m{number}")
    assert service.ingest.health.events_total == 20
    assert service.ingest.health.degraded is None
    assert len(service.server._state.connections) <= 32
    for _, writer in held:
        writer.close()


# The socket.


async def test_the_socket_and_its_directory_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        listener = bind_unix_socket(tmp_path / "run/s")
        listener.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run/s").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    bind_unix_socket(tmp_path / "s").close()
    bind_unix_socket(tmp_path / "s").close()


def make_directory(path: Path) -> None:
    path.mkdir()


def make_loose(path: Path) -> None:
    path.parent.chmod(0o770)


@pytest.mark.parametrize("obstacle", [make_directory, make_loose])
def test_a_place_that_cannot_be_private_is_refused(tmp_path: Path, obstacle: Any) -> None:
    obstacle(tmp_path / "s")
    with pytest.raises(StoreUnavailable):
        bind_unix_socket(tmp_path / "s")


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot listen"):
        bind_unix_socket(tmp_path / ("x" * 120))


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(socket, "SO_PEERCRED"), reason="needs root on Linux")
async def test_another_user_is_refused_even_when_the_modes_let_it_in(programs: Any) -> None:
    import tempfile

    source = """
import os, socket
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(5)
    try:
        s.connect(args[0])
        s.sendall(b"GET /v1/status HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        say("answer", s.recv(100))
    except PermissionError: say("no way in")
    except ConnectionError: say("cut")
"""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        await service.start()
        assert (await asyncio.to_thread(programs.run, source, service.path)).stdout == "no way in\n"
        for path in (service.path, service.path.parent, service.data_dir):
            path.chmod(0o777)
        ended = await asyncio.to_thread(programs.run, source, service.path)
        assert ended.stdout in ("answer b''\n", "cut\n"), ended.stderr
        assert (await service.ask("/v1/status")).status == 200
        await service.stop()
