"""`tasksd costs reprice`: history at the present prices. Works on the database file, beside a daemon or without one."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tasks import config
from tasks.cli import asking
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.errors import EXIT_OK, ApiError, DaemonNotRunning, StoreUnavailable
from tasks.text import count, printable

if TYPE_CHECKING:
    from tasks.accounting.reprice import Repriced

_PICODOLLARS = 10**12
_HEADINGS = ("model", "messages", "changed", "before", "after", "newly priced", "newly unpriced")


def _moment(context: click.Context, option: click.Parameter, given: str | None) -> int | None:
    """Milliseconds since 1970 UTC of an ISO 8601 date or time; local unless it names a zone."""
    if given is None:
        return None
    try:
        return int(datetime.fromisoformat(given).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{given!r} is no date or time; write 2026-01-31 or 2026-01-31T08:00Z") from None


@click.command()
@click.option("--since", metavar="DATE", callback=_moment, help="Leave earlier messages as they are.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def reprice(data_dir: str | None, since: int | None, dry_run: bool, as_json: bool) -> int:
    """Put what is stored at the prices of the present config and price list.

    Each message is priced by its own date. May be interrupted, and run again, at any time.
    """
    from tasks.accounting import reprice as accounting
    from tasks.database import Reader, SyncDatabase
    from tasks.prices import PriceBook

    settings = config.load(data_dir=data_dir)
    if not settings.database_file.exists():
        raise StoreUnavailable(
            f"{settings.database_file} does not exist yet: start `tasksd up`, or run `tasksd backfill`"
        )
    book = PriceBook.of(settings)
    if dry_run:
        reader = Reader(settings.database_file)
        try:
            found = accounting.compare(reader, book, since)
        finally:
            reader.close()
    else:
        store = SyncDatabase(settings.database_file)
        try:
            found = accounting.reprice(store, book, since)
        except KeyboardInterrupt:
            say("interrupted; what was done is stored, run it again for the rest")
            raise
        finally:
            store.close()
    emit(json.dumps(_document(found, since, dry_run), indent=2) + "\n" if as_json else _text(found, dry_run))
    if not dry_run and any(one.changed for one in found) and _daemon_runs(settings):
        say("the daemon that runs puts new messages at the prices it was started with: restart it")
    return EXIT_OK


def _daemon_runs(settings: config.Settings) -> bool:
    try:
        asking.client_for(settings).fetch("/v1/status")
    except (DaemonNotRunning, ApiError):
        return False
    return True


def _text(found: "Sequence[Repriced]", dry_run: bool) -> str:
    changed = [one for one in found if one.changed]
    looked_at = sum(one.messages for one in found)
    lines = []
    if changed:
        rows = [_HEADINGS, *(_row(one) for one in changed)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    before, after = sum(one.before for one in found), sum(one.after for one in found)
    verb = "would change" if dry_run else "changed"
    lines.append(
        f"{sum(one.changed for one in found):,} of {count(looked_at, 'message')} {verb}: {_money(before)} → {_money(after)}"
    )
    if left := sum(one.unpriced + one.newly_unpriced for one in found):
        names = [printable(one.model or "(no name)") for one in found if one.unpriced + one.newly_unpriced]
        named = ", ".join(names[:5]) + (f", {len(names) - 5} more" if len(names) > 5 else "")
        what_to_do = "`tasksd costs` says what to add to the config"
        lines.append(f"{count(left, 'message')} without a price, not in these sums: {named}; {what_to_do}")
    return "\n".join(lines) + "\n"


def _row(one: "Repriced") -> tuple[str, ...]:
    return (
        printable(one.model or "(no name)"), f"{one.messages:,}", f"{one.changed:,}",
        _money_of(one, one.before, one.newly_priced), _money_of(one, one.after, one.newly_unpriced),
        f"{one.newly_priced:,}", f"{one.newly_unpriced:,}",
    )  # fmt: skip


def _document(found: "Sequence[Repriced]", since: int | None, dry_run: bool) -> dict[str, Any]:
    models = [{"model": one.model} | _figures([one]) for one in found]
    return {"dry_run": dry_run, "since": since, "models": models, "total": _figures(found)}


def _figures(found: "Sequence[Repriced]") -> dict[str, Any]:
    return {
        "messages": sum(one.messages for one in found),
        "changed": sum(one.changed for one in found),
        "cost_before": sum(one.before for one in found) / _PICODOLLARS,
        "cost_after": sum(one.after for one in found) / _PICODOLLARS,
        "newly_priced": sum(one.newly_priced for one in found),
        "newly_unpriced": sum(one.newly_unpriced for one in found),
        "unpriced": sum(one.unpriced for one in found),
    }


def _money_of(one: "Repriced", picodollars: int, others: int) -> str:
    """What has no price never looks like $0. `others`: messages that have none only on this side."""
    without = one.unpriced + others
    return "unpriced" if without == one.messages else ("≥ " if without else "") + _money(picodollars)


def _money(picodollars: int) -> str:
    return f"${picodollars / _PICODOLLARS:,.4f}"
