"""`tasksd backfill`: all history, once, whatever interrupts it and whoever else writes."""

import fcntl
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tasks import accounting as ledger
from tasks import transcripts
from tasks.accounting import backfill as accounting
from tasks.accounting.backfill import Backfilled, Progress
from tasks.cli.app import run
from tasks.config import Settings, load
from tasks.database import Reader, SyncDatabase, engine
from tasks.errors import StoreBusy

from .conftest import Programs
from .trees import CONFIG, Tree

DEADLINE = 60.0  # seconds

BACKFILL = """
import os
from tasks.accounting.backfill import backfill
from tasks.config import load
settings = load(data_dir=args[0], environ=dict(os.environ))
say("ready")
found = backfill(settings)
say(found.files, found.messages, found.skipped)
"""

# In the middle of a transaction, after so many chunks.
KILLED = """
import os, signal
from tasks.accounting import expected
left, note = int(args[1]), expected.note
def last(*given):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    note(*given)
expected.note = last
"""


def _corpus() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/corpus.py"
    spec = importlib.util.spec_from_file_location("corpus_of_backfill", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder of projects that no test changes, and what is in it."""
    folder = tmp_path_factory.mktemp("corpus") / "projects"
    return folder, _corpus().write(folder, 14, seed=4)


@pytest.fixture
def settings_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings with a new data directory that read the transcripts of a folder, for this process and others."""

    def make(projects: Path, name: str = "state") -> Settings:
        config = tmp_path / "config.toml"
        config.write_text(f"{CONFIG}\n[transcripts]\nprojects = {json.dumps(str(projects))}\n", encoding="utf-8")
        monkeypatch.setenv("TASKSD_CONFIG", str(config))
        monkeypatch.delenv("TASKSD_DATA_DIR", raising=False)
        return load(data_dir=tmp_path / name)

    return make


def state(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """All that history told, without what depends on when it was read, and on the order of the files."""
    reader = Reader(settings.database_file)
    try:
        return {
            "messages": reader.query(
                "SELECT message_id, path, timestamp, m.prompt_id, m.model, input_tokens, output_tokens, cache_read_tokens, "
                "cache_write_5m_tokens, cache_write_1h_tokens, web_searches, m.modifiers, copied, cost, input, output "
                "FROM messages AS m JOIN transcripts USING (transcript_id) LEFT JOIN prices USING (price_id) ORDER BY 1"
            ),
            "transcripts": reader.query(
                "SELECT path, session_uuid, agent_id, agent_type, project, offset, anchor, began_at, last_at, bad_lines "
                "FROM transcripts ORDER BY 1"
            ),
            "rolled up": reader.query("SELECT * FROM cost_rollup ORDER BY 1, 2, 3, 4, 5"),
            "sessions": reader.query(
                "SELECT session_uuid, status, started_at, last_event_at, cwd, model, transcript_path FROM sessions ORDER BY 1"
            ),
            "calls": reader.query(
                "SELECT session_uuid, tool_use_id, timestamp, tool_name, success, error_category, source, model, agent_id "
                "FROM tool_usage ORDER BY 1, 2"
            ),
            "expected": reader.query("SELECT session_uuid, tool_use_id FROM expected_calls ORDER BY 1, 2"),
            "counts": reader.query("SELECT session_uuid, expected, seen, added FROM reconciliations ORDER BY 1"),
        }
    finally:
        reader.close()


def sums(settings: Settings, dimension: str) -> dict[str, tuple[int, ...]]:
    reader = Reader(settings.database_file)
    try:
        rows = reader.query(
            "SELECT value, sum(messages), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), "
            "sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(web_searches) "
            "FROM cost_rollup WHERE dimension = ? AND grain = 86400000 GROUP BY 1",
            (dimension,),
        )
    finally:
        reader.close()
    return {value: tuple(numbers) for value, *numbers in rows}


def told(tokens: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {value: tuple(vars(numbers).values()) for value, numbers in tokens.items()}


def test_all_history_adds_up_to_what_is_in_it(corpus: tuple[Path, Any], settings_for: Callable[..., Settings]) -> None:
    projects, truth = corpus
    settings = settings_for(projects)
    seen: list[Progress] = []
    found = accounting.backfill(settings, None, seen.append)
    assert (found.files, found.read, found.bytes, found.messages) == (
        truth.files,
        truth.files,
        truth.bytes,
        truth.messages,
    )
    assert found.calls_added + found.calls_unanswered == truth.calls
    assert found.skipped == []
    assert sums(settings, "all") == told({"": truth.total})
    assert sums(settings, "session") == told(truth.by_session)
    assert sums(settings, "agent_type") == told(truth.by_agent_type)
    assert sums(settings, "project") == told(truth.by_project)
    assert seen[-1] == Progress(truth.bytes, truth.bytes, truth.files, truth.files)
    assert [one.bytes for one in seen] == sorted(one.bytes for one in seen)


def test_to_run_it_again_changes_nothing(corpus: tuple[Path, Any], settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(corpus[0])
    accounting.backfill(settings)
    before = state(settings)
    again = accounting.backfill(settings)
    assert (again.files, again.read, again.bytes, again.messages, again.cost) == (corpus[1].files, 0, 0, 0, 0)
    assert state(settings) == before


def test_a_killed_run_is_gone_on_with(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], programs: Programs
) -> None:
    whole, killed = settings_for(corpus[0], "whole"), settings_for(corpus[0], "killed")
    accounting.backfill(whole)
    rng = random.Random(5)
    for chunks in range(1, 60, 4):
        program = programs.start(KILLED + BACKFILL, killed.data_dir, chunks)
        # At other times, wherever it is.
        seconds = DEADLINE if chunks % 8 == 1 else 0.2 + rng.random()
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGKILL)
            program.wait()
        if program.returncode == 0:
            break
        assert program.returncode == -signal.SIGKILL
    assert chunks > 1
    accounting.backfill(killed)
    assert state(killed) == state(whole)


def test_two_at_once_count_everything_once(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], programs: Programs
) -> None:
    alone, both = settings_for(corpus[0], "alone"), settings_for(corpus[0], "both")
    accounting.backfill(alone)
    started = [programs.start(BACKFILL, both.data_dir) for _ in range(2)]
    for program in started:
        out, err = program.communicate(timeout=DEADLINE)
        assert (program.returncode, err) == (0, "")
        assert out.endswith("[]\n")
    assert state(both) == state(alone)


def test_others_write_meanwhile(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], programs: Programs
) -> None:
    settings = settings_for(corpus[0])
    database = SyncDatabase(settings.database_file)
    program = programs.start(BACKFILL, settings.data_dir)
    one = "INSERT INTO daemon_state VALUES (hex(randomblob(8)), '1')"
    longest, writes = 0.0, 0
    try:
        while program.poll() is None:
            began = time.monotonic()
            database.transaction(lambda connection: connection.execute(one))
            longest, writes = max(longest, time.monotonic() - began), writes + 1
            time.sleep(0.005)
    finally:
        database.close()
    assert program.returncode == 0
    assert longest < 3, "writers were shut out"
    assert sums(settings, "all") == told({"": corpus[1].total})
    reader = Reader(settings.database_file)
    assert reader.query("SELECT count(*) FROM daemon_state") == [(writes,)]
    reader.close()


