"""Mounts and limits that only some processes see: namespaces, entered and looked into from outside."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


class Namespace:
    """A mount namespace held open by a process; skips the test where that is not permitted."""

    def __init__(self, script: str) -> None:
        """`script` (sh) prepares it and must end with success."""
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            pytest.skip("unshare or nsenter is not installed")
        self._user = () if os.geteuid() == 0 else ("--map-root-user",)
        line = f"{script} && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", *self._user, "--mount", "sh", "-c", line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            error = self._holder.communicate()[1].decode().strip()
            pytest.skip(f"mounts are not permitted here: {error}")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a program inside."""
        user = ("--user", "--preserve-credentials") if self._user else ()
        return ("nsenter", "-t", str(self._holder.pid), *user, "--mount")

    def seen_from_outside(self, path: Path) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def run(self, script: str) -> None:
        done = subprocess.run([*self.prefix, "sh", "-c", script], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def close(self) -> None:
        self._holder.communicate()
