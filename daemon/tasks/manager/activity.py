"""The activity log: a JSON array of {"at", "message"} in one column, bounded however long a task lives."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

#: Characters of one message.
LONGEST_MESSAGE = 500
#: Entries of one log, and how many of its first are always among them.
MOST_ENTRIES = 500
FIRST_ENTRIES = 50


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry of a task's activity log."""

    #: epoch milliseconds
    at: int
    message: str
    #: above 0: this entry stands for that many that went
    left_out: int = 0

    def to_dict(self) -> dict[str, str | int]:
        entry: dict[str, str | int] = {"at": self.at, "message": self.message}
        return entry | {"left_out": self.left_out} if self.left_out else entry


def parsed(log: str) -> tuple[Activity, ...]:
    """The entries of a stored log, oldest first."""
    return tuple(Activity(entry["at"], entry["message"], entry.get("left_out", 0)) for entry in json.loads(log))


def appended(log: Sequence[Activity], messages: Sequence[str], at: int) -> str:
    """`log` with `messages` behind it, as it is stored. What lies between the first 50 and the newest goes when there are
    more than 500; one entry says how many went.
    """
    entries = [*log, *(Activity(at, _cut(message)) for message in messages)]
    if len(entries) > MOST_ENTRIES:
        entries = _shortened(entries)
    return json.dumps([entry.to_dict() for entry in entries], ensure_ascii=False, separators=(",", ":"))


def _shortened(entries: list[Activity]) -> list[Activity]:
    first, rest = entries[:FIRST_ENTRIES], entries[FIRST_ENTRIES:]
    newest = MOST_ENTRIES - FIRST_ENTRIES - 1
    gone, kept = rest[:-newest], rest[-newest:]
    # An earlier mark is among those that go now: it stands for what it counted.
    count = sum(entry.left_out or 1 for entry in gone)
    return [*first, Activity(gone[-1].at, f"… {count} entries left out …", count), *kept]


def _cut(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
