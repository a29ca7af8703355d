"""A write is a value: a statement and the rows to run it with. Whoever has a list of them has a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What SQLite can store in a column.
Value = str | int | float | bytes | None
Parameters = Mapping[str, Value] | Sequence[Value]


@dataclass(frozen=True, slots=True)
class Write:
    """One statement, run once for each of `rows`, in order. With no rows it does nothing."""

    statement: str
    rows: Sequence[Parameters]

    @classmethod
    def one(cls, statement: str, parameters: Parameters = ()) -> "Write":
        return cls(statement, (parameters,))
