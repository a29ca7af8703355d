"""Statistics of errors and tasks as the API serves them and as `tasksd stats` shows them, with a daemon and without."""

import csv
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import errors as error_figures
from tasks.analytics import tasks as task_figures
from tasks.client import Client
from tasks.config import load
from tasks.database import SyncDatabase, Write
from tasks.rollups import DAY
from tasks.tracker import ToolUsageTracker

from .service import Service
from .test_cli import Home

HOSTILE = "fatal: \x1b[2Jno luck \x07here"

_TASK = """
INSERT INTO tasks (task_id, user_id, description, status, failure, workflow, merge_state, attempt, cost_usd, created_at,
                   started_at, finished_at)
VALUES (?, 1, 'x', ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_COST = "INSERT INTO cost_rollup VALUES ('task', 86400000, ?, 'aaaaaa', ?, 5, 1, 1, 1, 1, 1, 0, ?, ?)"

#: What the API is asked, and the command that asks it.
SAME = (
    ("/v1/stats/errors?days=7&limit=20", ["errors"]),
    ("/v1/stats/errors?hours=24&limit=2", ["errors", "--hours", "24", "--limit", "2"]),
    ("/v1/stats/errors/kinds?days=7&limit=20&tool=Bash", ["errors", "--tool", "Bash"]),
    ("/v1/stats/errors/kinds?days=30&limit=20&category=timeout", ["errors", "--category", "timeout", "--days", "30"]),
    *((f"/v1/stats/errors/by/{by.replace('-', '_')}?days=7", ["errors", "--by", by])
      for by in ("category", "tool", "agent-type", "workflow", "model")),
    ("/v1/stats/errors/daily?days=30", ["errors", "--daily"]),
    ("/v1/stats/errors/daily?days=3", ["errors", "--daily", "--days", "3"]),
    ("/v1/stats/tasks?days=30", ["tasks"]),
    ("/v1/stats/tasks?days=2", ["tasks", "--days", "2"]),
    *((f"/v1/stats/tasks/by/{by.replace('-', '_')}?days=30", ["tasks", "--by", by])
      for by in ("workflow", "agent-type", "model")),
)  # fmt: skip


def fill(data: Path) -> None:
    tracker = ToolUsageTracker(data)
    for number in range(6):
        tracker.record_tool_usage("aaaaaa", "Bash", success=False, session_uuid=f"s{number}",
                                  error=f"Exit code 1\ncat: /srv/{number}.txt: No such file or directory")  # fmt: skip
    tracker.record_tool_usage("aaaaaa", "Bash", success=False, error=f"Exit code 1\n{HOSTILE}")
    tracker.record_tool_usage("bbbbbb", "Read", success=False, error="Timed out")
    for _ in range(8):
        tracker.record_tool_usage("bbbbbb", "Read", 5.0)
    tracker.close()
    database = SyncDatabase(data / "tasks.db")
    now = time.time_ns() // 1_000_000
    database.apply([
        Write(_TASK, [
            ("aaaaaa", "completed", None, "fix", "merged", 2, 9.0, now - DAY, now - DAY + 5_000, now - DAY + 65_000),
            ("bbbbbb", "failed", "timeout", "fix", "kept", 1, 0.25, now - DAY, now - DAY, now),
            ("cccccc", "stopped", None, None, "none", 1, None, now - 9 * DAY, now - 9 * DAY, now - 8 * DAY),
        ]),
        Write(_COST, [(now // DAY, "opus", 4 * 10**12, 0), (now // DAY, "odd", 0, 5)]),
    ])  # fmt: skip
    database.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("b"))
    made.data.mkdir(mode=0o700)
    fill(made.data)
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("q"))
    made.data.mkdir(mode=0o700)
    fill(made.data)
    return made


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def undated(answer: Any) -> Any:
    """Without the times of the calls, which differ between two stores."""
    if isinstance(answer, dict):
        return {key: undated(value) for key, value in answer.items() if key not in ("first_seen", "last_seen")}
    return [undated(one) for one in answer] if isinstance(answer, list) else answer


# The API.


async def test_the_api_serves_what_the_functions_answer(service: Service) -> None:
    fill(service.data_dir)
    query = service.context.database.read

    async def ask(target: str) -> Any:
        return (await service.ask(f"/v1/stats/{target}")).json()

    kinds = await query(lambda reader: error_figures.error_kinds(reader.query))
    rates = await query(lambda reader: error_figures.failure_rates(reader.query, "tool"))
    assert undated(await ask("errors/kinds?days=90")) == undated(
        await query(lambda reader: error_figures.error_kinds(reader.query, since=days_ago(90)))
    )
    assert (await ask("errors"))["categories"] == {"file_not_found": 6, "command_failed": 1, "timeout": 1}
    assert (await ask("errors"))["tools"] == rates
    assert [one["fingerprint"] for one in (await ask("errors"))["kinds"]] == [one["fingerprint"] for one in kinds]
    assert await ask("errors/by/tool") == rates
    assert [one["failures"] for one in await ask("errors/daily?days=2")][-1:] in ([8], [0])
    assert await ask("tasks") == await query(lambda reader: task_figures.task_stats(reader.query))
    assert await ask("tasks/by/workflow") == await query(lambda r: task_figures.task_groups(r.query, "workflow"))
    assert [one["calls"] for one in await ask("errors/kinds?tool=Read&category=timeout")] == [1]


def days_ago(days: int) -> int:
    return time.time_ns() // 1_000_000 - days * DAY


@pytest.mark.parametrize(
    "target",
    ["errors?days=0", "errors?days=1&hours=1", "errors?limit=0", "errors/by/colour", "errors/kinds?category=colour",
     "errors/kinds?limit=1000", "errors/daily?days=0.5", "tasks?days=nan", "tasks/by/colour"],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(service: Service, target: str) -> None:
    assert (await service.ask(f"/v1/stats/{target}")).status == 422


async def test_the_shapes_are_part_of_the_api_description(service: Service) -> None:
    described = (await service.ask("/openapi.json")).json()
    shapes = described["components"]["schemas"]
    assert shapes["ErrorKind"]["properties"]["trend"]["enum"] == ["new", "rising", "steady", "falling"]
    assert {"cost_usd", "reported_usd", "success_rate"} <= shapes["TaskStats"]["properties"].keys()
    assert {"/v1/stats/errors", "/v1/stats/errors/kinds", "/v1/stats/tasks/by/{dimension}"} <= described["paths"].keys()


# The command line.


@pytest.mark.parametrize(("where", "command"), SAME, ids=[" ".join(command) for _, command in SAME])
def test_json_is_that_of_the_api_also_without_a_daemon(busy: Home, quiet: Home, where: str, command: list[str]) -> None:
    asked = busy.json("stats", *command)
    socket = load(data_dir=busy.data, environ=busy.environ).socket_path
    assert asked == Client(str(socket)).get(where)
    assert undated(asked) == undated(quiet.json("stats", *command))
    assert asked  # every question has an answer in this store


@pytest.mark.parametrize(("where", "command"), SAME, ids=[" ".join(command) for _, command in SAME])
def test_the_page_and_the_csv_hold_the_same(busy: Home, where: str, command: list[str]) -> None:
    page = busy.run("stats", *command).stdout
    table = busy.run("stats", *command, "--csv").stdout
    assert page.count("\n") >= 2
    assert "\x1b" not in page + table
    assert rows(table)


def test_a_page_tells_what_failed_and_how_often(busy: Home) -> None:
    shown = busy.run("stats", "errors").stdout
    assert "8 of 16 calls (50.0%)" in shown
    assert "cat: <path>: No such file or directory" in shown
    assert "file_not_found" in shown  # as --category takes it
    assert "no luck" in shown
    assert "█" in shown
    [kind] = [one for one in rows(busy.run("stats", "errors", "--csv").stdout) if one["error_category"] == "timeout"]
    assert (kind["calls"], kind["share"], kind["tool_name"]) == ("1", "0.125", "Read")
    assert sum(json.loads(kind["daily"])) == 1


def test_a_page_tells_what_tasks_came_to_and_cost(busy: Home) -> None:
    shown = busy.run("stats", "tasks").stdout
    for words in (
        "1 completed, 1 failed, 1 stopped", "50.0%", "timeout 1", "1 of 1 task", "1 merged, 1 kept", "$4.25",
        "$9.25 by the client", "$0.25 on failed tasks, $0.00 on stopped ones",
        "5 answers of models without a price", "itself ≥ $4.00",
    ):  # fmt: skip
        assert words in shown, words
    [one] = rows(busy.run("stats", "tasks", "--csv").stdout)
    assert (one["cost_usd"], one["completed"], one["queued_p95_s"], one["success_rate"]) == ("4.25", "1", "4.5", "0.5")
    fix, none = rows(busy.run("stats", "tasks", "--by", "workflow", "--csv").stdout)
    assert (fix["value"], fix["tasks"], none["value"], none["cost_usd"]) == ("fix", "2", "", "")
    assert len(rows(busy.run("stats", "tasks", "--by", "workflow", "--limit", "1", "--csv").stdout)) == 1


def test_an_empty_history_is_said_to_be_empty(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.data.mkdir(mode=0o700)
    SyncDatabase(home.data / "tasks.db").close()
    assert "no failed calls in the last 7 days" in home.run("stats", "errors").stdout
    assert "no failed calls in the last 7 days" in home.run("stats", "errors", "--tool", "Bash").stdout
    assert "none were handed over in the last 30 days" in home.run("stats", "tasks").stdout
    assert "no tasks in the last day" in home.run("stats", "tasks", "--by", "model", "--days", "1").stdout


@pytest.mark.parametrize(
    "command",
    [["errors", "--by", "tool", "--daily"], ["errors", "--by", "tool", "--tool", "Bash"], ["errors", "--daily", "--hours", "3"],
     ["errors", "--daily", "--days", "1.5"], ["errors", "--category", "colour"], ["errors", "--days", "0"],
     ["errors", "--json", "--csv"], ["tasks", "--by", "colour"], ["tasks", "--days", "-1"]],
)  # fmt: skip
def test_contradictions_are_wrong_usage(quiet: Home, command: list[str]) -> None:
    assert quiet.run("stats", *command, code=2).stderr
