"""Registering `hooks/record` with the client: install, uninstall, status. Prints nothing."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from tasks import assets
from tasks.errors import InstallError
from tasks.install import merge
from tasks.install.registration import EVENTS, TOLERANT_CLIENT, Version, registrations
from tasks.install.settings_file import SettingsFile, write_atomically

_ATTEMPTS = 5  # the client may write the file between our reading and replacing it
_RECORDER_MODE = 0o755


class Scope(StrEnum):
    """Whose settings file: the user's, the project's shared one, or the project's own of this user."""

    USER = "user"
    PROJECT = "project"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Change:
    """What an installation or its removal did, or would do."""

    file: Path
    #: None: there was no file
    before: str | None
    #: None: there is no file any more
    after: str | None
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    #: the recorder was, or would be, copied anew
    recorder: bool = False
    backup: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def changes_file(self) -> bool:
        return self.before != self.after

    @property
    def changes_anything(self) -> bool:
        return self.changes_file or self.recorder

    def diff(self) -> str:
        """The change of the file as a unified diff; empty if there is none."""
        sides = [(text or "").splitlines(keepends=True) for text in (self.before, self.after)]
        lines = difflib.unified_diff(sides[0], sides[1], fromfile=str(self.file), tofile=str(self.file))
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


class RecorderState(StrEnum):
    """The installed copy of `hooks/record`."""

    CURRENT = "current"
    OUTDATED = "outdated"
    NOT_EXECUTABLE = "not_executable"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event is registered."""

    file: Path
    #: the program or shell line that runs
    command: str


@dataclass(frozen=True, slots=True)
class EventStatus:
    """One event and where it is registered; the plugin's registration is no `Place`."""

    event: str
    places: tuple[Place, ...]
    #: the plugin is enabled as well
    plugin: bool = False

    @property
    def registered(self) -> bool:
        return bool(self.places) or self.plugin

    @property
    def twice(self) -> bool:
        """Every event is recorded more than once. It counts once all the same, but costs the agent time."""
        return len({place.command for place in self.places}) + self.plugin > 1


@dataclass(frozen=True, slots=True)
class HooksStatus:
    events: tuple[EventStatus, ...]
    recorder: RecorderState
    recorder_file: Path
    #: what is wrong with the settings files, each with its remedy
    problems: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(status.event for status in self.events if not status.registered)