def test_a_full_disk_loses_nothing(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], programs: Programs
) -> None:
    whole, full = settings_for(corpus[0], "whole"), settings_for(corpus[0], "full")
    accounting.backfill(whole)
    # A file that may not grow any more is what a full disk is to SQLite.
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))\n"
    done = programs.run(limited + BACKFILL, full.data_dir)
    assert done.returncode != 0
    assert "StoreUnavailable" in done.stderr
    assert "run it again to go on" in done.stderr
    accounting.backfill(full)
    assert state(full) == state(whole)


def test_a_store_that_is_held_for_too_long_is_said_to_be(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(corpus[0])
    SyncDatabase(settings.database_file).close()
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.1)
    with settings.database_file.with_name("tasks.db-lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, match="held by another process"):
            accounting.backfill(settings)


def test_old_files_are_left_out_when_asked_to(tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    projects = tmp_path / "projects"
    tree = Tree(projects, random.Random(3))
    old, *others = tree.files
    os.utime(old.path, (1_000_000_000, 1_000_000_000))
    settings = settings_for(projects)
    assert accounting.backfill(settings, since=1_500_000_000_000).files == len(others)
    assert accounting.backfill(settings).read == 1


def test_files_that_cannot_be_read_are_named_and_the_others_read(
    tmp_path: Path,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    projects = tmp_path / "projects"
    tree = Tree(projects, random.Random(3))
    settings = settings_for(projects)
    broken, gone = tree.files[0].path, tree.files[-1].path

    def failing(path: Path, *arguments: Any, **more: Any) -> Any:
        if path == broken:
            raise OSError(5, "Input/output error")
        if path == gone:
            raise FileNotFoundError(2, "No such file", str(path))
        return transcripts.read(path, *arguments, **more)

    monkeypatch.setattr("tasks.accounting.ahead.read", failing)
    assert run(["--data-dir", str(settings.data_dir), "backfill", "--json"]) == 1
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["skipped"] == [{"path": str(broken), "reason": "Input/output error"}]
    assert document["files"] == len(tree.files) - 2
    assert f"left out {broken}: Input/output error" in err


def test_what_cannot_be_stored_is_named_and_the_others_stored(
    tmp_path: Path, settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = tmp_path / "projects"
    tree = Tree(projects, random.Random(3))
    broken = tree.files[0].path

    def failing(connection: Any, file: Any, *arguments: Any, **more: Any) -> Any:
        if file.path == broken:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return ledger.account(connection, file, *arguments, **more)

    monkeypatch.setattr("tasks.accounting.backfill.account", failing)
    found = accounting.backfill(settings_for(projects))
    assert [path for path, _ in found.skipped] == [broken]
    assert found.messages > 0


def test_the_command_says_what_it_found(
    corpus: tuple[Path, Any], settings_for: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(corpus[0])
    arguments = ["--data-dir", str(settings.data_dir), "backfill"]
    assert run(arguments) == 0
    out, err = capfd.readouterr()
    assert f"{corpus[1].files} files, {corpus[1].files} with something new" in out
    assert f"{corpus[1].messages:,} messages added" in out
    assert "without a price" in out
    first = date.fromisoformat(min(corpus[1].by_day))
    length = (datetime.now(UTC).date() - first).days
    assert re.findall(r"tasksd costs --since (\S+?)`", out) == [first.isoformat()] * 2, "older than costs shows unasked"
    assert int(re.findall(r"tasksd stats tools --days (\d+)`", out)[0]) in (length, length + 1, length + 2)
    assert err == ""
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["messages"] == 0
    assert run([*arguments, "--since", "yesterday"]) == 2


def test_a_folder_without_transcripts_is_said_to_be_one(
    tmp_path: Path, settings_for: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path / "nothing")
    found = accounting.backfill(settings)
    assert found == Backfilled(tmp_path / "nothing", seconds=found.seconds)
    assert run(["--data-dir", str(settings.data_dir), "backfill"]) == 0
    assert f"No transcripts in {tmp_path / 'nothing'}" in capfd.readouterr().out


def test_calls_that_hooks_may_still_report_are_told(
    tmp_path: Path, settings_for: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    recorded = next((Path(__file__).parents[1] / "data/transcripts/t_simple/projects").rglob("*.jsonl"))
    fresh = tmp_path / "projects/-p" / recorded.name
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes(recorded.read_bytes())
    settings = settings_for(tmp_path / "projects")
    assert run(["--data-dir", str(settings.data_dir), "backfill"]) == 0
    assert "1 tool call of the last minutes left to hooks" in capfd.readouterr().out
    os.utime(fresh, (1, 1))
    assert run(["--data-dir", str(tmp_path / "other"), "backfill"]) == 0
    out = capfd.readouterr().out
    assert "1 tool call added" in out
    assert "left to hooks" not in out
