"""Turns the API's answers about money into pages."""

from __future__ import annotations

from tasks.cli.charts import bar, sayable, sparkline
from tasks.cli.page import BAD, FAINT, NOTICE, STRONG, Cell, Column, Facts, Table
from tasks.text import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

#: Columns of a bar, models and days shown at a glance, and differences named.
_BAR, _MODELS, _DAYS, _NAMED = 24, 8, 31, 3
#: Days shown at least, however few had anything on.
_WEEK = 7

#: Four kinds of tokens with four prices: nowhere added up.
_TOKENS = (
    ("input", "input_tokens"), ("output", "output_tokens"), ("cache read", "cache_read_tokens"),
    ("cache write", "cache_write_tokens"),
)  # fmt: skip
_NOTE = "dollars are what the API charges for these tokens; a subscription is not billed by them"
_NAMES = {"agent_type": "agent"}
_UNNAMED = {"agent_type": "(main agent)", "project": "(not known)"}


def overview(answer: Record, _: int) -> list[Block]:
    facts = Facts()
    facts.add("today", Cell(money(answer["today"]), STRONG))
    facts.add("yesterday", money(answer["yesterday"]))
    facts.add("this month", f"{money(answer['month'])} so far")
    facts.add("projection", _projected(answer["projection"]))
    facts.add("burn rate", _burning(answer["burn_rate"]))
    line = sparkline(day["cost"] for day in answer["daily"]) if len(answer["daily"]) > 1 else ""
    facts.add(
        "total", Cell(money(answer["total"]), STRONG), f" from {answer['since']} to {answer['until']}  {line}".rstrip()
    )
    if answer["cache_savings"]:
        saved = answer["cache_savings"]
        facts.add("cache", f"{'saved' if saved > 0 else 'cost'} about {dollars(abs(saved))} against plain input")
    _add_drift(facts, answer["reported"])
    _add_unpriced(facts, [one["model"] for one in answer["unpriced_models"]], answer)
    facts.add("", Cell(f"days of {answer['zone']}; {_NOTE}", FAINT))
    if not answer["total"]["messages"]:
        facts.add(
            "", "no messages in these days: look further back with --days, or read what is there with `tasksd backfill`"
        )
        return [facts]
    return [facts, _days(answer["daily"]), _models(answer)]


def divided(answer: Record, _: int) -> list[Block]:
    """The answer of /v1/costs/by/…."""
    by: str = answer["by"]
    rows, total = answer["rows"], answer["total"]
    labelled = by in ("task", "session")
    span = f"{answer['since']} to {answer['until']}, days of {answer['zone']}"
    columns = [
        Column(_NAMES.get(by, by), flexible=by in ("project", "model"), room=20), Column("cost", right=True),
        Column("share", right=True), Column("", optional=True), Column("messages", right=True, optional=True),
        *(Column(name, right=True, optional=True) for name, _ in _TOKENS),
    ]  # fmt: skip
    if labelled:
        columns.append(Column("about", flexible=True))
    table = Table("", columns, f"nothing was spent from {span}")
    for one in rows:
        cells: list[Cell | str] = [
            Cell(one["value"] or _UNNAMED.get(by, "-"), short=one["value"][:8] if by == "session" else None),
            _cost(one), _share(one), bar(one["share"], _BAR), f"{one['messages']:,}", *_tokens(one),
        ]  # fmt: skip
        table.add(*cells, *([one["label"] or "-"] if labelled else []))
    facts = Facts()
    shown = f", {len(rows)} of {answer['found']} shown" if len(rows) < answer["found"] else ""
    facts.add("total", Cell(money(total), STRONG), f" from {span}{shown}")
    _add_unpriced(facts, answer["unpriced_models"], answer)
    return [table, facts]


def money(one: Record) -> str:
    """The cost; where messages without a price are among them, that it is the least. Never $0 for what is not known."""
    if one["unpriced"] and one["unpriced"] == one["messages"]:
        return "unpriced"
    return least(one) + dollars(one["cost"])


def least(one: Record) -> str:
    """What stands before a sum that some messages without a price are missing from."""
    return "" if not one["unpriced"] else "≥ " if sayable("≥") else ">= "


def dollars(value: float) -> str:
    """`$1,234.50`; below ten cents four digits. What is above 0 never looks like 0."""
    if 0 < value < 0.00005:
        return "<$0.0001"
    return f"${value:,.4f}" if 0 < value < 0.1 else f"${value:,.2f}"


