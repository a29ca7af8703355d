"""Money and calls of the real client's runs: accounted while they happen, equal to what the client itself says."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from .rig import scenarios
from .rig.answers import Reply, Text, ToolUse, Usage
from .rig.client import Run
from .rig.daemon import tasksd
from .rig.rig import Rig
from .rig.scenarios import Call, Scenario
from .rig.waiting import until

pytestmark = pytest.mark.client

#: Hooks get little time: nobody wants to wait here.
CONFIG = "[transcripts]\ngrace = 2\n"
#: What clients apply, in dollars per million tokens: input, output, cache reads, cache writes for 5 minutes and for an hour.
APPLIED = {
    "claude-sonnet-5": (3.0, 15.0, 0.3, 3.75, 6.0),
    "claude-sonnet-5-5": (2.0, 10.0, 0.1, 2.5, 4.0),
    "claude-haiku-5-5": (0.1, 0.5, 0.01, 0.125, 0.2),
}
RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
#: Events of clients that know neither PostToolBatch nor PostToolUseFailure.
OLD = ("PreToolUse", "PostToolUse", "UserPromptSubmit", "Stop", "SessionStart", "SessionEnd")


def configure(rig: Rig, more: str = "") -> None:
    folder = rig.client.home / ".config/tasksd"
    folder.mkdir(parents=True, exist_ok=True)
    prices = [
        f'[prices.models."{model}"]\n' + "".join(f"{name} = {rate}\n" for name, rate in zip(RATES, rates, strict=True))
        for model, rates in APPLIED.items()
    ]
    (folder / "config.toml").write_text(CONFIG + more + "".join(prices))


def install_hooks(rig: Rig, *, only: tuple[str, ...] = ()) -> None:
    rig.daemon.command("hooks", "install", "--settings", str(rig.client.settings_file))
    if only:
        settings = json.loads(rig.client.settings_file.read_text())
        settings["hooks"] = {name: settings["hooks"][name] for name in only}
        rig.client.settings_file.write_text(json.dumps(settings))


@pytest.fixture
def hooked(rig: Rig) -> Rig:
    """Hooks installed, daemon at work."""
    configure(rig)
    install_hooks(rig)
    rig.daemon.start()
    return rig


def sums(rig: Rig, session: str) -> tuple[int, ...]:
    """Input, output, cache reads, cache writes and picodollars of a session."""
    (row,) = rig.daemon.rows(
        "SELECT total(input_tokens) AS a, total(output_tokens) AS b, total(cache_read_tokens) AS c,"
        " total(cache_write_5m_tokens + cache_write_1h_tokens) AS d, total(cost) AS e"
        " FROM cost_rollup WHERE dimension = 'session' AND grain = 86400000 AND value = ?",
        [session],
    )
    return tuple(int(number) for number in row.values())


def said(run: Run) -> tuple[int, ...]:
    """The same by the client's own result."""
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    models = run.result["modelUsage"].values()
    tokens = [sum(model[name] for model in models) for name in names]
    return (*tokens, round(run.result["total_cost_usd"] * 1e12))


def assert_equal_to_the_result(rig: Rig, run: Run) -> None:
    models = set(run.result["modelUsage"])
    assert models <= APPLIED.keys(), f"add to APPLIED what this client applies for {models - APPLIED.keys()}"
    until(lambda: sums(rig, run.session_id)[:4] == said(run)[:4], f"the tokens of the result {said(run)}", timeout=20)
    assert sums(rig, run.session_id)[4] == pytest.approx(said(run)[4], abs=1000)  # 1e-9 dollars


def reconciled(rig: Rig, session: str) -> tuple[int, int, int]:
    rows = rig.daemon.rows("SELECT expected, seen, added FROM reconciliations WHERE session_uuid = ?", [session])
    return (rows[0]["expected"], rows[0]["seen"], rows[0]["added"]) if rows else (0, 0, 0)


def outcomes(rig: Rig, session: str) -> dict[str, tuple[Any, ...]]:
    rows = rig.daemon.rows(
        "SELECT tool_use_id, tool_name, success, error_category, agent_type, model FROM tool_usage"
        " WHERE session_uuid = ?",
        [session],
    )
    return {row["tool_use_id"]: tuple(row.values())[1:] for row in rows}


def wanted(scenario: Scenario, run: Run) -> dict[str, tuple[Any, ...]]:
    (model,) = run.result["modelUsage"]
    calls = scenario.calls
    return {call.id: (call.tool, int(call.success), call.category, call.agent_type, model) for call in calls}


