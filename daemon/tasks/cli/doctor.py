"""`tasksd doctor`: what is wrong, and what to do about it."""

import dataclasses
import json

import click

from tasks.cli import asking
from tasks.cli.page import BAD, GOOD, NOTICE, Cell, Column, Table
from tasks.errors import EXIT_FAILED, EXIT_OK
from tasks.text import count

_TONES = {"ok": GOOD, "warning": NOTICE, "problem": BAD}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array of findings.")
@click.pass_obj
def doctor(data_dir: str | None, as_json: bool) -> int:
    """Check everything that recording rests on. Works without a daemon; exit code 1 when there is a problem."""
    from tasks.cli.checks import Verdict, findings

    found = findings(data_dir)
    problems = sum(one.verdict is Verdict.PROBLEM for one in found)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in found]))
        return EXIT_FAILED if problems else EXIT_OK
    columns = [Column("check"), Column("verdict"), Column("found", wraps=True), Column("what to do", wraps=True)]
    table = Table("", columns, "")
    for one in found:
        table.add(one.check, Cell(one.verdict, _TONES[one.verdict]), one.message, one.remedy or "-")
    asking.print_page([table])
    if problems:
        click.echo(f"{count(problems, 'problem')} found", err=True)
    return EXIT_FAILED if problems else EXIT_OK
