"""Installing the daemon as a service of the person who runs it: plan, install, uninstall, status."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import assets
from tasks.config import Settings
from tasks.errors import InstallError
from tasks.install.commands import Commands, Run, Step
from tasks.install.managers import (
    Change,
    ManagerName,
    ServiceManager,
    ServiceState,
    home_of,
    manager_of,
)
from tasks.install.programs import find_client, find_programs, service_environment
from tasks.install.unit import baked_path, equal_but_for_path, is_ours, render_launchd, render_systemd

__all__ = [
    "Change",
    "ManagerName",
    "Outcome",
    "ServicePlan",
    "ServiceState",
    "ServiceStatus",
    "find_client",
    "install",
    "plan",
    "render_launchd",
    "render_systemd",
    "status",
    "uninstall",
]

_TEMPLATES = {ManagerName.SYSTEMD: "systemd/tasksd.service", ManagerName.LAUNCHD: "launchd/dev.tasksd.agent.plist"}


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What would be installed. Making one changes nothing."""

    manager: ServiceManager
    file: Path
    text: str
    home: Path
    #: the `tasksd` command that the service starts
    program: Path
    #: the Claude Code client that agents would run; None when it was not found
    client: Path | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or with `dry_run` would be."""

    change: Change
    file: Path
    #: in the past tense, or commands with `dry_run`
    done: tuple[str, ...] = ()
    #: what the person still has to do, in this order; empty when the service is as asked
    remaining: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def text(self) -> str:
        """The same for a person to read."""
        lines = [f"would be {self.change}: {self.file}" if self.dry_run else f"{self.change}: {self.file}"]
        lines += [f"  {line}" for step in self.done for line in step.splitlines()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.remaining:
            lines += ["still to be done:", *(f"  {step}" for step in self.remaining)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How the installed service compares with the plan, and what its manager says."""

    manager: ManagerName
    file: Path
    installed: bool
    #: the file was written by us
    ours: bool
    #: the file says what an installation would write now (PATH apart, which differs from shell to shell)
    current: bool
    state: ServiceState
    #: each with its remedy
    warnings: tuple[str, ...]


def plan(
    settings: Settings,
    *,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    executable: str = sys.executable,
) -> ServicePlan:
    """Resolve everything a service needs to absolute paths.

    Raises InstallError when no `tasksd` command lies beside the interpreter `executable`, when the platform has no
    service manager that we know, or when a path cannot be written into a service definition.
    """
    manager = manager_of(platform)
    home = home_of(environ)
    program = Path(executable).absolute().parent / "tasksd"
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise InstallError(f"no tasksd command beside {executable}: install tasksd into that environment with pip")
    client, path = find_programs(environ, home)
    missing = [name for name, found in (("claude", client), ("git", shutil.which("git", path=path))) if found is None]
    warnings = [f"no {name} command was found: install it, then run `tasksd service install` again" for name in missing]
    template = assets.path(_TEMPLATES[manager.name]).read_text(encoding="utf-8")
    text = manager.render(template, program, service_environment(settings, path, home), home)
    return ServicePlan(manager, manager.file(environ), text, home, program, client, tuple(warnings))


def install(
    wanted: ServicePlan, *, run: Run = subprocess.run, environ: Mapping[str, str] = os.environ, dry_run: bool = False
) -> Outcome:
    """Verify the definition, put it in place atomically, and start the service where its manager answers.

    A second call with nothing changed touches nothing. A file that we did not write is never replaced. Where the
    manager does not answer or a command fails, `remaining` says what to do. Raises InstallError before any change.
    """
    commands, manager = Commands(run, environ), wanted.manager
    present = _read_ours(wanted.file)
    change = Change.UPDATED if present is not None else Change.INSTALLED
    if present == wanted.text:
        change = Change.UNCHANGED
    warnings = [*wanted.warnings, *manager.verify(wanted.text, commands)]
    answers = manager.answers(commands)
    state = manager.state(commands) if answers else ServiceState()
    if state.lingering is False:
        warnings.append(_LINGER)
    running = change is Change.UNCHANGED and state.active is True and state.enabled is True
    steps = [] if running else manager.starting(wanted.file, change)
    if dry_run:
        written = [] if change is Change.UNCHANGED else [wanted.text.rstrip("\n")]
        planned = [*written, *map(str, steps if answers else [])]
        left = [] if answers else _without_manager(manager, steps)
        return Outcome(change, wanted.file, tuple(planned), tuple(left), tuple(warnings), dry_run=True)
    for folder in manager.folders(wanted.home):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if change is not Change.UNCHANGED:
        _write(wanted.file, wanted.text)
    done, left, failures = _perform(steps, commands) if answers else ([], _without_manager(manager, steps), [])
    return Outcome(change, wanted.file, tuple(done), tuple(left), (*warnings, *failures))


