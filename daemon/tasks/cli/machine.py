"""What the machine is like: versions of programs, types of file systems."""

import subprocess
import sys
from pathlib import Path

#: Seconds for a program to say its version.
PATIENCE = 10.0


def file_system(path: Path) -> str | None:
    """The type of the file system that `path` lies on; None when it is not known."""
    mounts: list[tuple[str, str]] = []
    if sys.platform == "darwin":
        for line in (said(["/sbin/mount"]) or "").splitlines():
            place, _, options = line.partition(" on ")[2].rpartition(" (")
            mounts.append((place, options.split(",")[0].rstrip(")")))
    else:
        try:
            lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return None
        for line in lines:
            before, _, after = line.partition(" - ")
            place = before.split(" ")[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            mounts.append((place, after.split(" ")[0]))
    real = path.resolve()
    # Of mounts on the same place the last one hides the others.
    holding = [(len(place), index, kind) for index, (place, kind) in enumerate(mounts) if real.is_relative_to(place)]
    return max(holding)[2] if holding else None


def version(program: str) -> str | None:
    """The first line that `program --version` prints; None when it is not there, or silent."""
    lines = (said([program, "--version"]) or "").strip().splitlines()
    return lines[0] if lines else None


def said(command: list[str]) -> str | None:
    """What a command prints; None when it cannot be started or does not end in time."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace")
