"""From the real client's hooks to the rows of the store: registered by the commands, recorded, spooled, ingested."""

import json
import os
import random
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tasks.words import SessionStatus

from .rig import scenarios
from .rig.client import Run
from .rig.rig import Rig, rig_in
from .rig.scenarios import Call, Scenario
from .rig.waiting import until

pytestmark = pytest.mark.client

REPOSITORY = Path(__file__).parents[2]
PLUGIN = ("--plugin-dir", str(REPOSITORY))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that is over and stored."""

    rig: Rig
    scenario: Scenario
    run: Run

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query that may say :session."""
        return self.rig.daemon.rows(sql, {"session": self.run.session_id})


def install_hooks(rig: Rig) -> None:
    rig.daemon.command("hooks", "install", "--settings", str(rig.client.settings_file))


@pytest.fixture(
    scope="module", params=["settings", "plugin", "both", "daemon started afterwards", "daemon killed meanwhile"]
)
def everything(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, client_binary: Path
) -> Iterator[Recorded]:
    """The scenario `everything`, recorded in each way there is."""
    with rig_in(tmp_path_factory.mktemp("e"), client_binary) as rig:
        if request.param != "plugin":
            install_hooks(rig)
        afterwards = request.param == "daemon started afterwards"
        if not afterwards:
            rig.daemon.start()
        scenario = scenarios.everything(rig.client.project)
        process = rig.begin(scenario, args=PLUGIN if request.param in ("plugin", "both") else ())
        if request.param == "daemon killed meanwhile":
            until(rig.client.project.joinpath("released").exists, "the middle of the run")
            rig.daemon.kill()
            rig.daemon.start()
        run = process.finish()
        if afterwards:
            assert rig.daemon.pending()
            rig.daemon.start()
        rig.daemon.drained()
        yield Recorded(rig, scenario, run)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, client_binary: Path) -> Iterator[Rig]:
    """A daemon that records a client with installed hooks; one for the sessions of several tests."""
    with rig_in(tmp_path_factory.mktemp("e"), client_binary) as rig:
        install_hooks(rig)
        rig.daemon.start()
        yield rig


def expected_calls(calls: Sequence[Call]) -> dict[str, dict[str, Any]]:
    return {
        call.id: {
            "tool_name": call.tool,
            "success": int(call.success),
            "error_category": call.category,
            "agent_type": call.agent_type,
            "background": call.background,
            "source": call.source,
        }
        for call in calls
    }


CALLS = """
    SELECT tool_use_id, tool_name, success, error_category, agent_type, background, source
    FROM tool_usage WHERE session_uuid = :session
"""


def stored_calls(recorded: Recorded) -> dict[str, dict[str, Any]]:
    return {row.pop("tool_use_id"): row for row in recorded.rows(CALLS)}


def statuses(recorded: Recorded) -> list[tuple[str, str]]:
    """(status, cause) of each change of the main agent, in order."""
    sql = "SELECT status, cause FROM agent_status WHERE session_uuid = :session AND agent_id IS NULL ORDER BY id"
    return [(row["status"], row["cause"]) for row in recorded.rows(sql)]


def status(recorded: Recorded) -> str:
    (row,) = recorded.rows("SELECT status FROM sessions WHERE session_uuid = :session")
    return str(row["status"])


def assert_calls_stored(recorded: Recorded) -> None:
    assert stored_calls(recorded) == expected_calls(recorded.scenario.calls)
    assert recorded.rows("SELECT * FROM tool_running WHERE session_uuid = :session") == []


def test_every_call_is_stored_once_as_it_went(everything: Recorded) -> None:
    assert everything.run.returncode == 0, everything.run.stderr
    (rows,) = everything.rows("SELECT count(*) AS calls FROM tool_usage")
    assert rows["calls"] == len(everything.scenario.calls)
    assert_calls_stored(everything)


def test_errors_inputs_and_durations_are_those_of_the_calls(everything: Recorded) -> None:
    sql = "SELECT tool_use_id, parameters, error, duration_ms FROM tool_usage WHERE session_uuid = :session"
    rows = {row["tool_use_id"]: row for row in everything.rows(sql)}
    for call in everything.scenario.calls:
        row = rows[call.id]
        if call.raw is None:
            # The client adds the defaults of the tool's own schema.
            assert json.loads(row["parameters"]).items() >= call.input.items()
        assert (row["error"] is None) == call.success
        assert (row["duration_ms"] is not None) == (len(call.hooks) == 2), call.id
    assert rows["toolu_exit_3"]["error"] == "Exit code 3\nwrong"
    assert "forbidden-word is not allowed here" in rows["toolu_denied_hook"]["error"]
    assert rows["toolu_background"]["duration_ms"] >= 1000