def test_run_costs_what_its_result_says_and_hooks_reported_every_call(hooked: Rig) -> None:
    rig = hooked
    scenario = scenarios.everything(rig.client.project)
    run = rig.play(scenario)
    assert_equal_to_the_result(rig, run)
    number = len(scenario.calls)
    until(lambda: reconciled(rig, run.session_id)[0] == number, "all calls expected", timeout=20)
    assert reconciled(rig, run.session_id) == (number, number, 0)
    assert outcomes(rig, run.session_id) == wanted(scenario, run)
    rows = rig.daemon.rows("SELECT DISTINCT agent_type FROM messages JOIN transcripts USING (transcript_id)")
    assert {row["agent_type"] for row in rows} == {"", "general-purpose"}
    status = rig.daemon.get("/v1/status")["accounting"]
    assert (status["expected"], status["seen"], status["added"], status["unpriced"]) == (number, number, 0, 0)
    assert "reported by hooks" in rig.daemon.command("status")
    details = rig.daemon.get(f"/v1/sessions/{run.session_id}")
    assert (details["expected"], details["seen"], details["added"]) == (number, number, 0)


def test_run_is_accounted_while_it_happens(hooked: Rig) -> None:
    rig = hooked
    first = ToolUse("toolu_first", "Bash", {"command": "echo 1", "description": "d"})
    rig.api.scripts["slow"] = [Reply([first], Usage(input=7, output=70)), Reply([Text("Done.")], gate="end")]
    process = rig.client.start("Work. [[slow]]")
    session = process.session_id()
    rig.api.wait_reached("end")
    until(lambda: sums(rig, session)[1] == 70, "the first answer accounted", timeout=20)
    assert process.popen.poll() is None
    rig.api.open("end")
    assert_equal_to_the_result(rig, process.finish())


def test_killed_daemon_counts_nothing_twice_and_loses_nothing(hooked: Rig) -> None:
    rig = hooked
    call = Call("toolu_first", "Bash", {"command": "echo 1", "description": "d"})
    rig.api.scripts["slow"] = [Reply([call.as_block()]), Reply([Text("Done.")], gate="end")]
    process = rig.client.start("Work. [[slow]]")
    session = process.session_id()
    rig.api.wait_reached("end")
    until(lambda: sums(rig, session)[1] > 0, "the first answer accounted", timeout=20)
    rig.daemon.kill()
    rig.api.open("end")
    run = process.finish()
    rig.daemon.start()
    assert_equal_to_the_result(rig, run)
    until(lambda: reconciled(rig, session) == (1, 1, 0), "the call matched", timeout=20)


def test_calls_that_old_registrations_miss_are_added(rig: Rig) -> None:
    configure(rig)
    install_hooks(rig, only=OLD)
    rig.daemon.start()
    scenario = scenarios.everything(rig.client.project)
    run = rig.play(scenario)
    number = len(scenario.calls)
    until(lambda: reconciled(rig, run.session_id)[0] == number, "all calls expected", timeout=30)
    missed = sum(not call.success for call in scenario.calls)
    assert reconciled(rig, run.session_id) == (number, number - missed, missed)
    assert outcomes(rig, run.session_id) == wanted(scenario, run)
    assert rig.daemon.rows("SELECT * FROM tool_running") == []
    doctor = output_of(rig, "doctor")
    assert "PostToolUseFailure reports" in doctor
    assert "PostToolBatch reports" in doctor


def test_killed_run_equals_what_its_transcript_holds(hooked: Rig) -> None:
    rig = hooked
    scenario = scenarios.endless("killed")
    process = rig.begin(scenario)
    session = process.session_id()
    until(rig.client.project.joinpath("running").exists, "the command of the scenario")
    process.kill()
    process.finish()
    usage = Usage()
    expected = (usage.input, usage.output, usage.cache_read, usage.cache_write_5m)
    until(lambda: sums(rig, session)[:4] == expected, "the answer that was written", timeout=20)
    (path,) = (rig.client.home / ".claude/projects").glob(f"*/{session}.jsonl")
    assert '"toolu_killed"' in path.read_text()
    until(lambda: outcomes(rig, session), "the call")
    assert outcomes(rig, session)["toolu_killed"][:3] == ("Bash", 0, "interrupted")


def test_forks_and_resumes_are_counted_once(hooked: Rig) -> None:
    rig = hooked
    first = rig.play(scenarios.turn("short"))
    fork = rig.play(scenarios.turn("forked"), args=("--resume", first.session_id, "--fork-session"))
    rows = "SELECT total(output_tokens) AS n FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000"
    answers = 4 * Usage().output
    until(lambda: rig.daemon.rows(rows)[0]["n"] == answers, f"{answers} tokens of output", timeout=20)
    assert first.session_id != fork.session_id
    calls = rig.daemon.rows("SELECT tool_use_id FROM tool_usage")
    assert len(calls) == len({row["tool_use_id"] for row in calls}) == 2


def test_subagent_on_another_model_costs_its_own_price(rig: Rig) -> None:
    configure(rig)
    install_hooks(rig)
    rig.daemon.start()
    agent = {"description": "Look", "prompt": "Look. [[low]]", "subagent_type": "general-purpose", "model": "haiku"}
    rig.api.scripts["high"] = [
        Reply([ToolUse("toolu_agent", "Agent", agent | {"run_in_background": False})], Usage(cache_write_1h=500)),
        Reply([Text("Done.")]),
    ]
    rig.api.scripts["low"] = [Reply([Text("Seen.")], Usage(input=11, output=22))]
    run = rig.client.run("Work. [[high]]")
    assert_equal_to_the_result(rig, run)
    models = rig.daemon.rows("SELECT DISTINCT model FROM messages ORDER BY model")
    assert len(models) == 2


