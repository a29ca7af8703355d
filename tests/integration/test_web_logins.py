"""Logins over HTTP: how they end, how they are renewed, and what becomes of those who guess."""

import base64
import http.client
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tasks.users import KeyRing, logins, tokens
from tasks.users.authority import RENEWED_AFTER

from .conftest import Eventually
from .doorway import Doorway, doorway_in
from .site import PASSWORD, Answer, Browser, Site, log_in, site_in

FRESH = "another horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_in(tmp_path_factory.mktemp("s"))


@pytest.fixture
async def doorway(tmp_path: Path) -> AsyncIterator[Doorway]:
    async with doorway_in(tmp_path) as made:
        yield made


# How logins end.

ENDS: dict[str, Callable[[Site, Browser], Answer]] = {
    "logout": lambda site, eve: site.request(
        "POST", "/logout", body=f"csrf={eve.csrf}".encode(),
        headers={"Cookie": eve.cookie, "Origin": site.url, "Content-Type": "application/x-www-form-urlencoded"},
    ),
    "logout over the API": lambda site, eve: eve.send("POST", "/v1/logout"),
    "killed by herself": lambda site, eve: site.by_token("eve", "DELETE", f"/v1/logins/{login_of(eve)}"),
    "killed by an admin": lambda site, eve: site.by_token("ada", "DELETE", f"/v1/logins/{login_of(eve)}"),
    "a new password": lambda site, eve: site.by_token("ada", "POST", "/v1/users/eve/password", {"password": FRESH}),
    "a new role": lambda site, eve: site.by_token("ada", "POST", "/v1/users/eve/role", {"role": "operator"}),
    "disabled": lambda site, eve: site.by_token("ada", "POST", "/v1/users/eve/disable"),
    "removed": lambda site, eve: site.by_token("ada", "DELETE", "/v1/users/eve"),
    "removed and made again": lambda site, eve: made_again(site),
}  # fmt: skip


def login_of(browser: Browser) -> str:
    return str(browser.get("/v1/me").json()["login_id"])


def made_again(site: Site) -> Answer:
    answer = site.by_token("ada", "DELETE", "/v1/users/eve")
    site.add_user("eve")
    return answer


@pytest.fixture
def eve(site: Site) -> Iterator[Browser]:
    """Somebody whose account does not outlive the test."""
    site.add_user("eve")
    site._tokens.pop("eve", None)
    yield Browser(site, "eve")
    site.by_token("ada", "DELETE", "/v1/users/eve")


@pytest.mark.parametrize("how", ENDS)
def test_the_cookie_of_a_login_that_ended_is_worth_nothing(site: Site, eve: Browser, how: str) -> None:
    bearer = site.token("eve")
    assert eve.get("/v1/me").status == 200
    assert ENDS[how](site, eve).status in (200, 204, 303)
    for _ in range(2):
        assert eve.get("/v1/me").status == 401
        assert (eve.get("/").status, eve.get("/").header("location")) == (303, "/login")
        assert eve.get("/", {"Accept": "text/event-stream"}).status == 401
        assert eve.send("POST", "/v1/tasks/clean", {"older_than_ms": 0}).status == 401
        assert site.request("POST", "/v1/renew", headers={"Authorization": f"Bearer {eve.token}"}).status == 401
    others = site.request("GET", "/v1/me", headers={"Authorization": f"Bearer {bearer}"}).status
    assert others == (200 if "logout" in how or "killed" in how else 401)


def test_logging_out_takes_the_cookie_away(site: Site, eve: Browser) -> None:
    cookie = ENDS["logout"](site, eve).header("set-cookie") or ""
    assert cookie.startswith(f"tasksd_{site.port}=; ")
    assert "Max-Age=0" in cookie