def uninstall(
    *,
    run: Run = subprocess.run,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    dry_run: bool = False,
) -> Outcome:
    """Stop and disable the service and remove its file; agents that run are left alone.

    Raises InstallError, with nothing removed, when the file is not ours or the service does not stop.
    """
    commands, manager = Commands(run, environ), manager_of(platform)
    file = manager.file(environ)
    if _read_ours(file) is None:
        return Outcome(Change.ABSENT, file, dry_run=dry_run)
    before, after = manager.stopping()
    answers = manager.answers(commands)
    if dry_run:
        steps = [*map(str, before if answers else []), f"rm {file}", *map(str, after if answers else [])]
        return Outcome(Change.REMOVED, file, tuple(steps), dry_run=True)
    done, _, failures = _perform(before if answers else [], commands)
    if failures:
        raise InstallError(f"the service could not be stopped, {file} was left in place: {'; '.join(failures)}")
    try:
        file.unlink()
        for link in manager.links(file):
            if link.is_symlink() and not link.exists():
                link.unlink()
    except OSError as error:
        raise InstallError(f"cannot remove {file}: {error}; the service is stopped") from error
    more, left, failures = _perform(after if answers else [], commands)
    return Outcome(Change.REMOVED, file, (*done, *more), tuple(left), tuple(failures))


def status(wanted: ServicePlan, *, run: Run = subprocess.run, environ: Mapping[str, str] = os.environ) -> ServiceStatus:
    """Compare what is installed with the plan. Changes nothing."""
    commands, manager, file = Commands(run, environ), wanted.manager, wanted.file
    installed = file.is_symlink() or file.exists()
    present: str | None = None
    warnings = list(wanted.warnings)
    try:
        present = _read_ours(file)
    except InstallError as error:
        warnings.append(str(error))
    state = manager.state(commands)
    current = present is not None and equal_but_for_path(present, wanted.text)
    if not installed:
        warnings.append("the service is not installed: run `tasksd service install`")
    elif present is not None:
        warnings += _findings(present, current, state, wanted)
    if state.lingering is False:
        warnings.append(_LINGER)
    return ServiceStatus(manager.name, file, installed, present is not None, current, state, tuple(warnings))


_LINGER = "the service ends when you log out: run `loginctl enable-linger` to let it go on"


def _findings(present: str, current: bool, state: ServiceState, wanted: ServicePlan) -> list[str]:
    found = []
    if not current:
        found.append("the installed service differs from what this tasksd would install: run `tasksd service install`")
    if wanted.client is not None and shutil.which("claude", path=baked_path(present) or "") is None:
        found.append(f"the service would not find {wanted.client}: run `tasksd service install`")
    if state.active is None:
        found.append(f"the {wanted.manager.name} user manager does not answer: whether the service runs is not known")
    elif not state.active:
        found.append("the service is not running: run `tasksd service install`, or look into its log")
    if state.enabled is False:
        found.append("the service is not started at login: run `tasksd service install`")
    return found


def _perform(steps: Sequence[Step], commands: Commands) -> tuple[list[str], list[str], list[str]]:
    """Run the steps until one fails: what was done, what is left, what failed."""
    done: list[str] = []
    for number, step in enumerate(steps):
        if (problem := commands.perform(step)) is not None:
            return done, [str(rest) for rest in steps[number:] if not rest.may_fail], [f"{step}: {problem}"]
        done.append(str(step))
    return done, [], []


def _without_manager(manager: ServiceManager, steps: Sequence[Step]) -> list[str]:
    if not steps:
        return []
    where = {
        ManagerName.SYSTEMD: "in a login session with a systemd user manager (none answers here)",
        ManagerName.LAUNCHD: "in a graphical login session (launchd has none here)",
    }[manager.name]
    orders = [str(step) for step in steps if not step.may_fail]
    return [f"{where}:", *(f"  {order}" for order in orders), "or, without a service manager, keep running: tasksd up"]


def _read_ours(file: Path) -> str | None:
    """The text of our file; None when there is none. Raises InstallError for a file that is not ours."""
    if file.is_symlink():
        raise InstallError(
            f"{file} is a link to {file.readlink()} and was not made by us; remove it (or unmask the unit)"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InstallError(f"cannot read {file}: {error}; nothing was changed") from error
    if not is_ours(text):
        raise InstallError(
            f"{file} was not written by `tasksd service install`; move it away first, nothing was changed"
        )
    return text


def _write(file: Path, text: str) -> None:
    """Replace `file` as a whole, readable by all as definitions are. Raises InstallError with the old one in place."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                stream.write(text)
                os.fchmod(stream.fileno(), 0o644)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InstallError(f"cannot write {file}: {error}; nothing was changed") from error
