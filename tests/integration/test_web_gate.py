"""The gate before the page: which names and origins are ours, what proves a request, and what every answer says."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tasks.web import pages
from tasks.web.app import rules
from tasks.web.gate import HEADERS

from .site import PASSWORD, Answer, Site, log_in, site_in

#: Parts of addresses, where there is no such thing.
NOBODY = {"dimension": "tool", "name": "nobody", "session_uuid": "ffff"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for made in site_in(tmp_path_factory.mktemp("s")):
        made.leave("SessionStart", source="startup")
        made.leave("UserPromptSubmit", prompt="go", prompt_id="p1")
        made.leave("PreToolUse", tool_name="Bash", tool_use_id="t1", tool_input={"command": "ls"}, prompt_id="p1")
        made.stored()
        yield made


def address(path: str) -> str:
    """A path of a route with its parameters filled in."""
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: NOBODY.get(found[1], "zzzzzz"), path)


def test_people_of_every_role_get_the_page(site: Site) -> None:
    for name in ("ada", "olga", "vic"):
        page = site.browser(name).page("/")
        assert page.one("h1").text
        assert site.by_token(name, "GET", "/v1/me").json()["username"] == name
    with site.browser("vic").stream("/") as changes:
        assert "sessions" in next(changes)


# Host.

OURS = ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}"]
NOT_OURS = [
    "127.0.0.1", "localhost", "[::1]", "127.0.0.1:1", "localhost:80", "127.0.0.1:0{port}", "127.0.0.1:{port}0",
    "evil.example:{port}", "evil.example", "localhost.:{port}", "127.0.0.1.:{port}", "localhost.evil.example:{port}",
    "ada@127.0.0.1:{port}", "127.0.0.1:{port}@evil.example", "127.0.0.1:{port},evil.example", "127.0.0.1:{port}/",
    "LOCALHOST:{port}", "127.1:{port}", "2130706433:{port}", "0x7f.0.0.1:{port}", "0.0.0.0:{port}", "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}", "::1:{port}", "[0:0:0:0:0:0:0:1]:{port}", "", ":{port}", "127.0.0.1:{port} x",
    "127.0.0.1:\u0661", "http://127.0.0.1:{port}", "\u2024", "127.0.0.1:",
]  # fmt: skip


def with_host(site: Site, host: str, target: str = "/v1/me", protocol: str = "HTTP/1.1") -> Answer:
    """A request by a cookie that is right, so that nothing but the name can be wrong."""
    cookie = site.browser("ada").cookie
    head = f"GET {target} {protocol}\r\n{host}Cookie: {cookie}\r\nConnection: close\r\n\r\n"
    return site.send(head.replace("{port}", str(site.port)).encode())


@pytest.mark.parametrize("host", OURS)
def test_the_names_of_this_machine_with_the_port_are_ours(site: Site, host: str) -> None:
    assert with_host(site, f"Host: {host}\r\n").json()["username"] == "ada"
    assert with_host(site, f"Host: {host}\r\n", protocol="HTTP/1.0").status == 200


@pytest.mark.parametrize("target", ["/v1/me", "/", "/login", "/assets/app.css", "/metrics", "/nothing"])
def test_no_other_name_is(site: Site, target: str) -> None:
    for host in NOT_OURS:
        answer = with_host(site, f"Host: {host}\r\n", target)
        assert answer.status in (400, 403), host
        assert b"ada" not in answer.body, host


def test_a_request_names_one_host(site: Site) -> None:
    right, wrong = "Host: 127.0.0.1:{port}\r\n", "Host: evil.example:{port}\r\n"
    for hosts in (right + wrong, wrong + right, right + right, right.replace("Host", "hOST") + wrong):
        assert with_host(site, hosts).status in (400, 403)
    assert with_host(site, "").status == 400
    assert with_host(site, "", protocol="HTTP/1.0").status == 403
    assert with_host(site, wrong, protocol="HTTP/1.0").status == 403
    # What proxies add says nothing here.
    for name in ("X-Forwarded-Host", "Forwarded", "X-Original-Host", "X-Host"):
        assert with_host(site, f"{wrong}{name}: 127.0.0.1:{{port}}\r\n").status == 403
        assert with_host(site, f"{right}{name}: evil.example\r\n").status == 200


def test_an_address_with_another_server_in_it_is_none_of_ours(site: Site) -> None:
    right = "Host: 127.0.0.1:{port}\r\n"
    for target in ("http://evil.example/v1/me", "http://127.0.0.1:{port}/v1/me", "//evil.example/v1/me", "*", "v1/me"):
        answer = with_host(site, right, target)
        assert answer.status in (400, 404), target
        assert b"ada" not in answer.body or answer.document.all("h1")
    assert with_host(site, right.replace("127.0.0.1", "evil.example"), "http://127.0.0.1:{port}/v1/me").status == 403


def test_a_page_on_ipv6_is_reached_by_its_name_there(
    tmp_path: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    for site in site_in(tmp_path_factory.mktemp("s"), web_host="::1"):
        assert site.url == f"http://[::1]:{site.port}"
        assert site.browser("vic").page("/").one("h1")
        assert site.request("GET", "/login", host=f"localhost:{site.port}").status == 200
        assert site.request("GET", "/login", host=f"[::2]:{site.port}").status == 403


# Origin, and the token of the pages.


def test_a_cookie_alone_changes_nothing(site: Site) -> None:
    ada, olga = site.browser("ada"), site.browser("olga")
    ours = site.url
    right = {"Origin": ours, "X-CSRF-Token": ada.csrf}
    tricks: dict[str, dict[str, str]] = {
        "no token": {"Origin": ours},
        "an empty token": {"Origin": ours, "X-CSRF-Token": ""},
        "the token of another login": {"Origin": ours, "X-CSRF-Token": olga.csrf},
        "a token cut short": {"Origin": ours, "X-CSRF-Token": ada.csrf[:-1]},
        "odd characters": {"Origin": ours, "X-CSRF-Token": "é" * 64},
        "another origin": right | {"Origin": "http://evil.example"},
        "another port": right | {"Origin": f"http://127.0.0.1:{site.port + 1}"},
        "another of our names": right | {"Origin": f"http://localhost:{site.port}"},
        "another scheme": right | {"Origin": ours.replace("http", "https")},
        "a longer name": right | {"Origin": f"{ours}.evil.example"},
        "null": right | {"Origin": "null"},
        "an empty origin": right | {"Origin": ""},
        "no origin": {"X-CSRF-Token": ada.csrf},
        "a referrer instead": {"X-CSRF-Token": ada.csrf, "Referer": f"{ours}/"},
        "a list of origins": right | {"Origin": f"{ours}, http://evil.example"},
        "the token in a cookie": {"Origin": ours, "Cookie": f"{ada.cookie}; csrf={ada.csrf}; x-csrf-token={ada.csrf}"},
    }
    before = site.tables() | {"audit": []}
    deeds = [rule for rule in rules() if rule.writes and rule.role is not None and not rule.socket_only]
    assert len(deeds) > 20
    for rule in deeds:
        for name, headers in tricks.items():
            for kind, body in list(BODIES.items())[: None if name == "no token" else 1]:
                answer = site.request(
                    rule.method, address(rule.path),
                    headers={"Cookie": ada.cookie, "Content-Type": kind} | headers, body=body,
                )  # fmt: skip
                assert answer.status == 403, (rule, name, kind, answer.status)
    assert site.tables() | {"audit": []} == before


#: As pages elsewhere can send them without being asked first, and one that they cannot.
BODIES = {
    "application/json": b'{"password": "another horse battery", "role": "viewer"}',
    "text/plain": b'{"username": "eve", "password": "another horse battery", "role": "admin", "x": "="}',
    "application/x-www-form-urlencoded": b"username=eve&password=another+horse+battery&role=admin",
    "multipart/form-data; boundary=x": b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n1\r\n--x--\r\n',
}


def test_another_page_can_log_nobody_in_or_out(site: Site) -> None:
    form = {"username": "vic", "password": PASSWORD}
    for origin in ("http://evil.example", "null", "", f"http://127.0.0.1:{site.port + 1}"):
        answer = log_in(site, form, {"Origin": origin})
        assert (answer.status, answer.header("set-cookie")) == (403, None)
    ada = site.browser("ada")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for csrf in ("", site.browser("vic").csrf, "x" * 64):
        body = f"csrf={csrf}".encode()
        answer = site.request("POST", "/logout", headers=kind | {"Cookie": ada.cookie, "Origin": site.url}, body=body)
        assert answer.status == 403
    assert ada.get("/v1/me").status == 200


def test_each_kind_of_token_is_good_for_one_way_in(site: Site) -> None:
    ada, bearer = site.browser("ada"), site.token("ada")
    name = ada.cookie.partition("=")[0]
    assert site.request("GET", "/v1/me", headers={"Authorization": f"Bearer {ada.token}"}).status == 401
    assert site.request("GET", "/v1/me", headers={"Cookie": f"{name}={bearer}"}).status == 401
    assert site.request("GET", "/v1/me", headers={"Authorization": f"bearer   {bearer} "}).status == 200
    assert site.request("GET", f"/v1/me?token={bearer}").status == 401
    for odd in ("Bearer", "Bearer ", "Bearer x y", f"Basic {bearer}", f"Token {bearer}", "Bearer " + "a." * 7000, "é"):
        assert site.request("GET", "/v1/me", headers={"Authorization": odd}).status == 401
    # A page cannot set the header without being asked first, which it never is allowed: no token against forgery is needed.
    answer = site.by_token("ada", "POST", "/v1/tasks/clean", {"dry_run": True, "older_than_ms": 0})
    assert answer.status == 200
    assert site.request("OPTIONS", "/v1/tasks/clean", headers={"Origin": "http://evil.example"}).status == 403


def test_a_body_that_is_not_called_json_is_none(site: Site) -> None:
    ada = site.browser("ada")
    before = site.tables()["users"]
    body = json.dumps({"username": "eve", "password": "another horse battery", "role": "admin"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"Cookie": ada.cookie, "Origin": site.url, "X-CSRF-Token": ada.csrf, "Content-Type": kind}
        assert site.request("POST", "/v1/users", headers=headers, body=body).status == 422, kind
    assert site.tables()["users"] == before


def test_reading_changes_nothing(site: Site) -> None:
    ada = site.browser("ada")
    ada.page("/")
    before = site.tables()
    for rule in rules():
        if not rule.writes:
            for headers in ({}, {"Origin": "http://evil.example"}):
                answer = ada.get(address(rule.path), headers)
                assert answer.status < 500, (rule, answer)
                assert (answer.status == 403) == bool(headers), rule
            site.request("HEAD", address(rule.path), headers={"Cookie": ada.cookie})
            assert site.ask("GET", address(rule.path))[0] < 500
    assert site.tables() == before


# What every answer says.


def answers(site: Site) -> Iterator[tuple[str, Answer]]:
    """One of every kind."""
    ada = site.browser("ada")
    for page in pages.PAGES:
        yield page.path, ada.get(address(page.path))
    for table in pages.TABLES:
        yield table.path, ada.get(address(table.path))
    yield "the login", site.request("GET", "/login")
    yield "a login that fails", log_in(site, {"username": "nobody", "password": "no password"})
    yield "a login that succeeds", site.patiently(lambda: log_in(site, {"username": "vic", "password": PASSWORD}))
    yield "somebody unknown", site.request("GET", "/")
    yield "some program unknown", site.request("GET", "/v1/status")
    yield "a page that is not there", ada.get("/nothing")
    yield "data that are not there", ada.get("/v1/nothing")
    yield "a thing that is not there", ada.get("/v1/tasks/zzzzzz")
    yield "a wrong method", ada.send("PUT", "/v1/status")
    yield "a wrong method of a page", ada.send("DELETE", "/")
    yield "another name", site.request("GET", "/", host="evil.example")
    yield "another origin", ada.get("/v1/status", {"Origin": "http://evil.example"})
    yield "what the role does not allow", site.browser("vic").get("/v1/users")
    yield "wrong parameters", ada.get("/v1/events?limit=0")
    yield "a wrong body", ada.send("POST", "/v1/users", {"x": 1})
    yield "an asset", site.request("GET", "/assets/app.css")
    yield "no asset", site.request("GET", "/assets/..%2fgate.py")
    yield "data", ada.get("/v1/status")
    yield "the description", ada.get("/openapi.json")
    yield "metrics", ada.get("/metrics")
    yield "a head", site.request("HEAD", "/login")
    yield "a slash too many", ada.get("/v1/status/")


def test_every_answer_carries_the_headers(site: Site) -> None:
    for what, answer in answers(site):
        names = {name for name, _ in answer.headers}
        for name, value in HEADERS.items():
            if (name, what) != ("cache-control", "an asset"):
                assert answer.header(name) == value, (what, name)
        assert answer.status < 500, what
        assert not names & {"server", "x-powered-by", "date"}, what
        assert not [name for name in names if name.startswith("access-control-")], what
        assert "charset=utf-8" in (answer.header("content-type") or "charset=utf-8").replace(
            "application/json", "charset=utf-8"
        ), what


def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
        "connect-src": "'self'", "form-action": "'self'", "base-uri": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip


def test_pages_keep_to_the_policy(site: Site) -> None:
    for what, answer in answers(site):
        if not (answer.header("content-type") or "").startswith("text/html"):
            continue
        for one in answer.document.walk():
            assert not [name for name in one.attributes if name.startswith("on") or name == "style"], (what, one)
            assert one.tag not in ("style", "base", "iframe", "object", "embed"), (what, one)
            assert one.tag != "script" or (one.get("src").startswith("/assets/") and not one.raw.strip()), (what, one)
            for name in ("href", "src", "action", "formaction", "xlink:href", "poster", "srcset"):
                elsewhere = re.match(r"\s*([a-z]+:|//|/\\)", one.get(name), re.IGNORECASE)
                assert not elsewhere, (what, one)


def test_what_is_cached_is_public(site: Site) -> None:
    kept = [one.get("src") or one.get("href") for one in site.request("GET", "/login").document.walk()]
    for target in [one for one in kept if one.startswith("/assets/")]:
        assert "immutable" in (site.request("GET", target).header("cache-control") or "")
        assert site.request("GET", target.partition("?")[0]).header("cache-control") == "no-cache"


@pytest.mark.parametrize(
    "name",
    ["..%2fgate.py", "%2e%2e%2f%2e%2e%2fapp.py", "%00", "app.css%00", "APP.CSS", "x.py", ".", "..", "app.css%0a"],
)
def test_assets_are_those_of_the_package_alone(site: Site, name: str) -> None:
    assert site.request("GET", f"/assets/{name}").status in (303, 404)


def test_the_cookie_stays_with_the_browser_and_this_port(site: Site) -> None:
    answer = site.patiently(lambda: log_in(site, {"username": "vic", "password": PASSWORD}))
    name, _, rest = (answer.header("set-cookie") or "").partition("=")
    assert name == f"tasksd_{site.port}"
    assert rest.partition(";")[2].split("; ") == [" Path=/", "HttpOnly", "SameSite=Strict"] or rest.split("; ")[1:] == [
        "Path=/", "HttpOnly", "SameSite=Strict",
    ]  # fmt: skip


ELSEWHERE = [
    "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "http:evil.example",
    "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " //evil.example",
    "/x\r\nSet-Cookie: a=b", "evil.example", "/\u2028", "/\x00", "data:text/html,x", "/\\/evil.example", "///evil.example",
    "/x\\..\\\\evil.example", "//evil.example/%2f..",
]  # fmt: skip


def test_a_login_leads_nowhere_else(site: Site) -> None:
    vic = site.browser("vic")
    for target in ELSEWHERE:
        answer = vic.get(f"/login?next={quote(target, safe='')}")
        assert (answer.status, answer.header("location")) == (303, "/"), target
        answer = site.request("GET", f"/login?next={quote(target, safe='')}")
        assert answer.status == 200
        assert answer.header("set-cookie") is None
    for target in (*ELSEWHERE[:3], ELSEWHERE[10]):
        form = {"username": "vic", "password": PASSWORD, "next": target}
        answer = site.patiently(lambda form=form: log_in(site, form))  # type: ignore[misc]
        assert (answer.status, answer.header("location")) == (303, "/"), target
    wanted = "/costs?days=7&by=model"
    answer = site.request("GET", wanted)
    assert answer.status == 303
    assert answer.header("location") == f"/login?next={quote(wanted, safe='')}"
    assert vic.get(f"/login?next={quote(wanted, safe='')}").header("location") == wanted
