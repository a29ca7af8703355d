"""The settings of the page: who sees which part, accounts and logins, rules, retention, the doctor, quarantine, audit."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .desk import until
from .markup import Element
from .site import PASSWORD, PEOPLE, Answer, Browser, Site, log_in, site_in

VIEWS = {
    "account": "viewer",
    "users": "admin",
    "rules": "viewer",
    "retention": "viewer",
    "settings": "viewer",
    "doctor": "operator",
    "quarantine": "operator",
    "audit": "admin",
}
OF_ROLE = {
    "viewer": ["account", "rules", "retention", "settings"],
    "operator": ["account", "rules", "retention", "settings", "doctor", "quarantine"],
    "admin": list(VIEWS),
}
SECRET = "sk-very-secret-value-123456"
CONFIG = f"""
[agent.environment]
API_TOKEN = "{SECRET}"
[enforcement.types."<i>"]
post_task = "block"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s")
    for made in site_in(folder):
        made.stop()
        config = folder / ".config/tasksd/config.toml"
        config.write_text(config.read_text() + CONFIG)
        made.start()
        yield made


def view(browser: Browser, name: str, more: str = "") -> Element:
    return browser.page(f"/settings?view={name}{more}").one(id=name)


def orders(element: Element) -> list[str]:
    return [one.get("data-api") for one in element.all("form") if one.get("data-api")]


def order(browser: Browser, action: str, document: Any = None) -> Answer:
    """What a form says that it asks of the API."""
    method, _, target = action.partition(" ")
    return browser.send(method, target, document)


def keys(element: Element) -> list[str]:
    return [one.get("data-key") for one in element.all("tr") if one.get("data-key")]


@pytest.mark.parametrize("name", PEOPLE)
def test_everybody_sees_the_parts_of_their_role_alone(site: Site, name: str) -> None:
    browser, allowed = site.browser(name), OF_ROLE[PEOPLE[name]]
    tabs = browser.page("/settings").one("ul", class_="tabs")
    assert [one.get("href") for one in tabs.all("a")] == [f"/settings?view={one}" for one in allowed]
    for one in VIEWS:
        page = browser.page(f"/settings?view={one}", 200 if one in allowed else 403)
        if one in allowed:
            assert page.one("a", href=f"/settings?view={one}", aria_current="page")
        else:
            assert VIEWS[one] in page.one("main").text


def test_an_unknown_part_is_the_first_one(site: Site) -> None:
    for query in ("", "?view=nothing", "?view=%00", "?view=users&view=account"):
        assert site.browser("vic").page(f"/settings{query}").one("h1").text == "Settings"


# Account


def test_the_own_account_shows_its_own_logins_alone(site: Site) -> None:
    browser = site.browser("vic", new=True)
    other = site.browser("vic", new=True)
    mine = browser.get("/v1/logins").json()
    section = view(browser, "account")
    assert keys(section) == [one["login_id"] for one in mine]
    assert {one["username"] for one in mine} == {"vic"}
    (end,) = [one for one in orders(section) if other_login(other) in one]
    assert order(browser, end).status == 204
    assert other.get("/v1/me").status == 401
    assert other_login(browser) in str(keys(view(browser, "account")))


def other_login(browser: Browser) -> str:
    """The id of its login, which its token names."""
    import base64

    payload = browser.token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"])


def test_one_changes_ones_password_with_the_present_one(site: Site) -> None:
    site.add_user("peer")
    browser, other = site.browser("peer", new=True), site.browser("peer", new=True)
    form = next(one for one in view(browser, "account").all("form") if "password" in one.get("data-api"))
    inputs = {one.get("name"): one for one in form.all("input") if one.get("type") == "password"}
    assert inputs["current"].get("autocomplete") == "current-password"
    assert inputs["new"].get("autocomplete") == "new-password"
    assert inputs[""].get("data-same") == "new"
    new = "another horse, another battery"
    wrong = order(browser, form.get("data-api"), {"current": "wrong", "new": new})
    assert (wrong.status, wrong.json()["detail"]) == (403, "the present password is wrong")
    assert order(browser, form.get("data-api"), {"current": PASSWORD, "new": new}).status == 204
    assert browser.get("/v1/me").status == 200
    assert other.get("/v1/me").status == 401
    assert site.patiently(lambda: log_in(site, {"username": "peer", "password": PASSWORD})).status == 401
    assert Browser(site, "peer", new)


