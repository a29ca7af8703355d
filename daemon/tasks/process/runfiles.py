"""The files of one run of an agent, `runs/<task>/<attempt>/`: what its shim leaves there, and who may start in it."""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import SpawnError
from tasks.process.identity import (
    Liveness,
    ProcessIdentity,
    identify,
    identify_dead_or_alive,
    probe,
    started_at_ms,
    stat_fields,
)

#: In `started` of a run that must not start any more.
_FORBIDDEN = b"never\n"
#: ms by which a process may seem younger than the file it wrote: ticks of the kernel's two clocks
_CLOCK_SLACK = 50


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Files of one run. All are 0600 and belong to the shim; nobody else writes them."""

    directory: Path

    @property
    def output(self) -> Path:
        """Standard output of the agent, up to its limit."""
        return self.directory / "output"

    @property
    def errors(self) -> Path:
        """Standard error of the agent, up to the same limit."""
        return self.directory / "errors"

    @property
    def started(self) -> Path:
        """Made before anything else happens: the shim's pid, boot id and, where there is /proc, its stat; a line each."""
        return self.directory / "started"

    @property
    def pid(self) -> Path:
        """The same about the agent, made right before its program is executed."""
        return self.directory / "pid"

    @property
    def exit(self) -> Path:
        """Three digits and a newline, renamed into place when the agent has ended; needs no free space by then."""
        return self.directory / "exit"

    def prepare(self) -> None:
        """Make the directory, 0700. Raises SpawnError when a run was started in it, or must not start, or it cannot be made."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            taken = self.started.exists()
        except OSError as error:
            raise SpawnError(f"cannot make {self.directory}: {error.strerror}; check permissions and space") from error
        if taken:
            raise SpawnError(f"cannot start a second time in {self.directory}: take the next attempt's directory")

    def was_started(self) -> bool:
        """Whether a shim ran here. False is no promise that none will: see `forbid_start`."""
        try:
            return self.started.read_bytes() != _FORBIDDEN
        except FileNotFoundError:
            return False

    def forbid_start(self) -> bool:
        """True: no shim has started here and none ever will, not even one on its way. False: one has.

        Safe against a shim that starts at the same moment: one of the two makes `started`, the other sees it.
        Raises OSError when the directory cannot be written.
        """
        if self.was_started():
            return False
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=".never-", dir=self.directory)
        try:
            os.write(descriptor, _FORBIDDEN)
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.started)
        finally:
            os.close(descriptor)
            Path(draft).unlink()
        return not self.was_started()

    def exit_status(self) -> int | None:
        """What the agent ended with: 0 to 255, 128+n for signal n, 127 or 126 when its program could not be executed.
        None: it has not ended, or nobody was left to note it."""
        try:
            content = self.exit.read_bytes()
        except FileNotFoundError:
            return None
        # A power cut may leave the name without the content.
        return int(content) if len(content) == 4 and content[:3].isdigit() else None

    def shim(self) -> ProcessIdentity | None:
        """The shim while it lives."""
        return _living(self.started)

    def agent(self) -> ProcessIdentity | None:
        """The agent while it lives. None: not executed yet, or gone."""
        return _living(self.pid)


def _living(path: Path) -> ProcessIdentity | None:
    identity = noted(path)
    return None if identity is None or probe(identity) is Liveness.GONE else identity


def noted(path: Path) -> ProcessIdentity | None:
    """The process that wrote itself down in `path`, gone or not; None when it did not (yet).

    Without a stat to go by (macOS): the process that has the pid now, if it is older than the file.
    Raises ProbeError when that one cannot be looked at.
    """
    try:
        pid, boot, stat, _ = path.read_bytes().split(b"\n")
        number = int(pid)
        if stat:
            return ProcessIdentity(pid=number, started=int(stat_fields(stat)[19]), boot=boot.decode())
        written = path.stat().st_mtime_ns // 1_000_000
    except (FileNotFoundError, ValueError, IndexError):
        return None
    now = identify(number) or identify_dead_or_alive(number)
    if now is None or now.boot != boot.decode() or started_at_ms(now) > written + _CLOCK_SLACK:
        return None
    return now
