"""Serves the application on the Unix socket, to this user alone, with limits that no client can get around."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tasks.errors import StoreUnavailable

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
#: Bytes of one request, head and body.
MAX_REQUEST = 64 << 10
#: Seconds for the head of a first request, and between requests on an open connection.
FIRST_REQUEST_TIMEOUT, IDLE_TIMEOUT = 5.0, 60
#: Seconds that requests under way get when the daemon stops.
GRACE = 2.0

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_BUSY_BODY = b'{"detail":"too many connections; close some and try again"}'


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
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
    except OSError as error:
        raise StoreUnavailable(f"cannot listen on {path}: {error}") from error
    return listener


class ApiServer:
    """An ASGI server on one socket, run by whoever enters it; no signal handlers, no ticking."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # its value would need a tick
            timeout_keep_alive=IDLE_TIMEOUT,
            h11_max_incomplete_event_size=MAX_REQUEST,
            ws="none",
        )
        self._config.load()
        self._state = ServerState()
        self._listener = listener
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ApiServer":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._protocol, sock=self._listener)
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

    def _protocol(self) -> "_OwnerOnlyProtocol":
        return _OwnerOnlyProtocol(self._config, self._state, {}, asyncio.get_running_loop())


class _OwnerOnlyProtocol(H11Protocol):
    """HTTP/1.1 for processes of this user, with bounds on connections, request size and patience."""

    _waiting: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        owner = _peer_uid(transport.get_extra_info("socket"))
        if owner is not None and owner != os.geteuid():
            log.warning("refused a connection of another user uid=%d", owner)
            transport.abort()
        elif len(self.connections) > MAX_CONNECTIONS:
            transport.write(_BUSY % (len(_BUSY_BODY), _BUSY_BODY))
            transport.close()
        else:
            self._waiting = self.loop.call_later(FIRST_REQUEST_TIMEOUT, self._give_up)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._received += len(data)
        idle = self.cycle is None or self.cycle.response_complete
        if self._received > MAX_REQUEST and not idle:
            self.transport.abort()
            return
        super().data_received(data)
        if self.cycle is not None and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def on_response_complete(self) -> None:
        self._received = 0
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()


def _peer_uid(peer: Any) -> int | None:
    """The user at the other end; None where the platform does not tell (the socket's mode has to do there)."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return int(uid)
    return -1
