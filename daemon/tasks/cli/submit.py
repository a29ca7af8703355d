"""`tasksd submit`: hands work over. Its id is all that goes to stdout."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tasks.cli import asking
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.tasks import JSON
from tasks.errors import EXIT_OK

#: Bytes of UTF-8 that a description may have, as in the API.
LONGEST_DESCRIPTION = 1 << 20


@click.command()
@click.argument("description", required=False)
@click.option(
    "--file", "-f", "file", type=click.Path(), help="Read the description from this file (-: standard input)."
)
@click.option(
    "--workspace", "-w", type=click.Path(exists=True, file_okay=False), default=".", help="Default: the current folder."
)
@click.option("--priority", "-p", type=click.Choice(["high", "normal", "low"]), default="normal", show_default=True)
@click.option("--model", metavar="NAME", help="Default: as configured.")
@click.option("--agent-type", metavar="NAME", help="Whose settings and rules it takes ([agent.types.NAME]).")
@click.option("--workflow", metavar="NAME", help="A name to find it by.")
@click.option("--budget", type=click.FloatRange(0, 1e6, min_open=True), metavar="USD", help="What it may spend.")
@click.option("--max-turns", type=click.IntRange(1, 1_000_000), metavar="N")
@click.option("--no-isolation", is_flag=True, help="Work in the workspace itself, not in a worktree of its own.")
@click.option(
    "--wait",
    is_flag=True,
    help="Stay until it is over; exit code 0 only when it is completed, and merged if there is anything to merge.",
)
@JSON
@click.pass_obj
def submit(
    data_dir: str | None,
    description: str | None,
    file: str | None,
    workspace: str,
    priority: str,
    model: str | None,
    agent_type: str | None,
    workflow: str | None,
    budget: float | None,
    max_turns: int | None,
    no_isolation: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Hand over work; DESCRIPTION is the prompt (-: read it from standard input). Prints the id of the task."""
    order = {
        "description": _description(description, file),
        "workspace": str(Path(workspace).resolve()),
        "user_id": os.getuid(),
        "priority": priority,
        "model": model,
        "agent_type": agent_type,
        "workflow": workflow,
        "isolate": not no_isolation,
        "budget_usd": budget,
        "max_turns": max_turns,
    }
    settings = asking.settings_for(data_dir)
    answer = asking.client_for(settings).post(
        "/v1/tasks", {name: one for name, one in order.items() if one is not None}
    )
    id_ = answer["task_id"]
    _tell(answer)
    if not wait:
        emit((json.dumps(answer, ensure_ascii=False, separators=(",", ":")) if as_json else id_) + "\n")
        return EXIT_OK
    from tasks.cli import waiting

    if not as_json:
        emit(id_ + "\n")
    end, code = waiting.wait_for(id_, settings)
    if as_json:
        emit(end + b"\n")
    return code


def _tell(answer: Any) -> None:
    for warning in answer["warnings"]:
        say(f"task {answer['task_id']}: {warning}")
    if not answer["warnings"] and answer["why"]:
        say(f"task {answer['task_id']}: {answer['why']}")


def _description(given: str | None, file: str | None) -> str:
    """What is to be done, from where it was said to be."""
    if (given is None) == (file is None):
        raise click.UsageError("give a DESCRIPTION, - to read it from standard input, or --file FILE")
    if "-" in (given, file):
        raw = sys.stdin.buffer.read(LONGEST_DESCRIPTION + 1)
    elif file is not None:
        try:
            with Path(file).open("rb") as opened:
                raw = opened.read(LONGEST_DESCRIPTION + 1)
        except OSError as error:
            raise click.UsageError(f"cannot read {file}: {error.strerror}") from error
    else:
        raw = os.fsencode(given or "")
    if len(raw) > LONGEST_DESCRIPTION:
        raise click.UsageError(
            "the description is longer than 1 MiB: put it into a file of the workspace, and say to read that"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the description is not UTF-8 (byte {error.start})") from error
    if not text.strip():
        raise click.UsageError("the description is empty")
    return text
