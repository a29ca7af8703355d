"""Talking to the daemon: HTTP/1.1 over its Unix socket, one connection a request, with nothing that takes long to import.

`_socket` is what `socket` is made of; importing `socket` itself would take longer than the whole conversation.
"""

from __future__ import annotations

import _socket

from tasks.errors import ApiError, DaemonNotRunning

# `typing` and `collections.abc` are imported for the type checker alone: they would cost too much here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Seconds to wait for the daemon's next bytes.
ANSWER_TIMEOUT = 5.0
#: The same for a live stream, in which the daemon says at least every 15 s that it is there.
STREAM_TIMEOUT = 45.0
#: The same for what takes as long as it takes: ending an agent, a merge, cleaning up.
WORK_TIMEOUT = 900.0

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PIECE = 1 << 16

START_HINT = "start it with `tasksd up`, or install it with `tasksd service install`"


def quote(text: str) -> str:
    """`text` percent-encoded, as part of a path or as a value of a query."""
    return "".join(chr(one) if one in _SAFE else f"%{one:02X}" for one in text.encode("utf-8", "surrogateescape"))


def target(path: str, **query: str | float | bool | None) -> str:
    """`path` with `query`; parameters that are None are left out."""
    values = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
    return path + "?" * bool(values) + "&".join(f"{name}={quote(value)}" for name, value in values.items())


class DaemonSilent(DaemonNotRunning):
    """The daemon is there, but does not answer; look into its log, or restart it."""


class Client:
    """Asks the daemon that listens on `socket_path`; `timeout` is in seconds, for each wait.

    Raises DaemonNotRunning when nothing listens, DaemonSilent when nothing comes back, ApiError when the request is
    refused.
    """

    def __init__(self, socket_path: str, timeout: float = ANSWER_TIMEOUT) -> None:
        self.socket_path = socket_path
        self._timeout = timeout

    def fetch(self, target: str, method: str = "GET", body: bytes = b"") -> bytes:
        """The body of the answer, as sent. `body` is a JSON document."""
        return self.exchange(target, method, body)[1]

    def exchange(self, target: str, method: str = "GET", body: bytes = b"") -> tuple[dict[str, str], bytes]:
        """The headers of the answer (names and values in lower case) and its body, as sent."""
        with _Connection(self.socket_path, self._timeout) as connection:
            status = connection.ask(method, target, body)
            answer = b"".join(connection.pieces())
        if status >= 400:
            raise ApiError(_reason(status, answer))
        return connection.headers, answer

    def get(self, target: str) -> Any:
        """The answer, parsed."""
        import json

        return json.loads(self.fetch(target))

    def post(self, target: str, document: Any = None) -> Any:
        """Send `document`, unless it is None, and return the answer, parsed. Waits as long as the work takes."""
        import json

        body = b"" if document is None else json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        return json.loads(Client(self.socket_path, WORK_TIMEOUT).fetch(target, "POST", body))

    def follow(self, target: str) -> Iterator[bytes]:
        """The data of every event of a live stream, as it comes; ends when the daemon ends it or goes silent."""
        with _Connection(self.socket_path, STREAM_TIMEOUT) as connection:
            status = connection.ask("GET", target)
            if status >= 400:
                raise ApiError(_reason(status, b"".join(connection.pieces())))
            pending = b""
            for piece in connection.pieces():
                *lines, pending = (pending + piece).split(b"\n")
                yield from (line[6:] for line in lines if line.startswith(b"data: "))


class _Connection:
    """One request and its answer."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._buffer = b""
        self.headers: dict[str, str] = {}

    def __enter__(self) -> _Connection:
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise DaemonNotRunning(f"no daemon listens on {self._path}: {START_HINT}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, target: str, body: bytes = b"") -> int:
        """Send the request; returns the status once the head of the answer is there."""
        request = f"{method} {target} HTTP/1.1\r\nHost: tasksd\r\nConnection: close\r\n"
        if body:
            request += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        try:
            self._socket.sendall(request.encode() + b"\r\n" + body)
        except OSError as error:
            raise self._silent(error) from error
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                raise self._silent(None)
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip().lower()
        return int(first.split(" ", 2)[1])

    def pieces(self) -> Iterator[bytes]:
        """The body, decoded, as it comes. Raises DaemonNotRunning when it breaks off."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(self._line().split(b";")[0], 16):
                yield from self._exactly(size)
                self._line()
        elif (length := self.headers.get("content-length")) is not None:
            yield from self._exactly(int(length))
        else:
            more = True
            while more:
                piece, self._buffer = self._buffer, b""
                yield piece
                more = self._receive()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._buffer and not self._receive():
                raise self._silent(None)
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._receive():
                raise self._silent(None)
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _receive(self) -> bool:
        """Whether more came."""
        try:
            piece = self._socket.recv(_PIECE)
        except OSError as error:
            raise self._silent(error) from error
        self._buffer += piece
        return bool(piece)

    def _silent(self, error: OSError | None) -> DaemonNotRunning:
        if isinstance(error, TimeoutError):
            return DaemonSilent(f"the daemon on {self._path} does not answer: look into its log, or restart it")
        return DaemonNotRunning(f"the daemon on {self._path} broke off: {START_HINT}")


def _reason(status: int, body: bytes) -> str:
    import json

    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = body[:200].decode("utf-8", "replace")
    if isinstance(detail, list):  # what did not validate
        detail = "; ".join(f"{'.'.join(map(str, one.get('loc', [])[1:]))}: {_said(one)}" for one in detail)
    return str(detail) or f"the daemon answered with status {status}"


def _said(error: dict[str, Any]) -> str:
    return str(error.get("msg")).removeprefix("Value error, ")
