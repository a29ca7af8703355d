"""What all questions have in common."""

from collections.abc import Callable, Iterable
from typing import Any

from tasks.database import Row

#: Runs one SELECT: the daemon's reader for the API, the file for the command line when no daemon runs.
Query = Callable[[str, Any], list[Row]]
Record = dict[str, Any]

DAY = 86_400_000  # milliseconds


def records(names: Iterable[str], rows: Iterable[Row]) -> list[Record]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def beginning(id_: str) -> str:
    """The pattern of LIKE, with ESCAPE '\\', for what begins with `id_`."""
    return id_.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
