"""Renders pages with rich, for a terminal. Text is never read as markup."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, STRONG, Block, Cell, Facts, Table

_STYLES = {"": "", GOOD: "green", NOTICE: "yellow", BAD: "bold red", FAINT: "dim", STRONG: "bold"}


def console() -> Console:
    """For stdout. NO_COLOR and TERM are respected."""
    return Console(highlight=False, markup=False, emoji=False)


def page(blocks: Sequence[Block]) -> Group:
    return Group(*(_facts(block) if isinstance(block, Facts) else _table(block) for block in blocks))


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


def _table(table: Table) -> RenderableType:
    if not table.rows:
        return Text(table.empty, style="dim")
    made = RichTable(
        title=Text(table.title, style="bold") if table.title else None, title_justify="left", box=box.SIMPLE_HEAD
    )
    for column in table.columns:
        made.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if column.flexible else None,
        )
    for row in table.rows:
        made.add_row(*(Text(cell.short, style=_STYLES[cell.tone]) for cell in row))
    return made
