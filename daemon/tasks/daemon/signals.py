"""Signals only set events; whoever waits for them acts. Handlers go back to what they were when the block ends."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from tasks.errors import EXIT_FAILED


@contextlib.contextmanager
def handled(*, stop: asyncio.Event, reload: Callable[[], None], dump: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, a second one ends the process at once; SIGHUP and SIGUSR1 call back."""
    loop = asyncio.get_running_loop()

    def on_stop() -> None:
        if stop.is_set():
            os._exit(EXIT_FAILED)
        stop.set()

    handlers = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: reload, signal.SIGUSR1: dump}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
