"""Live views: the status that keeps changing, the events as they come. Both survive a restart of the daemon."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tasks.cli import asking, offline, questions, views
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.page import BAD, Block, Cell, Facts
from tasks.cli.plain import render
from tasks.client import Client
from tasks.config import Settings
from tasks.errors import DaemonNotRunning, TasksError

#: Seconds between two looks.
REFRESH = 1.0
#: Seconds between two tries to reach a daemon that went away.
RETRY = 0.5


def watch(settings: Settings, question: questions.Question, *, as_json: bool) -> int:
    """Show the answer again and again until interrupted, also while no daemon runs."""
    if as_json or not sys.stdout.isatty():
        said: str | None = None
        while True:
            body, note = _body(settings, question)
            if note and note != said:
                say(note)
            said = note
            emit(body + b"\n" if as_json else render(question.show(json.loads(body), asking.now_ms())) + "\n")
            time.sleep(REFRESH)
    from rich.live import Live

    from tasks.cli import styled

    console = styled.console()
    with Live(console=console, auto_refresh=False, screen=False) as view:
        while True:
            body, note = _body(settings, question)
            page = question.show(json.loads(body), asking.now_ms())
            view.update(styled.page([*_noted(note), *page], console.width), refresh=True)
            time.sleep(REFRESH)


def follow(settings: Settings, filters: dict[str, Any], *, limit: str, as_json: bool) -> int:
    """Print the latest events and then every new one, in order, none twice, over restarts of the daemon.

    Raises DaemonNotRunning when there is none to begin with.
    """
    client = asking.client_for(settings)
    show = _show_json if as_json else _show_styled() if sys.stdout.isatty() else _show_plain
    latest = client.get(questions.events(**filters, limit=limit).target)
    for one in latest:
        show(one)
    seen = latest[-1]["seq"] if latest else int(filters["after"] or 0)
    while True:
        seen = _follow_once(client, filters, seen, show)
        time.sleep(RETRY)
        _wait_for(client)


def _follow_once(client: Client, filters: dict[str, Any], seen: int, show: Callable[[Any], None]) -> int:
    """Until the stream ends. Returns the number of the last event shown."""
    target = questions.events(**filters | {"after": str(seen)}).target + "&follow=true"
    with contextlib.suppress(DaemonNotRunning):
        for data in client.follow(target):
            one = json.loads(data)
            show(one)
            seen = one["seq"]
    return seen


def _wait_for(client: Client) -> None:
    said = False
    while True:
        try:
            client.fetch("/v1/status")
        except TasksError as error:
            if not said:
                say(f"tasksd: {error}; waiting for it")
                said = True
            time.sleep(RETRY)
        else:
            if said:
                say("tasksd: the daemon answers again")
            return


def _body(settings: Settings, question: questions.Question) -> tuple[bytes, str | None]:
    """The answer, and what to say about where it comes from; the status says that itself."""
    try:
        return asking.client_for(settings).fetch(question.target), None
    except DaemonNotRunning as error:
        if question.name == "status":
            return offline.dumps(offline.status(settings, error)), None
        return offline.dumps(offline.answer(question, settings)), asking.offline_note(error, settings)


def _noted(note: str | None) -> list[Block]:
    facts = Facts()
    if note:
        facts.add("", Cell(note, BAD))
    return [facts] if note else []


def _show_json(one: Any) -> None:
    emit(offline.dumps(one) + b"\n")


def _show_plain(one: Any) -> None:
    emit("  ".join(cell.text for cell in views.event(one)) + "\n")


def _show_styled() -> Callable[[Any], None]:
    from tasks.cli import styled

    console = styled.console()

    def show(one: Any) -> None:
        cells = [part for cell in views.event(one) for part in (views.GAP, cell)][1:]
        console.print(styled.line(cells), overflow="ellipsis", no_wrap=True, soft_wrap=False)

    return show
