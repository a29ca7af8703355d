"""When logins made their last request: to the moment in memory, once a minute in the store, which may not take it."""

from collections import OrderedDict
from dataclasses import dataclass

#: Milliseconds between two notes in the store.
INTERVAL = 60_000
#: Logins that are remembered: as many as anybody could have open.
REMEMBERED = 4096


@dataclass(slots=True)
class _Seen:
    at: int
    #: when it was last tried to be stored
    tried: int


class Presence:
    """All times are epoch milliseconds."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def last(self, login_id: str, stored: int) -> int:
        """When the login was last seen, given what its row says."""
        seen = self._seen.get(login_id)
        return max(stored, seen.at) if seen else stored

    def note(self, login_id: str, stored: int, *, now: int) -> bool:
        """It was seen now. Whether it is time to tell the store."""
        seen = self._seen.setdefault(login_id, _Seen(stored, stored))
        self._seen.move_to_end(login_id)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        seen.at = max(seen.at, now)
        if now - seen.tried < INTERVAL:
            return False
        seen.tried = now
        return True
