"""`tasksd export`: what is stored, as files for other programs. Reads the database file, with or without a daemon."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

import click

from tasks.cli import asking, offline
from tasks.cli.app import say
from tasks.database import Reader, Row
from tasks.errors import TasksError
from tasks.history.datasets import DATASETS, Dataset, Kind


class _Writer(Protocol):
    def write(self, rows: Sequence[Row]) -> None: ...
    def close(self) -> None: ...


@click.command()
@click.argument("datasets", metavar="[DATASET]...", nargs=-1, type=click.Choice(list(DATASETS)))
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), default="jsonl", show_default=True)
@click.option("--since", metavar="TIME", callback=lambda *given: _moment(*given), help="From this date or time on.")
@click.option("--until", metavar="TIME", callback=lambda *given: _moment(*given), help="Before this date or time.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file for one DATASET, a folder for several (default: standard output, for one).",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.pass_obj
def export(
    data_dir: str | None,
    datasets: tuple[str, ...],
    kind: str,
    since: int | None,
    until: int | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write what is stored to files: calls, messages, sessions, tasks, files, status, events (default: all of them).

    Times are UTC. Texts are as they are stored: secrets are redacted, nothing else is changed, so a spreadsheet may take a
    text that an agent wrote for a formula.
    """
    chosen = [DATASETS[name] for name in datasets or DATASETS]
    if output is None and (len(chosen) > 1 or kind == "parquet"):
        raise click.UsageError("--output is needed: a folder for several datasets, a file for Parquet")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--until has to be later than --since: it is where the span ends")
    settings = asking.settings_for(data_dir)
    with offline.reading(settings) as reader:
        if output is None:
            _send(reader, chosen[0], _TEXTS[kind](chosen[0], sys.stdout), since, until)
            return
        for dataset in chosen:
            path = output / f"{dataset.name}.{kind}" if len(chosen) > 1 or output.is_dir() else output
            rows = _save(reader, dataset, kind, path, since, until, force=force)
            say(f"{path}: {rows:,} {'row' if rows == 1 else 'rows'}")


def _save(
    reader: Reader, dataset: Dataset, kind: str, path: Path, since: int | None, until: int | None, *, force: bool
) -> int:
    """Write a file of mode 0600: all of it, or none. Returns the number of rows."""
    if path.exists() and not force:
        raise TasksError(f"cannot export to {path}: it is there already; --force replaces it")
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb") as file:
            rows = _send(reader, dataset, _writer(kind, dataset, file), since, until)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise TasksError(f"cannot export to {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return rows


def _send(reader: Reader, dataset: Dataset, writer: _Writer, since: int | None, until: int | None) -> int:
    rows = 0
    with contextlib.closing(writer):
        for page in dataset.pages(reader.query, since=since, until=until):
            writer.write(page)
            rows += len(page)
    return rows


def _writer(kind: str, dataset: Dataset, file: IO[bytes]) -> _Writer:
    if kind == "parquet":
        return _Parquet(dataset, file)
    return _TEXTS[kind](dataset, io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline=""))


class _Csv:
    """RFC 4180, with a line of column names."""

    def __init__(self, dataset: Dataset, stream: IO[str]) -> None:
        self._stream = stream
        self._times = [number for number, (_, kind) in enumerate(dataset.columns.values()) if kind is Kind.TIME]
        self._csv = csv.writer(stream)
        self._csv.writerow(dataset.columns)

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            values = list(row)
            for number in self._times:
                values[number] = _iso(values[number])
            self._csv.writerow(values)

    def close(self) -> None:
        self._stream.flush()
        _let_go(self._stream)


class _JsonLines:
    """One object a line; JSON columns are values, not texts."""

    def __init__(self, dataset: Dataset, stream: IO[str]) -> None:
        self._stream = stream
        self._columns = [(name, kind) for name, (_, kind) in dataset.columns.items()]

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            line = {name: _plain(value, kind) for (name, kind), value in zip(self._columns, row, strict=True)}
            self._stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._stream.flush()
        _let_go(self._stream)


_TEXTS: Mapping[str, type[_Csv] | type[_JsonLines]] = {"csv": _Csv, "jsonl": _JsonLines}


class _Parquet:
    """Compressed with zstd; times are timestamps in UTC, JSON columns texts."""

    def __init__(self, dataset: Dataset, file: IO[bytes]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise TasksError(
                f"cannot write Parquet, pyarrow is missing ({error}): pip install 'tasksd[parquet]'"
            ) from error
        kinds = {
            Kind.TEXT: pyarrow.string(),
            Kind.JSON: pyarrow.string(),
            Kind.INTEGER: pyarrow.int64(),
            Kind.NUMBER: pyarrow.float64(),
            Kind.TIME: pyarrow.timestamp("ms", tz="UTC"),
            Kind.FLAG: pyarrow.bool_(),
        }
        self._arrow = pyarrow
        self._flags = {number for number, (_, kind) in enumerate(dataset.columns.values()) if kind is Kind.FLAG}
        self._schema = pyarrow.schema([(name, kinds[kind]) for name, (_, kind) in dataset.columns.items()])
        self._parquet = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        for number in self._flags:
            columns[number] = [None if value is None else bool(value) for value in columns[number]]
        self._parquet.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        self._parquet.close()


def _let_go(stream: IO[str]) -> None:
    """The file below belongs to who opened it."""
    if stream is not sys.stdout and isinstance(stream, io.TextIOWrapper):
        stream.detach()


def _plain(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    match kind:
        case Kind.TIME:
            return _iso(value)
        case Kind.FLAG:
            return bool(value)
        case Kind.JSON:
            try:
                return json.loads(value)
            except ValueError:  # another program wrote it
                return value
        case _:
            return value


def _iso(value: int | None) -> str | None:
    if value is None:
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(value)


def _moment(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Epoch milliseconds of a date or time; without an offset, in the machine's zone."""
    if text is None:
        return None
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no date or time such as 2026-11-01 or 2026-11-01T14:30+01:00") from None
