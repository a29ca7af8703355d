"""The page as people have it: a real daemon that serves it, accounts of each role, and visitors who read what they are shown."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from desk import TIMEOUT, Desk

#: Name → role; all have the same password.
PEOPLE = {"ada": "admin", "olga": "operator", "vic": "viewer"}
PASSWORD = "correct horse battery"

_WEB = "[web]\nenabled = true\nport = 0\npassword_cost = 4\n"
_VOID = {"meta", "link", "img", "input", "br", "hr", "wbr", "col"}


@dataclass
class Element:
    """A part of a page. `all` and `one` look at everything within, in the order of the page."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is read, with single spaces."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        return "".join(one if isinstance(one, str) else f" {one.raw} " for one in self.children)

    def walk(self) -> Iterator["Element"]:
        for one in self.children:
            if isinstance(one, Element):
                yield one
                yield from one.walk()

    def all(self, tag: str = "", /, **attributes: str) -> list["Element"]:
        """`class_` has to be among the classes; for all others "_" is "-", and the value has to be the same."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.walk() if (not tag or one.tag == tag) and one.has(wanted)]

    def one(self, tag: str = "", /, **attributes: str) -> "Element":
        found = self.all(tag, **attributes)
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]

    def has(self, wanted: dict[str, str]) -> bool:
        own = self.attributes
        return all(
            value in own.get("class", "").split() if name == "class" else own.get(name) == value
            for name, value in wanted.items()
        )

    def section(self, name: str) -> "Element":
        return self.one(id=name)

    def rows(self) -> list[list[str]]:
        """The texts of the cells of every row of the tables within."""
        return [[one.text for one in row.walk() if one.tag in ("td", "th")] for row in self.all("tr")]

    @property
    def orders(self) -> list[str]:
        """What the forms within would ask of the API: method and path."""
        return [one.attributes["data-api"] for one in self.all("form") if "data-api" in one.attributes]

    @property
    def links(self) -> list[str]:
        return [one.attributes["href"] for one in self.all("a") if "href" in one.attributes]


class _Parser(HTMLParser):
    """Takes only what is closed in the order in which it was opened, and runs without anything inline."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs})
        assert not [name for name in made.attributes if name == "style" or name.startswith("on")], made
        assert tag != "script" or "src" in made.attributes, made
        assert len(made.attributes) == len(attrs), f"an attribute twice: <{tag}> {attrs}"
        self._open[-1].children.append(made)
        if tag not in _VOID:
            self._open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> ends <{self._open[-1].tag}> at {self.getpos()}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(html: str) -> Element:
    parser = _Parser()
    parser.feed(html)
    parser.close()
    ids = [one.attributes["id"] for one in parser.root.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids)), f"an id twice: {sorted(ids)}"
    return parser.root


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """Somebody with a browser. `csrf` is the token that the pages of this login carry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookie = ""
        self.csrf = ""

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        try:
            connection.request(method, path, body, sent | {"Origin": self.url} | (headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def log_in(self, name: str, password: str = PASSWORD) -> None:
        form = urlencode({"username": name, "password": password}).encode()
        answer = self.ask("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status == 303, answer.text
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.csrf = self.api("/v1/me")["csrf"]

    def page(self, path: str, status: int = 200) -> Element:
        """What stands at `path`, parsed."""
        answer = self.ask("GET", path)
        assert answer.status == status, (path, answer.status, answer.text[:2000])
        assert answer.headers.get_content_type() == "text/html"
        return parse(answer.text)

    def main(self, path: str, status: int = 200) -> Element:
        """The same without the frame around it."""
        return self.page(path, status).one("main")

    def api(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer.text)
        return answer.json()

    def csv(self, path: str) -> list[dict[str, str]]:
        import csv

        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer.text)
        assert answer.headers.get_content_type() == "text/csv"
        return list(csv.DictReader(answer.text.splitlines()))

    def order(self, method: str, path: str, document: Any = None) -> Reply:
        """What a form of a page does."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"X-CSRF-Token": self.csrf} | ({"Content-Type": "application/json"} if body else {})
        return self.ask(method, path, body, headers)


class Site(Desk):
    """A desk whose daemon serves the page, with an account for every role."""

    def __init__(self, folder: Path, *, agents: int = 2, queue: int = 20, config: str = "") -> None:
        super().__init__(folder, agents=agents, queue=queue)
        file = folder / ".config/tasksd/config.toml"
        file.write_text(file.read_text() + _WEB + config)

    def start(self) -> None:
        super().start()
        if not self.ask("GET", "/v1/users")[2]:
            for name, role in PEOPLE.items():
                status, _, answer = self.ask(
                    "POST", "/v1/users", {"username": name, "password": PASSWORD, "role": role}
                )
                assert status == 201, answer

    @property
    def url(self) -> str:
        return str(self.ask("GET", "/v1/status")[2]["web"])

    def visitor(self, name: str = "") -> Visitor:
        """Logged in as `name`, if any."""
        made = Visitor(self.url)
        if name:
            made.log_in(name)
        return made


def site_in(folder: Path, *, config: str = "", **settings: int) -> Iterator[Site]:
    """With its daemon running."""
    made = Site(folder, config=config, **settings)
    made.start()
    try:
        yield made
    finally:
        made.close()
