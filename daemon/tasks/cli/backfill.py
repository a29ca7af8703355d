"""`tasksd backfill`: the client's history into the store. Works on the database file, beside a daemon or without one."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from tasks import config
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.errors import EXIT_FAILED, EXIT_OK, ConfigError
from tasks.text import count, printable, size, span

if TYPE_CHECKING:
    from tasks.accounting.backfill import Backfilled, Progress

#: Days that `tasksd costs` shows unasked.
_SHOWN = 30
#: Models without a price that are named.
_NAMED = 5
_PICODOLLARS = 10**12


@click.command()
@click.option(
    "--since",
    metavar="DATE",
    callback=lambda *given: _moment(*given),
    help="Leave out files that were last written before this date or time (local unless it names a zone). What a fork left "
    "out copied may then be counted for the fork.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_obj
def backfill(data_dir: str | None, since: int | None, as_json: bool) -> int:
    """Read the client's transcripts: tokens, money and tool calls of all its history.

    Reads every file once: to run it again costs little and counts nothing twice. It may be interrupted at any time, and goes
    on from there. Exit code 1 when files could not be read.
    """
    from tasks.accounting import backfill as accounting

    settings = config.load(data_dir=data_dir)
    try:
        with _bar() as progress:
            found = accounting.backfill(settings, since, progress)
    except KeyboardInterrupt:
        say("interrupted; what was read is stored, run it again to go on")
        raise
    if as_json:
        emit(json.dumps(_document(found), indent=2) + "\n")
    else:
        for line in _summary(found, _where_to_look(settings)):
            emit(line + "\n")
    for path, reason in found.skipped:
        say(f"left out {path}: {reason}")
    return EXIT_FAILED if found.skipped else EXIT_OK


@contextmanager
def _bar() -> "Iterator[Callable[[Progress], None] | None]":
    """What shows how far it is, on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading transcripts", total=None)

        def show(now: "Progress") -> None:
            files = f"{now.files:,} of {count(now.total_files, 'file')}"
            bar.update(task, completed=now.bytes, total=now.total_bytes, description=files)

        yield show


def _where_to_look(settings: config.Settings) -> tuple[str, str]:
    """What shows all that is stored: its money, and its calls."""
    from tasks.analytics import days
    from tasks.analytics.span import now_ms
    from tasks.cli import offline

    with offline.reading(settings) as reader:
        first = reader.query("SELECT min(timestamp) FROM messages")[0][0]
    if first is None:
        return "tasksd costs", "tasksd stats tools"
    try:
        zone = days.chosen_zone(None, settings.costs.zone)
    except ConfigError:
        zone = ZoneInfo("UTC")  # `tasksd costs` says what is wrong
    since, today = days.today(zone, first), days.today(zone, now_ms())
    length = (today - since).days + 1
    return (
        f"tasksd costs --since {since}" if _SHOWN < length <= days.MOST_DAYS else "tasksd costs",
        f"tasksd stats tools --days {min(max(length, 7), days.MOST_DAYS)}",
    )


def _summary(found: "Backfilled", where: tuple[str, str]) -> Iterator[str]:
    if not found.files and not found.skipped:
        folder = printable(str(found.projects))
        yield f"No transcripts in {folder}: is that where the client keeps them? ([transcripts] projects)"
        return
    rate = f", {size(found.bytes / found.seconds)}/s" if found.bytes and found.seconds else ""
    files = f"{count(found.files, 'file')}, {found.read:,} with something new"
    yield f"{files}: {size(found.bytes)} read in {_time(found.seconds)}{rate}"
    yield (
        f"{count(found.messages, 'message')} added: {found.input_tokens:,} input, {found.output_tokens:,} output, "
        f"{found.cache_write_tokens:,} cache write, {found.cache_read_tokens:,} cache read tokens; "
        f"${found.cost / _PICODOLLARS:,.2f}"
    )
    yield f"{count(found.calls_added, 'tool call')} added that no hook had reported, {found.calls_seen:,} matched"
    if found.calls_waiting:
        yield (
            f"{count(found.calls_waiting, 'tool call')} of the last minutes left to hooks for a while; what they do not "
            "report, a running daemon adds, or the next backfill"
        )
    if found.unpriced:
        names = [
            f"{printable(name or '(no name)')} ({number:,})" for name, number in found.unpriced.most_common(_NAMED)
        ]
        more = f", {len(found.unpriced) - _NAMED} more" if len(found.unpriced) > _NAMED else ""
        yield (
            f"{count(found.unpriced.total(), 'message')} without a price, not in that sum: {', '.join(names)}{more}; "
            f"`{where[0]}` says what to add to the config before `tasksd costs reprice`"
        )
    if found.messages:
        yield f"See `{where[0]}` and `{where[1]}`"


def _document(found: "Backfilled") -> dict[str, Any]:
    return {
        "projects": str(found.projects),
        "files": found.files,
        "files_read": found.read,
        "bytes": found.bytes,
        "seconds": round(found.seconds, 3),
        "messages": found.messages,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cache_read_tokens": found.cache_read_tokens,
        "cache_write_tokens": found.cache_write_tokens,
        "cost_usd": found.cost / _PICODOLLARS,
        "calls_added": found.calls_added,
        "calls_seen": found.calls_seen,
        "calls_waiting": found.calls_waiting,
        "unpriced": dict(found.unpriced.most_common()),
        "skipped": [{"path": str(path), "reason": reason} for path, reason in found.skipped],
    }


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)


def _moment(context: click.Context, option: click.Parameter, given: str | None) -> int | None:
    """Milliseconds since 1970 UTC of an ISO 8601 date or time."""
    if given is None:
        return None
    try:
        return round(datetime.fromisoformat(given).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{given!r} is no date: write 2026-01-31 or 2026-01-31T08:00", context, option
        ) from None
