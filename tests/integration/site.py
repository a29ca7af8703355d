"""A site to visit: a real daemon with its page on a free port, accounts of every role, browsers and programs that log in."""

import contextlib
import http.client
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .desk import Desk, until
from .markup import Element, parse

PASSWORD = "correct horse battery"
#: Account → role.
PEOPLE = {"ada": "admin", "olga": "operator", "vic": "viewer"}
#: Seconds of silence after which an answer is given up.
TIMEOUT = 60.0
SESSION = "0a1b2c3d-1111-4222-8333-444455556666"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    status: int
    #: as they came, names in lower case
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """None: it is not there. More than one is an error."""
        values = [value for given, value in self.headers if given == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def document(self) -> Element:
        """The page."""
        assert (self.header("content-type") or "").startswith("text/html"), (self.status, self.headers, self.body[:200])
        return parse(self.text)


class Site(Desk):
    """`Desk` with its page on. `settings` are TASKSD_… variables by their lower-case names: `web_host="::1"`."""

    def __init__(self, folder: Path, *, agents: int = 2, queue: int = 20, **settings: str) -> None:
        super().__init__(folder, agents=agents, queue=queue)
        self.environ |= {"TASKSD_WEB_ENABLED": "true", "TASKSD_WEB_PORT": "0", "TASKSD_WEB_PASSWORD_COST": "4"}
        self.environ |= {f"TASKSD_{name.upper()}": value for name, value in settings.items()}
        self.address = self.environ.get("TASKSD_WEB_HOST", "127.0.0.1")
        self.port = 0
        self._browsers: dict[str, Browser] = {}
        self._tokens: dict[str, str] = {}
        self._left = 0

    def start(self) -> None:
        super().start()
        if not self.ask("GET", "/v1/users")[2]:
            for name, role in PEOPLE.items():
                self.add_user(name, role)
        # A daemon that was started anew has another port, and so another cookie.
        self._browsers.clear()
        self.port = int(self.ask("POST", "/v1/dashboard")[2]["url"].partition("/login")[0].rpartition(":")[2])

    def add_user(self, name: str, role: str = "viewer", password: str = PASSWORD) -> None:
        order = {"username": name, "password": password, "role": role}
        status, _, answer = self.ask("POST", "/v1/users", order)
        assert status == 201, answer

    @property
    def host(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    # Requests.

    def connect(self) -> socket.socket:
        return socket.create_connection((self.address, self.port), timeout=TIMEOUT)

    def send(self, raw: bytes, method: str = "GET") -> Answer:
        """The answer to what is sent on a connection of its own, byte for byte."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read_answer(connection, method)

    def request(
        self, method: str, target: str, *, headers: Headers | None = None, body: bytes = b"", host: str | None = None
    ) -> Answer:
        """One request of exactly these headers, besides Host, Connection and, with a body, Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host if host is None else host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body, method)

    # People and programs. A login is not for free (tasks.users.throttle), so each is made once unless a new one is wanted.

    def browser(self, name: str, password: str = PASSWORD, *, new: bool = False) -> "Browser":
        """Logged in by the form."""
        if new:
            return Browser(self, name, password)
        if name not in self._browsers:
            self._browsers[name] = Browser(self, name, password)
        return self._browsers[name]

    def token(self, name: str, password: str = PASSWORD, *, new: bool = False) -> str:
        """Of a program that logged in over the API."""
        if new or name not in self._tokens:
            order = json.dumps({"username": name, "password": password}).encode()
            answer = self.patiently(
                lambda: self.request("POST", "/v1/login", headers={"Content-Type": "application/json"}, body=order)
            )
            assert answer.status == 200, answer
            token: str = answer.json()["token"]
            if new:
                return token
            self._tokens[name] = token
        return self._tokens[name]

    def by_token(self, name: str, method: str, target: str, document: Any = None) -> Answer:
        """A request as a program makes it."""
        headers = {"Authorization": f"Bearer {self.token(name)}"}
        body = b"" if document is None else json.dumps(document).encode()
        if body:
            headers["Content-Type"] = "application/json"
        return self.request(method, target, headers=headers, body=body)

    def patiently(self, attempt: Callable[[], Answer]) -> Answer:
        """Logging in as often as tests do is throttled."""
        answer = attempt()
        end = time.monotonic() + TIMEOUT
        while answer.status == 429 and time.monotonic() < end:
            time.sleep(float(answer.header("retry-after") or 1))
            answer = attempt()
        return answer

    # What is stored.

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Table → its rows, all of them. Of logins without when they were last seen."""
        connection = sqlite3.connect(f"file:{self.data / 'tasks.db'}?mode=ro", uri=True)
        try:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return {name: self._rows(connection, name) for name in names if not name.startswith("sqlite_")}
        finally:
            connection.close()

    def _rows(self, connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "last_seen_at"]
        return sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)

    def change(self, statement: str, *values: Any) -> int:
        """Change the store behind the daemon's back. Returns how many rows that concerned."""
        connection = sqlite3.connect(self.data / "tasks.db", timeout=TIMEOUT)
        try:
            with connection:
                return connection.execute(statement, values).rowcount
        finally:
            connection.close()

    # What agents tell.

    def leave(self, kind: str, session: str = SESSION, *, task: str = "-", **fields: Any) -> None:
        """An event in the spool, as the recorder leaves it."""
        event = {"session_id": session, "hook_event_name": kind, "cwd": str(self.repository)} | fields
        self.leave_raw(json.dumps(event).encode(), task=task)

    def leave_raw(self, content: bytes, *, task: str = "-") -> None:
        self._left += 1
        path = self.data / f"spool/{task}.0.{self._left}.0.json"
        draft = self.folder / "draft"
        draft.write_bytes(content)
        draft.chmod(0o600)
        at = time.time_ns()
        os.utime(draft, ns=(at, at))
        draft.rename(path)

    def stored(self) -> None:
        """Wait until everything left is in the store."""
        spool = self.data / "spool"
        until(lambda: not any(spool.glob("*.json")), "the spool is read")


class Browser:
    """One person's, with one cookie and the token of the pages."""

    def __init__(self, site: Site, name: str, password: str = PASSWORD) -> None:
        self.site = site
        self.name = name
        form = {"username": name, "password": password}
        answer = site.patiently(lambda: log_in(site, form))
        assert answer.status == 303, (answer.status, answer.text)
        cookie = (answer.header("set-cookie") or "").partition(";")[0]
        self.cookie = cookie
        self.csrf: str = self.get("/v1/me").json()["csrf"]

    @property
    def token(self) -> str:
        """What is in the cookie."""
        return self.cookie.partition("=")[2]

    def get(self, target: str, headers: Headers | None = None) -> Answer:
        return self.site.request("GET", target, headers={"Cookie": self.cookie} | dict(headers or {}))

    def page(self, target: str, status: int = 200) -> Element:
        answer = self.get(target)
        assert answer.status == status, (target, answer.status, answer.text[:2000])
        return answer.document

    def send(self, method: str, target: str, document: Any = None, headers: Headers | None = None) -> Answer:
        """As the pages' script sends a form: JSON, with the token."""
        usual = {"Cookie": self.cookie, "Origin": self.site.url, "X-CSRF-Token": self.csrf}
        body = b"" if document is None else json.dumps(document).encode()
        if body:
            usual["Content-Type"] = "application/json"
        return self.site.request(method, target, headers=usual | dict(headers or {}), body=body)

    @contextlib.contextmanager
    def stream(self, target: str) -> "Iterator[Iterator[dict[str, str]]]":
        """The sections of a page as they come: name → HTML, one dictionary a change; ends when the stream ends."""
        with self.site.connect() as connection:
            head = f"GET {target} HTTP/1.1\r\nHost: {self.site.host}\r\nAccept: text/event-stream\r\n"
            connection.sendall(f"{head}Cookie: {self.cookie}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200, answer.status
            yield _changes(answer)


def _changes(answer: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    kind = ""
    for raw in answer:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "sections":
            yield json.loads(value)


def log_in(site: Site, form: Mapping[str, str], headers: Headers | None = None) -> Answer:
    """What the form of the login page sends."""
    usual = {"Content-Type": "application/x-www-form-urlencoded", "Origin": site.url}
    return site.request("POST", "/login", headers=usual | dict(headers or {}), body=urlencode(form).encode())


def read_answer(connection: socket.socket, method: str = "GET") -> Answer:
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    headers = [(name.lower(), value) for name, value in response.getheaders()]
    return Answer(response.status, headers, response.read())


def site_in(folder: Path, *, agents: int = 2, queue: int = 20, **settings: str) -> Iterator[Site]:
    """With its daemon running."""
    made = Site(folder, agents=agents, queue=queue, **settings)
    try:
        made.start()
        yield made
    finally:
        made.close()
