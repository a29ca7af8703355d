"""Waiting for a run to end, whoever started it."""

import asyncio
import contextlib
import os
import sys

from tasks.errors import ProbeError
from tasks.process.identity import Liveness, ProcessIdentity, identify_dead_or_alive, probe
from tasks.process.runfiles import RunFiles

#: seconds between two looks where the system cannot tell us
POLL = 0.5


class Watch:
    """Watches the shim of one run, a child of ours or of a daemon that is no more. Reaps it if it is ours."""

    def __init__(self, identity: ProcessIdentity, files: RunFiles) -> None:
        self._identity = identity
        self._files = files
        self._gone = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pidfd = open_pidfd(identity)

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - False is an answer
        """True: the shim is gone, all output that will ever be written is. False: not within `timeout` seconds."""
        return await self._until(timeout, or_exit=False)

    async def ended(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """True: the agent's exit status is noted, or the shim is gone. Up to `POLL` seconds late when something the
        agent left behind holds its output; `sweep` then lets the shim end."""
        return await self._until(timeout, or_exit=True)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._pidfd is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def _until(self, seconds: float | None, *, or_exit: bool) -> bool:
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        if self._pidfd is not None and self._loop is None:
            self._loop = loop
            loop.add_reader(self._pidfd, self._ended)
        while not self._is_gone():
            if or_exit and self._files.exit_status() is not None:
                return True
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return False
            polled = POLL if or_exit or self._pidfd is None else None
            bounds = [bound for bound in (left, polled) if bound is not None]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(bounds) if bounds else None):
                    await self._gone.wait()
        return True

    def _is_gone(self) -> bool:
        if not self._gone.is_set() and self._pidfd is None and probe(self._identity) is Liveness.GONE:
            reap(self._identity)
            self._gone.set()
        return self._gone.is_set()

    def _ended(self) -> None:
        # A pidfd is readable while a zombie is left, too.
        if self._pidfd is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self._gone.set()
        self.close()


if sys.platform == "linux":

    def open_pidfd(identity: ProcessIdentity) -> int | None:
        """A descriptor that stands for that process, or for the zombie of it, and can never stand for another.

        None: there is no such process any more, or the system has no pidfds (Linux before 5.3) or no descriptors left.
        """
        try:
            pidfd = os.pidfd_open(identity.pid)
        except OSError:
            return None
        with contextlib.suppress(ProbeError):
            if identify_dead_or_alive(identity.pid) == identity:
                return pidfd
        os.close(pidfd)
        return None

else:

    def open_pidfd(identity: ProcessIdentity) -> int | None:
        """None: there are no pidfds here."""
        return None


def reap(identity: ProcessIdentity) -> None:
    """Take a dead child of ours from the process table. Nothing happens when it lives, is not ours or was taken before."""
    with contextlib.suppress(ChildProcessError, ProbeError):
        # While nobody has reaped it, its pid is not given to another.
        if identify_dead_or_alive(identity.pid) == identity:
            os.waitpid(identity.pid, os.WNOHANG)
