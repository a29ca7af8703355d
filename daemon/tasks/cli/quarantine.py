"""`tasksd quarantine`: what could not become an event. Works on the directory itself when no daemon runs."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import click

from tasks.cli import asking, offline, views
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.page import Cell, Facts
from tasks.client import Client, quote
from tasks.config import Settings
from tasks.errors import EXIT_FAILED, EXIT_OK, DaemonNotRunning, TasksError
from tasks.text import count, moment, printable, size

_JSON = click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")
_ALL = click.option("--all", "everything", is_flag=True, help="All of them.")
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1)


class _Box(Protocol):
    """The quarantine, through the daemon or directly."""

    def list(self) -> list[dict[str, Any]]: ...

    def show(self, id_: str) -> dict[str, Any]: ...

    def retry(self, id_: str) -> None: ...

    def drop(self, id_: str) -> None: ...


@click.group()
def quarantine() -> None:
    """Files of the spool that could not become events: look at them, try them again, drop them."""


@quarantine.command("list")
@_JSON
@click.pass_obj
def list_(data_dir: str | None, as_json: bool) -> None:
    """Everything in quarantine, oldest first."""
    found = _box(data_dir).list()
    if as_json:
        emit(offline.dumps(found) + b"\n")
    else:
        asking.print_page(views.quarantined(found, asking.now_ms()))


@quarantine.command()
@click.argument("id", metavar="ID")
@_JSON
@click.pass_obj
def show(data_dir: str | None, id: str, as_json: bool) -> None:  # noqa: A002
    """One file and why it is there. Its content is as it was recorded: it may hold secrets."""
    found = _box(data_dir).show(id)
    if as_json:
        emit(offline.dumps(found) + b"\n")
        return
    facts = Facts()
    for label in ("id", "name", "reason", "detail"):
        facts.add(label, Cell(found[label]))
    facts.add("size", size(found["size"]))
    facts.add("since", moment(found["quarantined_at"]))
    facts.add("sha256", found["sha256"] or "-")
    facts.add("recorded by", f"tasksd {found['version']}")
    asking.print_page([facts])
    emit("\n" + "".join(printable(line) + "\n" for line in found["content"].split("\n")))


@quarantine.command()
@_IDS
@_ALL
@click.pass_obj
def retry(data_dir: str | None, ids: Sequence[str], everything: bool) -> int:
    """Put files back into the spool, to be read again."""
    box = _box(data_dir)
    return _each(box, ids, everything, box.retry, "put back into the spool")


@quarantine.command()
@_IDS
@_ALL
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop(data_dir: str | None, ids: Sequence[str], everything: bool, yes: bool) -> int:
    """Delete files for good."""
    box = _box(data_dir)
    if everything and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {count(len(box.list()), 'file')} for good?", abort=True, err=True)
    return _each(box, ids, everything, box.drop, "deleted")


def _each(box: _Box, ids: Sequence[str], everything: bool, act: Any, done: str) -> int:
    if everything == bool(ids):
        raise click.UsageError("name the IDs, or use --all")
    failed = 0
    chosen = [one["id"] for one in box.list()] if everything else list(ids)
    for id_ in chosen:
        try:
            act(id_)
        except DaemonNotRunning:
            raise
        except TasksError as error:
            failed += 1
            say(f"tasksd: {error}")
    say(f"{count(len(chosen) - failed, 'file')} {done}")
    return EXIT_FAILED if failed else EXIT_OK


def _box(data_dir: str | None) -> _Box:
    settings = asking.settings_for(data_dir)
    client = asking.client_for(settings)
    try:
        client.fetch("/v1/status")
    except DaemonNotRunning:
        say(f"daemon not running; working on {settings.quarantine_dir}")
        return _Directory(settings)
    return _Daemon(client)


class _Daemon:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get("/v1/quarantine")
        return found

    def show(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._client.fetch(f"/v1/quarantine/{quote(id_)}"))
        return found

    def retry(self, id_: str) -> None:
        self._client.fetch(f"/v1/quarantine/{quote(id_)}/retry", "POST")

    def drop(self, id_: str) -> None:
        self._client.fetch(f"/v1/quarantine/{quote(id_)}", "DELETE")


class _Directory:
    def __init__(self, settings: Settings) -> None:
        self._quarantine = offline.quarantine(settings)

    def list(self) -> list[dict[str, Any]]:
        return [offline.quarantine_entry(one) for one in self._quarantine.list()]

    def show(self, id_: str) -> dict[str, Any]:
        entry = offline.quarantine_entry(self._quarantine.get(id_))
        content = self._quarantine.content(id_, offline.QUARANTINE_PREVIEW)
        return entry | {"content": content.decode("utf-8", "replace")}

    def retry(self, id_: str) -> None:
        self._quarantine.retry(id_)

    def drop(self, id_: str) -> None:
        self._quarantine.drop(id_)