@pytest.fixture
def office(rig: Rig) -> Rig:
    """A repository and a client for tasks; the daemon does not run yet."""
    home = rig.client.home
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/bin/claude").symlink_to(rig.client.binary)
    (home / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.invalid\n")
    return rig


def employ(rig: Rig, **variables: str) -> None:
    """Configure agents that reach the API, with further variables of their environment."""
    environment = rig.client.environment(variables)
    inherited = {name: environment[name] for name in environment if name not in ("PATH", "HOME", "TASKSD_DATA_DIR")}
    table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in inherited.items())
    configure(
        rig,
        f'[pool]\nfree_disk = 0\n[agent]\nallowed_tools = ["Bash"]\nmodel = "sonnet"\nenvironment = {{ {table} }}\n',
    )


def carried_out(rig: Rig, script: str) -> dict[str, Any]:
    """A task of its own, over."""
    words = ("submit", f"Please work. [[{script}]]", "--workspace", str(rig.client.project), "--workflow", "nightly")
    task_id = rig.daemon.command(*words).strip()
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(rig.daemon.get(f"/v1/tasks/{task_id}"))
        return found["status"] in ("completed", "failed", "stopped")

    until(over, "the task over", timeout=90)
    return found


def result_of(rig: Rig, task: Mapping[str, Any]) -> Mapping[str, Any]:
    output = rig.daemon.data_dir / "runs" / task["task_id"] / "1/output"
    lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    return dict([line for line in lines if line.get("type") == "result"][-1])


def spent(rig: Rig, dimension: str, value: str) -> tuple[int, float]:
    """Tokens of output and picodollars."""
    (row,) = rig.daemon.rows(
        "SELECT total(output_tokens) AS a, total(cost) AS b FROM cost_rollup"
        " WHERE dimension = ? AND grain = 86400000 AND value = ?",
        [dimension, value],
    )
    return int(row["a"]), float(row["b"])


def test_compaction_within_a_task_is_paid_for(office: Rig) -> None:
    rig = office
    employ(rig, CLAUDE_AUTOCOMPACT_PCT_OVERRIDE="5")
    rig.daemon.start()
    calls = [ToolUse(f"toolu_{n}", "Bash", {"command": f"echo {n}", "description": "d"}) for n in range(6)]
    small = [Reply([call]) for call in calls[:-1]]
    rig.api.scripts["big"] = [*small, Reply([calls[-1]], Usage(cache_read=150_000)), Reply([Text("Done.")])]
    task = carried_out(rig, "big")
    assert task["status"] == "completed", task["error"]
    result = result_of(rig, task)
    output = sum(model["outputTokens"] for model in result["modelUsage"].values())
    until(lambda: spent(rig, "task", task["task_id"])[0] == output, f"{output} tokens", timeout=30)
    for dimension, value in (("task", task["task_id"]), ("workflow", "nightly"), ("all", "")):
        assert spent(rig, dimension, value)[0] == output
        assert spent(rig, dimension, value)[1] == pytest.approx(result["total_cost_usd"] * 1e12, abs=1000)
    (extra,) = rig.daemon.rows("SELECT output_tokens FROM messages WHERE message_id LIKE 'result:%'")
    (told,) = rig.daemon.rows("SELECT sum(output_tokens) AS n FROM messages WHERE message_id NOT LIKE 'result:%'")
    assert extra["output_tokens"] + told["n"] == output


def test_task_whose_hooks_are_switched_off_is_accounted_by_its_transcript(office: Rig) -> None:
    rig = office
    employ(rig)
    (rig.client.settings_file).write_text(json.dumps({"disableAllHooks": True}))
    rig.daemon.start()
    commands = ("echo 1", "exit 3")
    rig.api.scripts["deaf"] = [
        *(
            Reply([ToolUse(f"toolu_{n}", "Bash", {"command": one, "description": "d"})])
            for n, one in enumerate(commands)
        ),
        Reply([Text("Done.")]),
    ]
    task = carried_out(rig, "deaf")
    assert rig.daemon.rows("SELECT * FROM events") == []
    until(lambda: reconciled(rig, task["session_uuid"]) == (2, 0, 2), "both calls added", timeout=30)
    calls = rig.daemon.rows("SELECT tool_use_id, success, source, task_id FROM tool_usage ORDER BY tool_use_id")
    assert [tuple(row.values()) for row in calls] == [
        ("toolu_0", 1, "transcript", task["task_id"]),
        ("toolu_1", 0, "transcript", task["task_id"]),
    ]
    cost = result_of(rig, task)["total_cost_usd"]
    assert spent(rig, "task", task["task_id"])[1] == pytest.approx(cost * 1e12, abs=1000)


def output_of(rig: Rig, *command: str) -> str:
    """What a command prints that may end with any exit code."""
    done = subprocess.run(
        [str(tasksd()), *command], env=rig.daemon.environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout
