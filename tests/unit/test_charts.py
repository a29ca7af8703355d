"""Bars, sparklines and CSV."""

import csv
import io
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.cli import charts
from tasks.cli.charts import bar, sparkline
from tasks.text import csv_text


def output_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not sys.stdout itself: pytest changes that between the fixtures and the test.
    monkeypatch.setattr(charts, "sys", SimpleNamespace(stdout=SimpleNamespace(encoding=encoding)))


@pytest.fixture(autouse=True)
def utf8_output(monkeypatch: pytest.MonkeyPatch) -> None:
    output_in("utf-8", monkeypatch)


@pytest.fixture
def ascii_output(utf8_output: None, monkeypatch: pytest.MonkeyPatch) -> None:
    output_in("ascii", monkeypatch)


def test_a_bar_is_as_long_as_its_part_to_the_eighth_of_a_column() -> None:
    assert bar(0, 10) == ""
    assert bar(1, 10) == "█" * 10
    assert bar(0.5, 3) == "█▌"
    assert bar(0.125, 1) == "▏"


def test_a_bar_of_nearly_nothing_is_a_trace() -> None:
    assert bar(1e-9, 10) == "▏"
    assert bar(1e-9, 0) == ""


@pytest.mark.parametrize("part", [-1.0, float("nan")])
def test_a_bar_of_no_part_is_empty(part: float) -> None:
    assert bar(part, 10) == ""


@pytest.mark.parametrize("part", [1.5, float("inf")])
def test_a_bar_never_leaves_its_width(part: float) -> None:
    assert bar(part, 10) == "█" * 10


@pytest.mark.usefixtures("ascii_output")
def test_bars_are_ascii_where_the_output_has_no_blocks() -> None:
    assert bar(0.5, 10) == "#####"
    assert bar(1e-9, 10) == "#"
    assert bar(0, 10) == ""


def test_output_that_is_closed_gets_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "sys", SimpleNamespace(stdout=None))
    assert bar(1, 2) == "██"


def test_a_sparkline_is_in_proportion_to_the_greatest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 50, 100]) == "▁▅█"


def test_only_nothing_looks_like_nothing_in_a_sparkline() -> None:
    assert sparkline([0, 1e-9, 100]) == "▁▂█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([-5, float("nan"), 1]) == "▁▁█"


@pytest.mark.usefixtures("ascii_output")
def test_sparklines_are_ascii_where_the_output_has_no_blocks() -> None:
    assert sparkline([0, 1, 7]) == "_.#"


def test_csv_has_a_line_of_names_and_a_line_per_row() -> None:
    rows: list[dict[str, Any]] = [
        {"model": "m", "cost": 1.25, "unpriced": 0, "ignored": 1},
        {"model": None, "cost": -2},
    ]
    assert csv_text(rows, ["model", "cost", "unpriced"]) == "model,cost,unpriced\r\nm,1.25,0\r\n,-2,\r\n"


def test_csv_of_no_rows_is_the_line_of_names() -> None:
    assert csv_text([], ["a", "b"]) == "a,b\r\n"


def test_csv_says_lists_as_json_and_truth_in_small_letters() -> None:
    assert csv_text([{"a": [1, "x"], "b": True}], ["a", "b"]) == 'a,b\r\n"[1,""x""]",true\r\n'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "＝1", "\r=1"])
def test_text_that_a_spreadsheet_would_compute_is_quoted_by_an_apostrophe(text: str) -> None:
    ((cell,),) = list(csv.reader(io.StringIO(csv_text([{"a": text}], ["a"]), newline="")))[1:]
    assert cell.startswith("'")


def test_control_characters_are_escaped_in_csv() -> None:
    assert csv_text([{"a": "\x1b[31mred\u202e"}], ["a"]) == "a\r\n\\x1b[31mred\\u202e\r\n"


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                name: st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"), include_characters="\n"))
                for name in "ab"
            }
        )
    )
)
def test_a_parser_of_csv_reads_back_what_was_written(rows: list[dict[str, str]]) -> None:
    _, *found = csv.reader(io.StringIO(csv_text(rows, ["a", "b"]), newline=""))
    expected = [[row["a"], row["b"]] for row in rows]
    assert [[cell.removeprefix("'") for cell in line] for line in found] == [
        [cell.removeprefix("'") for cell in line] for line in expected
    ]


def test_a_long_sparkline_sums_groups_and_the_latest_is_full() -> None:
    assert len(sparkline([1.0] * 90)) == 90
    line = sparkline([1.0] * 3660)
    assert len(line) == 90
    assert line[-1] == max(line)
    assert sparkline([0.0, 1.0, 1.0, 0.0, 1.0], most=2) == sparkline([1.0, 2.0])
