"""Answers that may be some seconds old, for pages that are made again with every event."""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

#: Answers that are kept at most.
MOST = 64


class Kept(Generic[T]):
    """Keeps what was found for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._found: dict[Hashable, tuple[float, T]] = {}

    async def get(self, key: Hashable, find: Callable[[], Awaitable[T]]) -> T:
        at, found = self._found.get(key, (0.0, None))
        if found is not None and time.monotonic() - at < self._seconds:
            return found
        fresh = await find()
        if len(self._found) >= MOST:
            self._found.clear()
        self._found[key] = (time.monotonic(), fresh)
        return fresh
