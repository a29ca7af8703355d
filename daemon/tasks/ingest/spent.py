"""How long main agents were in each state, added up for one batch."""

from dataclasses import dataclass, field

from tasks.database import Write
from tasks.ingest import statements
from tasks.ingest.sessions import OVER
from tasks.rollups import COARSE_GRAINS, LONGEST_STATE


@dataclass(slots=True)
class TimeSpent:
    #: (grain, slot, status) → milliseconds
    _sums: dict[tuple[int, int, str], int] = field(default_factory=dict)

    def add(self, status: str, since: int, until: int) -> None:
        """An agent was in `status` from `since` to `until`, epoch milliseconds: split exactly over the slots.

        What is over takes no time, nor does a clock that was set back, or ahead by more than a year.
        """
        if status in OVER or until - since > LONGEST_STATE:
            return
        for grain in COARSE_GRAINS:
            position = since
            while position < until:
                slot = position // grain
                end = min((slot + 1) * grain, until)
                key = (grain, slot, status)
                self._sums[key] = self._sums.get(key, 0) + end - position
                position = end

    def write(self) -> Write:
        return Write(statements.TIME_SPENT, [(*key, ms) for key, ms in self._sums.items()])
