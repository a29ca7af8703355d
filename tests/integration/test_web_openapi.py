"""Requests made from the description of the API, right ones and wrong ones, on both listeners: none breaks the daemon."""

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from .site import SESSION, TIMEOUT, Site, site_in

schemathesis = pytest.importorskip("schemathesis")
#: Requests for each operation of each listener.
EXAMPLES = 8
#: Those that end what the others need, or take a process of their own each time.
LEFT_OUT = {"/v1/logout", "/v1/login", "/v1/dashboard"}
#: Parameters that make an answer endless, or anew.
ENDLESS = ("follow", "fresh")

Send = Callable[[str, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With something of everything in its store."""
    for made in site_in(tmp_path_factory.mktemp("s")):
        made.leave("SessionStart", source="startup")
        made.leave("UserPromptSubmit", prompt="go", prompt_id="p1")
        for number in range(3):
            call: dict[str, Any] = {"tool_name": "Bash", "tool_use_id": f"t{number}", "prompt_id": "p1"}
            call["tool_input"] = {"command": "ls"}
            made.leave("PreToolUse", **call)
            made.leave("PostToolUse", **call, tool_response={"stdout": "file"}, duration_ms=5)
        made.leave(
            "PreToolUse", tool_name="Read", tool_use_id="t9", tool_input={"file_path": "/x/a.py"}, prompt_id="p1"
        )
        made.leave(
            "PostToolUseFailure",
            tool_name="Read",
            tool_use_id="t9",
            tool_input={"file_path": "/x/a.py"},
            error="no such file",
        )
        made.leave("Stop", prompt_id="p1")
        made.stored()
        made.ended(made.hand_over("echo done > new; git add .; git commit -qm new"))
        yield made


def over_the_socket(site: Site) -> Send:
    def send(*request: Any) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("tasksd", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        connection.sock.connect(str(site.data / "tasksd.sock"))
        return exchanged(connection, *request)

    return send


def over_the_web(site: Site) -> Send:
    key = {"Authorization": f"Bearer {site.token('ada')}"}

    def send(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(site.address, site.port, timeout=TIMEOUT)
        return exchanged(connection, method, target, headers | key, body)

    return send


def exchanged(
    connection: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    with contextlib.closing(connection):
        connection.putrequest(method, target)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value.encode("latin-1", "replace"))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def cases(document: dict[str, Any]) -> list[Any]:
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    return [operation for operation in found if operation.path not in LEFT_OUT]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("listener", [over_the_socket, over_the_web])
def test_no_request_breaks_the_daemon_and_answers_are_as_described(
    site: Site, listener: Callable[[Site], Send]
) -> None:
    send = listener(site)
    status, _, body = send("GET", "/openapi.json", {}, b"")
    assert status == 200
    operations = cases(json.loads(body))
    assert len(operations) > 60
    good: set[str] = set()
    for operation in operations:
        try_out(site, send, operation, good)
    reads = {operation.path for operation in operations if operation.method == "get"}
    assert len(good & reads) > 0.8 * len(reads), reads - good
    assert site.ask("GET", "/v1/status")[2]["ingest"]["degraded"] is None
    assert "Traceback" not in (site.folder / "daemon.log").read_text()


def try_out(site: Site, send: Send, operation: Any, good: set[str]) -> None:
    known = {"session_uuid": SESSION, "task_id": site.ask("GET", "/v1/tasks?status=completed")[2][0]["task_id"]}
    count = 0

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=right_and_wrong(operation))
    def attempt(case: Any) -> None:
        nonlocal count
        count += 1
        for name in ENDLESS:
            (case.query or {}).pop(name, None)
        if count % 2:
            case.path_parameters |= {name: value for name, value in known.items() if name in case.path_parameters}
        made = as_sent(case)
        if made is None:
            return
        status, headers, body = send(*made)
        what = f"{made[0]} {made[1]} {made[3][:500]!r}: {status} {body[:500]!r}"
        assert status < 500 or (status == 503 and json.loads(body)["detail"]), what
        if status >= 400:
            assert json.loads(body)["detail"], what
        elif operation.method == "get":
            good.add(operation.path)
            conforms(operation, case, status, headers, body)

    attempt()


def right_and_wrong(operation: Any) -> SearchStrategy[Any]:
    """Requests as described, and such as are not, unless there is nothing that could be wrong."""
    modes = schemathesis.GenerationMode
    wrong = next(operation.iter_parameters(), None) or list(operation.body)
    right: SearchStrategy[Any] = operation.as_strategy(generation_mode=modes.POSITIVE)
    return right | operation.as_strategy(generation_mode=modes.NEGATIVE) if wrong else right


def as_sent(case: Any) -> tuple[str, str, dict[str, str], bytes] | None:
    """None: it cannot be written down in HTTP."""
    import requests

    try:
        made = requests.Request(**case.as_transport_kwargs(base_url="http://tasksd", headers={})).prepare()
    except (requests.RequestException, UnicodeError, ValueError):
        return None
    raw: Any = made.body or b""
    body: bytes = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    given = {name.lower(): str(value) for name, value in made.headers.items()}
    headers: dict[str, str] = {name: given[name] for name in ("content-type", "last-event-id") if name in given}
    if not str(made.path_url).isascii() or any("\n" in value or "\r" in value for value in headers.values()):
        return None
    return str(made.method), str(made.path_url), headers, body


def conforms(operation: Any, case: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    """Raises when the answer is not of the described form."""
    import requests

    asked = requests.Request("GET", "http://tasksd" + case.formatted_path).prepare()
    lists = {name: [value] for name, value in headers.items()}
    described = schemathesis.Response(status, lists, body, asked, elapsed=0.0, verify=False)
    assert operation.validate_response(described) in (None, True)
