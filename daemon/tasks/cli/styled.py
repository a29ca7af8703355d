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


def console(*, stderr: bool = False) -> Console:
    """For stdout, or stderr. NO_COLOR and TERM are respected."""
    return Console(highlight=False, markup=False, emoji=False, stderr=stderr)


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
    shown = _fitting(table, width)
    made = RichTable(
        title=Text(table.title, style="bold") if table.title else None, title_justify="left", box=box.SIMPLE_HEAD
    )
    columns = [table.columns[index] for index in shown]
    for column, wide in zip(columns, _flexible_widths(table, shown, width), strict=True):
        made.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
            width=wide,
        )
    for row in table.rows:
        made.add_row(*(Text(row[index].short, style=_STYLES[row[index].tone]) for index in shown))
    return made


def _content_width(table: Table, index: int) -> int:
    return max(cell_len(table.columns[index].name), *(cell_len(row[index].short) for row in table.rows))


def _fitting(table: Table, width: int) -> list[int]:
    """The columns to show: optional ones go, the last one first, until the rest fits."""
    shown = list(range(len(table.columns)))

    def needed() -> int:
        widths = (
            min(_content_width(table, index), table.columns[index].room)
            if table.columns[index].flexible
            else _content_width(table, index)
            for index in shown
        )
        return sum(widths) + _FRAME * (len(shown) + 1)

    while needed() > width and (optional := [index for index in shown if table.columns[index].optional]):
        shown.remove(optional[-1])
    return shown


def _flexible_widths(table: Table, shown: Sequence[int], width: int) -> list[int | None]:
    """The widths of the flexible ones of the shown columns, which share what the others leave; None for these.

    Left to itself rich would cut all of them alike.
    """
    content = [_content_width(table, index) for index in shown]
    flexible = [position for position, index in enumerate(shown) if table.columns[index].flexible]
    left = width - sum(content) - _FRAME * (len(content) + 1) + sum(content[index] for index in flexible)
    widths: list[int | None] = [None] * len(content)
    for position, index in enumerate(sorted(flexible, key=lambda index: content[index])):
        share = max(_NARROWEST, left // (len(flexible) - position))
        widths[index] = wide = min(content[index], share)
        left -= wide
    return widths
