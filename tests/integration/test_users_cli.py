"""`tasksd users` with real processes, on a real terminal and without one."""

import asyncio
import json
import os
import pty
import select
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tasks.database import Database
from tasks.users import Authority, InvalidToken, KeyRing, WrongCredentials, load_pepper

from .desk import COMMAND, TIMEOUT

#: Some of these start twenty processes.
pytestmark = pytest.mark.timeout(600)

T = TypeVar("T")

PASSWORD, OTHER = "correct horse battery", "another good one"


class Home:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "d"
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TASKSD_DATA_DIR": str(self.data), "LANG": "C.UTF-8",
            "TZ": "UTC", "TASKSD_WEB_PASSWORD_COST": "4",
        }  # fmt: skip

    def run(
        self, *arguments: str, code: int = 0, password: str | bytes | None = None
    ) -> "subprocess.CompletedProcess[str]":
        line = password.encode() + b"\n" if isinstance(password, str) else password or b""
        done = subprocess.run(
            [*COMMAND, "users", *arguments], env=self.environ, capture_output=True, timeout=120, check=False, input=line
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in err
        assert done.returncode == code, (done.returncode, out, err)
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def audit(self) -> list[tuple[str, str | None, str | None]]:
        return [(one["action"], one["target"], one["detail"]) for one in reversed(self.json("audit"))]

    def on_a_terminal(self, *arguments: str, answers: dict[str, str], code: int = 0) -> str:
        """What a person sees who types these answers to these questions, in order."""
        ours, theirs = pty.openpty()
        # A session of its own: the terminal of whoever runs the tests is none of its business.
        started = subprocess.Popen(
            [*COMMAND, "users", *arguments], env=self.environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown, left, asked = b"", list(answers.items()), 0
        try:
            while select.select([ours], [], [], TIMEOUT * 3)[0]:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # its end, on Linux
                    break
                if not piece:
                    break
                shown += piece
                if left and left[0][0].encode() in shown[asked:]:
                    asked = len(shown)
                    os.write(ours, left.pop(0)[1].encode() + b"\n")
        finally:
            os.close(ours)
        assert started.wait(TIMEOUT) == code, shown
        assert not left, shown
        return shown.decode()

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        """A token, as a daemon gives it."""
        return asyncio.run(self._with(partial(_token, name=name, password=password)))

    def is_in(self, token: str) -> bool:
        async def check(authority: Authority) -> bool:
            try:
                await authority.check(token)
            except InvalidToken:
                return False
            return True

        return asyncio.run(self._with(check))

    async def _with(self, work: Callable[[Authority], Awaitable[T]]) -> T:
        folder = self.data / "auth"
        async with Database(self.data / "tasks.db") as database:
            authority = Authority(database, KeyRing(folder), load_pepper(folder), cost=4)
            try:
                return await work(authority)
            finally:
                authority.close()


async def _token(authority: Authority, name: str, password: str) -> str:
    return (await authority.log_in(name, password, kind="bearer", address="127.0.0.1", client="a program")).token


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def full(home: Home) -> Home:
    """With an admin and a viewer."""
    home.run("add", "root", password=PASSWORD)
    home.run("add", "ada", password=PASSWORD)
    return home


def test_the_first_account_is_an_admin_and_that_is_said(home: Home) -> None:
    assert "users add" in home.run().stdout
    assert home.json() == []
    assert "root may log in as admin (the first account)" in home.run("add", "root", password=PASSWORD).stderr
    said = home.run("add", "ada", password=PASSWORD).stderr
    assert "ada may log in as viewer" in said
    assert "the page is off: " in said
    assert "tasksd up --web" in said
    assert "eve may log in as operator\n" in home.run("add", "eve", "--role", "operator", password=PASSWORD).stderr
    assert [(one["username"], one["role"]) for one in home.json()] == [
        ("ada", "viewer"), ("eve", "operator"), ("root", "admin"),
    ]  # fmt: skip
    assert home.log_in("ada")


def test_a_password_is_one_line_of_standard_input_whatever_is_in_it(home: Home) -> None:
    for number, (line, meant) in enumerate(
        [
            (b"with spaces at the end  \n", "with spaces at the end  "), (b"of windows maybe\r\n", "of windows maybe"),
            (b"without an end", "without an end"), ("ünïcödé 🙂\nsecond line\n".encode(), "ünïcödé 🙂"),
            (b"x" * 1024 + b"\n", "x" * 1024),
        ]
    ):  # fmt: skip
        home.run("add", f"user{number}", password=line)
        assert home.log_in(f"user{number}", meant)


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b"", 2, "one line"), (b"\n", 1, "shorter than 8"), (b"short\n", 1, "shorter than 8"),
        (b"password1\n", 1, "most common"), (b"x" * 1025 + b"\n", 1, "longer than"),
        (b"x" * 1_000_000 + b"\n", 1, "longer than"), (b"\xff" * 20 + b"\n", 1, "UTF-8"),
    ],
)  # fmt: skip
def test_a_password_that_is_refused_makes_no_account(home: Home, line: bytes, code: int, reason: str) -> None:
    done = home.run("add", "ada", code=code, password=line)
    assert reason in done.stderr
    assert home.json() == []


def test_on_a_terminal_the_password_is_asked_for_twice_and_never_shown(home: Home) -> None:
    shown = home.on_a_terminal("add", "ada", answers={"Password for ada": PASSWORD, "The same again": PASSWORD})
    assert PASSWORD not in shown
    assert home.log_in("ada")


def test_on_a_terminal_two_passwords_that_differ_are_asked_for_again(full: Home) -> None:
    shown = full.on_a_terminal(
        "passwd", "ada",
        answers={"Password for ada": PASSWORD, "The same again": OTHER, "Password for ada:": OTHER, "The same again:": OTHER},
    )  # fmt: skip
    assert OTHER not in shown
    assert full.log_in("ada", OTHER)


