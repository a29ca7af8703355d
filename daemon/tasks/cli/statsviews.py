"""Turns statistics into pages: tables with bars. All times are epoch milliseconds, durations milliseconds."""

from __future__ import annotations

from tasks.cli.charts import bar
from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, Cell, Column, Table
from tasks.cli.views import STATUS_TONES, short_id, when, words
from tasks.text import milliseconds, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

#: Columns of a bar.
WIDTH = 20
#: What is meant by the empty name.
_NAMELESS = {"agent_type": "(main agent)", "model": "(not known)"}


def percent(rate: float) -> str:
    """Rounded, but what is not all or nothing never looks as if it were."""
    return f"{rate:.1%}" if rate in (0, 1) else f"{min(max(rate, 0.001), 0.999):.1%}"


def tools(answer: Sequence[Record], span_words: str, by: str | None = None) -> list[Block]:
    columns = [
        *([Column(words(by), flexible=True)] if by else []), Column("tool", flexible=True, room=16),
        Column("calls", right=True), Column("", optional=True), Column("success", right=True),
        Column("failed", right=True, optional=True), Column("average", right=True),
    ]  # fmt: skip
    table = Table("", columns, f"no calls in {span_words}")
    most = max((one["count"] for one in answer), default=1)
    for one in answer:
        table.add(
            *([name(one["value"], by)] if by else []), one["tool_name"], f"{one['count']:,}",
            Cell(bar(one["count"] / most, WIDTH), FAINT), _success(one["success_rate"]), f"{one['failures']:,}",
            milliseconds(one["avg_duration"]),
        )  # fmt: skip
    return [table]


def durations(answer: Sequence[Record], span_words: str) -> list[Block]:
    names = list(answer[0]["percentiles"]) if answer else []
    columns = [
        Column("tool", flexible=True, room=16), Column("timed", right=True), Column("average", right=True),
        *(Column(_ordinal(one), right=True, optional=True) for one in names), Column("longest", right=True, optional=True),
    ]  # fmt: skip
    table = Table("", columns, f"no timed calls in {span_words}")
    for one in answer:
        table.add(
            one["tool_name"], f"{one['timed']:,}", milliseconds(one["avg_duration"]),
            *(milliseconds(one["percentiles"][key]) for key in names), milliseconds(one["max_duration"]),
        )  # fmt: skip
    return [table]


def uses(answer: Sequence[Record], dimension: str, span_words: str, title: str = "") -> list[Block]:
    columns = [
        Column(words(dimension), flexible=True, room=16), Column("calls", right=True), Column("", optional=True),
        Column("failed", right=True), Column("rate", right=True), Column("average", right=True, optional=True),
        Column("tools", right=True, optional=True),
    ]  # fmt: skip
    table = Table(title, columns, f"no calls of a {words(dimension)} in {span_words}")
    most = max((one["calls"] for one in answer), default=1)
    for one in answer:
        value = short_id(one["value"]) if dimension == "session" else name(one["value"], dimension)
        table.add(
            value, f"{one['calls']:,}", Cell(bar(one["calls"] / most, WIDTH), FAINT), f"{one['failures']:,}",
            Cell(percent(one["error_rate"]), _failing(one["error_rate"])), milliseconds(one["avg_duration"]),
            one["tools"],
        )  # fmt: skip
    return [table]


def files(answer: Sequence[Record], order: str, span_words: str) -> list[Block]:
    kinds = [one for one in ("reads", "rereads", "writes", "edits") if one != order]
    columns = [
        Column("file", flexible=True, room=24), Column(order, right=True), Column("", optional=True),
        *(Column(one, right=True, optional=True) for one in kinds),
    ]  # fmt: skip
    table = Table("", columns, f"no files {'read again' if order == 'rereads' else 'accessed'} in {span_words}")
    most = max((one[order] for one in answer), default=1)
    for one in answer:
        table.add(
            path(one["path"]), f"{one[order]:,}", Cell(bar(one[order] / most, WIDTH), FAINT),
            *(f"{one[key]:,}" for key in kinds),
        )  # fmt: skip
    return [table]


def contended(answer: Sequence[Record], span_words: str, now: int) -> list[Block]:
    columns = [
        Column("file", flexible=True, room=24), Column("at once", right=True), Column("session"),
        Column("agent", optional=True), Column("writes", right=True), Column("edits", right=True), Column("last"),
    ]  # fmt: skip
    table = Table("", columns, f"no file was changed by several agents at once in {span_words}")
    for one in answer:
        for number, agent in enumerate(one["agents"]):
            first = number == 0
            table.add(
                path(one["path"]) if first else "", Cell(f"{one['contended']:,}" if first else "", NOTICE),
                short_id(agent["session_uuid"]), short_id(agent["agent_id"]), agent["writes"], agent["edits"],
                when(agent["edited_at"], now),
            )  # fmt: skip
    return [table]


def session_files(answer: Sequence[Record], now: int) -> list[Block]:
    columns = [
        Column("file", flexible=True, room=24), Column("agent", optional=True),
        *(Column(one, right=True) for one in ("reads", "writes", "edits")), Column("first", optional=True), Column("last"),
    ]  # fmt: skip
    table = Table("", columns, "no files accessed in this session")
    for one in answer:
        table.add(
            path(one["path"]), short_id(one["agent_id"]), one["reads"], one["writes"], one["edits"],
            when(one["first_at"], now), when(one["last_at"], now),
        )  # fmt: skip
    return [table]


def agents(answer: Record, span_words: str) -> list[Block]:
    return [*states(answer["states"], span_words), *uses(answer["agent_types"], "agent_type", span_words)]


def states(answer: Mapping[str, Record], span_words: str) -> list[Block]:
    columns = [Column("state"), Column("time", right=True), Column("share", right=True), Column("", optional=True)]
    table = Table("", columns, f"no agents in {span_words}")
    if any(one["seconds"] for one in answer.values()):
        for status, one in answer.items():
            table.add(
                Cell(words(status), STATUS_TONES.get(status, "")), span(one["seconds"]), percent(one["share"]),
                Cell(bar(one["share"], WIDTH), FAINT),
            )  # fmt: skip
    return [table]


def name(value: str, dimension: str | None) -> Cell:
    return Cell(value) if value else Cell(_NAMELESS.get(dimension or "", "-"), FAINT)


def path(value: str) -> Cell:
    """The whole path; where room is short, its end."""
    parts = value.rsplit("/", 3)
    return Cell(value, short=value if len(parts) < 4 or not parts[0] else "…/" + "/".join(parts[1:]))


def _success(rate: float) -> Cell:
    return Cell(percent(rate), GOOD if rate == 1 else NOTICE if rate >= 0.5 else BAD)


def _failing(rate: float) -> str:
    return GOOD if rate == 0 else NOTICE if rate <= 0.5 else BAD


def _ordinal(key: str) -> str:
    return "median" if key == "p50" else f"{key[1:]} %"
