"""`tasksd logs`: what became of a task as readable lines, or what its agent wrote."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from tasks.cli import asking, taskviews
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.tasks import JSON, TASK
from tasks.client import Client, quote, target
from tasks.config import Settings
from tasks.errors import EXIT_OK, DaemonNotRunning
from tasks.text import printable

#: Bytes asked for at once.
PART = 1 << 20
#: Seconds between two tries to reach a daemon that went away.
RETRY = 0.5


@click.command()
@TASK
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the task is over or Ctrl-C.")
@click.option("--raw", is_flag=True, help="What the agent wrote itself, without secrets.")
@click.option("--stderr", "errors", is_flag=True, help="Its standard error (implies --raw).")
@click.option("--attempt", type=click.IntRange(1, 1_000_000), metavar="N", help="Of this run (default: the latest).")
@JSON
@click.pass_obj
def logs(
    data_dir: str | None,
    id: str,  # noqa: A002
    follow: bool,
    raw: bool,
    errors: bool,
    attempt: int | None,
    as_json: bool,
) -> int:
    """What became of a task, line by line; with --raw what its agent wrote."""
    raw = raw or errors
    if raw and as_json:
        raise click.UsageError("--raw is given as it is, without --json")
    if attempt and not raw:
        raise click.UsageError("--attempt is for --raw and --stderr")
    settings = asking.settings_for(data_dir)
    if raw:
        stream = "errors" if errors else "output"
        return _follow_raw(id, settings, stream, attempt) if follow else _raw(id, settings, stream, attempt)
    return _follow_activity(id, settings, as_json) if follow else _activity(id, settings, as_json)


def _activity(id_: str, settings: Settings, as_json: bool) -> int:
    try:
        body = asking.client_for(settings).fetch(f"/v1/tasks/{quote(id_)}/activity")
    except DaemonNotRunning as error:
        from tasks.cli import offline

        body = offline.dumps(offline.activity(id_, settings))
        asking.say_offline(error, settings)
    if as_json:
        emit(body + b"\n")
    else:
        show = _shown()
        for one in json.loads(body):
            show(one)
    return EXIT_OK


def _follow_activity(id_: str, settings: Settings, as_json: bool) -> int:
    show = _print_json if as_json else _shown()

    def ask(after: str | None) -> str:
        return target(f"/v1/tasks/{quote(id_)}/activity", follow=True, after=after)

    for one in _stream(asking.client_for(settings), ask, lambda one: str(one["id"])):
        show(one)
    return EXIT_OK


def _raw(id_: str, settings: Settings, stream: str, attempt: int | None) -> int:
    client, offset = asking.client_for(settings), 0
    try:
        while True:
            # Part by part: the daemon gives up readers that lag behind, and whoever reads us may.
            where = target(f"/v1/tasks/{quote(id_)}/logs", stream=stream, attempt=attempt, offset=offset, limit=PART)
            headers, text = client.exchange(where)
            _write(text.decode())
            if (after := int(headers["x-next-offset"])) == offset:
                return EXIT_OK
            offset = after
    except DaemonNotRunning as error:
        if offset:
            raise
        from tasks.cli import offline

        asking.say_offline(error, settings)
        for piece in offline.output(id_, settings, stream, attempt):
            _write(piece)
    return EXIT_OK


def _follow_raw(id_: str, settings: Settings, stream: str, attempt: int | None) -> int:
    def ask(after: str | None) -> str:
        return target(f"/v1/tasks/{quote(id_)}/logs", stream=stream, attempt=attempt, follow=True, after=after)

    for one in _stream(asking.client_for(settings), ask, lambda one: f"{one['attempt']}.{one['offset']}"):
        _write(one["text"])
    return EXIT_OK


def _stream(client: Client, ask: Callable[[str | None], str], place: Callable[[Any], str]) -> Iterator[Any]:
    """What a stream gives until the task is over, none missed and none twice over restarts of the daemon.

    Raises DaemonNotRunning when there is none to begin with.
    """
    client.fetch("/v1/status")
    after: str | None = None
    said = False
    while True:
        try:
            for data in client.follow(ask(after)):
                one = json.loads(data)
                if "status" in one:  # the last one
                    say(f"the task is {one['status']}")
                    return
                after = place(one)
                yield one
            said = False
        except DaemonNotRunning as error:
            if not said:
                say(f"tasksd: {error}; waiting for it")
                said = True
        time.sleep(RETRY)


def _print_json(one: Any) -> None:
    emit(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n")


def _shown() -> Callable[[Any], None]:
    if not sys.stdout.isatty():
        return lambda one: emit("".join(cell.text for cell in taskviews.entry(one)) + "\n")
    from tasks.cli import styled

    console = styled.console()
    return lambda one: console.print(styled.line(taskviews.entry(one)), soft_wrap=True)


def _write(text: str) -> None:
    """As it is for a file or a pipe; a terminal must not be steered by it."""
    if not sys.stdout.isatty():
        emit(text.encode("utf-8", "backslashreplace"))
        return
    lines = text.split("\n")
    emit("\n".join(printable(line) for line in lines))