def test_a_removal_is_asked_about_on_a_terminal(full: Home) -> None:
    full.on_a_terminal("remove", "ada", answers={"Remove the account ada?": "n"}, code=130)
    assert len(full.json()) == 2
    full.on_a_terminal("remove", "ada", answers={"Remove the account ada?": "y"})
    assert len(full.json()) == 1


def test_there_is_no_way_to_give_a_password_as_an_argument(home: Home) -> None:
    assert "No such option" in home.run("add", "ada", "--password", PASSWORD, code=2).stderr
    assert "unexpected extra argument" in home.run("add", "ada", PASSWORD, code=2).stderr


def test_a_new_password_ends_logins_and_counts_at_once(full: Home) -> None:
    token = full.log_in("ada")
    full.run("passwd", "ADA", password=OTHER)
    assert not full.is_in(token)
    assert full.log_in("ada", OTHER)
    with pytest.raises(WrongCredentials):
        full.log_in("ada")


@pytest.mark.parametrize(
    "order", [["role", "ada", "operator"], ["disable", "ada"], ["remove", "ada"], ["logout", "ada"]]
)
def test_logins_end_with_the_right_that_they_had(full: Home, order: list[str]) -> None:
    token, other = full.log_in("ada"), full.log_in("root")
    full.run(*order)
    assert (full.is_in(token), full.is_in(other)) == (False, True)


def test_a_disabled_account_can_be_enabled_again(full: Home) -> None:
    full.run("disable", "ada")
    with pytest.raises(WrongCredentials):
        full.log_in("ada")
    full.run("enable", "ada")
    assert full.log_in("ada")


def test_the_last_admin_stays(full: Home) -> None:
    for order in (["role", "root", "viewer"], ["disable", "root"], ["remove", "root"]):
        assert "last account" in full.run(*order, code=1).stderr
    assert {one["username"] for one in full.json()} == {"root", "ada"}


@pytest.mark.parametrize("order", ["passwd", "disable", "enable", "remove", "logout", "logins"])
def test_who_is_not_there_is_said(full: Home, order: str) -> None:
    assert "no account nobody" in full.run(order, "nobody", code=1, password=OTHER).stderr


def test_names_that_are_taken_or_impossible_are_refused_before_a_password_is_asked_for(full: Home) -> None:
    assert "already" in full.run("add", "ADA", code=1).stderr
    assert "cannot be a name" in full.run("add", "a b", code=1).stderr


def test_who_is_logged_in_is_listed(full: Home) -> None:
    assert full.json("logins") == []
    full.log_in("ada")
    full.log_in("root")
    assert {one["username"] for one in full.json("logins")} == {"ada", "root"}
    (mine,) = full.json("logins", "ada")
    assert (mine["kind"], mine["address"], mine["client"], mine["current"]) == (
        "bearer",
        "127.0.0.1",
        "a program",
        False,
    )
    assert "a program" in full.run("logins").stdout
    assert "1 login of ada ended" in full.run("logout", "ada").stderr
    assert full.json("logins", "ada") == []


def test_a_rotated_key_puts_nobody_out(full: Home) -> None:
    token = full.log_in("ada")
    before = (full.data / "auth/web-keys.json").read_text()
    full.run("rotate-key")
    assert (full.data / "auth/web-keys.json").read_text() != before
    assert full.is_in(token)
    assert full.is_in(full.log_in("ada"))


def test_everything_that_was_changed_is_in_the_audit_log_and_nothing_that_was_not(full: Home) -> None:
    full.run("role", "ada", "operator")
    full.run("passwd", "ada", password=OTHER)
    full.run("disable", "ada")
    full.run("disable", "root", code=1)
    full.run("enable", "ada")
    full.run("logout", "ada")
    full.run("remove", "ada")
    full.run("rotate-key")
    *deeds, (last, key, _) = full.audit()
    assert deeds == [
        ("users.create", "root", "role admin"), ("users.create", "ada", "role viewer"),
        ("users.role", "ada", "role operator"), ("users.password", "ada", None), ("users.disable", "ada", None),
        ("users.enable", "ada", None), ("users.logout", "ada", "0 logins"), ("users.remove", "ada", None),
    ]  # fmt: skip
    assert last == "users.rotate-key"
    assert key is not None
    assert key in (full.data / "auth/web-keys.json").read_text()
    assert {one["via"] for one in full.json("audit")} == {"cli"}
    assert len(full.json("audit", "--limit", "3", "--days", "1")) == 3
    assert [one["target"] for one in full.json("audit", "--action", "users.create")] == ["ada", "root"]
    assert full.json("audit", "--user", "nobody") == []
    assert "users.rotate-key" in full.run("audit").stdout


def test_keys_that_others_can_read_are_refused_with_what_to_do(full: Home) -> None:
    (full.data / "auth/pepper").chmod(0o644)
    done = full.run("passwd", "ada", code=78, password=OTHER)
    assert "chmod 600" in done.stderr


def test_it_works_beside_a_running_daemon(full: Home) -> None:
    # The configuration does not name the page; the daemon has it all the same.
    command = [*COMMAND, "up", "--web-port", "0"]
    daemon = subprocess.Popen(command, env=full.environ, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if b"ready" in line:
                break
        assert "the page is off" not in full.run("add", "eve", password=PASSWORD).stderr
        full.run("disable", "ada")
        assert [(one["username"], one["disabled"]) for one in full.json()] == [
            ("ada", True), ("eve", False), ("root", False),
        ]  # fmt: skip
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
