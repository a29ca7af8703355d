"""How often a login may be attempted: per account, and over all of them. Nobody is ever locked out for good."""

import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tasks.users.refusals import TooManyAttempts

#: Failures of one account that cost nothing; then each doubles the delay, from 1 s up to the longest.
FREE, LONGEST_DELAY = 5, 60.0
#: Seconds after the last attempt when what was counted is forgotten.
MEMORY = 3600.0
#: Accounts that are remembered, the last tried ones. Names that do not exist count too.
ACCOUNTS = 4096
#: Attempts over all accounts: at once, and each second after that.
BURST, RATE = 20.0, 2.0

_NAME = 128  # characters of a name that count


@dataclass(slots=True)
class _Account:
    failures: int
    last: float

    def waits_until(self) -> float:
        over = self.failures - FREE
        return self.last + (0.0 if over < 0 else min(LONGEST_DELAY, 2.0 ** min(over, 10)))


class Throttle:
    """Counts attempts. Safe within one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._tokens = BURST
        self._filled = monotonic()

    def admit(self, username: str) -> None:
        """Let an attempt through; it counts as failed until `succeeded` or `withdrawn` says otherwise, so that many at once
        are no way around. Raises TooManyAttempts, which costs the account nothing.
        """
        now, name = self._monotonic(), _folded(username)
        account = self._accounts.get(name)
        if account is not None and now - account.last >= MEMORY:
            account = None
        if account is not None and (wait := account.waits_until() - now) > 0:
            raise TooManyAttempts(wait)
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        if self._tokens < 1:
            raise TooManyAttempts((1 - self._tokens) / RATE)
        self._tokens -= 1
        self._accounts[name] = _Account(account.failures + 1 if account else 1, now)
        self._accounts.move_to_end(name)
        if len(self._accounts) > ACCOUNTS:
            self._accounts.popitem(last=False)

    def succeeded(self, username: str) -> None:
        """The attempt was right: what was counted against the account is forgotten."""
        self._accounts.pop(_folded(username), None)

    def withdrawn(self, username: str) -> None:
        """The attempt was not carried out."""
        if account := self._accounts.get(_folded(username)):
            account.failures = max(0, account.failures - 1)


def _folded(username: str) -> str:
    return unicodedata.normalize("NFC", username[:_NAME]).casefold()
