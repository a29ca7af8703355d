"""`tasksd db`: the health of the database file. Safe beside a running daemon."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from tasks import config
from tasks.cli.app import say
from tasks.config import Settings
from tasks.errors import EXIT_FAILED, EXIT_OK, StoreUnavailable
from tasks.text import printable, size

if TYPE_CHECKING:
    from tasks.database import Database

T = TypeVar("T")


@click.group()
def db() -> None:
    """Check, back up or compact the database, also while the daemon runs."""


@db.command()
@click.pass_obj
def check(data_dir: str | None) -> int:
    """Read the whole file and say what is wrong with it. Exit code 1 when anything is."""
    from tasks.database import Reader
    from tasks.database.maintenance import problems

    settings = _existing(data_dir)
    reader = Reader(settings.database_file)
    try:
        found = problems(reader)
    finally:
        reader.close()
    for problem in found:
        click.echo(printable(problem))
    if found:
        say(
            f"{settings.database_file} is damaged: stop the daemon and start it again, it restores the newest good backup"
        )
        return EXIT_FAILED
    say(f"{settings.database_file} is sound")
    return EXIT_OK


@db.command()
@click.option("--keep", type=click.IntRange(1), help="Remove manual backups beyond the latest so many.")
@click.pass_obj
def backup(data_dir: str | None, keep: int | None) -> None:
    """Make a checked copy and print its path."""
    made = _run(_existing(data_dir), lambda database: database.backup(keep=keep))
    click.echo(str(made))


@db.command()
@click.pass_obj
def vacuum(data_dir: str | None) -> None:
    """Rewrite the file without gaps."""
    settings = _existing(data_dir)
    before = _total(settings)
    _run(settings, lambda database: database.vacuum())
    say(f"{settings.database_file}: {size(before)} before, {size(_total(settings))} now, the write-ahead log included")


def write_ahead_log(settings: Settings) -> Path:
    """Where SQLite keeps what is not in the file yet; it need not be there."""
    return settings.database_file.with_name(settings.database_file.name + "-wal")


def _total(settings: Settings) -> int:
    files = (settings.database_file, write_ahead_log(settings))
    return sum(file.stat().st_size for file in files if file.exists())


def _existing(data_dir: str | None) -> Settings:
    settings = config.load(data_dir=data_dir)
    if not settings.database_file.exists():
        raise StoreUnavailable(f"{settings.database_file} does not exist yet: start `tasksd up`")
    return settings


def _run(settings: Settings, work: "Callable[[Database], Awaitable[T]]") -> T:
    from tasks.database import Database

    async def opened() -> T:
        async with Database(settings.database_file, backup_dir=settings.backup_dir) as database:
            return await work(database)

    return asyncio.run(opened())
