"""Registering `hooks/record` and `hooks/guard` with the client: install, uninstall, status. Prints nothing."""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from tasks.errors import InstallError
from tasks.install import merge
from tasks.install.copies import RecorderState, copy_state, place_copies
from tasks.install.registered import EventStatus, GuardStatus, HooksStatus, Place, has_plugin, status
from tasks.install.registration import TOLERANT_CLIENT, Program, Version, guard_registrations, registrations
from tasks.install.settings_file import SettingsFile

T = TypeVar("T")

_ATTEMPTS = 5  # the client may write the file between our reading and replacing it


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
    #: the same for the guard
    guard: bool = False
    #: what happened, or would, to the registration of the guard: registered, updated, removed; empty: nothing
    guard_change: str = ""
    backup: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def changes_file(self) -> bool:
        return self.before != self.after

    @property
    def changes_anything(self) -> bool:
        return self.changes_file or self.recorder or self.guard

    def diff(self) -> str:
        """The change of the file as a unified diff; empty if there is none."""
        sides = [(text or "").splitlines(keepends=True) for text in (self.before, self.after)]
        lines = difflib.unified_diff(sides[0], sides[1], fromfile=str(self.file), tofile=str(self.file))
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


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


def install(
    settings_file: Path,
    hooks_dir: Path,
    *,
    client: Version | None = None,
    guard: bool | None = None,
    dry_run: bool = False,
) -> Change:
    """Copy the recorder to `hooks_dir`, create the spool beside it, and register every event in `settings_file`.

    `guard`: register the guard too, or take it out; None: what is there is brought up to date. What else stands in the
    file stays as it is, byte for byte; an older registration of ours is brought up to date; a second installation changes
    nothing. `client` is the version of the client (None: a current one). With `dry_run` nothing is written. Raises
    InstallError, and then the settings file is as it was.
    """
    for _ in range(_ATTEMPTS):
        current = SettingsFile.read(settings_file)
        change = _installation(current, hooks_dir, client, guard)
        if dry_run:
            return change
        place_copies(hooks_dir, [Program.RECORD, *([Program.GUARD] if change.guard else [])])
        if done := _carry_out(current, change):
            return done
    raise InstallError(f"{settings_file} is being written by another program; close it and try again")


def place_recorder(hooks_dir: Path) -> None:
    """Copy the recorder to `hooks_dir` and create the spool beside it, without any registration. Raises InstallError."""
    place_copies(hooks_dir, [Program.RECORD])


def uninstall(settings_file: Path, *, dry_run: bool = False) -> Change:
    """Take our registrations out of `settings_file`, and nothing else; the programs stay for other settings files.

    If installing was the only change to the file, it becomes what it was before, byte for byte, or goes if it did not
    exist. Raises InstallError, and then the file is as it was.
    """
    for _ in range(_ATTEMPTS):
        current = SettingsFile.read(settings_file)
        data = current.data()
        before = merge.ours(data) if current.text is not None else {}
        guarded = merge.ours(data, Program.GUARD) if current.text is not None else {}
        after = _original(current) if before or guarded else current.text
        gone = "removed" if guarded else ""
        change = Change(current.path, current.text, after, removed=tuple(before), guard_change=gone)
        if dry_run:
            return change
        if done := _carry_out(current, change):
            return done
    raise InstallError(f"{settings_file} is being written by another program; close it and try again")


def _installation(current: SettingsFile, hooks_dir: Path, client: Version | None, guard: bool | None) -> Change:
    """What installing would change."""
    data = _checked(current)
    before, guarded = merge.ours(data), merge.ours(data, Program.GUARD)
    wanted = registrations(hooks_dir / Program.RECORD, client)
    if guard and not before and has_plugin(data):
        wanted = {}  # the plugin records; a second recorder would only cost time
    guards = guard_registrations(hooks_dir / Program.GUARD, client) if guard or (guard is None and guarded) else {}
    recorded = _named(current, lambda: merge.merged(current.text, wanted) if wanted else current.text)
    after = _named(current, lambda: _with_guard(recorded, guards))
    guard_change = "removed" if not guards else "updated" if guarded else "registered"
    return Change(
        current.path,
        current.text,
        after,
        added=tuple(event for event in wanted if event not in before),
        updated=tuple(e for e, handler in wanted.items() if e in before and before[e] != [handler]),
        removed=tuple(event for event in before if event not in wanted),
        recorder=copy_state(hooks_dir / Program.RECORD) is not RecorderState.CURRENT,
        guard=bool(guards) and copy_state(hooks_dir / Program.GUARD) is not RecorderState.CURRENT,
        guard_change=guard_change if after != recorded else "",
        warnings=_warnings(data, client),
    )


def _checked(current: SettingsFile) -> dict[str, object]:
    """The settings. Raises InstallError where the client would not understand their hooks."""
    data = current.data()
    _named(current, lambda: merge.check_shape(data))
    return data


def _named(current: SettingsFile, edit: Callable[[], T]) -> T:
    """The result of `edit`, whose InstallError is made to name the file."""
    try:
        return edit()
    except InstallError as error:
        raise InstallError(f"{current.path}: {error}. Repair the file and try again; nothing was changed") from error


def _with_guard(text: str | None, guards: Mapping[str, Mapping[str, object]]) -> str | None:
    if guards:
        return merge.merged(text, guards, Program.GUARD)
    return merge.removed(text, (Program.GUARD,)) if text and text.strip() else text


def _merged(
    text: str | None, wanted: Mapping[str, Mapping[str, object]], guards: Mapping[str, Mapping[str, object]]
) -> str | None:
    return _with_guard(merge.merged(text, wanted) if wanted else text, guards)


def _original(current: SettingsFile) -> str | None:
    """The text without our registrations: what it was before, where a backup or the layout shows that."""
    text = current.text or ""
    data = current.data()
    wanted, guards = (
        {event: handlers[0] for event, handlers in merge.ours(data, program).items()} for program in Program
    )
    for backup in current.backups():
        try:
            earlier = SettingsFile.read(backup)
            found = earlier.data()
            foreign = not any(merge.ours(found, program) for program in Program)
            if foreign and _merged(earlier.text, wanted, guards) == text:
                return earlier.text
        except InstallError:
            continue
    if text == _merged(None, wanted, guards):
        return None
    return _named(current, lambda: merge.removed(text))


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


__all__ = [
    "Change",
    "EventStatus",
    "GuardStatus",
    "HooksStatus",
    "Place",
    "RecorderState",
    "Scope",
    "install",
    "place_recorder",
    "settings_path",
    "status",
    "uninstall",
]
