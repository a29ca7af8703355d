"""Which processes are at work in a folder. Only looks."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Occupant:
    pid: int
    #: what the kernel calls it, such as "bash"
    name: str


def occupants(folder: Path) -> list[Occupant]:
    """The processes whose current directory is `folder` or below it, ourselves included.

    Those of other users are seen only by root. A process may leave or enter while this looks.
    """
    inside = os.path.realpath(folder)
    return [found for found, cwd in _all() if cwd == inside or cwd.startswith(inside + os.sep)]


if sys.platform == "darwin":
    import psutil

    def _all() -> list[tuple[Occupant, str]]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                found.append((Occupant(process.pid, process.name()), process.cwd()))
        return found

else:

    def _all() -> list[tuple[Occupant, str]]:
        found = []
        for entry in os.listdir("/proc"):  # noqa: PTH208 - a name for each process of the machine
            if entry.isdigit():
                with suppress(OSError):  # somebody else's, or gone
                    cwd = os.readlink(f"/proc/{entry}/cwd")  # noqa: PTH115
                    found.append((Occupant(int(entry), _name(entry)), cwd))
        return found

    def _name(pid: str) -> str:
        with suppress(OSError):
            return Path("/proc", pid, "comm").read_text(errors="replace").strip()
        return "?"
