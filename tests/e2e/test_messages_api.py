"""The scripted Messages API does what the scripts say; no client needed."""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from .rig.answers import ApiError, Reply, Script, Text, ToolUse, Usage
from .rig.messages_api import MessagesApi

SCRIPTS: dict[str, Script] = {
    "talk": [Reply([Text("first")]), Reply([Text("second")])],
    "inner": [Reply([Text("from inside")])],
    "calls": [Reply([ToolUse("toolu_1", "Read", {"file_path": "/a"}), ToolUse("toolu_2", "Read", raw='{"file')])],
    "busy": [ApiError(529, "overloaded_error", retry_after=7, times=1), Reply([Text("awake")]), Reply([Text("more")])],
    "held": [Reply([Text("late")], gate="door", gate_in_stream=True)],
    "money": [Reply([Text("x")], usage=Usage(5, 6, 7, cache_write_5m=8, cache_write_1h=9))],
}


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(SCRIPTS) as api:
        yield api


def ask(api: MessagesApi, *texts: str, stream: bool = False) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a conversation that alternates user and assistant texts."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    body = {"model": "m", "stream": stream, "tools": [{"name": "Read"}], "messages": messages}
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", "/v1/messages?beta=true", json.dumps(body))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def answer(api: MessagesApi, *texts: str) -> Mapping[str, Any]:
    message: Mapping[str, Any] = json.loads(ask(api, *texts)[1])
    return message


def streamed(body: bytes) -> list[Mapping[str, Any]]:
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]


def said(message: Mapping[str, Any]) -> str:
    return str(message["content"][0]["text"])


def test_turn_is_counted_from_the_prompt_that_names_the_script(api: MessagesApi) -> None:
    assert said(answer(api, "[[talk]]")) == "first"
    assert said(answer(api, "[[talk]]", "first", "go on")) == "second"
    assert said(answer(api, "[[talk]]", "first", "go on", "second", "again [[talk]]")) == "first"
    assert said(answer(api, "[[talk]]", "first", "go on", "second", "go on")) == "Done."


def test_newest_marker_that_names_a_script_wins(api: MessagesApi) -> None:
    assert said(answer(api, "[[talk]] then [[inner]] and [[nothing]]")) == "from inside"
    assert [(request.script, request.turn) for request in api.requests] == [("inner", 0)]


def test_several_calls_and_broken_json_are_streamed_as_written(api: MessagesApi) -> None:
    events = streamed(ask(api, "[[calls]]", stream=True)[1])
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    inputs = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert [block["id"] for block in blocks] == ["toolu_1", "toolu_2"]
    assert inputs == ['{"file_path": "/a"}', '{"file']
    assert [e["delta"]["stop_reason"] for e in events if e["type"] == "message_delta"] == ["tool_use"]


def test_error_tells_when_to_retry_and_the_retry_succeeds(api: MessagesApi) -> None:
    response, body = ask(api, "[[busy]]")
    assert (response.status, response.headers["retry-after"]) == (529, "7")
    assert json.loads(body)["error"]["type"] == "overloaded_error"
    assert said(answer(api, "[[busy]]")) == "awake"
    assert said(answer(api, "[[busy]]", "awake", "go on")) == "more"


def test_gate_holds_the_rest_of_a_stream_until_it_is_opened(api: MessagesApi) -> None:
    bodies: list[bytes] = []
    asking = threading.Thread(target=lambda: bodies.append(ask(api, "[[held]]", stream=True)[1]))
    asking.start()
    api.wait_reached("door")
    assert not bodies
    api.open("door")
    asking.join(10)
    assert streamed(bodies[0])[-1]["type"] == "message_stop"


def test_usage_tells_both_prices_of_cache_writes(api: MessagesApi) -> None:
    usage = answer(api, "[[money]]")["usage"]
    assert usage["cache_creation_input_tokens"] == 17
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 9}
    assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == (5, 6, 7)