def test_calls_of_a_subagent_are_its_own_under_the_session_of_its_parent(everything: Recorded) -> None:
    (agent,) = everything.rows("SELECT * FROM subagents WHERE session_uuid = :session")
    assert (agent["agent_type"], agent["status"]) == ("general-purpose", "ended")
    sql = "SELECT tool_use_id FROM tool_usage WHERE session_uuid = :session AND agent_id IS NOT NULL AND agent_id = "
    own = [row["tool_use_id"] for row in everything.rows(f"{sql} '{agent['agent_id']}' ORDER BY id")]
    assert own == ["toolu_sub_ok", "toolu_sub_failed"]


def test_session_goes_through_its_states_to_its_end(everything: Recorded) -> None:
    assert [state for state, _ in statuses(everything)] == [
        "starting", "working", "waiting_permission", "working", "idle", "ended",
    ]  # fmt: skip
    (session,) = everything.rows("SELECT * FROM sessions")
    assert session["session_uuid"] == everything.run.session_id
    assert session["pid"] == everything.run.pid
    assert Path(session["cwd"]).samefile(everything.rig.client.project)
    assert (session["origin"], session["end_reason"], session["prompts"]) == ("startup", "other", 1)


def test_files_tell_who_touched_what(everything: Recorded) -> None:
    project = everything.rig.client.project
    sql = "SELECT tool_use_id, action, path FROM files WHERE session_uuid = :session"
    rows = everything.rows(sql)
    touched = {row["tool_use_id"]: (row["action"], os.path.relpath(row["path"], project)) for row in rows}
    assert touched == {
        "toolu_write_ok": ("write", "new.txt"),
        "toolu_read_ok": ("read", "there.txt"),
        "toolu_edit_ok": ("edit", "there.txt"),
        "toolu_parallel_1": ("read", "new.txt"),
        "toolu_parallel_3": ("read", "there.txt"),
    }


def test_every_event_is_kept_once(everything: Recorded) -> None:
    sql = "SELECT tool_use_id, kind FROM events WHERE session_uuid = :session AND tool_use_id IS NOT NULL ORDER BY seq"
    kinds: dict[str, list[str]] = {call.id: [] for call in everything.scenario.calls}
    for row in everything.rows(sql):
        kinds[row["tool_use_id"]].append(row["kind"])
    # In whatever order: hooks of a call of a few milliseconds, in the background, may overtake each other.
    assert {id_: sorted(of_call) for id_, of_call in kinds.items()} == {
        call.id: sorted(call.hooks) for call in everything.scenario.calls
    }
    others = "SELECT kind, count(*) AS n FROM events WHERE tool_use_id IS NULL GROUP BY kind"
    counts = {row["kind"]: row["n"] for row in everything.rows(others)}
    assert counts == {
        "SessionStart": 1, "UserPromptSubmit": 2, "PermissionRequest": 1, "Stop": 1, "SessionEnd": 1,
        "SubagentStart": 1, "SubagentStop": 1, "PostToolBatch": everything.scenario.messages,
    }  # fmt: skip


def test_api_answers_with_what_happened(everything: Recorded) -> None:
    calls, daemon = everything.scenario.calls, everything.rig.daemon
    tools = daemon.get("/v1/tools")
    assert {tool: stats["count"] for tool, stats in tools.items()} == Counter(call.tool for call in calls)
    assert daemon.get("/v1/errors") == Counter(str(call.category) for call in calls if call.category is not None)
    status = daemon.get("/v1/status")
    assert (status["spool"]["pending"], status["spool"]["dropped"], status["spool"]["quarantined"]) == (0, 0, 0)
    (stored,) = everything.rows("SELECT count(*) AS events FROM events")
    assert status["ingest"]["events_total"] == stored["events"]


def test_commands_answer_with_what_happened(everything: Recorded) -> None:
    calls, daemon = everything.scenario.calls, everything.rig.daemon
    tools = json.loads(daemon.command("tools", "--json"))
    assert {tool: stats["count"] for tool, stats in tools.items()} == Counter(call.tool for call in calls)
    right = Counter(call.tool for call in calls if call.success)
    assert {tool: round(stats["success_rate"] * stats["count"]) for tool, stats in tools.items()} == {
        tool: right[tool] for tool in tools
    }
    errors = json.loads(daemon.command("errors", "--json"))
    assert errors == Counter(str(call.category) for call in calls if call.category is not None)
    status = json.loads(daemon.command("status", "--json"))
    assert (status["daemon"]["pid"], status["spool"]["pending"]) == (daemon.pid, 0)


def record(rig: Rig, scenario: Scenario, *, args: Sequence[str] = ()) -> Recorded:
    run = rig.play(scenario, args=args)
    rig.daemon.drained()
    return Recorded(rig, scenario, run)


def record_stopped(rig: Rig, scenario: Scenario, end: str) -> Recorded:
    """Start an endless scenario and `interrupt` or `kill` the client once its command runs."""
    process = rig.begin(scenario)
    running = rig.client.project / "running"
    until(running.exists, "the command of the scenario")
    running.unlink()
    {"interrupt": process.interrupt, "kill": process.kill}[end]()
    run = process.finish()
    rig.daemon.drained()
    return Recorded(rig, scenario, run)