def short_number(value: int) -> str:
    """`950`, `12.3 k`, `1.2 M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return str(value)


def _projected(one: Record) -> str:
    if not one["high"]:
        return "none: nothing with a price was spent in the last 90 days"
    return (
        f"{least(one)}{dollars(one['estimate'])} by {one['until']} ({one['coverage']:.0%} sure: {dollars(one['low'])} to "
        f"{dollars(one['high'])}), {dollars(one['burn_per_day'])} a day: {one['method']}"
    )


def _burning(one: Record) -> str:
    said = (("last_hour", "in the last hour"), ("last_24_hours", "in 24 hours"), ("per_day", "a day over 7 days"))
    return ", ".join(f"{least({'unpriced': one['unpriced'][key]})}{dollars(one[key])} {words}" for key, words in said)


def _add_drift(facts: Facts, one: Record) -> None:
    if not one["compared"]:
        return
    drift = one["drift"]
    how = "" if drift is None else f", {abs(drift):.1f} % {'above' if drift >= 0 else 'below'} it"
    if drift is not None and abs(drift) < 0.05:
        how = ", the same"
    over = count(one["compared"], "task")
    facts.add("client's own", f"{dollars(one['reported'])}; ours {dollars(one['ours'])}{how}, over {over}")
    if one["beyond_limit"]:
        named = ", ".join(_difference(each) for each in one["beyond"][:_NAMED])
        more = ", …" if one["beyond_limit"] > min(_NAMED, len(one["beyond"])) else ""
        differ = "differs" if one["beyond_limit"] == 1 else "differ"
        facts.add("", Cell(f"{one['beyond_limit']} {differ} by more than {one['limit']:g} %: {named}{more}", NOTICE))


def _difference(one: Record) -> str:
    run = "" if one["attempt"] is None else f"/{one['attempt']}"
    how = "unknown to the client" if one["drift"] is None else f"{one['drift']:+.1f} %"
    return f"{one['task_id']}{run} {how}"


def _add_unpriced(facts: Facts, models: Sequence[str], answer: Record) -> None:
    if not (messages := answer["total"]["unpriced"]):
        return
    names = ", ".join(model or "(no name)" for model in models[:_NAMED]) + (", …" if len(models) > _NAMED else "")
    missing = answer["missing"]
    keys = [f'[prices.models."{model}"]' for model in missing["models"][:_NAMED]]
    if missing["multipliers"]:
        keys.append(f"{', '.join(missing['multipliers'][:_NAMED])} under [prices.multipliers]")
    what_to_do = f": add {', '.join(keys)} to config.toml, then `tasksd costs reprice`" if keys else ""
    facts.add(
        "unpriced",
        Cell(f"{count(messages, 'message')} ({'models' if len(models) > 1 else 'model'} {names}){what_to_do}", BAD),
    )  # fmt: skip


def _days(daily: Sequence[Record]) -> Table:
    columns = [
        Column("day"), Column("cost", right=True), Column("tasks", right=True, optional=True),
        Column("messages", right=True, optional=True), Column(""),
    ]  # fmt: skip
    table = Table("", columns, "")
    # From the first day with anything on; a week at least.
    first = next((number for number, one in enumerate(daily) if one["messages"] or one["tasks"]), len(daily))
    shown = daily[max(min(first, len(daily) - _WEEK), 0) :][-_DAYS:]
    top = max(one["cost"] for one in shown) or 1.0
    for one in shown:
        table.add(one["date"], _cost(one), one["tasks"], f"{one['messages']:,}", bar(one["cost"] / top, _BAR))
    return table


def _models(answer: Record) -> Table:
    columns = [
        Column("model", flexible=True, room=20), Column("cost", right=True), Column("share", right=True, optional=True),
        Column("messages", right=True, optional=True), *(Column(name, right=True, optional=True) for name, _ in _TOKENS),
    ]  # fmt: skip
    table = Table("", columns, "")
    rows = [(one["model"], one, _share(one)) for one in answer["models"][:_MODELS]]
    if len(answer["models"]) > _MODELS:
        rows.append(("…", {}, ""))
    for model, one, share in [*rows, ("all", answer["total"], "")]:
        if one:
            table.add(model, _cost(one), share, f"{one['messages']:,}", *_tokens(one))
        else:
            table.add(model, *[""] * (len(columns) - 1))
    return table


def _cost(one: Record) -> Cell:
    return Cell(money(one) if one["messages"] else "-", NOTICE if one["unpriced"] else "")


def _share(one: Record) -> str:
    return "-" if one["unpriced"] == one["messages"] else f"{one['share']:.1%}"


def _tokens(one: Record) -> list[Cell]:
    return [Cell(f"{one[key]:,}", short=short_number(one[key])) for _, key in _TOKENS]
