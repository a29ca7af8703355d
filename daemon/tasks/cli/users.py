"""`tasksd users`: accounts of the page. Works on the database and the keys themselves, beside a daemon or without one."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tasks import config
from tasks.cli import asking, offline
from tasks.cli.app import say
from tasks.cli.dashboard import page_hint
from tasks.cli.output import emit
from tasks.config import Settings
from tasks.errors import ApiError, DaemonNotRunning
from tasks.text import count
from tasks.words import Role

if TYPE_CHECKING:
    from tasks.database import Connection
    from tasks.users import User
    from tasks.users.records import Query

T = TypeVar("T")

#: Bytes of a password on standard input, its end of line included; whatever is longer is refused anyway.
_LONGEST_LINE = 4096

_JSON = click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")
_NAME = click.argument("name", metavar="NAME")
_ROLES = click.Choice([str(role) for role in Role])


@click.group(invoke_without_command=True)
@_JSON
@click.pass_context
def users(context: click.Context, as_json: bool) -> None:
    """Who may log in to the page, and as what; with a command, change that.

    viewer: looks. operator: also hands over and steers work. admin: also manages accounts, and sees what is not redacted.
    """
    if context.invoked_subcommand is None:
        from tasks.cli import userviews
        from tasks.users import accounts

        found = _read(config.load(data_dir=context.obj), accounts.listed)
        _show(found, userviews.accounts, as_json)


@users.command()
@_NAME
@click.option("--role", type=_ROLES, help="What it may do (default: admin for the first account, else viewer).")
@click.pass_obj
def add(data_dir: str | None, name: str, role: str | None) -> None:
    """Make an account. Its password is asked for twice, or read as one line from standard input."""
    from tasks.users import accounts

    settings = config.load(data_dir=data_dir)
    with _Store(settings) as store:
        hashed = store.hashed(store.query(lambda query: accounts.check_free(query, name)))

        def create(connection: "Connection", now: int) -> "User":
            chosen = None if role is None else Role(role)
            return accounts.create(connection, name, password_hash=hashed, role=chosen, now=now)

        made = store.change("users.create", create, lambda user: (user.username, f"role {user.role}"))
    why = "" if role else " (the first account)" if made.role is Role.ADMIN else "; `tasksd users role` changes that"
    say(f"{made.username} may log in as {made.role}{why}")
    if _is_page_off(settings):
        say(f"the page is off: {page_hint(settings)} (in a terminal: `tasksd up --web`)")


@users.command()
@_NAME
@click.pass_obj
def passwd(data_dir: str | None, name: str) -> None:
    """Set a new password, asked for twice or read as one line from standard input. Ends the account's logins."""
    from tasks.users import accounts

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.query(lambda query: accounts.find(query, name))
        hashed = store.hashed(user.username)
        store.change_user(
            "users.password",
            lambda connection, now: accounts.set_password(connection, name, password_hash=hashed, now=now),
        )
    say(f"{user.username} has a new password; who was logged in to it has to log in again")


@users.command("role")
@_NAME
@click.argument("role", metavar="ROLE", type=_ROLES)
@click.pass_obj
def set_role(data_dir: str | None, name: str, role: str) -> None:
    """Make it a viewer, operator or admin. Ends the account's logins."""
    from tasks.users import accounts

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.change_user(
            "users.role",
            lambda connection, now: accounts.set_role(connection, name, role=Role(role), now=now),
            detail=f"role {role}",
        )
    say(f"{user.username} is {user.role}")


@users.command()
@_NAME
@click.pass_obj
def disable(data_dir: str | None, name: str) -> None:
    """Let nobody log in to it until it is enabled. Ends its logins."""
    from tasks.users import accounts

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.change_user("users.disable", lambda connection, now: accounts.disable(connection, name, now=now))
    say(f"{user.username} is disabled")


@users.command()
@_NAME
@click.pass_obj
def enable(data_dir: str | None, name: str) -> None:
    """Let it log in again, with the password it had."""
    from tasks.users import accounts

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.change_user("users.enable", lambda connection, _: accounts.enable(connection, name))
    say(f"{user.username} is enabled")


@users.command()
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(data_dir: str | None, name: str, yes: bool) -> None:
    """Remove an account with its logins. What it did stays in the audit log."""
    from tasks.users import accounts

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.query(lambda query: accounts.find(query, name))
        if not yes and sys.stdin.isatty():
            click.confirm(f"Remove the account {user.username}?", abort=True, err=True)
        store.change_user("users.remove", lambda connection, _: accounts.remove(connection, name))
    say(f"{user.username} is removed")


@users.command("logins")
@click.argument("name", metavar="[NAME]", required=False)
@_JSON
@click.pass_obj
def show_logins(data_dir: str | None, name: str | None, as_json: bool) -> None:
    """Who is logged in, from where; the last seen first."""
    from tasks.cli import userviews
    from tasks.users import accounts, logins

    def found(query: "Query") -> Any:
        user_id = None if name is None else accounts.find(query, name).user_id
        return logins.listed(query, now=asking.now_ms(), user_id=user_id)

    # The API marks the login that asks; here none does.
    _show(_read(config.load(data_dir=data_dir), found), userviews.logins, as_json, current=False)


