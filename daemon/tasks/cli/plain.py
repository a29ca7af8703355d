"""Renders pages as aligned columns of plain text: nothing cut, no colour, no frames."""

from __future__ import annotations

from tasks.cli.page import Cell, Facts, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.cli.page import Block

_GAP = "  "


def render(page: Sequence[Block]) -> str:
    """The whole page, ending in a newline. Blocks are set apart by an empty line."""
    return "\n".join(_facts(block) if isinstance(block, Facts) else _table(block) for block in page)


def _facts(facts: Facts) -> str:
    width = max(len(label) for label, _ in facts.rows)
    return "".join(f"{label:<{width}}{_GAP}{''.join(piece.text for piece in pieces)}\n" for label, pieces in facts.rows)


def _table(table: Table) -> str:
    title = f"{table.title}\n" if table.title else ""
    if not table.rows:
        return f"{title}{table.empty}\n"
    lines: list[Sequence[Cell]] = [[Cell(column.name) for column in table.columns], *table.rows]
    widths = [max(len(line[index].text) for line in lines) for index in range(len(table.columns))]
    text = title
    for line in lines:
        cells = [
            cell.text.rjust(width) if column.right else cell.text.ljust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        ]
        text += _GAP.join(cells).rstrip() + "\n"
    return text
