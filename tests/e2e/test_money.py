"""Money of all kinds of runs: the script's own numbers come out of every door, whichever way the transcripts were read."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .rig import scenarios
from .rig.answers import ApiError, Reply, Text, ToolUse, Usage
from .rig.daemon import Daemon
from .rig.rig import Rig
from .rig.waiting import until
from .test_accounting import APPLIED, configure, install_hooks, reconciled

pytestmark = pytest.mark.client

KINDS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
)  # fmt: skip
DIMENSIONS = ("model", "project", "session", "agent", "day")
#: Of the model that an alias of the client's stands for.
ALIASES = {"sonnet": "claude-sonnet-5-5", "haiku": "claude-haiku-5-5"}


class Bill:
    """What the script's answers used: kept while they are scripted."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._answers = 0
        self.tokens = [0] * len(KINDS)
        self.dollars = 0.0

    def answer(self, *calls: ToolUse, model: str = "sonnet", gate: str | None = None) -> Reply:
        """The next answer, with usage of its own."""
        self._answers += 1
        n = self._answers
        usage = Usage(input=n, output=100 + 3 * n, cache_read=1000 * n, cache_write_5m=7 * n, cache_write_1h=900 + n)
        numbers = (usage.input, usage.output, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h)
        self.tokens = [a + b for a, b in zip(self.tokens, numbers, strict=True)]
        self.dollars += sum(a * b for a, b in zip(numbers, APPLIED[ALIASES[model]], strict=True)) / 1e6
        return Reply([Text("Next."), *calls], usage, gate=gate)

    def run(self, name: str, *turns: Reply | ApiError, args: Sequence[str] = (), **more: Any) -> str:
        """Run a script to its end; its session."""
        self._rig.api.scripts[name] = turns
        return self._rig.client.run(f"Work. [[{name}]]", args=args, **more).session_id


def bash(name: str) -> ToolUse:
    return ToolUse(f"toolu_{name}", "Bash", {"command": f"echo {name}", "description": "Say"})


def agent(name: str, script: str, *, background: bool) -> ToolUse:
    return ToolUse(
        f"toolu_{name}", "Agent",
        {"description": "Look", "prompt": f"Look. [[{script}]]", "subagent_type": "general-purpose", "model": "haiku",
         "run_in_background": background},
    )  # fmt: skip


def assert_doors(bill: Bill, daemon: Daemon, *where: str) -> None:
    """`costs` in whole and divided, and AnalyticsDB; of the store in the folder named, else of the daemon's."""
    prefix = ["--data-dir", *where] if where else []

    def check(door: str, sums: list[dict[str, Any]]) -> None:
        found = [sum(one[kind] for one in sums) for kind in KINDS]
        assert (door, found) == (door, bill.tokens)
        assert sum(one["cost"] for one in sums) == pytest.approx(bill.dollars, abs=1e-9), door

    answer = json.loads(daemon.command(*prefix, "costs", "--json"))
    check("total", [answer["total"]])
    check("days", answer["daily"])
    check("models", answer["models"])
    for by in DIMENSIONS:
        check(by, json.loads(daemon.command(*prefix, "costs", "--by", by, "--json"))["rows"])
    source = "import json, sys; from tasks.analytics import AnalyticsDB; database = AnalyticsDB(data_dir=sys.argv[1]);"
    program = [sys.executable, "-c", f"{source} print(json.dumps(database.get_daily_costs(days=3))); database.close()"]
    folder = where[0] if where else str(daemon.data_dir)
    done = subprocess.run([*program, folder], env=daemon.environment, capture_output=True, check=True, timeout=60)
    check("AnalyticsDB", json.loads(done.stdout))


