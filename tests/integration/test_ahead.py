"""Transcripts read in another process, ahead of who stores them."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.accounting import ahead, backfill
from tasks.accounting.ahead import Reader, chunks
from tasks.accounting.backfill import Progress
from tasks.config import load
from tasks.database import Reader as Rows
from tasks.transcripts import Chunk, Position, find

from .trees import Tree

SUMS = (
    "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cost) FROM messages",
    "SELECT tool_name, success, error_category, error, fingerprint, count(*) FROM tool_usage"
    " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
    "SELECT path, offset, anchor FROM transcripts ORDER BY 1",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "projects", random.Random(11))


@pytest.fixture
def told(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[list[Any]]]:
    """What a backfill into a new store of that name says."""

    def run(name: str, progress: Callable[[Progress], None] | None = None) -> list[list[Any]]:
        environ = {"HOME": str(tmp_path), "TASKSD_TRANSCRIPTS_PROJECTS": str(tmp_path / "projects")}
        settings = load(data_dir=tmp_path / name, environ=environ)
        assert backfill.backfill(settings, None, progress, environ=environ).skipped == []
        rows = Rows(settings.database_file)
        try:
            return [rows.query(question) for question in SUMS]
        finally:
            rows.close()

    return run


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Reader]]:
    """Every reader that is started, however little there is to read."""
    made: list[Reader] = []

    class Watched(Reader):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(backfill, "AHEAD_FROM", 0)
    monkeypatch.setattr(backfill, "Reader", Watched)
    yield made
    for one in made:
        assert one._child.poll() is not None, "the reader outlived its backfill"


def test_a_backfill_says_the_same_whoever_reads(told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "AHEAD_FROM", 1 << 60)
    here = told("here")
    assert here[0][0][0] > 0
    monkeypatch.setattr(backfill, "AHEAD_FROM", 0)
    assert told("ahead") == here


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_reader_that_dies_costs_nothing_but_time(
    told: Callable[..., Any], readers: list[Reader], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole = told("whole")
    turns = 0

    def kill(progress: Progress) -> None:
        nonlocal turns
        turns += 1
        if turns > after and len(readers) == 2:
            os.kill(readers[1]._child.pid, signal.SIGKILL)

    monkeypatch.setattr(backfill, "BATCH_FILES", 2)
    assert told("killed", kill) == whole


def test_chunks_come_as_they_are_read_here_without_the_texts_of_successes(tree: Tree) -> None:
    plan = [(file.path, Position()) for file in find(tree.files[0].path.parents[1])]
    assert len(plan) > 2
    with Reader(plan, 2_000) as reader:
        for path, position in plan:
            here, there = list(chunks(path, position, 2_000)), list(reader.next())
            assert [_light(one) for one in here] == there


def _light(chunk: Chunk) -> Chunk:
    return ahead._lightened(chunk)


def test_a_file_that_cannot_be_read_is_told_and_the_next_one_read(tree: Tree, tmp_path: Path) -> None:
    good = tree.files[0].path
    with Reader([(tmp_path / "none", Position()), (tmp_path, Position()), (good, Position())], 1 << 20) as reader:
        with pytest.raises(FileNotFoundError):
            list(reader.next())
        with pytest.raises(IsADirectoryError):
            list(reader.next())
        assert [_light(one) for one in chunks(good, Position(), 1 << 20)] == list(reader.next())


def test_a_reader_that_nobody_listens_to_ends_with_its_owner(tree: Tree) -> None:
    plan = [(file.path, Position()) for file in find(tree.files[0].path.parents[1])]
    with Reader(plan, 500) as reader:
        next(iter(reader.next()))
    assert reader._child.returncode == -signal.SIGKILL
