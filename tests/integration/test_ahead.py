"""Transcripts read in another process, ahead of who stores them."""

import json
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
from tasks.accounting.told import Told
from tasks.config import load
from tasks.database import Reader as Rows
from tasks.redaction import Redactor
from tasks.transcripts import Chunk, Position, find
from tasks.words import PrivacyLevel

from .trees import Tree

SECRET = "a1B2-c3D4-e5F6"
PRIVACY = b"secret", PrivacyLevel.DEFAULT
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


def test_chunks_come_as_they_are_read_here_with_what_is_stored_of_their_texts(tree: Tree) -> None:
    plan = [(file.path, Position()) for file in find(tree.files[0].path.parents[1])]
    assert len(plan) > 2
    with Reader(2_000, *PRIVACY) as reader:
        reader.follow(plan)
        for path, position in plan:
            assert list(reader.next()) == _read_here(path, position, 2_000)


def _read_here(path: Path, position: Position, limit: int) -> list[tuple[Chunk, Told]]:
    return [ahead._told(chunk, Redactor(*PRIVACY)) for chunk in chunks(path, position, limit)]


def test_a_file_that_cannot_be_read_is_told_and_the_next_one_read(tree: Tree, tmp_path: Path) -> None:
    good = tree.files[0].path
    with Reader(1 << 20, *PRIVACY) as reader:
        reader.follow([(tmp_path / "none", Position()), (tmp_path, Position()), (good, Position())])
        with pytest.raises(FileNotFoundError):
            list(reader.next())
        with pytest.raises(IsADirectoryError):
            list(reader.next())
        assert list(reader.next()) == _read_here(good, Position(), 1 << 20)


def test_a_reader_that_nobody_listens_to_ends_with_its_owner(tree: Tree) -> None:
    plan = [(file.path, Position()) for file in find(tree.files[0].path.parents[1])]
    with Reader(500, *PRIVACY) as reader:
        reader.follow(plan)
        next(iter(reader.next()))
    assert reader._child.returncode == -signal.SIGKILL


def test_names_and_texts_of_any_bytes_pass_between_the_processes(tree: Tree, tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/agent-\xff.jsonl"))
    path.write_bytes(tree.files[0].path.read_bytes())
    with Reader(1 << 20, *PRIVACY) as reader:
        reader.follow([(path.with_name(path.name + "l"), Position()), (path, Position())])
        with pytest.raises(FileNotFoundError) as raised:
            list(reader.next())
        assert raised.value.filename == str(path) + "l"
        [(chunk, told)] = list(reader.next())
    assert [(chunk, told)] == _read_here(path, Position(), 1 << 20)
    assert chunk.agent_id == os.fsdecode(b"\xff")


def test_secrets_and_texts_that_nobody_stores_do_not_leave_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    blocks = [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": f"curl -u bob:{SECRET} http://x"}}]
    usage = {"input_tokens": 1, "output_tokens": 1}
    lines: list[dict[str, Any]] = [
        {"type": "assistant", "message": {"id": "m1", "model": "claude-opus-4-8", "usage": usage, "content": blocks}},
        {"type": "user", "message": {"content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": f"Exit code 1\ntoken={SECRET}"}]}},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Reader(1 << 20, *PRIVACY) as reader:
        reader.follow([(path, Position())])
        [(chunk, told)] = list(reader.next())
    assert SECRET not in repr((chunk, told))
    assert "[REDACTED:" in (told.parameters[0] or "")
    assert "[REDACTED:" in (told.failures["t1"].error or "")
    assert told.failures["t1"].category == "command_failed"
