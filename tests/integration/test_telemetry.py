"""Traces that a real collector (its HTTP and protobuf, nothing of its storage) receives."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from tasks.config import OtlpSettings
from tasks.database import Database, Write
from tasks.telemetry import Pusher
from tasks.telemetry.finished import LIMIT, SETTLING

EVENT = """
INSERT INTO events (event_id, timestamp, session_uuid, kind, agent_id, prompt_id, body) VALUES (?, ?, 's', ?, ?, ?, 'CANARY')
"""
CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, agent_id, prompt_id, tool_use_id, tool_name, parameters, success, error,
                        error_category, duration_ms, source, model)
VALUES (?, 's', ?, 'p1', ?, ?, 'CANARY', ?, ?, ?, ?, 'hook', 'opus')
"""
SESSION = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at, cwd, origin)
VALUES ('s', 'ended', ?, 'h', ?, ?, 'CANARY', 'startup')
"""
SUBAGENT = """
INSERT INTO subagents (session_uuid, agent_id, agent_type, status, started_at, ended_at)
VALUES ('s', 'a1', 'Explore', 'ended', ?, ?)
"""
CHANGE = "INSERT INTO agent_status (timestamp, session_uuid, status, cause) VALUES (?, 's', 'ended', 'SessionEnd')"
TRANSCRIPT = """
INSERT INTO transcripts (transcript_id, path, session_uuid, began_at, last_at) VALUES (1, 'CANARY', 's', 0, 0)
"""
PRICE = "INSERT INTO prices VALUES (1, 'opus', 'config', '', 1, 1, 1, 1, 1, 1)"
MESSAGE = """
INSERT INTO messages (message_id, transcript_id, timestamp, prompt_id, model, input_tokens, output_tokens, cache_read_tokens,
                      cache_write_5m_tokens, cache_write_1h_tokens, web_searches, price_id, cost)
VALUES ('m1', 1, 0, 'p1', 'opus', 10, 20, 300, 40, 5, 0, 1, 1500000000)
"""
MONEY = "INSERT INTO cost_rollup VALUES ('session', 86400000, 1, 's', 'opus', 1, 10, 20, 300, 40, 5, 0, 1500000000, 0)"


class Collector:
    """Takes what is pushed, or refuses it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.raw = b""
        self.refuses = False
        self.headers: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if collector.refuses:
                    self.send_response(400)
                else:
                    collector.raw += body
                    collector.headers = {name.lower(): value for name, value in self.headers.items()}
                    request = ExportTraceServiceRequest.FromString(body)
                    for resource in request.resource_spans:
                        for scope in resource.scope_spans:
                            collector.spans += scope.spans
                    self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "tasks.db") as made:
        yield made


@pytest.fixture
async def pusher(collector: Collector, database: Database) -> AsyncIterator[Pusher]:
    made = Pusher(OtlpSettings(endpoint=collector.endpoint, headers={"authorization": "Bearer x"}), database)
    yield made
    made.close()