def test_logging_in_again_ends_the_login_that_the_browser_had(site: Site, eve: Browser) -> None:
    form = {"username": "eve", "password": "wrong horse battery"}
    assert site.patiently(lambda: log_in(site, form, {"Cookie": eve.cookie})).status == 401
    assert eve.get("/v1/me").status == 200
    other = site.browser("eve", new=True)
    answer = site.patiently(lambda: log_in(site, form | {"password": PASSWORD}, {"Cookie": eve.cookie}))
    assert answer.status == 303
    assert eve.get("/v1/me").status == 401
    assert other.get("/v1/me").status == 200


def test_a_new_password_of_ones_own_ends_all_other_logins(site: Site, eve: Browser) -> None:
    other, bearer = Browser(site, "eve"), site.token("eve")
    wrong = site.patiently(lambda: eve.send("POST", "/v1/me/password", {"current": "wrong horse", "new": FRESH}))
    assert wrong.status == 403
    assert other.get("/v1/me").status == 200
    changed = site.patiently(lambda: eve.send("POST", "/v1/me/password", {"current": PASSWORD, "new": FRESH}))
    assert changed.status == 204
    assert eve.get("/v1/me").status == 200
    assert other.get("/v1/me").status == 401
    assert site.request("GET", "/v1/me", headers={"Authorization": f"Bearer {bearer}"}).status == 401
    assert site.patiently(lambda: log_in(site, {"username": "eve", "password": PASSWORD})).status == 401
    assert Browser(site, "eve", FRESH).get("/v1/me").status == 200


@pytest.mark.parametrize("target", ["/", "/v1/events?follow=true"])
def test_a_live_stream_ends_with_its_login(site: Site, eve: Browser, target: str) -> None:
    with site.connect() as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {site.host}\r\nAccept: text/event-stream\r\nCookie: {eve.cookie}\r\n\r\n".encode()
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.readline()[:1] in (b":", b"r")) == (200, True)
        assert ENDS["killed by an admin"](site, eve).status == 204
        began = time.monotonic()
        read = 0
        with ThreadPoolExecutor(1) as reading:
            rest = reading.submit(answer.read)  # returns when the stream ends
            while not rest.done():
                assert time.monotonic() - began < 100
                # Something happens all the time; whoever is out is told little of it.
                site.leave("Notification", message=f"m{read}")
                read += 1
                site.stored()
                time.sleep(0.2)
        assert not rest.exception()


def test_a_stream_of_a_task_ends_with_its_login(site: Site, eve: Browser, eventually: Eventually) -> None:
    task = site.hand_over("while :; do echo more; sleep 0.2; done")
    site.running(task)
    try:
        with site.connect() as connection:
            target = f"/v1/tasks/{task}/logs?follow=true"
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {site.host}\r\nCookie: {eve.cookie}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            while b"more" not in answer.readline():
                pass
            ENDS["disabled"](site, eve)
            answer.read()  # to its end
    finally:
        site.ask("POST", f"/v1/tasks/{task}/cancel")
        site.ended(task, "stopped")


def token_of(site: Site, browser: Browser, age: float) -> str:
    """The cookie of the same login that was made `age` seconds ago."""
    me = browser.get("/v1/me").json()
    keys = KeyRing(site.data / "auth")
    token, _ = tokens.issue(keys, user_id=me["user_id"], login_id=me["login_id"], now=time.time() - age)
    return f"{browser.cookie.partition('=')[0]}={token}"


