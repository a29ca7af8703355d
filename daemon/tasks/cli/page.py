"""What an answer looks like, before it is known where: facts and tables. Rendered by `plain` or by `styled`."""

from __future__ import annotations

from tasks.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How a piece of text is meant; what that looks like is the renderer's business.
GOOD, NOTICE, BAD, FAINT, STRONG = "good", "notice", "bad", "faint", "strong"


class Cell:
    """A piece of text on one line. Escapes control characters, so every renderer is safe."""

    __slots__ = ("short", "text", "tone")

    def __init__(self, text: object, tone: str = "", short: object = None) -> None:
        self.text = printable(str(text))
        self.tone = tone
        #: for a terminal, where room is short
        self.short = self.text if short is None else printable(str(short))


class Facts:
    """Labels, each with the pieces of one line."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: list[tuple[str, Sequence[Cell]]] = []

    def add(self, label: str, *pieces: Cell | str) -> None:
        self.rows.append((label, [piece if isinstance(piece, Cell) else Cell(piece) for piece in pieces]))


class Column:
    __slots__ = ("flexible", "name", "optional", "right", "room", "wraps")

    def __init__(
        self,
        name: str,
        *,
        right: bool = False,
        flexible: bool = False,
        wraps: bool = False,
        optional: bool = False,
        room: int = 8,
    ) -> None:
        self.name = name
        self.right = right
        #: gives way first where room is short
        self.flexible = flexible
        #: characters for which, if this one is flexible, optional ones give way
        self.room = room
        #: takes several lines rather than being cut
        self.wraps = wraps
        #: left out where room is short, the last one first
        self.optional = optional


class Table:
    """Rows under column names; `empty` is said instead when there are none."""

    __slots__ = ("columns", "empty", "rows", "title")

    def __init__(self, title: str, columns: Sequence[Column], empty: str) -> None:
        self.title = title
        self.columns = columns
        self.empty = empty
        self.rows: list[Sequence[Cell]] = []

    def add(self, *cells: Cell | str | int) -> None:
        self.rows.append([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells])


Block = Facts | Table