def test_no_page_ever_holds_a_password_or_a_token(site: Site) -> None:
    for name, role in PEOPLE.items():
        browser = site.browser(name)
        for one in OF_ROLE[role]:
            text = browser.get(f"/settings?view={one}").text
            assert PASSWORD not in text
            assert browser.token not in text
            assert SECRET not in text


# Users


def test_an_admin_makes_changes_and_removes_accounts(site: Site) -> None:
    browser = site.browser("ada")
    section = view(browser, "users")
    assert len(section.one(aria_label="Accounts").rows()) - 1 == len(browser.get("/v1/users").json())
    add = next(one for one in section.all("form") if one.get("data-api") == "POST /v1/users")
    assert {one.get("name") for one in add.walk() if one.get("name")} == {"username", "password", "role"}
    made = order(browser, "POST /v1/users", {"username": "Zoë&co", "password": PASSWORD, "role": "viewer"})
    assert made.status == 201
    section = view(browser, "users")
    row = next(one for one in section.all("tr") if one.get("data-key") == str(made.json()["user_id"]))
    assert row.one("th").text == "Zoë&co"
    found = {one.rpartition("/")[2]: one for one in orders(row)}
    assert found.keys() == {"role", "password", "disable", "Zo%C3%AB%26co"}
    assert order(browser, found["role"], {"role": "operator"}).json()["role"] == "operator"
    assert order(browser, found["disable"]).json()["disabled"] is True
    section = view(browser, "users")
    row = next(one for one in section.all("tr") if one.get("data-key") == str(made.json()["user_id"]))
    assert "operator disabled" in row.text
    assert [one for one in orders(row) if one.endswith("/enable")]
    assert order(browser, found["Zo%C3%AB%26co"]).status == 204
    assert "Zoë" not in view(browser, "users").text


def test_an_admin_sees_everybodys_logins(site: Site) -> None:
    site.browser("vic")
    browser = site.browser("ada")
    section = view(browser, "users").one(aria_label="Open logins")
    assert sorted(keys(section)) == sorted(one["login_id"] for one in browser.get("/v1/logins?all=true").json())
    assert f"DELETE /v1/logins/{other_login(browser)}" not in orders(section)


def test_what_a_browser_calls_itself_is_text(site: Site) -> None:
    form = {"username": "olga", "password": PASSWORD}
    assert site.patiently(lambda: log_in(site, form, {"User-Agent": "<img src=x> \u202e"})).status == 303
    text = site.browser("ada").get("/settings?view=users").text
    assert "&lt;img src=x&gt;" in text
    assert "<img src=x>" not in text
    assert "\u202e" not in text


# Rules, retention, all settings


def test_rules_show_what_holds_for_whom_and_what_they_said(site: Site) -> None:
    id_ = site.hand_over("echo new >new", agent_type="<i>")
    until(lambda: site.task(id_)["finished_at"], "the task is over")
    section = view(site.browser("vic"), "rules")
    assert "Agents of type <i>" in [one.text for one in section.all("h3")]
    told = site.browser("vic").get("/v1/verdicts?limit=100").json()
    assert keys(section) == [str(one["id"]) for one in told]
    failed = next(one for one in told if not one["passed"])
    assert failed["message"] in section.text
    assert section.all("a", href=f"/tasks/{id_}")


def test_retention_says_what_is_kept(site: Site) -> None:
    section, kept = view(site.browser("vic"), "retention"), site.ask("GET", "/v1/status")[2]["retention"]
    rows = dict(row for row in section.rows()[1:])
    assert rows["Parameters, error texts, bodies of events"] == "30 days"
    assert rows["Events, calls, files, changes of status, audit"] == "365 days"
    assert f"{kept['pruned_rows']} rows" in section.text


def test_all_settings_are_those_of_the_api_with_changed_ones_marked(site: Site) -> None:
    found = site.browser("vic").get("/v1/settings").json()
    section = view(site.browser("vic"), "settings")
    rows = [row for table in section.all("table", class_="settings") for row in table.all("tr") if row.all("td")]
    assert [row.one("th").text for row in rows] == [one["key"] for one in found["settings"]]
    marked = [row.one("th").text for row in rows if "changed" in row.get("class")]
    assert marked == [one["key"] for one in found["settings"] if one["changed"]]
    assert "API_TOKEN = set" in section.text
    assert found["config_file"] in section.text


