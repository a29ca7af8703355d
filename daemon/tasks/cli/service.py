"""`tasksd service`: the daemon as a service of systemd or launchd."""

import json
from typing import TYPE_CHECKING

import click

from tasks import config
from tasks.cli.app import say
from tasks.cli.page import Cell, Facts
from tasks.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from tasks.install.service import Outcome

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, do nothing.")
_ANSWERS = {True: "yes", False: "no", None: "not known"}


@click.group()
def service() -> None:
    """Keep the daemon running: a systemd user unit, or a launchd agent on macOS."""


@service.command()
@_DRY_RUN
@click.pass_obj
def install(data_dir: str | None, dry_run: bool) -> int:
    """Install and start the service. Exit code 1 when something is left to be done by hand."""
    from tasks.install import service as installer

    wanted = installer.plan(config.load(data_dir=data_dir))
    return _report(installer.install(wanted, dry_run=dry_run))


@service.command()
@_DRY_RUN
def uninstall(dry_run: bool) -> int:
    """Stop and remove the service; agents that run are left alone."""
    from tasks.install import service as installer

    return _report(installer.uninstall(dry_run=dry_run))


@service.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def status(data_dir: str | None, as_json: bool) -> int:
    """Whether the service is installed, current and running. Exit code 1 when it is not."""
    from tasks.cli import asking
    from tasks.install import service as installer

    found = installer.status(installer.plan(config.load(data_dir=data_dir)))
    fine = found.installed and found.current and found.state.active is not False
    if as_json:
        document = {
            "manager": found.manager,
            "file": str(found.file),
            "installed": found.installed,
            "ours": found.ours,
            "current": found.current,
            "enabled": found.state.enabled,
            "active": found.state.active,
            "lingering": found.state.lingering,
            "warnings": list(found.warnings),
        }
        click.echo(json.dumps(document))
        return EXIT_OK if fine else EXIT_FAILED
    facts = Facts()
    facts.add("manager", found.manager)
    facts.add("file", Cell(found.file))
    for label, answer in (
        ("installed", found.installed),
        ("current", found.current if found.installed else None),
        ("running", found.state.active),
        ("at login", found.state.enabled),
        ("after logout", found.state.lingering),
    ):
        facts.add(label, _ANSWERS[answer])
    asking.print_page([facts])
    for warning in found.warnings:
        say(f"warning: {warning}")
    return EXIT_OK if fine else EXIT_FAILED


def _report(outcome: "Outcome") -> int:
    click.echo("\n".join(_safe(outcome.text)))
    return EXIT_FAILED if outcome.remaining and not outcome.dry_run else EXIT_OK


def _safe(text: str) -> list[str]:
    from tasks.text import printable

    return [printable(line) for line in text.splitlines()]
