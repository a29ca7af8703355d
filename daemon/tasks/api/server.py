"""Serves applications on the Unix socket, to this user alone, and on loopback, with limits that no client can get around."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tasks.errors import ConfigError, StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds that requests under way get when the daemon stops.
GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    connections: int = 32
    #: bytes of the head of a request
    head: int = 64 << 10
    #: bytes of one request, head and body …
    request: int = 64 << 10
    #: … but for work handed over, whose description may have 1 MiB before it is spelled as JSON
    submission: int = (2 << 20) + (64 << 10)
    #: seconds for a request to arrive, counted from the connection or from its first byte
    arrival: float = 5.0
    #: seconds between requests on an open connection
    idle: int = 60
    #: seconds in which a reader that lags behind must take something
    drain: float = 5.0
    #: bytes written and not yet taken at which a reader lags behind
    unread: int = 256 << 10


DEFAULT_LIMITS = Limits()
WEB_LIMITS = Limits(connections=64, head=16 << 10, request=1 << 20, submission=(2 << 20) + (64 << 10), arrival=10.0)
#: The request that may be longer than the others.
SUBMISSION = ("POST", "/v1/tasks")

#: Of answers that are given before anything is asked of an application.
_PLAIN = (
    b"content-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n" + _PLAIN
_BUSY_BODY = b'{"detail":"too many connections; close some and try again"}'
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _PLAIN
_TOO_LONG_BODY = b'{"detail":"the head of the request is too long; ask for less at once"}'


def bind_unix_socket(path: Path) -> socket.socket:
    """A listening socket that only this user can open. The caller holds the instance lock, so what lies there is stale.

    Raises StoreUnavailable when the directory is not private or the path cannot be bound.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.parent.stat()
        if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o022:
            raise StoreUnavailable(
                f"{path.parent} is not private to this user: `chmod 700 {path.parent}`, or remove it"
            )
        path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(64)
            listener.setblocking(False)
            stack.pop_all()
    except OSError as error:
        raise StoreUnavailable(f"cannot listen on {path}: {error}") from error
    return listener


def bind_loopback(host: str, port: int) -> socket.socket:
    """A listening socket on `host`, an address of this machine that no other machine reaches; port 0: any that is free.

    Raises StoreUnavailable when the port is taken, ConfigError for any other address.
    """
    if not ipaddress.ip_address(host).is_loopback:
        raise ConfigError(
            f"web.host = {host!r}: only 127.0.0.1 or ::1; put a server with TLS in front for other machines"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # a restart need not wait for old connections
            listener.bind((host, port))
            listener.listen(64)
            listener.setblocking(False)
            stack.pop_all()
    except OSError as error:
        raise StoreUnavailable(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another web.port"
        ) from error
    return listener


class ApiServer:
    """An ASGI server on one socket, run by whoever enters it; no signal handlers, no ticking."""

    def __init__(self, app: Any, listener: socket.socket, limits: Limits = DEFAULT_LIMITS) -> None:
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # its value would need a tick
            timeout_keep_alive=limits.idle,
            h11_max_incomplete_event_size=limits.head,
            ws="none",
        )
        self._config.load()
        self._limits = limits
        self._state = ServerState()
        self._listener = listener
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ApiServer":
        loop = asyncio.get_running_loop()
        if self._listener.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(self._protocol, sock=self._listener)
        else:
            self._server = await loop.create_server(self._protocol, sock=self._listener)
        return self

    async def __aexit__(self, *reason: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        requests = set(self._state.tasks)
        if requests:
            _, late = await asyncio.wait(requests, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _protocol(self) -> "_BoundedProtocol":
        kind = _OwnerOnlyProtocol if self._listener.family == socket.AF_UNIX else _BoundedProtocol
        return kind(self._limits, self._config, self._state, asyncio.get_running_loop())


class _BoundedProtocol(H11Protocol):
    """HTTP/1.1 with bounds on connections, request size and patience."""

    def __init__(
        self, limits: Limits, config: uvicorn.Config, state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, state, {}, loop)
        self._limits = limits
        self._received = 0
        self._arriving: asyncio.TimerHandle | None = None
        self._draining: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._is_welcome(transport):
            transport.abort()
        elif len(self.connections) > self._limits.connections:
            transport.write(_BUSY % (len(_BUSY_BODY), _BUSY_BODY))
            transport.close()
        else:
            transport.set_write_buffer_limits(high=self._limits.unread)
            self._arriving = self.loop.call_later(self._limits.arrival, transport.abort)

    def _is_welcome(self, transport: asyncio.Transport) -> bool:
        return True

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before, self._received = self._received, self._received + len(data)
        if self._received > self._limits.head and self.conn.their_state is h11.IDLE:
            # Only the head tells how much may follow. Of one that is too long h11 sees that only while it is incomplete;
            # then it gets an answer.
            room = max(self._limits.head + 1 - before, 0)
            super().data_received(data[:room])
            data = data[room:]
            if self.transport.is_closing():
                return
        if self._received > (self._limits.submission if self._takes_submission() else self._limits.request):
            self.transport.abort()
            return
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        if not begun and self.conn.their_state is not h11.SEND_BODY:
            self._stop_waiting()
        elif self._arriving is None and not self.transport.is_closing():
            self._arriving = self.loop.call_later(self._limits.arrival, self.transport.abort)

    def _takes_submission(self) -> bool:
        """Whether what arrives is the body of POST /v1/tasks."""
        return self.conn.their_state is h11.SEND_BODY and (self.scope["method"], self.scope["path"]) == SUBMISSION

    def send_400_response(self, msg: str) -> None:
        if self._received > self._limits.head:
            self.transport.write(_TOO_LONG % (len(_TOO_LONG_BODY), _TOO_LONG_BODY))
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_response_complete(self) -> None:
        self._received = len(self.conn.trailing_data[0])  # the beginning of the next request
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._draining = self.loop.call_later(self._limits.drain, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_draining()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_draining()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _stop_draining(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None


class _OwnerOnlyProtocol(_BoundedProtocol):
    """The same for processes of this user alone."""

    def _is_welcome(self, transport: asyncio.Transport) -> bool:
        owner = _peer_uid(transport.get_extra_info("socket"))
        if owner is None or owner == os.geteuid():
            return True
        log.warning("refused a connection of another user uid=%d", owner)
        return False


def _peer_uid(peer: Any) -> int | None:
    """The user at the other end; None where the platform does not tell (the socket's mode has to do there)."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return int(uid)
    return -1