def test_every_kind_of_run_costs_what_the_script_says_through_every_door(rig: Rig, tmp_path: Path) -> None:
    configure(rig)
    install_hooks(rig)
    rig.daemon.start()
    bill = Bill(rig)
    first = bill.run("first", bill.answer(bash("1"), bash("2")), bill.answer())
    rig.api.scripts["inner"] = [bill.answer(bash("3"), model="haiku"), bill.answer(model="haiku")]
    bill.run("outer", bill.answer(agent("4", "inner", background=False)), bill.answer())
    # A subagent in the background goes on after the main agent has stopped.
    last = bill.answer(model="haiku", gate="late")
    rig.api.scripts["behind"] = [bill.answer(bash("5"), model="haiku"), last]
    rig.api.scripts["ahead"] = [bill.answer(agent("6", "behind", background=True)), bill.answer()]
    process = rig.client.start("Work. [[ahead]]", conversation=True)
    rig.api.wait_reached("late")
    process.wait_results(1)
    rig.api.open("late")
    # The client tells the main agent that it is over; the API answers "Done." with the usual usage.
    process.wait_results(2)
    process.finish()
    told = Usage()
    for index, number in enumerate((told.input, told.output, told.cache_read, told.cache_write_5m)):
        bill.tokens[index] += number
        bill.dollars += number * APPLIED["claude-sonnet-5-5"][index] / 1e6
    fork = ("--fork-session", "--resume")
    forked = bill.run("fork", bill.answer(bash("7")), bill.answer(), args=(*fork, first))
    again = bill.run("again", bill.answer(), args=(*fork, forked))
    bill.run("back", bill.answer(), args=("--resume", forked))
    bill.run("orphan", bill.answer(), args=("--resume", again))
    overloaded = ApiError(529, "overloaded_error", times=1)
    bill.run("busy", overloaded, bill.answer(bash("8")), bill.answer())
    stopped = {"CLAUDE_CODE_MAX_RETRIES": "0"}
    bill.run("broken", bill.answer(bash("9")), ApiError(400, "invalid_request_error"), env=stopped)
    bill.run("short", bill.answer(bash("10")), Reply([bash("never")]), args=("--max-turns", "1"))
    blocked = {"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "exit 2"}]}]}}
    bill.run("blocked", Reply([Text("Never.")]), settings=blocked)
    rig.api.scripts["killed"] = [bill.answer(bash("11")), Reply([Text("Half.")], gate="half", gate_in_stream=True)]
    process = rig.client.start("Work. [[killed]]")
    rig.api.wait_reached("half")
    process.kill()
    process.finish()
    rig.api.open("half")
    rows = "SELECT total(output_tokens) AS n FROM messages"
    until(lambda: rig.daemon.rows(rows)[0]["n"] == bill.tokens[1], f"{bill.tokens[1]} tokens of output", timeout=20)
    assert_doors(bill, rig.daemon)
    counts = "SELECT sum(expected) AS e, sum(seen) AS s, sum(added) AS a FROM reconciliations"
    # The client that was killed may not have written the result of its call.
    until(lambda: rig.daemon.rows(counts)[0]["e"] in (10, 11), "all calls expected", timeout=20)
    (found,) = rig.daemon.rows(counts)
    assert (found["s"], found["a"]) == (found["e"], 0)
    calls = rig.daemon.rows("SELECT tool_use_id FROM tool_usage")
    assert sorted(row["tool_use_id"] for row in calls) == sorted(f"toolu_{number}" for number in range(1, 12))
    assert rig.daemon.rows("SELECT * FROM tool_running") == []
    sessions = [row["session_uuid"] for row in rig.daemon.rows("SELECT session_uuid FROM sessions")]
    spent = [rig.daemon.get(f"/v1/sessions/{session}")["spent"] for session in sessions]
    assert [sum(one[kind] for one in spent) for kind in KINDS] == bill.tokens

    rig.daemon.command("backfill")
    assert_doors(bill, rig.daemon)
    rig.daemon.command("--data-dir", str(tmp_path / "d"), "backfill")
    assert_doors(bill, rig.daemon, str(tmp_path / "d"))


def test_history_that_is_read_before_its_events_tells_the_same(rig: Rig) -> None:
    configure(rig)
    install_hooks(rig)
    scenario = scenarios.everything(rig.client.project)
    run = rig.play(scenario)
    number = len(scenario.calls)

    def all_added() -> bool:
        rig.daemon.command("backfill")
        return reconciled(rig, run.session_id) == (number, 0, number)

    # Hooks are given some time to report.
    until(all_added, "all calls added", timeout=20)
    rig.daemon.start()
    rig.daemon.drained()
    until(lambda: reconciled(rig, run.session_id) == (number, number, 0), "every call reported after all", timeout=20)
    rows = rig.daemon.rows("SELECT tool_use_id, success, error_category, source FROM tool_usage")
    expected = {call.id: (int(call.success), call.category, call.source) for call in scenario.calls}
    assert {row["tool_use_id"]: tuple(row.values())[1:] for row in rows} == expected
    (session,) = rig.daemon.rows("SELECT origin, end_reason, prompts FROM sessions")
    assert (session["origin"], session["prompts"]) == ("startup", 1)
    assert rig.daemon.rows("SELECT * FROM tool_running") == []
