"""What the statistics commands share: the span of time, the ways to print, and the answer from the file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from tasks.cli import asking
from tasks.cli.output import emit
from tasks.cli.page import Block
from tasks.cli.questions import Question
from tasks.cli.readers import Span
from tasks.config import Settings
from tasks.errors import EXIT_OK, DaemonNotRunning

#: Days that statistics are about unless another span is asked for; as in the API.
DAYS = 7.0

Query = Callable[..., Any]


class Figures(Question):
    """A question that says itself how the file answers it, and which columns its CSV has.

    `target` is what the API is asked; `from_file` gets the `query` of a Reader and the settings, and gives the API's
    answer; `rows` makes the rows of the CSV from it.
    """

    __slots__ = ("columns", "from_file", "rows")

    def __init__(
        self,
        target: str,
        show: Callable[[Any, int], Sequence[Block]],
        from_file: Callable[[Query, Settings], Any],
        *,
        columns: Sequence[str],
        rows: Callable[[Any], Sequence[Mapping[str, object]]] = lambda answer: answer,
    ) -> None:
        super().__init__("figures", target, show)
        self.from_file = from_file
        self.columns = columns
        self.rows = rows


class SpanOf:
    """The span that was asked for: the last days or hours."""

    __slots__ = ("days", "hours")

    def __init__(self, days: float | None, hours: float | None) -> None:
        if days is not None and hours is not None:
            raise click.UsageError("--days and --hours are two ways to say the same: give one of them")
        self.days = DAYS if days is None and hours is None else days
        self.hours = hours

    @property
    def query(self) -> dict[str, str | None]:
        """What the API is told."""
        return {"days": _number(self.days), "hours": _number(self.hours)}

    @property
    def words(self) -> str:
        value, unit = (self.hours, "hour") if self.hours is not None else (self.days, "day")
        return f"the last {unit}" if value == 1 else f"the last {value:g} {unit}s"

    def since(self) -> int:
        """Epoch milliseconds."""
        from tasks import analytics

        return analytics.since(days=self.days, hours=self.hours)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def span_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --days and --hours."""
    command = click.option("--hours", type=Span(24 * 3660), help="Over the last hours instead.")(command)
    return click.option("--days", type=Span(3660), help=f"Over the last days (default: {DAYS:g}).")(command)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json and --csv."""
    command = click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")(command)


def limit_option(most: int = 1000, usual: int = 50) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--limit", type=click.IntRange(1, most), default=usual, show_default=True, help="Rows at most.")


def answer(question: Figures, data_dir: str | None, *, as_json: bool = False, as_csv: bool = False) -> int:
    """Ask the daemon, or the file when none answers, and print. Returns the exit code."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two ways to print: give one of them")
    body = _body(question, asking.settings_for(data_dir))
    if as_csv:
        import json

        from tasks.text import csv_text

        emit(csv_text(question.rows(json.loads(body)), question.columns))
    else:
        asking.print_answer(question, body, as_json=as_json)
    return EXIT_OK


def _body(question: Figures, settings: Settings) -> bytes:
    try:
        return asking.client_for(settings).fetch(question.target)
    except DaemonNotRunning as error:
        from tasks.cli import offline

        with offline.reading(settings) as reader:
            body = offline.dumps(question.from_file(reader.query, settings))
        asking.say_offline(error, settings)
        return body
