"""Who may ask for what: the table of rules against the routes there are, against real requests, and as it is documented."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Match
from tasks.api.rules import API_RULES, Rule, RuleBook
from tasks.web.app import rules
from tasks.words import Role

from .doorway import Doorway, doorway_in
from .site import PEOPLE, Answer, Site, site_in

API = Path(__file__).parents[2] / "docs/API.md"
NOBODY = {"dimension": "tool", "name": "nobody", "session_uuid": "ffff"}
#: Those that end the login that they are asked by.
LAST = {"/v1/logout", "/logout"}
#: Whether they let somebody in depends on what is sent.
DOORS = {"/login", "/v1/login"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_in(tmp_path_factory.mktemp("s"))


def address(path: str) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: NOBODY.get(found[1], "zzzzzz"), path)


def asked_by(site: Site, name: str, rule: Rule) -> Answer:
    """By a browser of its own, with all that a browser has to bring; nobody has nothing."""
    if not name:
        return site.request(rule.method, address(rule.path))
    browser = site.browser(name)
    if not rule.writes:
        return browser.get(address(rule.path))
    if rule.form:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": browser.cookie, "Origin": site.url}
        return site.request(rule.method, address(rule.path), headers=form, body=f"csrf={browser.csrf}".encode())
    return browser.send(rule.method, address(rule.path), {})


def expected(rule: Rule, role: str) -> set[int] | None:
    """The statuses that there may be; None: any but those of a refusal."""
    if rule.socket_only:
        return {404} if role else {401}
    if rule.role is None:
        return None
    if not role:
        page = not rule.writes and not rule.path.startswith("/v1/") and rule.path not in ("/openapi.json", "/metrics")
        return {303} if page else {401}
    return None if Role(role).covers(rule.role) else {403}


@pytest.mark.parametrize("name", ["", *PEOPLE])
def test_every_role_may_do_what_the_table_says_and_nothing_else(site: Site, name: str) -> None:
    role = PEOPLE.get(name, "")
    for rule in sorted(rules(), key=lambda rule: rule.path in LAST):
        if rule.path in DOORS:
            continue
        if rule.path in LAST and name:
            site._browsers[name] = site.browser(name, new=True)
        answer = asked_by(site, name, rule)
        if rule.path in LAST:
            site._browsers.pop(name, None)
        may = expected(rule, role)
        what = f"{rule.method} {rule.path} as {role or 'nobody'}: {answer.status} {answer.body[:200]!r}"
        if may is not None:
            assert answer.status in may, what
        elif rule.path not in LAST:
            assert answer.status not in (401, 403), what
            assert not (answer.header("location") or "").startswith("/login"), what
            assert answer.status < 500 or (answer.status == 503 and answer.json()["detail"]), what
        if answer.status == 303 and not role:
            assert (answer.header("location") or "").startswith("/login"), what
        if answer.status in (401, 403) and rule.path.startswith("/v1/"):
            assert answer.json().keys() == {"detail"}, what


@pytest.mark.parametrize("name", PEOPLE)
def test_programs_may_do_what_people_may(site: Site, name: str) -> None:
    for rule in API_RULES:
        if rule.path in DOORS | LAST:
            continue
        answer = site.by_token(name, rule.method, address(rule.path), {} if rule.writes else None)
        may = expected(rule, PEOPLE[name])
        what = f"{rule.method} {rule.path} as {name}: {answer.status} {answer.body[:200]!r}"
        assert answer.status in may if may else answer.status not in (401, 403, 303), what


def test_what_is_refused_is_not_done(site: Site) -> None:
    people = {name: (site.browser(name), site.token(name)) for name in ("olga", "vic")}
    before = site.tables() | {"audit": []}
    for name in people:
        for rule in rules():
            if (
                rule.writes
                and not rule.socket_only
                and rule.role is not None
                and not Role(PEOPLE[name]).covers(rule.role)
            ):
                assert asked_by(site, name, rule).status == 403
                assert site.by_token(name, rule.method, address(rule.path), {}).status == 403
    assert site.tables() | {"audit": []} == before
    attempts = site.by_token("ada", "GET", "/v1/audit?user=vic&limit=1000").json()
    assert {one["outcome"] for one in attempts if one["action"] == "POST /v1/users"} == {403}


@pytest.mark.parametrize("listener", ["socket", "web"])
def test_every_documented_route_has_a_rule(site: Site, listener: str) -> None:
    if listener == "socket":
        document = site.ask("GET", "/openapi.json")[2]
    else:
        document = site.by_token("vic", "GET", "/openapi.json").json()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    ruled = {(rule.method, rule.path) for rule in API_RULES}
    assert routes - ruled == set()
    assert ruled - routes == {("GET", "/openapi.json")}


@pytest.fixture
async def doorway(tmp_path: Path) -> AsyncIterator[Doorway]:
    async with doorway_in(tmp_path) as made:
        yield made


def app_of(doorway: Doorway) -> FastAPI:
    app = doorway.gate._app
    assert isinstance(app, FastAPI)
    return app


async def test_every_route_has_a_rule_and_every_rule_a_route(doorway: Doorway) -> None:
    routes = set()
    for route in iter_route_contexts(app_of(doorway).routes):
        assert route.methods, f"{route} is of a kind that has no rules"
        routes |= {(method, route.path) for method in route.methods if method != "HEAD"}
    assert routes == {(rule.method, rule.path) for rule in rules()}


async def test_requests_reach_the_route_that_their_rule_is_for(doorway: Doorway) -> None:
    routes = list(iter_route_contexts(app_of(doorway).routes))
    book = RuleBook(rules())
    for rule in rules():
        for path in (address(rule.path), address(rule.path) + "\n"):
            scope = {"type": "http", "method": rule.method, "path": path, "headers": []}
            taken = next(route for route in routes if route.matches(scope)[0] is Match.FULL)
            assert (taken.path, book.of(rule.method, path)[0]) == (rule.path, rule)


async def test_a_route_without_a_rule_is_not_there_for_anybody(doorway: Doorway) -> None:
    async def secret() -> str:
        return "secret"

    for path in ("/v1/secret", "/secret", "/v1/secret/{name}"):
        app_of(doorway).add_api_route(path, secret, methods=["GET", "POST"])
    nobody: dict[str, str] = {}
    ada = {"cookie": await doorway.cookie(), "origin": f"http://127.0.0.1:{doorway.port}"}
    for target in ("/v1/secret", "/secret", "/v1/secret/x"):
        for method in ("GET", "POST"):
            page = method == "GET" and target == "/secret"
            for headers, status in ((nobody, 303 if page else 401), (ada, 404), (await doorway.bearer(), 404)):
                answer = await doorway.visit(target, method, headers)
                assert (answer.status, answer.body != b'"secret"') == (status, True), (target, method, headers)


async def test_what_breaks_is_written_down_too(doorway: Doorway) -> None:
    app = app_of(doorway)

    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    app.router.routes.insert(0, APIRoute("/v1/pool/pause", broken, methods=["POST"]))
    headers = await doorway.bearer()
    answer = await doorway.visit("/v1/pool/pause", "POST", headers)
    assert (answer.status, b"purpose" in answer.body) == (500, False)
    assert answer.headers["x-content-type-options"] == "nosniff"
    deed = (await doorway.visit("/v1/audit?limit=1", headers=headers)).json()[0]
    assert (deed["action"], deed["outcome"], deed["username"]) == ("POST /v1/pool/pause", 500, "ada")


#: Ways to spell the same address, or nearly.
SPELLINGS = [
    "{}/", "/{}", "{}//", "/.{}", "/x/..{}", "{}%0a", "{}%00", "{};x", "{}%20", "{}%09", "{}.", "{}/.", "{}?", "{}%3f", "{}%23",
    "{}%2f", "/%2e{}", "{}%0d%0a",
]  # fmt: skip


def test_no_spelling_of_an_address_leads_around_its_rule(site: Site) -> None:
    vic = site.browser("vic")
    for rule in rules():
        if rule.writes or rule.role is None or Role.VIEWER.covers(rule.role):
            continue
        path = address(rule.path)
        last = path.rpartition("/")
        for target in (
            *(spelling.format(path) for spelling in SPELLINGS),
            path.replace("/", "%2f"), "/" + path[1:].replace("/", "%2F"), path.replace("/", "//"), path.upper(),
            f"{last[0]}/%{ord(last[2][0]):02x}{last[2][1:]}",
        ):  # fmt: skip
            answer = vic.get(target)
            assert answer.status in (400, 403, 404, 405), (target, answer)
            assert vic.get(target, {"X-HTTP-Method-Override": "GET", "X-Original-URL": path}).status == answer.status


def test_rules_are_found_by_the_whole_address() -> None:
    book = RuleBook(rules())
    assert book.of("GET", "/v1/users/a\nb")[0] == Rule("GET", "/v1/users/{name}", Role.ADMIN)
    assert book.of("GET", "/v1/users\n")[0] == Rule("GET", "/v1/users", Role.ADMIN)
    for path in ("/v1/users\n\n", "/v1/users/", "/v1//users", "v1/users", "/v1/users/a/b", "", "/v1/tasks/clean\n/x"):
        assert book.of("GET", path) == (None, [])
    assert book.of("POST", "/v1/tasks/clean")[0] == Rule("POST", "/v1/tasks/clean", Role.OPERATOR)
    assert book.of("HEAD", "/v1/status") == book.of("GET", "/v1/status")
    assert book.of("get", "/v1/status")[0] is None
    with pytest.raises(ValueError, match="two rules"):
        RuleBook([*API_RULES, Rule("GET", "/v1/status", None)])


# As documented.

ROWS = {None: "nobody need log in", Role.VIEWER: "viewer", Role.OPERATOR: "operator", Role.ADMIN: "admin"}


def table() -> str:
    """Rules for readers."""
    lines = ["| role | reads | does | pages and files |", "|---|---|---|---|"]
    for role, name in ROWS.items():
        mine = [rule for rule in rules() if rule.role == role and not rule.socket_only]
        api = [rule for rule in mine if rule in API_RULES]
        reads = [f"`{rule.path}`" for rule in api if not rule.writes]
        deeds = [f"`{rule.method} {rule.path}`" for rule in api if rule.writes]
        seen = [
            f"`{rule.path}`" if not rule.writes else f"`{rule.method} {rule.path}`" for rule in mine if rule not in api
        ]
        lines.append(f"| {name} | {', '.join(reads)} | {', '.join(deeds)} | {', '.join(seen)} |")
    alone = ", ".join(f"`{rule.method} {rule.path}`" for rule in rules() if rule.socket_only)
    return "\n".join([*lines, f"| on the Unix socket alone | | {alone} | |"])


def test_the_table_of_roles_is_documented_as_it_is() -> None:
    document = API.read_text()
    _, begun, rest = document.partition("| role | reads | does | pages and files |\n")
    assert begun, "docs/API.md has no table of roles"
    written = begun + rest.partition("\n\n")[0]
    assert written == table(), f"put this into docs/API.md:\n{table()}"