def a_session(now: int) -> list[Write]:
    """A prompt, a call, a subagent with a failed call, the stop and the end; all settled at `now`."""
    at = now - SETTLING - 10_000
    return [
        Write.one(SESSION, (at + 9000, at, at + 9000)),
        Write.one(SUBAGENT, (at + 2000, at + 4000)),
        Write.one(TRANSCRIPT),
        Write.one(PRICE),
        Write.one(MESSAGE),
        Write.one(MONEY),
        Write(
            EVENT,
            [
                (b"1", at + 100, "UserPromptSubmit", None, "p1"),
                (b"2", at + 4000, "SubagentStop", "a1", "p1"),
                (b"3", at + 8000, "Stop", None, "p1"),
                (b"4", at + 9000, "SessionEnd", None, "p1"),
            ],
        ),
        Write(
            CALL,
            [
                (at + 1500, None, "t1", "Read", 1, None, None, 500.0),
                (at + 3000, "a1", "t2", "Bash", 0, "CANARY", "timeout", None),
            ],
        ),
        Write.one(CHANGE, (at + 9000,)),
    ]


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_session_becomes_one_trace_of_turns_subagents_and_calls(
    pusher: Pusher, collector: Collector, database: Database
) -> None:
    assert await pusher.step() == 0  # from now on
    now = time.time_ns() // 1_000_000
    await database.apply(a_session(now))
    assert await pusher.step() == 5
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {
        "session", "invoke_agent claude-code", "invoke_agent Explore", "execute_tool Read", "execute_tool Bash",
    }  # fmt: skip
    assert len({span.trace_id for span in collector.spans}) == 1
    assert len({span.span_id for span in collector.spans}) == 5
    session, turn, explore = spans["session"], spans["invoke_agent claude-code"], spans["invoke_agent Explore"]
    assert session.parent_span_id == b""
    assert turn.parent_span_id == session.span_id
    assert explore.parent_span_id == turn.span_id
    assert spans["execute_tool Read"].parent_span_id == turn.span_id
    assert spans["execute_tool Bash"].parent_span_id == explore.span_id
    assert turn.end_time_unix_nano - turn.start_time_unix_nano == 7_900_000_000
    read = spans["execute_tool Read"]
    assert read.end_time_unix_nano - read.start_time_unix_nano == 500_000_000
    assert attributes(read) == {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "Read", "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "t1", "gen_ai.request.model": "opus", "gen_ai.conversation.id": "s",
    }  # fmt: skip
    assert attributes(spans["execute_tool Bash"])["error.type"] == "timeout"
    assert spans["execute_tool Bash"].status.code == Status.STATUS_CODE_ERROR
    for span in (session, turn):
        found = attributes(span)
        assert found["gen_ai.usage.input_tokens"] == 355
        assert found["gen_ai.usage.output_tokens"] == 20
        assert found["tasksd.cost_usd"] == 0.0015
    assert collector.headers["authorization"] == "Bearer x"
    assert b"CANARY" not in collector.raw


async def test_nothing_is_pushed_twice_and_a_restart_goes_on(
    pusher: Pusher, collector: Collector, database: Database
) -> None:
    await pusher.step()
    await database.apply(a_session(time.time_ns() // 1_000_000))
    await pusher.step()
    assert await pusher.step() == 0
    other = Pusher(OtlpSettings(endpoint=collector.endpoint), database)
    assert await other.step() == 0
    await database.apply([Write.one(CALL, (1000, None, "t9", "Glob", 1, None, None, 1.0))])
    assert await other.step() == 1
    other.close()
    assert len(collector.spans) == 6


async def test_what_the_collector_refused_is_pushed_when_it_takes_it(
    pusher: Pusher, collector: Collector, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await pusher.step()
    await database.apply(a_session(time.time_ns() // 1_000_000))
    collector.refuses = True
    assert await pusher.step() == await pusher.step() == 0
    assert [record.message for record in caplog.records if "traces are not pushed" in record.message] != []
    collector.refuses = False
    assert await pusher.step() == 5


async def test_what_is_too_young_waits_for_its_transcript(
    pusher: Pusher, collector: Collector, database: Database
) -> None:
    await pusher.step()
    now = time.time_ns() // 1_000_000
    await database.apply([Write.one(CALL, (now, None, "t1", "Read", 1, None, None, 1.0))])
    assert await pusher.step() == 0
    await database.apply([Write.one("UPDATE tool_usage SET model = 'sonnet'")])
    assert collector.spans == []


async def test_more_than_one_push_holds_is_pushed_in_several(
    pusher: Pusher, collector: Collector, database: Database
) -> None:
    await pusher.step()
    calls = [(1000 + n, None, f"t{n}", "Read", 1, None, None, 1.0) for n in range(LIMIT * 2 + 1)]
    await database.apply([Write(CALL, calls)])
    assert await pusher.step() == LIMIT * 2 + 1
    assert len({span.span_id for span in collector.spans}) == LIMIT * 2 + 1


async def test_ids_that_are_given_again_after_a_purge_are_pushed(
    pusher: Pusher, collector: Collector, database: Database
) -> None:
    await pusher.step()
    await database.apply([Write(CALL, [(1000, None, f"t{n}", "Read", 1, None, None, 1.0) for n in range(3)])])
    assert await pusher.step() == 3
    await database.apply([Write.one("DELETE FROM tool_usage")])
    assert await pusher.step() == 0
    await database.apply([Write.one(CALL, (1000, None, "new", "Read", 1, None, None, 1.0))])
    assert await pusher.step() == 1