def settings_path(scope: Scope, *, directory: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The client's settings file of `scope`; `directory` is the project's (for the user's scope it plays no part)."""
    match scope:
        case Scope.USER:
            if chosen := environ.get("CLAUDE_CONFIG_DIR"):
                return Path(chosen) / "settings.json"
            home = environ.get("HOME")
            return (Path(home) if home else Path.home()) / ".claude/settings.json"
        case Scope.PROJECT:
            return directory / ".claude/settings.json"
        case Scope.LOCAL:
            return directory / ".claude/settings.local.json"


def install(settings_file: Path, hooks_dir: Path, *, client: Version | None = None, dry_run: bool = False) -> Change:
    """Copy the recorder to `hooks_dir`, create the spool beside it, and register every event in `settings_file`.

    What else stands in the file stays as it is, byte for byte; an older registration of ours is brought up to date; a
    second installation changes nothing. `client` is the version of the client (None: a current one). With `dry_run`
    nothing is written. Raises InstallError, and then the settings file is as it was.
    """
    recorder = hooks_dir / "record"
    wanted = registrations(recorder, client)
    for _ in range(_ATTEMPTS):
        current = SettingsFile.read(settings_file)
        data = current.data()
        after = _merged(current, wanted)
        before = merge.ours(data)
        change = Change(
            current.path,
            current.text,
            after,
            added=tuple(event for event in wanted if event not in before),
            updated=tuple(e for e, handler in wanted.items() if e in before and before[e] != [handler]),
            removed=tuple(event for event in before if event not in wanted),
            recorder=_recorder_state(recorder) is not RecorderState.CURRENT,
            warnings=_warnings(data, client),
        )
        if dry_run:
            return change
        _place_recorder(recorder)
        if done := _carry_out(current, change):
            return done
    raise InstallError(f"{settings_file} is being written by another program; close it and try again")


def uninstall(settings_file: Path, *, dry_run: bool = False) -> Change:
    """Take our registrations out of `settings_file`, and nothing else; the recorder stays for other settings files.

    If installing was the only change to the file, it becomes what it was before, byte for byte, or goes if it did not
    exist. Raises InstallError, and then the file is as it was.
    """
    for _ in range(_ATTEMPTS):
        current = SettingsFile.read(settings_file)
        before = merge.ours(current.data()) if current.text is not None else {}
        after = _original(current) if before else current.text
        change = Change(current.path, current.text, after, removed=tuple(before))
        if dry_run:
            return change
        if done := _carry_out(current, change):
            return done
    raise InstallError(f"{settings_file} is being written by another program; close it and try again")


def status(settings_files: list[Path], hooks_dir: Path) -> HooksStatus:
    """What is registered in these files together, and whether the recorder can run. Never raises InstallError."""
    places: dict[str, list[Place]] = {event.name: [] for event in EVENTS}
    problems: list[str] = []
    plugin = False
    for path in dict.fromkeys(map(Path, settings_files)):
        try:
            data = SettingsFile.read(path).data()
            merge.check_shape(data)
        except InstallError as error:
            problems.append(str(error))
            continue
        if data.get("disableAllHooks") is True:
            problems.append(f'{path}: "disableAllHooks" is true, so nothing is recorded; remove it')
        enabled = data.get("enabledPlugins")
        if isinstance(enabled, dict):
            plugin = plugin or any(name.startswith("tasksd@") and on is True for name, on in enabled.items())
        for event, handlers in merge.ours(data).items():
            places.setdefault(event, []).extend(Place(path, _line(handler)) for handler in handlers)
    events = tuple(EventStatus(event, tuple(found), plugin) for event, found in places.items())
    recorder = hooks_dir / "record"
    return HooksStatus(events, _recorder_state(recorder), recorder, tuple(problems))


def _line(handler: Mapping[str, object]) -> str:
    arguments = handler.get("args")
    return " ".join([str(handler["command"]), *(map(str, arguments) if isinstance(arguments, list) else ())])


def _merged(current: SettingsFile, wanted: Mapping[str, Mapping[str, object]]) -> str:
    try:
        return merge.merged(current.text, wanted)
    except InstallError as error:
        raise InstallError(f"{current.path}: {error}. Repair the file and try again; nothing was changed") from error


def _original(current: SettingsFile) -> str | None:
    """The text without our registrations: what it was before, where a backup or the layout shows that."""
    text = current.text or ""
    ours = merge.ours(current.data())
    wanted = {event: handlers[0] for event, handlers in ours.items()}
    for backup in current.backups():
        try:
            earlier = SettingsFile.read(backup)
            if not merge.ours(earlier.data()) and merge.merged(earlier.text, wanted) == text:
                return earlier.text
        except InstallError:
            continue
    if text == merge.merged(None, wanted):
        return None
    try:
        return merge.removed(text)
    except InstallError as error:
        raise InstallError(f"{current.path}: {error}. Repair the file and try again; nothing was changed") from error


def _carry_out(current: SettingsFile, change: Change) -> Change | None:
    """Back up and replace the file; None if another program changed it since it was read."""
    if not change.changes_file:
        return change
    try:
        backup = current.backup() if change.after is not None else None
        if not current.is_current():
            if backup is not None:
                backup.unlink()
            return None
        if change.after is None:
            current.path.unlink()
        else:
            current.replace(change.after)
    except OSError as error:
        raise InstallError(f"cannot replace {current.path}: {error}; the file is as it was") from error
    return replace(change, backup=backup)


def _recorder_state(recorder: Path) -> RecorderState:
    try:
        content = recorder.read_bytes()
    except OSError:
        return RecorderState.MISSING
    if content != assets.path("hooks/record").read_bytes():
        return RecorderState.OUTDATED
    return RecorderState.CURRENT if os.access(recorder, os.X_OK) else RecorderState.NOT_EXECUTABLE


def _place_recorder(recorder: Path) -> None:
    """Put the recorder and the spool in place. Raises InstallError."""
    try:
        for folder in (recorder.parents[1], recorder.parent, recorder.parents[1] / "spool"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
        if _recorder_state(recorder) is not RecorderState.CURRENT:
            content = assets.path("hooks/record").read_bytes()
            write_atomically(recorder, content, mode=_RECORDER_MODE)
    except OSError as error:
        raise InstallError(f"cannot put the recorder at {recorder}: {error}; nothing was registered") from error


def _warnings(data: Mapping[str, object], client: Version | None) -> tuple[str, ...]:
    found = []
    if client is not None and client < TOLERANT_CLIENT:
        version, needed = (".".join(map(str, v)) for v in (client, TOLERANT_CLIENT))
        found.append(
            f"client {version} ignores settings with event names it does not know: only the old events are registered; "
            f"update the client to {needed} or newer and install again"
        )
    if data.get("disableAllHooks") is True:
        found.append('"disableAllHooks" is true in this file, so nothing is recorded until it is removed')
    found += [
        f'unknown hook type "{name}": some clients ignore the whole file for it' for name in merge.odd_types(data)
    ]
    return tuple(found)
