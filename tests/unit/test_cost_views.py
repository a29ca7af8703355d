"""Pages about money, from answers of the API."""

import io
from typing import Any

from rich.console import Console
from tasks.cli import costviews, plain, styled, workviews
from tasks.cli.page import Block

NOTHING = {
    "cost": 0.0, "messages": 0, "unpriced": 0, "input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0,
    "cache_write_tokens": 0, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0, "web_searches": 0,
}  # fmt: skip
SOME = NOTHING | {
    "cost": 1234.5, "messages": 1200, "input_tokens": 27_000, "output_tokens": 490_000, "cache_read_tokens": 54_000_000,
    "cache_write_tokens": 4_700_000,
}  # fmt: skip
NAMES = ("claude-opus-4-1-20250805", "claude-sonnet-4-5-20250929")


def _answer(sums: dict[str, Any], **changes: Any) -> dict[str, Any]:
    cost = sums["cost"]
    answer: dict[str, Any] = {
        "zone": "UTC", "since": "2026-11-21", "until": "2026-11-22", "total": sums, "today": sums, "yesterday": NOTHING,
        "month": sums, "models": [], "daily": [], "unpriced_models": [], "missing": {"models": [], "multipliers": []},
        "cache_savings": None,
        "projection": {"until": "2026-11-30", "spent": cost, "estimate": 2 * cost, "low": cost, "high": 3 * cost,
                       "coverage": 0.8, "burn_per_day": cost, "method": "mean of the last 56 days", "unpriced": 0},
        "burn_rate": {"last_hour": cost, "last_24_hours": cost, "per_day": cost / 7,
                      "unpriced": {"last_hour": 0, "last_24_hours": 0, "per_day": 0}},
        "reported": {"compared": 0, "reported": 0.0, "ours": 0.0, "drift": None, "limit": 5.0, "beyond_limit": 0,
                     "beyond": [], "unpriced": 0},
    }  # fmt: skip
    if sums["messages"]:
        answer["models"] = [{"model": name, "share": 0.5, **sums} for name in NAMES]
        answer["daily"] = [{"date": day, "tasks": 1, **sums} for day in ("2026-11-21", "2026-11-22")]
    return answer | changes


def _plain(answer: dict[str, Any]) -> str:
    return plain.render(costviews.overview(answer, 0))


def _narrow(page: list[Block]) -> str:
    target = io.StringIO()
    console = Console(file=target, width=60, force_terminal=True, highlight=False, markup=False, color_system=None)
    console.print(styled.page(page, 60))
    return target.getvalue()


def _line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label)).removeprefix(label).strip()


def test_days_without_messages_are_not_taken_for_a_store_without_any() -> None:
    spent_before = _answer(NOTHING)
    spent_before["projection"] |= {"estimate": 6.6, "high": 30.0}
    said = _plain(spent_before)
    assert "no messages in these days" in said
    assert "--days" in said
    assert "tasksd backfill" in said
    assert "$6.60" in _line(said, "projection")


def test_a_projection_of_nothing_is_none() -> None:
    said = _line(_plain(_answer(NOTHING)), "projection")
    assert "$0.00" not in said
    assert "nothing" in said


def test_two_figures_that_are_the_same_are_said_to_be() -> None:
    reported = _answer(SOME)["reported"] | {"compared": 3, "reported": 0.097, "ours": 0.097, "drift": 0.0}
    assert _line(_plain(_answer(SOME, reported=reported)), "client's own") == (
        "$0.0970; ours $0.0970, the same, over 3 tasks"
    )
    above = reported | {"drift": 0.4}
    assert "0.4 % above it" in _line(_plain(_answer(SOME, reported=above)), "client's own")


def test_on_a_narrow_terminal_no_figure_is_cut_and_models_can_be_told_apart() -> None:
    shown = _narrow(costviews.overview(_answer(SOME), 0))
    table = shown[shown.index("model") :]
    assert table.count("$1,234.50") == 3
    for name in NAMES:
        assert name[:18] in table
    assert "…" not in "".join(line[30:] for line in table.splitlines())


def test_on_a_narrow_terminal_models_that_fail_can_be_told_apart() -> None:
    rates = [{"value": name, "calls": 716, "failures": 44, "rate": 0.06, "share": 0.35} for name in NAMES]
    shown = _narrow(workviews.rates(rates, "model", "7 days"))
    for name in NAMES:
        assert name[:18] in shown


def test_categories_are_named_as_options_take_them() -> None:
    rates = [{"value": "file_not_found", "calls": 716, "failures": 44, "rate": 0.06, "share": 1.0}]
    assert "file_not_found" in plain.render(workviews.rates(rates, "category", "7 days"))


def test_days_before_the_first_use_are_left_out_but_for_a_week() -> None:
    days = [{"date": f"2026-11-{day:02}", "tasks": 0, **(SOME if day == 22 else NOTHING)} for day in range(1, 23)]
    said = _plain(_answer(SOME, daily=days))
    assert [day for day in range(1, 23) if f"2026-11-{day:02} " in said] == list(range(16, 23))
    days[2] |= {"tasks": 1}
    said = _plain(_answer(SOME, daily=days))
    assert [day for day in range(1, 23) if f"2026-11-{day:02} " in said] == list(range(3, 23))