def test_a_token_that_gets_old_is_replaced_and_one_that_is_too_old_refused(site: Site) -> None:
    vic = site.browser("vic", new=True)
    assert vic.get("/").header("set-cookie") is None
    old = token_of(site, vic, RENEWED_AFTER + 60)
    answer = site.request("GET", "/", headers={"Cookie": old})
    renewed = (answer.header("set-cookie") or "").partition(";")
    assert answer.status == 200
    assert renewed[2] == " Path=/; HttpOnly; SameSite=Strict"
    assert renewed[0] not in ("", old)
    assert site.request("GET", "/v1/me", headers={"Cookie": renewed[0]}).json()["username"] == "vic"
    for age in (tokens.LIFETIME + tokens.LEEWAY + 30, 86_400.0, -tokens.LEEWAY - 30):
        answer = site.request("GET", "/v1/me", headers={"Cookie": token_of(site, vic, age)})
        assert (answer.status, answer.header("set-cookie")) == (401, None), age
    # Whoever logs out gets no new one.
    body, kind = f"csrf={vic.csrf}".encode(), {"Content-Type": "application/x-www-form-urlencoded", "Origin": site.url}
    answer = site.request("POST", "/logout", headers=kind | {"Cookie": old}, body=body)
    assert f"{old.partition('=')[0]}=; " in (answer.header("set-cookie") or "")
    assert site.request("GET", "/v1/me", headers={"Cookie": renewed[0]}).status == 401


