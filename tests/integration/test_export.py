"""What `tasksd export` writes is what is stored, in every format."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from tasks.database import SyncDatabase, Write
from tasks.history.datasets import DATASETS, PAGE
from tasks.tracker import ToolUsageTracker

CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, tool_use_id, tool_name, parameters, success, error, error_category,
                        duration_ms, source)
VALUES (?, 's', ?, ?, ?, ?, ?, ?, ?, 'hook')
"""
TASKSD = "import sys; from tasks.cli import main; sys.exit(main())"
HOSTILE = 'a "quote", a comma\nand a line; =1+1 \u202e\x1b[31m end'


def export(data_dir: Path, *arguments: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tasks.cli import main; sys.exit(main())",
            "--data-dir",
            str(data_dir),
            "export",
            *map(str, arguments),
        ],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(data_dir), "TZ": "UTC"},
        check=False,
        timeout=60,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    database = SyncDatabase(tmp_path / "tasks.db")
    rows = [
        (1_764_547_200_000, "t1", "Bash", '{"command":"ls","n":[1,2.5,null]}', 1, None, None, 12.5),
        (1_764_547_260_000, "t2", "Edit", None, 0, HOSTILE, "stale_edit", None),
        (1_764_633_600_000, "t3", "Read", "no json", 1, None, None, 1.0),
    ]
    database.apply([Write(CALL, rows)])
    database.close()
    return tmp_path


def test_json_lines_hold_every_column_and_json_as_values(data_dir: Path) -> None:
    done = export(data_dir, "calls")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    assert [list(line) for line in lines] == [list(DATASETS["calls"].columns)] * 3
    assert lines[0]["timestamp"] == "2025-12-01T00:00:00.000Z"
    assert lines[0]["parameters"] == {"command": "ls", "n": [1, 2.5, None]}
    assert (lines[0]["success"], lines[1]["success"], lines[1]["duration_ms"]) == (True, False, None)
    assert lines[1]["error"] == HOSTILE
    assert lines[2]["parameters"] == "no json"


def test_csv_is_read_back_as_it_was(data_dir: Path) -> None:
    done = export(data_dir, "calls", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert [row["tool_name"] for row in rows] == ["Bash", "Edit", "Read"]
    assert rows[1]["error"] == HOSTILE
    assert rows[1]["timestamp"] == "2025-12-01T00:01:00.000Z"


def test_parquet_has_types(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "out/calls.parquet"
    done = export(data_dir, "calls", "--format", "parquet", "--output", path)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    table = parquet.read_table(path)
    assert table.column_names == list(DATASETS["calls"].columns)
    assert table["timestamp"].to_pylist()[2] == datetime(2025, 12, 2, tzinfo=UTC)
    assert table["success"].to_pylist() == [True, False, True]
    assert table["duration_ms"].to_pylist() == [12.5, None, 1.0]
    assert table["error"].to_pylist()[1] == HOSTILE


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_everything_goes_into_a_folder(data_dir: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "all"
    done = export(data_dir, "--format", kind, "--output", folder)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in DATASETS}
    assert f"{folder}/calls.{kind}: 3 rows".encode() in done.stderr
    again = export(data_dir, "--format", kind, "--output", folder)
    assert again.returncode == 1
    assert b"--force" in again.stderr
    assert export(data_dir, "--format", kind, "--output", folder, "--force").returncode == 0


def test_a_span_of_time_is_half_open_and_in_the_machines_zone(data_dir: Path) -> None:
    def tools(*options: str) -> list[str]:
        done = export(data_dir, "calls", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["tool_name"] for line in done.stdout.splitlines()]

    assert tools("--since", "2025-12-02") == ["Read"]
    assert tools("--until", "2025-12-02") == ["Bash", "Edit"]
    assert tools("--since", "2025-12-01T01:01+01:00") == ["Edit", "Read"]


def test_more_rows_than_a_page_are_all_there_once(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    count = PAGE * 2 + 7
    database.apply([Write(CALL, [(n, f"t{n}", "Bash", None, 1, None, None, None) for n in range(count)])])
    database.close()
    done = export(tmp_path, "calls")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == list(range(1, count + 1))


def test_every_dataset_can_be_read_from_what_the_library_stored(tmp_path: Path) -> None:
    ToolUsageTracker(data_dir=tmp_path).record_tool_usage(tool_name="Bash", parameters={"a": "b"})
    for name, dataset in DATASETS.items():
        done = export(tmp_path, name)
        assert done.returncode == 0, done.stderr
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(list(line) == list(dataset.columns) for line in lines)
        assert len(lines) == (name == "calls")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--format", "csv"), b"--output is needed"),
        (("calls", "--format", "parquet"), b"--output is needed"),
        (("calls", "--since", "yesterday-ish"), b"no date or time"),
        (("nothing",), b"is not one of"),
        (("calls", "--since", "2026-11-02", "--until", "2026-11-01"), b"later than --since"),
    ],
    ids=["several on stdout", "parquet on stdout", "no date", "no dataset", "no span"],
)
def test_wrong_usage_is_explained(data_dir: Path, arguments: tuple[str, ...], word: bytes) -> None:
    done = export(data_dir, *arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_full_disk_leaves_no_half_file(data_dir: Path) -> None:
    done = export(data_dir, "calls", "--output", "/dev/full/x")
    assert done.returncode == 1
    assert b"cannot export to /dev/full/x" in done.stderr


def test_without_a_database_there_is_a_clear_error(tmp_path: Path) -> None:
    done = export(tmp_path / "none", "calls")
    assert done.returncode == 69
    assert b"tasksd up" in done.stderr


def test_tasks_name_their_priority_and_their_times(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")
    task = "INSERT INTO tasks (task_id, user_id, description, priority, created_at) VALUES (?, 1, 'd', ?, 0)"
    database.apply([Write(task, [("aaaaaa", 0), ("bbbbbb", 1), ("cccccc", 2)])])
    database.close()
    lines = [json.loads(line) for line in export(tmp_path, "tasks").stdout.splitlines()]
    assert [line["priority"] for line in lines] == ["high", "normal", "low"]
    assert lines[0]["created_at"] == "1970-01-01T00:00:00.000Z"