def test_interrupted_call_is_closed_as_interrupted(recording: Rig) -> None:
    recorded = record_stopped(recording, scenarios.endless("interrupted"), "interrupt")
    until(lambda: SessionStatus(status(recorded)).is_over, "the end of the session", timeout=10)
    assert_calls_stored(recorded)


def test_killed_client_is_lost_within_seconds(recording: Rig) -> None:
    recorded = record_stopped(recording, scenarios.endless("killed"), "kill")
    until(lambda: status(recorded) == "lost", "the loss of the session", timeout=10)
    assert_calls_stored(recorded)
    assert statuses(recorded)[-1] == ("lost", "process_gone")


def test_turn_that_ends_in_an_api_error_fails_the_session(recording: Rig) -> None:
    recorded = record(recording, scenarios.api_error(500))
    assert recorded.run.returncode == 1
    assert_calls_stored(recorded)
    assert status(recorded) == "failed"
    (session,) = recorded.rows("SELECT status_detail FROM sessions WHERE session_uuid = :session")
    assert session["status_detail"] == "server_error"


def test_run_out_of_turns_keeps_its_last_call(recording: Rig) -> None:
    recorded = record(recording, scenarios.max_turns())
    assert recorded.run.result["terminal_reason"] == "max_turns"
    assert_calls_stored(recorded)
    assert status(recorded) == "ended"


def test_resumed_session_goes_on_and_a_fork_is_a_session_of_its_own(recording: Rig) -> None:
    first = record(recording, scenarios.turn("short"))
    again = record(recording, scenarios.turn("resumed"), args=("--resume", first.run.session_id))
    fork = record(recording, scenarios.turn("forked"), args=("--resume", first.run.session_id, "--fork-session"))
    assert again.run.session_id == first.run.session_id != fork.run.session_id
    assert stored_calls(first) == expected_calls([*first.scenario.calls, *again.scenario.calls])
    assert_calls_stored(fork)
    assert [state for state, _ in statuses(first)] == ["starting", "working", "idle", "ended"] * 2
    assert status(fork) == "ended"
    (session,) = fork.rows("SELECT origin, prompts FROM sessions WHERE session_uuid = :session")
    assert session == {"origin": "fork", "prompts": 1}


def test_two_prompts_in_one_process_are_two_turns_of_one_session(recording: Rig) -> None:
    first, second = scenarios.turn("first_turn"), scenarios.turn("second_turn")
    recording.teach(second)
    process = recording.begin(first, conversation=True)
    process.wait_results(1)
    process.say(second.prompt)
    process.wait_results(2)
    recorded = Recorded(recording, first, process.finish())
    recording.daemon.drained()
    assert stored_calls(recorded) == expected_calls([*first.calls, *second.calls])
    assert [state for state, _ in statuses(recorded)] == ["starting", "working", "idle", "working", "idle", "ended"]


def test_background_subagent_is_not_cut_off_by_the_end_of_the_turn(recording: Rig) -> None:
    scenario = scenarios.background_agent()
    process = recording.begin(scenario)
    idle = "SELECT * FROM agent_status WHERE session_uuid = ? AND status = 'idle'"
    session = process.session_id()
    until(lambda: recording.daemon.rows(idle, [session]), "the end of the main agent's turn")
    recording.api.open("subagent")
    recorded = Recorded(recording, scenario, process.finish())
    recording.daemon.drained()
    assert_calls_stored(recorded)
    (agent,) = recorded.rows("SELECT status FROM subagents WHERE session_uuid = :session")
    assert agent["status"] == "ended"
    assert status(recorded) == "ended"


def test_task_of_the_client_is_told_with_everything_it_does(recording: Rig) -> None:
    scenario = replace(scenarios.turn("of_a_task"), env={"TASKS_TASK_ID": "0badc0"})
    recorded = record(recording, scenario)
    for table in ("sessions", "events", "tool_usage", "agent_status"):
        rows = recorded.rows(f"SELECT DISTINCT task_id FROM {table} WHERE session_uuid = :session")
        assert rows == [{"task_id": "0badc0"}], table


def test_secret_in_a_command_and_its_output_is_stored_nowhere(recording: Rig) -> None:
    secret = "sk-ant-api03-" + "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=93)) + "AA"
    call = Call("toolu_secret", "Bash", {"command": f"echo ANTHROPIC_API_KEY={secret}", "description": "Show"})
    recorded = record(recording, scenarios.calling("secret", call))
    assert secret in str(recorded.run.tool_results["toolu_secret"]["content"])
    assert_calls_stored(recorded)
    files = [file for file in recording.daemon.data_dir.rglob("*") if file.is_file()]
    assert recording.daemon.data_dir / "tasks.db" in files
    assert [file.name for file in files if secret.encode() in file.read_bytes()] == []


def test_uninstalled_hooks_record_nothing(rig: Rig) -> None:
    install_hooks(rig)
    rig.daemon.command("hooks", "uninstall", "--settings", str(rig.client.settings_file))
    assert rig.play(scenarios.turn("unseen")).returncode == 0
    assert rig.daemon.pending() == []
