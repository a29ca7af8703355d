"""Tables on terminals of every width."""

import io

import pytest
from rich.console import Console
from tasks.cli.page import Column, Table
from tasks.cli.styled import page


def drawn(table: Table, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(page([table], width))
    return out.getvalue()


def sample() -> Table:
    columns = [Column("session"), Column("status"), Column("doing", flexible=True), Column("pid", optional=True),
               Column("events", optional=True)]  # fmt: skip
    table = Table("", columns, "nothing")
    table.add("a6005a80", "waiting_permission", "Bash " + "x" * 60, "10669", "3")
    return table


@pytest.mark.parametrize("width", range(44, 140, 6))
def test_what_is_not_flexible_is_never_cut(width: int) -> None:
    text = drawn(sample(), width)
    assert "a6005a80" in text
    assert "waiting_permission" in text
    assert max(map(len, text.splitlines())) <= width


def test_optional_columns_give_way_last_first() -> None:
    assert "events" in drawn(sample(), 100)
    assert "events" not in drawn(sample(), 58)
    assert "pid" in drawn(sample(), 58)
    assert "pid" not in drawn(sample(), 50)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_an_empty_flexible_column_takes_nothing_from_the_others(width: int) -> None:
    columns = [Column("task"), Column("description", flexible=True, room=24), Column("now", flexible=True, room=24),
               Column("merge"), Column("priority", optional=True), Column("folder", flexible=True, optional=True)]  # fmt: skip
    table = Table("", columns, "nothing")
    table.add(
        "c06a95", "Add a chapter about tasks to the guide for operators", "-", "conflict", "normal", "…/a/project"
    )
    text = drawn(table, width)
    assert "priority" in text
    assert "conflict" in text
    assert "Add a chapter about" in text


def test_optional_columns_give_way_to_the_room_that_a_flexible_one_asks_for() -> None:
    for room, shown in ((8, True), (30, False)):
        table = Table("", [Column("what", flexible=True, room=room), Column("extra", optional=True)], "nothing")
        table.add("x" * 60, "value")
        assert ("extra" in drawn(table, 40)) is shown