@users.command()
@_NAME
@click.pass_obj
def logout(data_dir: str | None, name: str) -> None:
    """End all logins of an account."""
    from tasks.users import accounts, logins

    with _Store(config.load(data_dir=data_dir)) as store:
        user = store.query(lambda query: accounts.find(query, name))
        ended = store.change(
            "users.logout",
            lambda connection, now: logins.end_all(connection, user.user_id, "killed", now=now),
            lambda number: (user.username, count(number, "login")),
        )
    say(f"{count(ended, 'login')} of {user.username} ended")


@users.command("rotate-key")
@click.pass_obj
def rotate_key(data_dir: str | None) -> None:
    """Sign logins with a new key. Those signed with the old one hold for 15 minutes, and take the new one meanwhile."""
    from tasks.users import KeyRing

    settings = config.load(data_dir=data_dir)
    with _Store(settings) as store:
        key = store.change(
            "users.rotate-key", lambda *_: KeyRing(settings.auth_dir).rotate(), lambda made: (made.kid, None)
        )
    say(f"logins are signed with key {key.kid} from now on")


@users.command()
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Only what was done in the last so many days.")
@click.option("--user", metavar="NAME", help="Only what this account did.")
@click.option("--action", metavar="ACTION", help="Only this, spelled as it is listed.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Rows.")
@_JSON
@click.pass_obj
def audit(
    data_dir: str | None, days: float | None, user: str | None, action: str | None, limit: int, as_json: bool
) -> None:
    """Who did what, the newest first: logins, what was changed on the page, over the socket and by these commands."""
    from tasks.cli import userviews
    from tasks.users import audit as log

    since = None if days is None else asking.now_ms() - round(days * 86_400_000)
    found = _read(
        config.load(data_dir=data_dir),
        lambda query: log.listed(query, user=user, action=action, since=since, limit=limit),
    )
    _show(found, userviews.deeds, as_json)


def _show(found: Sequence[Any], page: Callable[[Any, int], asking.Page], as_json: bool, **more: Any) -> None:
    if as_json:
        emit(offline.dumps([dataclasses.asdict(one) | more for one in found]) + b"\n")
    else:
        asking.print_page(page(found, asking.now_ms()))


def _read(settings: Settings, ask: "Callable[[Query], Sequence[T]]") -> Sequence[T]:
    """Nothing while there is no database."""
    if not settings.database_file.exists():
        return []
    with offline.reading(settings) as reader:
        return ask(reader.query)


class _Store:
    """The database, made if it is not there yet; every change goes into the audit log in one transaction with it."""

    def __init__(self, settings: Settings) -> None:
        from tasks.database import SyncDatabase

        self._settings = settings
        self._database = SyncDatabase(settings.database_file)

    def __enter__(self) -> "_Store":
        return self

    def __exit__(self, *reason: object) -> None:
        self._database.close()

    def query(self, ask: "Callable[[Query], T]") -> T:
        return ask(self._database.query)

    def change(
        self,
        action: str,
        work: "Callable[[Connection, int], T]",
        described: Callable[[T], tuple[str, str | None]],
    ) -> T:
        """`described` says what it was done to, and how."""
        from tasks.users import audit, audit_entry, owner

        now = asking.now_ms()

        def done(connection: "Connection") -> T:
            result = work(connection, now)
            target, detail = described(result)
            audit.record(connection, audit_entry(owner("cli"), action, target=target, detail=detail, now=now))
            return result

        return self._database.transaction(done)

    def change_user(self, action: str, work: "Callable[[Connection, int], User]", detail: str | None = None) -> "User":
        return self.change(action, work, lambda user: (user.username, detail))

    def hashed(self, username: str) -> str:
        """What is stored for the password that the person gives. Raises PasswordRefused."""
        from tasks.users import load_pepper, passwords

        password = _password(username)
        passwords.check_new(password, username)
        return passwords.hash_password(load_pepper(self._settings.auth_dir), password, self._settings.web.password_cost)


def _is_page_off(settings: Settings) -> bool:
    """By the daemon that runs, which may have been started with `--web`; without one by the configuration."""
    try:
        return bool(asking.client_for(settings).get("/v1/status").get("web") == "off")
    except (ApiError, DaemonNotRunning):
        return not settings.web.enabled


def _password(username: str) -> str:
    """Never an argument or a variable: other users see these."""
    from tasks.users import PasswordRefused

    if sys.stdin is not None and sys.stdin.isatty():
        given: str = click.prompt(
            f"Password for {username}", hide_input=True, confirmation_prompt="The same again", err=True
        )
        return given
    line = b"" if sys.stdin is None else sys.stdin.buffer.readline(_LONGEST_LINE)
    if not line:
        raise click.UsageError("no password on standard input: give it as one line, or run this on a terminal")
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise PasswordRefused("the password on standard input is not UTF-8") from None
