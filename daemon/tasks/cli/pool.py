"""`tasksd pool`: how many agents work, what waits; pause, resume, resize."""

import json
from typing import Any

import click

from tasks.cli import asking, taskviews
from tasks.cli.output import emit
from tasks.cli.tasks import JSON


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def pool(context: click.Context, as_json: bool) -> None:
    """How many agents are at work, what waits and why; with a command, change that."""
    context.meta["as_json"] = as_json
    if context.invoked_subcommand is None:
        _show(asking.client_for(asking.settings_for(context.obj)).get("/v1/pool"), as_json)


@pool.command()
@JSON
@click.pass_context
def pause(context: click.Context, as_json: bool) -> None:
    """Start nothing more. What runs goes on; what waits stays, also over restarts of the daemon."""
    _order(context, "pause", None, as_json)


@pool.command()
@JSON
@click.pass_context
def resume(context: click.Context, as_json: bool) -> None:
    """Start tasks again."""
    _order(context, "resume", None, as_json)


@pool.command()
@click.argument("number", metavar="N", type=click.IntRange(1, 1000))
@JSON
@click.pass_context
def resize(context: click.Context, number: int, as_json: bool) -> None:
    """Let N agents work at once. Those that run are not ended."""
    _order(context, "resize", {"total_workers": number}, as_json)


def _order(context: click.Context, name: str, document: Any, as_json: bool) -> None:
    client = asking.client_for(asking.settings_for(context.obj))
    _show(client.post(f"/v1/pool/{name}", document), as_json or context.meta["as_json"])


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        emit(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        asking.print_page(taskviews.pool(answer, asking.now_ms()))
