"""The installed copies of our hook programs, in `hooks/` of the data directory."""

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from tasks import assets
from tasks.errors import InstallError
from tasks.install.registration import Program
from tasks.install.settings_file import write_atomically

_MODE = 0o755


class RecorderState(StrEnum):
    """The installed copy of one of our programs."""

    CURRENT = "current"
    OUTDATED = "outdated"
    NOT_EXECUTABLE = "not_executable"
    MISSING = "missing"


def copy_state(program: Path) -> RecorderState:
    """The state of the copy at `hooks/<name of the program>`."""
    try:
        content = program.read_bytes()
    except OSError:
        return RecorderState.MISSING
    if content != assets.path(f"hooks/{program.name}").read_bytes():
        return RecorderState.OUTDATED
    return RecorderState.CURRENT if os.access(program, os.X_OK) else RecorderState.NOT_EXECUTABLE


def place_copies(hooks_dir: Path, programs: Iterable[Program]) -> None:
    """Put programs and the spool in place. Raises InstallError."""
    try:
        for folder in (hooks_dir.parent, hooks_dir, hooks_dir.parent / "spool"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
        for program in programs:
            if copy_state(hooks_dir / program) is not RecorderState.CURRENT:
                content = assets.path(f"hooks/{program}").read_bytes()
                write_atomically(hooks_dir / program, content, mode=_MODE)
    except OSError as error:
        raise InstallError(f"cannot put the hooks into {hooks_dir}: {error}; nothing was registered") from error
