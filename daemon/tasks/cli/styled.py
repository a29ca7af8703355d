"""Renders pages with rich, for a terminal. Text is never read as markup."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, STRONG, Block, Cell, Facts, Table

_STYLES = {"": "", GOOD: "green", NOTICE: "yellow", BAD: "bold red", FAINT: "dim", STRONG: "bold"}

#: Columns that the space beside a cell takes, and that a flexible column keeps.
_FRAME, _NARROWEST = 3, 8


def console() -> Console:
    """For stdout. NO_COLOR and TERM are respected."""
    return Console(highlight=False, markup=False, emoji=False)


def page(blocks: Sequence[Block], width: int) -> Group:
    """The page for a terminal of `width` columns."""
    return Group(*(_facts(block) if isinstance(block, Facts) else _table(block, width) for block in blocks))


def line(cells: Sequence[Cell]) -> Text:
    """The cells one after another."""
    return Text.assemble(*((cell.short, _STYLES[cell.tone]) for cell in cells))


def _facts(facts: Facts) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, pieces in facts.rows:
        grid.add_row(Text(label, style="bold"), line(pieces))
    return grid


def _table(table: Table, width: int) -> RenderableType:
    if not table.rows:
        return Text(table.empty, style="dim")
    made = RichTable(
        title=Text(table.title, style="bold") if table.title else None, title_justify="left", box=box.SIMPLE_HEAD
    )
    for column, wide in zip(table.columns, _flexible_widths(table, width), strict=True):
        made.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
            width=wide,
        )
    for row in table.rows:
        made.add_row(*(Text(cell.short, style=_STYLES[cell.tone]) for cell in row))
    return made


def _flexible_widths(table: Table, width: int) -> list[int | None]:
    """The widths of the flexible columns, which share what the others leave; None for these.

    Left to itself rich would cut all of them alike.
    """
    content = [
        max(cell_len(column.name), *(cell_len(row[index].short) for row in table.rows))
        for index, column in enumerate(table.columns)
    ]
    flexible = [index for index, column in enumerate(table.columns) if column.flexible]
    left = width - sum(content) - _FRAME * (len(content) + 1) + sum(content[index] for index in flexible)
    widths: list[int | None] = [None] * len(content)
    for position, index in enumerate(sorted(flexible, key=lambda index: content[index])):
        widths[index] = max(_NARROWEST, min(content[index], left // (len(flexible) - position)))
        left -= min(content[index], left // (len(flexible) - position))
    return widths
