"""`tasksd dashboard`, and what status and doctor say of the page: a real daemon, a browser that notes what it is given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.cli.dashboard import has_display

from .desk import Desk, desk_in, until
from .site import Site, log_in, site_in


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_in(tmp_path_factory.mktemp("s"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from desk_in(tmp_path)


def browser_in(folder: Path) -> tuple[str, Path]:
    """A command for $BROWSER, and the file in which that notes the address."""
    program, opened = folder / "browser", folder / "opened"
    program.write_text(f'#!/bin/sh\necho "$1" >"{opened}.part" && mv "{opened}.part" "{opened}"\n')
    program.chmod(0o755)
    return f"{program} %s", opened


def found_by_doctor(desk: Desk) -> Any:
    done = desk.run("doctor", "--json", code=None)
    return [one for one in json.loads(done.stdout) if one["check"] == "page"]


def logged_in(site: Site, url: str) -> str:
    """Who is logged in by the address, once."""
    page, _, code = url.partition("#once=")
    assert page == f"{site.url}/login"
    answer = log_in(site, {"once": code})
    assert answer.status == 303, answer.text
    again = log_in(site, {"once": code})
    assert again.status == 401
    cookie = (answer.header("set-cookie") or "").partition(";")[0]
    return str(site.request("GET", "/v1/me", headers={"Cookie": cookie}).json()["username"])


def test_the_address_logs_in_once_as_the_oldest_admin(site: Site) -> None:
    done = site.run("dashboard", "--no-browser")
    assert done.stderr == ""
    assert logged_in(site, done.stdout.strip()) == "ada"


def test_another_account_can_be_named(site: Site) -> None:
    url = site.run("dashboard", "--no-browser", "--user", "VIC").stdout.strip()
    assert logged_in(site, url) == "vic"
    nobody = site.run("dashboard", "--user", "nobody", code=1)
    assert nobody.stdout == ""
    assert "there is no account nobody" in nobody.stderr


def test_a_browser_is_opened_where_there_is_a_display(site: Site, tmp_path: Path) -> None:
    browser, opened = browser_in(tmp_path)
    url = site.run("dashboard", BROWSER=browser, DISPLAY=":99").stdout.strip()
    until(opened.exists, "the browser is started")
    assert opened.read_text().strip() == url
    opened.unlink()
    site.run("dashboard", "--no-browser", BROWSER=browser, DISPLAY=":99")
    site.run("dashboard", BROWSER=browser, DISPLAY="")
    assert not opened.exists()


@pytest.mark.parametrize(
    ("platform", "environ", "wanted"),
    [
        ("darwin", {}, True),
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
    ],
)
def test_displays_are_known_by_their_variables(platform: str, environ: dict[str, str], wanted: bool) -> None:
    assert has_display(platform, environ) is wanted


def test_status_and_doctor_say_where_the_page_is(site: Site) -> None:
    assert site.json("status")["web"] == site.url
    assert f"page         {site.url}" in site.run("status").stdout
    assert found_by_doctor(site) == [{"check": "page", "verdict": "ok", "message": site.url, "remedy": None}]


def test_without_a_page_it_says_how_to_switch_it_on(desk: Desk) -> None:
    done = desk.run("dashboard", code=1)
    assert done.stdout == ""
    assert "enabled = true under [web]" in done.stderr
    assert str(desk.folder / ".config/tasksd/config.toml") in done.stderr
    assert desk.json("status")["web"] == "off"
    assert found_by_doctor(desk)[0]["verdict"] == "ok"


def test_the_doctor_notices_a_daemon_that_was_started_before_the_page_was_wanted(desk: Desk) -> None:
    config = desk.folder / ".config/tasksd/config.toml"
    config.write_text(config.read_text() + "[web]\nenabled = true\n")
    (found,) = found_by_doctor(desk)
    assert (found["verdict"], found["remedy"]) == ("warning", "restart the daemon")


def test_without_an_account_it_says_how_to_make_one(tmp_path: Path) -> None:
    made = Desk(tmp_path)
    made.environ |= {"TASKSD_WEB_ENABLED": "true", "TASKSD_WEB_PORT": "0", "TASKSD_WEB_PASSWORD_COST": "4"}
    made.start()
    try:
        done = made.run("dashboard", code=1)
        assert "tasksd users add NAME" in done.stderr
        (found,) = found_by_doctor(made)
        assert (found["verdict"], found["remedy"]) == ("warning", "run `tasksd users add NAME`")
    finally:
        made.close()


def test_a_page_that_cannot_be_served_is_explained_everywhere(site: Site, tmp_path: Path) -> None:
    made = Desk(tmp_path)
    made.environ |= {"TASKSD_WEB_ENABLED": "true", "TASKSD_WEB_PORT": str(site.port)}
    made.start()
    try:
        why = made.json("status")["web"]
        assert str(site.port) in why
        assert why in made.run("dashboard", code=1).stderr
        assert f"page         {why}" in made.run("status").stdout
        (found,) = found_by_doctor(made)
        assert (found["verdict"], found["message"]) == ("problem", why)
    finally:
        made.close()


def test_without_a_daemon_it_fails_as_every_command_does(tmp_path: Path) -> None:
    made = Desk(tmp_path)
    done = made.run("dashboard", code=69)
    assert "tasksd up" in done.stderr
    made.start()
    keys = list(made.json("status"))
    made.close()
    offline = made.run("status", "--json", code=69)
    assert list(json.loads(offline.stdout)) == keys
    assert json.loads(offline.stdout)["web"] == "off"