# Doctor


def test_the_doctor_looks_once_and_what_it_finds_comes_by_itself(site: Site) -> None:
    browser = site.browser("olga")
    with browser.stream("/settings?view=doctor") as changes:
        for change in changes:
            if "Findings" in change.get("doctor", ""):
                break
    found = browser.get("/v1/doctor").json()["findings"]
    section = view(browser, "doctor")
    assert len(section.rows()) - 1 == len(found)
    # What has to be done stands first.
    shown = [row[1] for row in section.rows()[1:]]
    assert shown == sorted(shown, key=lambda one: one == "ok")
    assert orders(section) == ["GET /v1/doctor?fresh=true"]


# Quarantine


def test_what_was_not_understood_is_retried_by_operators_and_read_by_admins(site: Site) -> None:
    site.leave_raw(b'{"hook_event_name": <b>broken \x1b[31m')
    (entry,) = until(lambda: site.browser("ada").get("/v1/quarantine").json(), "it is in quarantine")
    id_ = entry["id"]
    until(lambda: keys(view(site.browser("olga"), "quarantine")), "it is on the page")
    of_operator = view(site.browser("olga"), "quarantine")
    assert orders(of_operator) == [f"POST /v1/quarantine/{id_}/retry"]
    assert of_operator.all("a") == []
    assert "broken" not in view(site.browser("olga"), "quarantine", f"&id={id_}").text
    of_admin = site.browser("ada")
    assert orders(view(of_admin, "quarantine")) == [
        f"POST /v1/quarantine/{id_}/retry",
        f"DELETE /v1/quarantine/{id_}",
    ]
    raw = of_admin.get(f"/settings?view=quarantine&id={id_}").text
    assert "&lt;b&gt;broken" in raw
    assert "\x1b" not in raw
    of_admin.page("/settings?view=quarantine&id=none", 404)
    assert order(of_admin, f"DELETE /v1/quarantine/{id_}").status == 204
    until(lambda: not keys(view(of_admin, "quarantine")), "it is gone from the page")
    assert "Everything that came could be understood." in view(of_admin, "quarantine").text


# Audit


def test_the_audit_log_is_filtered_and_goes_on_page_by_page(site: Site) -> None:
    browser = site.browser("ada")
    for _ in range(110):
        assert browser.send("POST", "/v1/tasks/nothing/cancel").status == 404
    query = "&user=ADA&action=POST+%2Fv1%2Ftasks%2F%7Btask_id%7D%2Fcancel"

    def written() -> Any:
        """What was done is written down after it was answered."""
        told = browser.get(f"/v1/audit?limit=200{query}").json()
        return told if len(told) == 110 else None

    told = until(written, "all of it is written down")
    section = view(browser, "audit", query)
    first = keys(section)
    assert first == [str(one["id"]) for one in told[:100]]
    (older,) = [one.get("href") for one in section.all("a") if one.text == "Older"]
    rest = browser.page(older).one(id="audit")
    assert keys(rest) == [str(one["id"]) for one in told[100:]]
    assert "404" in rest.text
    assert [one.text for one in rest.all("a", class_="button")] == ["Newest"]
    csv = browser.get(f"/audit.csv?{query[1:]}").text.splitlines()
    assert csv[0].split(",")[0] == "id"
    assert [line.split(",")[0] for line in csv[1:]] == [str(one["id"]) for one in told]
    assert site.browser("olga").get("/audit.csv").status == 403


@pytest.mark.parametrize("query", ["&before=x", "&before=-1", "&before=99999999999999999999", "&user=%00&action=%FF"])
def test_nonsense_in_the_address_does_no_harm(site: Site, query: str) -> None:
    for name in VIEWS:
        assert view(site.browser("ada"), name, query)


def test_what_was_tried_with_a_strange_name_is_text(site: Site) -> None:
    browser = site.browser("ada")
    assert browser.send("POST", "/v1/tasks/%3Cb%3E%E2%80%AE/cancel").status == 404
    until(lambda: "&lt;b&gt;" in browser.get("/settings?view=audit").text, "it is written down")
    text = browser.get("/settings?view=audit").text
    assert "<b>\\" not in text
    assert "\u202e" not in text
