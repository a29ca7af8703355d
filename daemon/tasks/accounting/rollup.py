"""cost_rollup: kept with `messages`, by exact integer differences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.database import Connection
from tasks.rollups import DAY, HOUR, MINUTE

#: Slot lengths by dimension. The shortest is the same for all: what falls into one slot of it goes the same way everywhere.
SLOT = 15 * MINUTE
_LONG = (SLOT, HOUR, 6 * HOUR, DAY)
_SHORT = (SLOT, DAY)


@dataclass(frozen=True, slots=True)
class Context:
    """Whose work a transcript holds."""

    session_uuid: str
    #: '' the main agent of no task
    agent_type: str = ""
    task_id: str | None = None
    workflow: str | None = None
    #: '' not known
    project: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it counts."""

    context: Context
    #: milliseconds
    timestamp: int
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_searches: int
    #: picodollars; None: unpriced
    cost: int | None


#: (before, after); None: not there
Change = tuple[Entry | None, Entry | None]

#: messages, the six kinds of usage, cost, unpriced
Sums = list[int]


class Differences:
    """What is to be added to cost_rollup: summed up in memory first, written once."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Context, int, str], Sums] = {}

    def add(self, entry: Entry, sign: int) -> None:
        """Count `entry` (sign 1), or take it back (-1)."""
        numbers = (
            1, entry.input_tokens, entry.output_tokens, entry.cache_read_tokens, entry.cache_write_5m_tokens,
            entry.cache_write_1h_tokens, entry.web_searches, entry.cost or 0, int(entry.cost is None),
        )  # fmt: skip
        self.add_sums(entry.context, entry.timestamp // SLOT, entry.model, numbers, sign)

    def add_sums(self, context: Context, slot: int, model: str, numbers: Sequence[int], sign: int) -> None:
        """The same for all messages of one context, slot (timestamp // SLOT) and model at once."""
        key = (context, slot, model)
        if (sums := self._sums.get(key)) is None:
            sums = self._sums[key] = [0] * len(numbers)
        for index, number in enumerate(numbers):
            sums[index] += sign * number

    def write(self, connection: Connection) -> None:
        """Add everything to cost_rollup and forget it. Slots in which nothing is left are deleted."""
        rows: dict[tuple[str, int, int, str, str], Sums] = {}
        for (context, slot, model), sums in self._sums.items():
            if any(sums):
                for dimension, value, grains in _places(context):
                    for grain in grains:
                        key = (dimension, grain, slot * SLOT // grain, value, model)
                        known = rows.get(key)
                        rows[key] = list(sums) if known is None else [a + b for a, b in zip(known, sums, strict=True)]
        self._sums.clear()
        changed = sorted((key, sums) for key, sums in rows.items() if any(sums))
        connection.executemany(_ADD, [(*key, *sums) for key, sums in changed])
        connection.executemany(_DROP_EMPTY, [key for key, sums in changed if sums[0] < 0])


def change_messages(connection: Connection, changes: Iterable[Change]) -> None:
    """Take every old entry out of cost_rollup and count every new one. Integers: exact in any order. Writes nothing else, and
    runs in the caller's transaction.
    """
    differences = Differences()
    for before, after in changes:
        if before is not None:
            differences.add(before, -1)
        if after is not None:
            differences.add(after, 1)
    differences.write(connection)


def _places(context: Context) -> list[tuple[str, str, tuple[int, ...]]]:
    places = [
        ("all", "", _LONG),
        ("project", context.project, _LONG),
        ("agent_type", context.agent_type, _LONG),
        ("session", context.session_uuid, _SHORT),
    ]
    if context.workflow is not None:
        places.append(("workflow", context.workflow, _LONG))
    if context.task_id is not None:
        places.append(("task", context.task_id, _SHORT))
    return places


_NUMBERS = (
    "messages",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_searches",
    "cost",
    "unpriced",
)

_ADD = f"""
INSERT INTO cost_rollup (dimension, grain, slot, value, model, {", ".join(_NUMBERS)})
VALUES ({", ".join("?" * (5 + len(_NUMBERS)))})
ON CONFLICT (dimension, grain, slot, value, model) DO UPDATE SET {", ".join(f"{n} = {n} + excluded.{n}" for n in _NUMBERS)}
"""

_DROP_EMPTY = """
DELETE FROM cost_rollup
WHERE dimension = ? AND grain = ? AND slot = ? AND value = ? AND model = ? AND messages = 0
"""
