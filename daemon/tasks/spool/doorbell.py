"""Wakes the ingester when something happens in the spool. Only a doorbell: it may ring for nothing and may miss a visitor.

watchfiles drops the kernel's overflow event, goes deaf when the directory is replaced and dies of odd file names; so nothing
is ever concluded from its silence, and it is rebuilt whenever it may have lost its way.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

import watchfiles

from tasks.spool.directory import Spool

log = logging.getLogger(__name__)

#: Milliseconds between looks at the kernel's queue: 10 costs 0.7 % of a core and 12 ms of latency.
STEP = 10
DEBOUNCE = 50
#: Seconds between comparisons of the directory with the one being watched.
CHECK_INTERVAL = 1.0
#: Seconds before a watcher that failed is tried again.
RETRY_MIN, RETRY_MAX = 0.2, 30.0


class Doorbell:
    """Runs until cancelled; calls `ring` for every sign of life. `state` is "watching" or "polling" (with the reason)."""

    def __init__(self, spool: Spool, ring: Callable[[], None]) -> None:
        self._spool = spool
        self._ring = ring
        self.state = "starting"

    async def run(self) -> None:
        delay = RETRY_MIN
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._watch()
                delay = RETRY_MIN
            except Exception as error:
                # Whatever the reason (watch limits, an odd name, a vanished directory): the timer keeps reading.
                cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
                self.state = f"polling: {str(cause)[:200]}"
                log.warning("the spool watcher failed, polling until it works again error=%s", cause)
                delay = (
                    RETRY_MIN if asyncio.get_running_loop().time() - started > RETRY_MAX else min(delay * 2, RETRY_MAX)
                )
            self._ring()
            await asyncio.sleep(delay)

    async def _watch(self) -> None:
        """Returns when the directory is no longer the one that is watched."""
        # Held open, so that a directory made after this one is deleted cannot get its inode and pass for it.
        held = os.open(self._spool.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            state = os.fstat(held)
            await self._watch_until_replaced((state.st_dev, state.st_ino))
        finally:
            os.close(held)

    async def _watch_until_replaced(self, watched: tuple[int, int]) -> None:
        stop = asyncio.Event()
        changes = watchfiles.awatch(
            self._spool.path,
            watch_filter=None,
            recursive=False,
            step=STEP,
            debounce=DEBOUNCE,
            stop_event=stop,
            rust_timeout=int(CHECK_INTERVAL * 1000),
            yield_on_timeout=True,
        )
        async with contextlib.aclosing(changes):
            async for seen in changes:
                self.state = "watching"
                if seen:
                    self._ring()
                if self._spool.identity() != watched:
                    log.warning("the spool directory was replaced, watching the new one path=%s", self._spool.path)
                    return
