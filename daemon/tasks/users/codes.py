"""Codes that log in once: what the owner of the daemon gets instead of typing a password. Kept in memory, as hashes."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

#: Seconds that a code is good, and codes that may be out at once.
LIFETIME, CODES = 60.0, 32


class Codes:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        #: hash of a code → account, and when the code stops being good
        self._given: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def give(self, user_id: int) -> str:
        """A new code of 256 bits for that account."""
        code = secrets.token_urlsafe(32)
        self._given[_hashed(code)] = (user_id, self._monotonic() + LIFETIME)
        while len(self._given) > CODES:
            self._given.popitem(last=False)
        return code

    def redeem(self, code: str) -> int | None:
        """The account, once; None for a code that was never given, is used, or is too old."""
        user_id, until = self._given.pop(_hashed(code), (0, 0.0))
        return user_id if user_id and self._monotonic() < until else None


def _hashed(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
