"""systemd and launchd: where they read definitions, and the commands that start, stop and question a service."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tasks.errors import InstallError
from tasks.install.commands import Commands, Step
from tasks.install.unit import LABEL, UNIT_NAME, render_launchd, render_systemd, verify_launchd, verify_systemd


class ManagerName(StrEnum):
    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


class Change(StrEnum):
    """What an installation did to the file, or would do."""

    INSTALLED = "installed"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    #: there was nothing to remove
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the manager says; None where it does not say."""

    #: started at login or boot
    enabled: bool | None = None
    active: bool | None = None
    #: the service goes on after logout
    lingering: bool | None = None


class ServiceManager(Protocol):
    """One way to run a daemon for a person."""

    @property
    def name(self) -> ManagerName: ...

    def file(self, environ: Mapping[str, str]) -> Path:
        """Where it reads our definition."""
        ...

    def render(self, template: str, program: Path, environment: Mapping[str, str], home: Path) -> str: ...

    def folders(self, home: Path) -> tuple[Path, ...]:
        """Private folders that have to exist before the service starts."""
        ...

    def verify(self, text: str, commands: Commands) -> list[str]:
        """Returns warnings. Raises InstallError for a definition that the manager would refuse."""
        ...

    def answers(self, commands: Commands) -> bool: ...

    def state(self, commands: Commands) -> ServiceState: ...

    def starting(self, file: Path, change: Change) -> list[Step]: ...

    def stopping(self) -> tuple[list[Step], list[Step]]:
        """What to do before the file is removed, and after."""
        ...

    def links(self, file: Path) -> list[Path]:
        """Links that enabling made, to be removed where no manager is there to do it."""
        ...


class Systemd:
    """The user manager of systemd."""

    name = ManagerName.SYSTEMD

    def file(self, environ: Mapping[str, str]) -> Path:
        configured = Path(environ.get("XDG_CONFIG_HOME") or "")
        base = configured if configured.is_absolute() else home_of(environ) / ".config"
        return base / "systemd/user" / UNIT_NAME

    def render(self, template: str, program: Path, environment: Mapping[str, str], home: Path) -> str:
        return render_systemd(template, program=program, environment=environment)

    def folders(self, home: Path) -> tuple[Path, ...]:
        return ()

    def verify(self, text: str, commands: Commands) -> list[str]:
        return verify_systemd(text, commands)

    def answers(self, commands: Commands) -> bool:
        return commands.call(*_systemctl("show", "--property=Version")).returncode == 0

    def state(self, commands: Commands) -> ServiceState:
        done = commands.call(*_systemctl("show", UNIT_NAME, "--property=ActiveState,UnitFileState"))
        linger = commands.call("loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value")
        said = {"yes": True, "no": False}.get(linger.stdout.strip()) if linger.returncode == 0 else None
        if done.returncode != 0:
            return ServiceState(lingering=said)
        values = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        return ServiceState(
            enabled=values.get("UnitFileState") == "enabled",
            active=values.get("ActiveState") in ("active", "reloading"),
            lingering=said,
        )

    def starting(self, file: Path, change: Change) -> list[Step]:
        reload = Step(_systemctl("daemon-reload"))
        forgive = Step(
            _systemctl("reset-failed", UNIT_NAME), may_fail=True
        )  # else the start limit refuses this start too
        if change is Change.UPDATED:
            return [reload, forgive, Step(_systemctl("enable", UNIT_NAME)), Step(_systemctl("restart", UNIT_NAME))]
        return [reload, forgive, Step(_systemctl("enable", "--now", UNIT_NAME))]

    def stopping(self) -> tuple[list[Step], list[Step]]:
        after = [Step(_systemctl("daemon-reload")), Step(_systemctl("reset-failed", UNIT_NAME), may_fail=True)]
        return [Step(_systemctl("disable", "--now", UNIT_NAME))], after

    def links(self, file: Path) -> list[Path]:
        return [file.parent / "default.target.wants" / file.name]


class Launchd:
    """The per-user domain of launchd. Written from its manual; not run on a Mac yet."""

    name = ManagerName.LAUNCHD

    def __init__(self, uid: int | None = None) -> None:
        self._domain = f"gui/{os.getuid() if uid is None else uid}"
        self._target = f"{self._domain}/{LABEL}"

    def file(self, environ: Mapping[str, str]) -> Path:
        return home_of(environ) / "Library/LaunchAgents" / f"{LABEL}.plist"

    def render(self, template: str, program: Path, environment: Mapping[str, str], home: Path) -> str:
        return render_launchd(template, program=program, environment=environment, log_dir=home / "Library/Logs/tasksd")

    def folders(self, home: Path) -> tuple[Path, ...]:
        return (home / "Library/Logs/tasksd",)  # launchd makes the file, not the folder

    def verify(self, text: str, commands: Commands) -> list[str]:
        return verify_launchd(text)

    def answers(self, commands: Commands) -> bool:
        return commands.call("launchctl", "print", self._domain).returncode == 0

    def state(self, commands: Commands) -> ServiceState:
        if not self.answers(commands):
            return ServiceState()
        done = commands.call("launchctl", "print", self._target)
        loaded = done.returncode == 0
        return ServiceState(enabled=loaded, active=loaded and "state = running" in done.stdout)

    def starting(self, file: Path, change: Change) -> list[Step]:
        load = [
            Step(("launchctl", "enable", self._target), may_fail=True),  # a person may have disabled it before
            Step(("launchctl", "bootstrap", self._domain, str(file))),
        ]
        # Also when unchanged: bootstrapping what is loaded already fails.
        return load if change is Change.INSTALLED else [self._unload(), *load]

    def stopping(self) -> tuple[list[Step], list[Step]]:
        return [self._unload()], []

    def links(self, file: Path) -> list[Path]:
        return []

    def _unload(self) -> Step:
        # It returns before the service is gone, and a bootstrap too early fails with "Input/output error".
        until = ("launchctl", "print", self._target)
        return Step(("launchctl", "bootout", self._target), may_fail=True, until_fails=until)


def manager_of(platform: str) -> ServiceManager:
    """The manager of `sys.platform`. Raises InstallError where there is none that we know."""
    if platform == "linux":
        return Systemd()
    if platform == "darwin":
        return Launchd()
    raise InstallError(f"no service manager is known for {platform}; start the daemon with `tasksd up`")


def home_of(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(home) if home else Path(pwd.getpwuid(os.getuid()).pw_dir)


def _systemctl(*arguments: str) -> tuple[str, ...]:
    return ("systemctl", "--user", *arguments)
