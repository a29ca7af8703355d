"""Asking the daemon, or the file when there is none; and printing the answer for whoever reads it."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from tasks import config
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.place import quick_data_dir
from tasks.cli.questions import Question
from tasks.client import START_HINT, Client, DaemonSilent
from tasks.config import Settings
from tasks.errors import EXIT_OK, DaemonNotRunning

Page = Any


def settings_for(data_dir: str | None) -> Settings:
    """Where to ask. A mistake in a part of the config file that readers do not need does not keep them from answering."""
    if data_dir is None and (found := quick_data_dir()):
        return Settings(data_dir=Path(found), config_file=config.default_config_file())
    return config.load(data_dir=data_dir)


def beginning_of_an_id(_: click.Context, argument: click.Parameter, value: Any) -> Any:
    """Refuses what can be no id, such as an empty variable of a script. For arguments of one id or of several."""
    for one in (value,) if isinstance(value, str) else value or ():
        if not one.strip() or "/" in one:
            raise click.BadParameter(f"{one!r} is no id, and no beginning of one", param=argument)
    return value


def client_for(settings: Settings) -> Client:
    return Client(str(settings.socket_path))


def answer(question: Question, data_dir: str | None, *, as_json: bool) -> int:
    """Ask and print. Returns the exit code: without a daemon `status` fails, the others answer from the file."""
    settings = settings_for(data_dir)
    code = EXIT_OK
    try:
        body = client_for(settings).fetch(question.target)
    except DaemonNotRunning as error:
        from tasks.cli import offline

        if question.name == "status":
            body = offline.dumps(offline.status(settings, error))
            say(f"tasksd: {error}")
            code = error.exit_code
        else:
            body = offline.dumps(offline.answer(question, settings))
            say_offline(error, settings)
    print_answer(question, body, as_json=as_json)
    return code


def say_offline(silence: DaemonNotRunning, settings: Settings) -> None:
    """Where an answer comes from that the daemon did not give."""
    say(offline_note(silence, settings))


def offline_note(silence: DaemonNotRunning, settings: Settings) -> str:
    how = "not answering" if isinstance(silence, DaemonSilent) else f"not running ({START_HINT})"
    return f"daemon {how}; read from {settings.database_file}"


def print_answer(question: Question, body: bytes, *, as_json: bool) -> None:
    if as_json:
        emit(body + b"\n")
    elif sys.stdout.isatty():
        import json

        found = json.loads(body)
        print_page(question.show(found, now_ms()))
        if note := question.note(found):
            say(note)
    else:
        from tasks.cli.quick import show

        show(question, body)


def print_page(page: Page) -> None:
    """With rich on a terminal, plain elsewhere."""
    if sys.stdout.isatty():
        from tasks.cli import styled

        console = styled.console()
        console.print(styled.page(page, console.width))
    else:
        from tasks.cli.plain import render

        emit(render(page))


def now_ms() -> int:
    return time.time_ns() // 1_000_000
