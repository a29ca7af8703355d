"""How a session spent its time: its states side by side on one line, as wide as they were long."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.api.sessions import StatusChange

#: Units of the whole line, and of its narrowest part: what was shorter counts as what came before it.
WIDTH, NARROWEST = 1000.0, 2.0


@dataclass(frozen=True, slots=True)
class Part:
    status: str
    #: units from the left, and across
    x: float
    width: float
    #: milliseconds
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Strip:
    parts: list[Part]
    #: (status, milliseconds, share of all from 0 to 1), the longest first
    shares: list[tuple[str, int, float]]


def spans(changes: Sequence[StatusChange], *, since: int, until: int) -> list[tuple[str, int, int]]:
    """(status, when it began, when it ended) of the main agent, in order; from its changes, oldest first."""
    own = [one for one in changes if one.agent_id is None and since <= one.timestamp <= until]
    if until <= since or not own:
        return []
    begins = [(since, own[0].previous or "starting"), *((one.timestamp, one.status) for one in own)]
    return [
        (status, began, ended)
        for (began, status), ended in zip(begins, [*(at for at, _ in begins[1:]), until], strict=True)
        if ended > began
    ]


def strip(changes: Sequence[StatusChange], *, since: int, until: int) -> Strip | None:
    """None: there is no time to tell of."""
    found = spans(changes, since=since, until=until)
    if not found:
        return None
    lengths: dict[str, int] = {}
    for status, began, ended in found:
        lengths[status] = lengths.get(status, 0) + ended - began
    whole = until - since
    return Strip(
        _drawn(found, since, whole),
        sorted(((status, ms, ms / whole) for status, ms in lengths.items()), key=lambda one: -one[1]),
    )


def _drawn(spans: Sequence[tuple[str, int, int]], since: int, whole: int) -> list[Part]:
    merged: list[tuple[str, int, int]] = []
    for status, began, ended in spans:
        if merged and ((ended - began) / whole * WIDTH < NARROWEST or merged[-1][0] == status):
            merged[-1] = (merged[-1][0], merged[-1][1], ended)
        else:
            merged.append((status, began, ended))
    return [
        Part(status, round((began - since) / whole * WIDTH, 1), round((ended - began) / whole * WIDTH, 1), began, ended)
        for status, began, ended in merged
    ]
