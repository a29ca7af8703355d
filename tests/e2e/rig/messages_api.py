"""A scripted Messages API on loopback: answers the real client with what a test wrote down, keeps what it was asked.

A script is a sequence of turns. The last `[[name]]` in the newest user text that names a script chooses it; the number
of assistant messages since that text chooses the turn, so a subagent follows the script that its own prompt names.
After its last turn a script answers "Done." and ends the turn.
"""

import itertools
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from .answers import ApiError, Reply, Script, Text, Turn, as_message, as_stream

MARKER = re.compile(r"\[\[([A-Za-z0-9_-]+)\]\]")
#: An answer held longer than this goes out anyway, so that a failing test leaves no thread behind.
LONGEST_HOLD = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Request:
    """One POST to /v1/messages as it came."""

    script: str | None
    turn: int
    body: Mapping[str, Any]


class MessagesApi:
    """The server. Use as a context manager; `url` is what ANTHROPIC_BASE_URL needs."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = dict(scripts)
        self.requests: list[Request] = []
        self._ids = itertools.count(1)
        self._errors_sent: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._reached: dict[str, threading.Event] = {}
        self._opened: dict[str, threading.Event] = {}
        self._closing = threading.Event()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait_reached(self, gate: str, *, timeout: float = 30.0) -> None:
        """Return once a request stands at the gate; AssertionError after `timeout` seconds."""
        if not self._event(self._reached, gate).wait(timeout):
            raise AssertionError(f"no request reached gate {gate!r} within {timeout:g} s")

    def open(self, gate: str) -> None:
        """Let the answers held at the gate go out, and those that come to it later."""
        self._event(self._opened, gate).set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="messages-api")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        with self._lock:
            for event in self._opened.values():
                event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: Mapping[str, Any]) -> Turn:
        """Record the request and choose its answer."""
        name, index = self._choose(body)
        with self._lock:
            self.requests.append(Request(name, index, body))
        # Requests without tools are the client's own small questions (titles, summaries); no script answers those.
        if name is None or not body.get("tools"):
            return Reply([Text("ok")])
        with self._lock:
            live = [(at, turn) for at, turn in enumerate(self.scripts[name]) if not self._is_used_up(name, at, turn)]
            if index >= len(live):
                return Reply([Text("Done.")])
            at, turn = live[index]
            if isinstance(turn, ApiError):
                self._errors_sent[(name, at)] = self._errors_sent.get((name, at), 0) + 1
        return turn

    def hold(self, gate: str | None) -> None:
        if gate is not None:
            self._event(self._reached, gate).set()
            self._event(self._opened, gate).wait(LONGEST_HOLD)

    def pause(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def next_id(self) -> int:
        with self._lock:
            return next(self._ids)

    def _is_used_up(self, name: str, at: int, turn: Turn) -> bool:
        if not isinstance(turn, ApiError) or turn.times is None:
            return False
        return self._errors_sent.get((name, at), 0) >= turn.times

    def _event(self, events: dict[str, threading.Event], gate: str) -> threading.Event:
        with self._lock:
            event = events.setdefault(gate, threading.Event())
        if self._closing.is_set():
            event.set()
        return event

    def _choose(self, body: Mapping[str, Any]) -> tuple[str | None, int]:
        messages = body.get("messages") or []
        for at in range(len(messages) - 1, -1, -1):
            if messages[at].get("role") != "user":
                continue
            named = [name for name in MARKER.findall(_text(messages[at])) if name in self.scripts]
            if named:
                return named[-1], _turns(messages[at + 1 :])
        return None, 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: MessagesApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed leaves broken connections; that is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        self._send(200, b'{"data": []}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._send(200, b'{"input_tokens": 10}')
        elif path != "/v1/messages":
            self._send(404, b"{}")
        else:
            api = self.server.api
            match api.take(body):
                case ApiError() as error:
                    api.hold(error.gate)
                    self._fail(error)
                case Reply() as reply:
                    api.pause(reply.delay)
                    if not reply.gate_in_stream:
                        api.hold(reply.gate)
                    self._answer(reply, body)

    def _fail(self, error: ApiError) -> None:
        document = {
            "type": "error",
            "error": {"type": error.type, "message": error.message},
            "request_id": "req_scripted",
        }
        headers = dict(error.headers)
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        self._send(error.status, json.dumps(document).encode(), **headers)

    def _answer(self, reply: Reply, body: Mapping[str, Any]) -> None:
        message = as_message(reply, model=str(body.get("model")), number=self.server.api.next_id())
        if not body.get("stream"):
            self._send(200, json.dumps(message).encode(), **reply.headers)
            return
        pieces = list(as_stream(reply, message))
        if not reply.gate_in_stream:
            self._send(200, "".join(pieces).encode(), content_type="text/event-stream", **reply.headers)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        half = len(pieces) // 2
        self._chunk("".join(pieces[:half]))
        self.server.api.hold(reply.gate)
        self._chunk("".join(pieces[half:]))
        self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status: int, data: bytes, *, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.send_header("request-id", "req_scripted")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or [] if block.get("type") == "text")


def _turns(messages: Sequence[Mapping[str, Any]]) -> int:
    """Number of runs of assistant messages: one message may come back as several."""
    roles = [message.get("role") for message in messages if message.get("role") in ("user", "assistant")]
    return sum(1 for role, _ in itertools.groupby(roles) if role == "assistant")
