"""Programs of their own for tests of what happens between processes, at their end, and with a mount of their own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

DEADLINE = 15.0  # seconds


class Eventually(Protocol):
    def __call__(self, condition: Callable[[], object], *, seconds: float = DEADLINE) -> None: ...


class EventuallyAsync(Protocol):
    async def __call__(self, condition: Callable[[], Awaitable[object]], *, seconds: float = DEADLINE) -> None: ...


class Programs:
    """Runs Python source in other processes, with the import path of this one; ends them with the test."""

    def __init__(self, tmp_path: Path) -> None:
        self._cwd = tmp_path
        self._started: list[subprocess.Popen[str]] = []

    def start(self, source: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """`arguments` are in `args`, as text; `say(text)` prints a line at once; `hear()` reads one from the test."""
        preamble = (
            f"import sys; sys.path[:] = {sys.path!r}; args = sys.argv[1:]\n"
            "def say(*words): print(*words, flush=True)\n"
            "def hear(): return sys.stdin.readline().strip()\n"
        )
        program = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", preamble + source, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._cwd,
        )
        self._started.append(program)
        return program

    def run(
        self, source: str, *arguments: object, prefix: tuple[str, ...] = (), seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Its end, whatever the exit code. A program that prints SKIP and a reason skips the test."""
        program = self.start(source, *arguments, prefix=prefix)
        out, err = program.communicate(timeout=seconds)
        for line in out.splitlines():
            if line.startswith("SKIP"):
                pytest.skip(line)
        return subprocess.CompletedProcess(program.args, program.returncode, out, err)

    def unshared(self, *options: str) -> tuple[str, ...]:
        """The prefix that runs a program in namespaces of its own; skips the test where that is not permitted."""
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not here")
        user = () if os.geteuid() == 0 else ("--map-root-user",)
        prefix = ("unshare", *user, *options)
        trial = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if trial.returncode != 0:
            pytest.skip(f"unshare is not permitted: {trial.stderr.decode().strip()}")
        return prefix

    def close(self) -> None:
        for program in self._started:
            if program.poll() is None:
                program.kill()
            program.communicate()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.close()


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds, and fails when it does not in time."""

    def wait(condition: Callable[[], object], *, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition was not met in time"
            time.sleep(0.005)

    return wait


@pytest.fixture
def eventually_async() -> EventuallyAsync:
    import asyncio

    async def wait(condition: Callable[[], Awaitable[object]], *, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < end, "the condition was not met in time"
            await asyncio.sleep(0.005)

    return wait
