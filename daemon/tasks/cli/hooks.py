"""`tasksd hooks`: registering the recorder with the client."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tasks import config
from tasks.cli import machine
from tasks.cli.app import say
from tasks.errors import EXIT_FAILED, EXIT_OK
from tasks.text import printable

if TYPE_CHECKING:
    from tasks.install.hooks import Change, GuardStatus, HooksStatus
    from tasks.install.registration import Version

_SCOPE = click.option(
    "--scope",
    type=click.Choice(["user", "project", "local"]),
    help="Whose settings: yours, the project's shared ones, or your own of the project (the folder you are in).",
)
_SETTINGS = click.option(
    "--settings", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="This settings file."
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the change, make none.")


@click.group()
def hooks() -> None:
    """Record what agents do: register the recorder in the client's settings."""


@hooks.command()
@_SCOPE
@_SETTINGS
@click.option(
    "--guard/--no-guard",
    default=None,
    help="Also check commits: dirty workspaces at a prompt, work left uncommitted, commits on protected branches "
    "([guard] in the config file). Off until switched on; --no-guard takes it out.",
)
@_DRY_RUN
@click.pass_obj
def install(data_dir: str | None, scope: str | None, file: Path | None, guard: bool | None, dry_run: bool) -> None:
    """Register the recorder for every event (scope: user)."""
    from tasks.install import hooks as installer

    settings = config.load(data_dir=data_dir)
    change = installer.install(
        _chosen(scope, file), settings.hooks_dir, client=client_version(), guard=guard, dry_run=dry_run
    )
    _report(change, dry_run)


@hooks.command()
@_SCOPE
@_SETTINGS
@_DRY_RUN
@click.pass_obj
def uninstall(data_dir: str | None, scope: str | None, file: Path | None, dry_run: bool) -> None:
    """Take exactly our registrations out again."""
    from tasks.install import hooks as installer

    _report(installer.uninstall(_chosen(scope, file), dry_run=dry_run), dry_run)


@hooks.command()
@_SCOPE
@_SETTINGS
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def status(data_dir: str | None, scope: str | None, file: Path | None, as_json: bool) -> int:
    """Say what is registered, where, twice or not at all (all scopes). Exit code 1 when something is missing."""
    from tasks.install import hooks as installer

    settings = config.load(data_dir=data_dir)
    found = installer.status([_chosen(scope, file)] if scope or file else all_settings(), settings.hooks_dir)
    if as_json:
        import json

        click.echo(json.dumps(_document(found)))
    else:
        _show(found)
    return EXIT_OK if is_fine(found) else EXIT_FAILED


def all_settings() -> list[Path]:
    """The settings files that the client reads in the folder we are in."""
    from tasks.install.hooks import Scope, settings_path

    return [settings_path(scope, directory=Path.cwd()) for scope in Scope]


def is_fine(found: "HooksStatus") -> bool:
    from tasks.install.hooks import RecorderState

    plugin_only = all(event.plugin and not event.places for event in found.events)
    recorder = plugin_only or found.recorder is RecorderState.CURRENT
    return not found.missing and not found.problems and recorder and found.guard.is_fine


def client_version() -> "Version | None":
    """The version of the client that a shell would start; None when there is none or it does not say."""
    from tasks.install.registration import parse_version
    from tasks.install.service import find_client

    client = find_client(os.environ.get("PATH", "").split(os.pathsep), Path.home())
    if client is None:
        return None
    return parse_version(machine.version(str(client)) or "")


def _chosen(scope: str | None, file: Path | None) -> Path:
    from tasks.install.hooks import Scope, settings_path

    if scope and file:
        raise click.UsageError("--scope and --settings exclude one another")
    return file if file else settings_path(Scope(scope or "user"), directory=Path.cwd())


def _report(change: "Change", dry_run: bool) -> None:
    if dry_run and change.changes_file:
        click.echo("".join(printable(line) + "\n" for line in change.diff().splitlines()), nl=False)
    verbs = ("would be registered", "would be updated", "would be removed") if dry_run else (
        "registered", "updated", "removed"
    )  # fmt: skip
    for verb, events in zip(verbs, (change.added, change.updated, change.removed), strict=True):
        if events:
            say(f"{len(events)} event{'s' * (len(events) > 1)} {verb} in {change.file}")
    if change.guard_change:
        say(f"the guard {'would be' if dry_run else 'is'} {change.guard_change} in {change.file}")
    if change.guard:
        say("the guard would be copied" if dry_run else "the guard is in place")
    if change.recorder:
        say("the recorder would be copied" if dry_run else "the recorder is in place")
    if change.backup is not None:
        say(f"the file as it was: {change.backup}")
    if not change.changes_anything:
        say(f"nothing to change in {change.file}")
    for warning in change.warnings:
        say(f"warning: {warning}")


def _show(found: "HooksStatus") -> None:
    by_file: dict[str, int] = {}
    for event in found.events:
        for file in {str(place.file) for place in event.places}:
            by_file[file] = by_file.get(file, 0) + 1
    for file, count in by_file.items():
        click.echo(f"{count} events registered in {printable(file)}")
    if found.events and found.events[0].plugin:
        click.echo("the plugin is enabled")
    if twice := [event.event for event in found.events if event.twice]:
        click.echo(f"registered more than once (counts once, costs time): {', '.join(twice)}")
    if found.missing:
        everything = len(found.missing) == len(found.events)
        which = "no event is registered" if everything else f"not registered: {', '.join(found.missing)}"
        click.echo(f"{which}; run `tasksd hooks install`")
    click.echo(f"recorder: {found.recorder.replace('_', ' ')}, {printable(str(found.recorder_file))}")
    _show_guard(found.guard)
    for problem in found.problems:
        click.echo(f"problem: {printable(problem)}")


def _show_guard(guard: "GuardStatus") -> None:
    if not guard.registered:
        click.echo("guard: off; `tasksd hooks install --guard` switches it on")
        return
    files = ", ".join(dict.fromkeys(str(place.file) for event in guard.events for place in event.places))
    click.echo(
        f"guard: {guard.state.replace('_', ' ')}, {printable(str(guard.file))}, registered in {printable(files)}"
    )
    if guard.missing:
        click.echo(f"guard not registered for: {', '.join(guard.missing)}; run `tasksd hooks install --guard`")
    if twice := [event.event for event in guard.events if event.twice]:
        click.echo(f"guard registered more than once (costs time): {', '.join(twice)}")


def _document(found: "HooksStatus") -> dict[str, Any]:
    return {
        "events": {
            event.event: {
                "places": [{"file": str(place.file), "command": place.command} for place in event.places],
                "plugin": event.plugin,
                "registered": event.registered,
                "twice": event.twice,
            }
            for event in found.events
        },
        "missing": list(found.missing),
        "recorder": {"state": found.recorder, "file": str(found.recorder_file)},
        "guard": {
            "state": found.guard.state,
            "file": str(found.guard.file),
            "registered": found.guard.registered,
            "missing": list(found.guard.missing),
            "places": sorted({str(place.file) for event in found.guard.events for place in event.places}),
        },
        "problems": list(found.problems),
    }
