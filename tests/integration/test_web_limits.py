"""The page's listener under clients that are slow, half-open, endless or too many: everything else goes on."""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tasks.api import WEB_LIMITS

from .desk import until
from .site import Site, read_answer, site_in
from .test_web_logins import memory

#: Clients at once, as reliability.md has it for every change; ten of each kind over and over.
CLIENTS = 200
#: Seconds that they go on.
SIEGE = 12.0
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_in(tmp_path_factory.mktemp("s"))


def open_files(site: Site) -> int:
    """Of the daemon; 0 where that is not told."""
    assert site.daemon is not None
    try:
        return len(os.listdir(f"/proc/{site.daemon.pid}/fd"))
    except OSError:
        return 0


class Crowd:
    """Clients that misbehave, each in its way, and come again whenever they are cut off."""

    def __init__(self, site: Site, count: int) -> None:
        self._site = site
        self._over = threading.Event()
        self.cut = 0
        self.busy = 0
        self.failures: list[BaseException] = []
        ways = (self.silent, self.drips_a_head, self.drips_a_body, self.sends_a_long_line, self.sends_a_long_body,
                self.never_ends, self.reads_nothing, self.is_half_open)  # fmt: skip
        self._clients = [
            threading.Thread(target=self._again, args=(ways[number % len(ways)],), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> "Crowd":
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join(60)
        assert not [client for client in self._clients if client.is_alive()]

    def _again(self, way: object) -> None:
        assert callable(way)
        while not self._over.is_set():
            try:
                with self._site.connect() as connection:
                    way(connection)
                self.cut += 1
            except OSError:
                self.cut += 1
            except BaseException as error:
                self.failures.append(error)
                return
            self._over.wait(random.random())

    def _drip(self, connection: socket.socket, beginning: bytes, piece: bytes, *, pause: float) -> None:
        connection.sendall(beginning)
        connection.settimeout(pause)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
                self.busy += b" 503 " in answer
                if not answer:
                    return
            if piece:
                connection.sendall(piece)

    def _head(self, rest: str = "", method: str = "GET", target: str = "/v1/status") -> bytes:
        return f"{method} {target} HTTP/1.1\r\nHost: {self._site.host}\r\n{rest}".encode()

    def silent(self, connection: socket.socket) -> None:
        self._drip(connection, b"", b"", pause=1.0)

    def drips_a_head(self, connection: socket.socket) -> None:
        self._drip(connection, self._head("x: "), b"x", pause=1.0)

    def drips_a_body(self, connection: socket.socket) -> None:
        head = self._head("Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n", "POST", "/v1/login")
        self._drip(connection, head, b"x", pause=1.0)

    def sends_a_long_line(self, connection: socket.socket) -> None:
        self._drip(connection, self._head("x: "), b"x" * (10 * MIB), pause=0.01)

    def sends_a_long_body(self, connection: socket.socket) -> None:
        head = self._head(f"Content-Type: application/json\r\nContent-Length: {10 * MIB}\r\n\r\n", "POST", "/v1/login")
        self._drip(connection, head, b"x" * MIB, pause=0.01)

    def never_ends(self, connection: socket.socket) -> None:
        head = self._head("Transfer-Encoding: chunked\r\n\r\n", "POST", "/login")
        self._drip(connection, head, b"400\r\n" + b"x" * 1024 + b"\r\n", pause=0.02)

    def reads_nothing(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(TimeoutError):
            connection.settimeout(0.5)
            while not self._over.is_set():
                connection.sendall(self._head("\r\n", target="/login"))
        self._over.wait(5)

    def is_half_open(self, connection: socket.socket) -> None:
        connection.sendall(self._head("\r\n"))
        connection.shutdown(socket.SHUT_WR)
        self._over.wait(5)


def seconds_to_store(site: Site, message: str) -> tuple[float, float]:
    """From an event in the spool to an answer of the daemon, and to the event in the store."""
    began = time.monotonic()
    site.leave("Notification", message=message)
    assert site.ask("GET", "/v1/status")[0] == 200
    answered = time.monotonic() - began
    until(
        lambda: message in [one["body"]["message"] for one in site.ask("GET", "/v1/events?limit=1")[2]], "it is stored"
    )
    return answered, time.monotonic() - began


def test_two_hundred_bad_clients_of_the_page_hold_nothing_up(site: Site) -> None:
    vic = site.browser("vic")
    vic.page("/")
    seconds_to_store(site, "before")
    memory_before, files_before = memory(site), open_files(site)
    most_files = most_memory = 0
    times: list[tuple[float, float]] = []
    with Crowd(site, CLIENTS) as crowd:
        until(lambda: crowd.busy, "somebody is told that there are too many")
        end = time.monotonic() + SIEGE
        while time.monotonic() < end:
            times.append(seconds_to_store(site, f"m{len(times)}"))
            most_files, most_memory = max(most_files, open_files(site)), max(most_memory, memory(site))
            with contextlib.suppress(OSError):
                assert vic.get("/v1/me").status in (200, 503)
        assert site.ask("GET", "/v1/status")[2]["ingest"]["degraded"] is None
    assert not crowd.failures, crowd.failures[:3]
    # 3 s and 100 ms are what is promised of a machine with nothing else to do.
    assert max(stored for _, stored in times) < 30
    assert most_files <= files_before + WEB_LIMITS.connections + 64
    assert most_memory - memory_before < 32 * MIB
    # And then there is service again.
    until(lambda: vic.get("/").status == 200, "the page is there again")
    assert vic.page("/").one("h1")
    until(lambda: open_files(site) <= files_before + 8, "connections are closed")
    log = (site.folder / "daemon.log").read_text()
    assert "Traceback" not in log, log[-3000:]


def hold_one_more(site: Site, held: list[socket.socket]) -> int:
    """How many there are then. Those of others before may take a moment to go."""
    connection = site.connect()
    connection.sendall(f"GET /login HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
    if read_answer(connection).status == 200:
        held.append(connection)
    else:
        connection.close()
    return len(held)


def test_too_many_connections_are_told_so(site: Site) -> None:
    vic = site.browser("vic")
    held: list[socket.socket] = []
    try:
        until(lambda: hold_one_more(site, held) == WEB_LIMITS.connections, "all connections are taken")
        with site.connect() as one_more:
            answer = read_answer(one_more)
        assert (answer.status, answer.header("connection"), answer.header("retry-after")) == (503, "close", "1")
        assert "too many" in answer.json()["detail"]
        assert site.ask("GET", "/v1/status")[0] == 200
        held.pop().close()
        until(lambda: vic.get("/v1/me").status == 200, "there is room again")
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize("size", [17_000, 70_000, 300_000])
def test_a_head_that_is_too_long_is_refused(site: Site, size: int) -> None:
    with contextlib.suppress(ConnectionError):
        assert site.request("GET", "/login", headers={"X": "x" * size}).status in (400, 431)
    assert site.request("GET", "/login", headers={"X": "x" * 12_000}).status == 200


def test_a_body_that_is_too_long_is_cut_off_whatever_it_is_for(site: Site) -> None:
    token = site.token("olga")
    for target in ("/v1/users", "/v1/login", "/login", "/v1/tasks", "/nothing"):
        for sender in ({"Authorization": f"Bearer {token}"}, {}):
            for length in (f"Content-Length: {10 * MIB}", "Transfer-Encoding: chunked"):
                headers = "".join(f"{name}: {value}\r\n" for name, value in sender.items())
                sent = 0
                with site.connect() as connection, contextlib.suppress(ConnectionError, TimeoutError):
                    connection.settimeout(10)
                    connection.sendall(
                        f"POST {target} HTTP/1.1\r\nHost: {site.host}\r\n{headers}{length}\r\n\r\n".encode()
                    )
                    while sent < 10 * MIB:
                        piece = b"x" * 65536
                        connection.sendall(b"10000\r\n" + piece + b"\r\n" if "chunked" in length else piece)
                        sent += len(piece)
                # What lies in buffers on the way counts as sent.
                assert sent < 9 * MIB, (target, length, sent)
    assert site.request("GET", "/login").status == 200


def test_one_request_cannot_hide_in_another(site: Site) -> None:
    vic = site.browser("vic")
    smuggled = f"GET /v1/users HTTP/1.1\r\nHost: {site.host}\r\n\r\n"
    head = f"POST /v1/login HTTP/1.1\r\nHost: {site.host}\r\nCookie: {vic.cookie}\r\nOrigin: {site.url}\r\n"
    for framing in (
        f"Content-Length: 0\r\nContent-Length: {len(smuggled)}\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n", "Content-Length: -1\r\n", "Content-Length: +1\r\n", "Content-Length: 0x1\r\n",
        "Transfer-Encoding : chunked\r\n", "Content-Length: 1_0\r\n", " Content-Length: 1\r\n", "X: a\rb\r\n", "X: a\0b\r\n",
        "X\r\n", ": x\r\n", "Content-Length: 99999999999999999999\r\n",
    ):  # fmt: skip
        with site.connect() as connection:
            connection.sendall((head + framing + "\r\n" + smuggled).encode())
            connection.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
        statuses = [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert set(statuses) <= {b"400", b"401", b"403", b"422", b"501"}, (framing, received)
        assert b'"username"' not in received.partition(b"\r\n\r\n")[2]
    for raw in (
        b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 3000, b"GET /\xff HTTP/1.1\r\n\r\n", b"get / http/1.1\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):  # fmt: skip
        with site.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(65536)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 405", b""), raw
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbQ==\r\n"
    )
    answer = site.send(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n{upgrade}\r\n".encode())
    assert answer.status in (303, 400)
    assert "Traceback" not in (site.folder / "daemon.log").read_text()


def test_the_page_listens_on_loopback_alone(site: Site) -> None:
    listening = [line.split() for name in ("tcp", "tcp6") for line in lines_of(Path(f"/proc/net/{name}"))]
    port = f":{site.port:04X}"
    mine = [fields[1] for fields in listening if len(fields) > 3 and fields[1].endswith(port) and fields[3] == "0A"]
    assert mine in ([], [f"0100007F{port}"])


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