def test_a_program_renews_its_token(site: Site) -> None:
    token = site.token("vic", new=True)
    answer = site.request("POST", "/v1/renew", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    assert site.request("GET", "/v1/me", headers={"Authorization": f"Bearer {answer.json()['token']}"}).status == 200
    assert site.browser("vic").send("POST", "/v1/renew").status == 409


def test_a_token_that_somebody_made_up_is_refused(site: Site) -> None:
    vic = site.browser("vic")
    head, claims, signature = vic.token.split(".")

    def part(text: str, **changes: Any) -> str:
        data = json.loads(base64.urlsafe_b64decode(text + "=="))
        return base64.urlsafe_b64encode(json.dumps(data | changes).encode()).decode().rstrip("=")

    ada = site.browser("ada").get("/v1/me").json()
    forged = [
        f"{head}.{part(claims, sub='1')}.{signature}",
        f"{head}.{part(claims, jti=ada['login_id'], sub=str(ada['user_id']))}.{signature}",
        f"{part(head, alg='none')}.{claims}.", f"{part(head, alg='none')}.{part(claims, sub='1')}.{signature}",
        f"{part(head, alg='HS384')}.{claims}.{signature}", f"{part(head, kid='../../etc/passwd')}.{claims}.{signature}",
        f"{head}.{claims}.", f"{head}.{claims}", head, "..", "a.b.c", vic.token[:-1], vic.token + "A", f"{vic.token}.x",
        f"{head}.{claims}.{signature[:-4]}AAAA", "x" * 9000, "\u00e9.\u00e9.\u00e9", "null", "%00",
    ]  # fmt: skip
    name = vic.cookie.partition("=")[0]
    for token in forged:
        for headers in ({"Cookie": f"{name}={token}"}, {"Authorization": f"Bearer {token}"}):
            answer = site.request("GET", "/v1/me", headers=headers)
            assert answer.status in (401, 431), token
    assert vic.get("/v1/me").status == 200


def test_cookies_of_other_servers_of_this_machine_do_no_harm(site: Site) -> None:
    vic = site.browser("vic")
    for others in ("a=b; ", "tasksd_1=x; ", "=; ; ;;", 'q="; ', "é=\x01; ", "a" * 4000 + "=1; ", "__Host-x=1; "):
        assert site.request("GET", "/v1/me", headers={"Cookie": others + vic.cookie}).status == 200, others


async def test_half_an_hour_without_a_request_ends_a_login(doorway: Doorway) -> None:
    bearer = await doorway.bearer("vic")
    cookie = await doorway.cookie("vic")
    for _ in range(4):  # seen now and then, it goes on; the cookie is renewed on the way
        doorway.now += 14 * 60
        answer = await doorway.visit("/", headers={"cookie": cookie})
        assert answer.status == 200
        cookie = answer.headers["set-cookie"].partition(";")[0]
    assert await doorway.me(**bearer) == 401
    doorway.now += 14 * 60
    assert await doorway.me(cookie=cookie) == 200
    doorway.now += logins.IDLE / 1000 + 61
    assert await doorway.me(cookie=cookie) == 401
    doorway.now -= 10 * 60  # a clock that is set back opens nothing again
    assert await doorway.me(cookie=cookie) == 401


async def test_twelve_hours_end_a_login_however_busy(doorway: Doorway) -> None:
    cookie = await doorway.cookie("vic")
    began = doorway.now
    while doorway.now - began < logins.ABSOLUTE / 1000 - 10 * 60:
        doorway.now += 10 * 60
        answer = await doorway.visit("/v1/me", headers={"cookie": cookie})
        assert answer.status == 200, (doorway.now - began) / 3600
        cookie = answer.headers.get("set-cookie", cookie).partition(";")[0]
    doorway.now += 10 * 60 + 1
    assert await doorway.me(cookie=cookie) == 401
    assert await doorway.context.database.query("SELECT end_reason FROM logins") == [("expired",)]


async def test_a_new_key_leaves_everybody_in_for_a_quarter_of_an_hour(doorway: Doorway) -> None:
    cookie, bearer = await doorway.cookie("vic"), await doorway.bearer("olga")
    # By another process, as `tasksd users rotate-key` does.
    KeyRing(doorway.context.settings.auth_dir, now=lambda: doorway.now).rotate()
    assert await doorway.me(cookie=cookie) == 200
    assert await doorway.me(**bearer) == 200
    doorway.now += RENEWED_AFTER + 60
    renewed = (await doorway.visit("/", headers={"cookie": cookie})).headers["set-cookie"].partition(";")[0]
    doorway.now += 10 * 60
    assert await doorway.me(cookie=cookie) == 401
    assert await doorway.me(**bearer) == 401
    assert await doorway.me(cookie=renewed) == 200


async def test_a_code_lets_one_person_in_once_within_a_minute(doorway: Doorway) -> None:
    async def used(code: str, **headers: str) -> Any:
        kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{doorway.port}"}
        return await doorway.visit("/login", "POST", kind | headers, f"once={code}".encode())

    doorway.context.web = f"http://127.0.0.1:{doorway.port}"

    async def code() -> str:
        return str((await doorway.ask("/v1/dashboard", "POST")).json()["url"]).partition("#once=")[2]

    first = await code()
    assert len(first) >= 40
    assert (await used(first, origin="http://evil.example")).status == 403
    answer = await used(first)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert (await used(first)).status == 401
    late = await code()
    doorway.now += 61
    assert (await used(late)).status == 401
    for wrong in ("x" * 43, first[:-1], "%00", "a" * 5000):
        assert (await used(wrong)).status == 401
    assert (await doorway.visit("/v1/dashboard", "POST", await doorway.bearer())).status == 404
    removed = await code()
    await doorway.ask("/v1/users/olga/role", "POST", {"content-type": "application/json"}, b'{"role": "admin"}')
    await doorway.ask("/v1/users/ada", "DELETE")
    assert (await used(removed)).status == 401


# Guessing.


def memory(site: Site) -> int:
    """Bytes that the daemon has in memory; 0 where that is not told."""
    assert site.daemon is not None
    try:
        status = Path(f"/proc/{site.daemon.pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


#: Of accounts that exist, nearly exist, and do not.
NAMES = ["ada", "ADA", "nobody", "", "x" * 200, "\u202eada", "ada\x00", "a'--", "olga "]


def guess(site: Site, number: int) -> int:
    """The status of a wrong login by the form or over the API."""
    form = {"username": NAMES[number % len(NAMES)], "password": f"guess number {number}"}
    if number % 2:
        return log_in(site, form).status
    kind = {"Content-Type": "application/json"}
    return site.request("POST", "/v1/login", headers=kind, body=json.dumps(form).encode()).status


def test_a_thousand_wrong_logins_are_refused_and_stop_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    for site in site_in(tmp_path_factory.mktemp("s"), web_password_cost="8"):
        vic = site.browser("vic")  # who is in stays in
        before, longest = memory(site), 0.0
        with ThreadPoolExecutor(8) as guessing:
            answers = [guessing.submit(guess, site, number) for number in range(1000)]
            while not all(one.done() for one in answers):
                began = time.monotonic()
                assert vic.get("/v1/me").status == 200
                assert site.ask("GET", "/v1/status")[0] == 200
                longest = max(longest, time.monotonic() - began)
        statuses = Counter(one.result() for one in answers)
        assert set(statuses) <= {401, 429, 503}, statuses
        assert statuses[401] < 200
        assert longest < 20
        assert memory(site) - before < 32 << 20
        # Everybody else has to wait for a moment, whoever was guessed at for a minute at most; nobody is locked out.
        assert site.browser("olga").get("/v1/me").status == 200
        refused = log_in(site, {"username": "ada", "password": PASSWORD})
        assert refused.status in (303, 429)
        assert 1 <= int(refused.header("retry-after") or 1) <= 60
        assert len([one for one in site.tables()["audit"] if "login_failed" in one]) == statuses[401]
        told = repr(site.tables()) + (site.folder / "daemon.log").read_text()
        assert "guess number" not in told
        assert "Traceback" not in told


async def test_an_answer_does_not_tell_which_part_was_wrong(doorway: Doorway) -> None:
    await doorway.ask("/v1/users/vic/disable", "POST")
    kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{doorway.port}"}
    pages, answers = set(), set()
    for name, password in (("nobody", PASSWORD), ("vic", PASSWORD), ("olga", FRESH), ("olga", ""), ("ada", "x" * 4000)):
        body = f"username={name}&password={password}".replace(" ", "+")
        answer = await doorway.visit("/login", "POST", kind, body.encode())
        pages.add((answer.status, answer.body.replace(f'value="{name}"'.encode(), b""), tuple(sorted(answer.headers))))
        order = json.dumps({"username": name, "password": password}).encode()
        answer = await doorway.visit("/v1/login", "POST", {"content-type": "application/json"}, order)
        answers.add((answer.status, answer.body, tuple(sorted(answer.headers))))
    assert [status for status, *_ in pages] == [401]
    assert [status for status, *_ in answers] == [401]


async def test_odd_credentials_are_refused_like_others(doorway: Doorway) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{doorway.port}"}
    for body in (
        b"", b"username", b"username=ada", b"password=x", b"username=ada&password=%00", b"username=%ff&password=%ff",
        b"\xff\xfe", b"username=ada&password=" + b"x" * 9000, b"&" * 500, b"username=ada&password=\xed\xa0\x80",
        b"username=" + "a\u0301".encode() * 900 + b"&password=x", b"once=", b"once=&username=ada",
        b"username=%ed%a0%80&password=y",
    ):  # fmt: skip
        answer = await doorway.visit("/login", "POST", kind, body)
        assert answer.status == 401, (body[:80], answer)
        doorway.now += 61
    documents: tuple[Any, ...] = (
        [], "x", None, {}, {"username": "ada"}, {"username": 1, "password": 2}, {"username": "ada", "password": "x" * 5000},
        {"username": "ada", "password": PASSWORD, "role": "admin"}, {"username": ["ada"], "password": PASSWORD},
    )  # fmt: skip
    for document in documents:
        answer = await doorway.visit(
            "/v1/login", "POST", {"content-type": "application/json"}, json.dumps(document).encode()
        )
        assert answer.status == 422, document
        assert PASSWORD.encode() not in answer.body
    for raw in (
        b'{"username": "\\ud800", "password": "\\ud800x"}',
        b'{"username": "ada\\u0000", "password": "\\u0000"}',
    ):
        doorway.now += 61
        answer = await doorway.visit("/v1/login", "POST", {"content-type": "application/json"}, raw)
        assert answer.status in (401, 422), raw
