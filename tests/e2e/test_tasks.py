"""Work handed over to the daemon and done by the real client: order, isolation, merges, correlation, costs, nothing left."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .rig.answers import ApiError, Reply, Script, Text, ToolUse, Usage
from .rig.rig import Rig
from .rig.waiting import until

pytestmark = pytest.mark.client

OVER = ("completed", "failed", "stopped")
USAGE = Usage(input=5, output=70, cache_read=4000, cache_write_5m=200)
MODEL = "claude-sonnet-5"


def git(rig: Rig, *words: str, folder: Path | None = None) -> str:
    command = ["git", "-C", str(folder or rig.client.project), *words]
    return subprocess.check_output(command, env=rig.client.environment(), text=True).strip()


@pytest.fixture
def office(rig: Rig) -> Rig:
    """A repository with a commit of files, the client where its installer puts it, a configuration; nothing runs."""
    home = rig.client.home
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/bin/claude").symlink_to(rig.client.binary)
    (home / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.invalid\n")
    git(rig, "branch", "-M", "main")
    (rig.client.project / "README").write_text("hello\n")
    git(rig, "add", ".")
    git(rig, "commit", "-qm", "Begin")
    configure(rig)
    return rig


def configure(
    rig: Rig, *, agent: str = "", more: str = "", variables: Mapping[str, str] | None = None, defaults: bool = False
) -> None:
    """`defaults`: nothing but what makes the client reach the API."""
    environment = rig.client.environment(variables)
    inherited = {name: environment[name] for name in environment if name not in ("PATH", "HOME", "TASKSD_DATA_DIR")}
    table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in inherited.items())
    folder = rig.client.home / ".config/tasksd"
    folder.mkdir(parents=True, exist_ok=True)
    tools = "" if defaults else 'allowed_tools = ["Bash"]\n'
    (folder / "config.toml").write_text(
        f'[pool]\nfree_disk = 0\n[agent]\n{tools}model = "{MODEL}"\n{agent}\nenvironment = {{ {table} }}\n{more}\n'
    )


def by_shell(name: str, content: str, *, gate: str | None = None) -> Script:
    """Write a file and commit it with one command, then say so."""
    command = f"echo {content} > {name} && git add -A && git commit -qm 'Write {name}'"
    bash = ToolUse(f"toolu_{name.lower()}_{content}", "Bash", {"command": command, "description": "Work"})
    return [Reply([bash], USAGE, gate=gate), Reply([Text(f"Wrote {name}.")], USAGE)]


def reference_cost(rig: Rig) -> float:
    """What the client itself says that two such answers cost, started by hand."""
    rig.api.scripts["reference"] = [
        Reply([ToolUse("toolu_reference", "Bash", {"command": "true", "description": "d"})], USAGE),
        Reply([Text("Done.")], USAGE),
    ]
    cost = rig.client.run("Please work. [[reference]]", args=["--model", MODEL]).result["total_cost_usd"]
    assert cost > 0
    return float(cost)


def submit(rig: Rig, script: str, *options: str) -> str:
    return rig.daemon.command(
        "submit", f"Please work. [[{script}]]", "--workspace", str(rig.client.project), *options
    ).strip()


def task(rig: Rig, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = rig.daemon.get(f"/v1/tasks/{task_id}")
    return found


def over(rig: Rig, task_id: str, *, timeout: float = 90.0) -> dict[str, Any]:
    last: dict[str, Any] = {}

    def settled() -> bool:
        nonlocal last
        last = task(rig, task_id)
        if last["status"] not in OVER or last["merge_state"] == "merging":
            return False
        if last["merge_state"] == "merged":
            return last["worktree"] is None or last["merge_detail"] is not None
        return last["worktree"] is None or last["merge_state"] != "none"

    try:
        until(settled, f"task {task_id} over", timeout=timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(last, indent=1)}\n{rig.daemon.log}") from None
    return last


def test_ten_tasks_by_a_pool_of_three(office: Rig) -> None:
    rig = office
    rig.daemon.start()
    rig.daemon.command("pool", "pause")
    wanted = {}
    for number, priority in enumerate(["low", "normal", "normal", "low", "high", "normal", "low", "normal"]):
        rig.api.scripts[f"file{number}"] = by_shell(f"file{number}", str(number))
        wanted[submit(rig, f"file{number}", "--priority", priority, "--agent-type", "coder")] = (
            priority,
            f"file{number}",
        )
    for side in ("left", "right"):
        rig.api.scripts[side] = by_shell("README", side, gate="both")
        wanted[submit(rig, side, "--priority", "high", "--workflow", "quarrel")] = ("high", side)
    rig.daemon.command("pool", "resume")
    rig.api.wait_reached("both")
    until(lambda: sum(request.script in ("left", "right") for request in rig.api.requests) == 2, "both at the gate")
    rig.api.open("both")
    tasks = {one: over(rig, one) for one in wanted}

    assert {one["status"] for one in tasks.values()} == {"completed"}, rig.daemon.log
    assert sorted(one["merge_state"] for one in tasks.values()) == ["conflict"] + ["merged"] * 9
    (parked,) = (one for one in tasks.values() if one["merge_state"] == "conflict")
    assert (parked["workflow"], parked["merge_paths"]) == ("quarrel", ["README"])
    assert Path(parked["worktree"]).is_dir()
    # The urgent ones first; tasks whose slots came free at the same moment may overtake each other by a blink.
    began = {one: tasks[one]["started_at"] for one in tasks}
    urgency = {one: ["high", "normal", "low"].index(priority) for one, (priority, _) in wanted.items()}
    late = [
        (one, two) for one in began for two in began if urgency[one] < urgency[two] and began[one] > began[two] + 1000
    ]
    assert not late, [(wanted[one], wanted[two]) for one, two in late]
    # Isolated: every commit has one file, the checkout followed.
    assert git(rig, "status", "--porcelain") == ""
    assert {f"file{n}" for n in range(8)} <= {path.name for path in rig.client.project.iterdir()}
    assert git(rig, "log", "--merges", "--format=%s").count("Merge task") == 9
    # Correlated, and accounted for.
    cost = reference_cost(rig)
    for one, (_, name) in wanted.items():
        calls = rig.daemon.rows("SELECT tool_name, success, session_uuid FROM tool_usage WHERE task_id = ?", [one])
        assert [(call["tool_name"], call["success"]) for call in calls] == [("Bash", 1)], name
        assert calls[0]["session_uuid"] == tasks[one]["session_uuid"]
        assert tasks[one]["cost_usd"] == pytest.approx(cost, rel=1e-9)
        assert (tasks[one]["input_tokens"], tasks[one]["output_tokens"]) == (10, 140)
        assert (tasks[one]["cache_read_tokens"], tasks[one]["cache_write_tokens"]) == (8000, 400)
        assert tasks[one]["turns"] == 2
        assert tasks[one]["result"].startswith("Wrote")
    # Nothing left over.
    until(lambda: not rig.client.survivors(), "no process left")
    listed = git(rig, "worktree", "list", "--porcelain").count("worktree ")
    assert listed == 2  # the project and the parked one
    sessions = rig.daemon.rows("SELECT status, task_id FROM sessions WHERE task_id IS NOT NULL")
    assert sorted(row["task_id"] for row in sessions) == sorted(wanted)
    assert {row["status"] for row in sessions} == {"ended"}


def test_files_that_an_agent_touches_are_known_by_its_task(office: Rig) -> None:
    rig = office
    rig.daemon.start()
    # The absolute path of the worktree is known only then.
    rig.daemon.command("pool", "pause")
    rig.api.scripts["files"] = []
    one = submit(rig, "files", "--agent-type", "coder")
    folder = rig.daemon.data_dir / "worktrees" / one
    rig.api.scripts["files"] = [
        Reply([ToolUse("toolu_w", "Write", {"file_path": str(folder / "made"), "content": "x\n"})], USAGE),
        Reply([ToolUse("toolu_r", "Read", {"file_path": str(folder / "README")})], USAGE),
        Reply(
            [ToolUse("toolu_c", "Bash", {"command": "git add -A && git commit -qm Made", "description": "d"})], USAGE
        ),
    ]
    rig.daemon.command("pool", "resume")
    done = over(rig, one)
    assert (done["status"], done["merge_state"]) == ("completed", "merged"), done["error"]
    files = rig.daemon.rows("SELECT path, action FROM files WHERE task_id = ? ORDER BY id", [one])
    assert [(row["path"], row["action"]) for row in files] == [
        (str(folder / "made"), "write"), (str(folder / "README"), "read"),
    ]  # fmt: skip
    messages = [entry["message"] for entry in done["activity"]]
    assert any(message.startswith("Write") for message in messages)
    assert any("Bash: git add -A" in message for message in messages)


def test_hooks_of_its_user_are_not_run_twice(office: Rig) -> None:
    rig = office
    rig.daemon.command("hooks", "install", "--settings", str(rig.client.settings_file))
    rig.daemon.start()
    rig.api.scripts["one"] = by_shell("a", "1")
    done = over(rig, submit(rig, "one"))
    assert done["status"] == "completed", done["error"]
    rig.daemon.drained()
    kinds = [row["kind"] for row in rig.daemon.rows("SELECT kind FROM events WHERE task_id = ?", [done["task_id"]])]
    assert {"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd"} <= set(kinds)
    assert len(kinds) == len(set(kinds) - {"InstructionsLoaded"}) + kinds.count("InstructionsLoaded")
    assert rig.daemon.get("/v1/status")["ingest"]["duplicates"] == 0


def test_an_error_of_the_api_fails_the_task_with_the_client_s_words(office: Rig) -> None:
    rig = office
    configure(rig, agent="max_turns = 3")
    rig.daemon.start()
    rig.api.scripts["bad"] = [ApiError(400, "invalid_request_error", "no such thing as that")]
    done = over(rig, submit(rig, "bad"))
    assert (done["status"], done["failure"]) == ("failed", "agent_error")
    assert "no such thing as that" in done["error"]


def test_turns_and_money_have_limits(office: Rig) -> None:
    rig = office
    rig.daemon.start()
    bash = [
        Reply([ToolUse(f"toolu_{n}", "Bash", {"command": f"echo {n}", "description": "d"})], USAGE) for n in range(6)
    ]
    rig.api.scripts["long"] = bash
    turns = over(rig, submit(rig, "long", "--max-turns", "2"))
    assert (turns["status"], turns["failure"]) == ("failed", "max_turns")
    money = over(rig, submit(rig, "long", "--budget", "0.004"))
    assert (money["status"], money["failure"]) == ("failed", "budget")
    assert money["cost_usd"] > 0.004


def test_a_cancelled_agent_ends_with_its_commands(office: Rig) -> None:
    rig = office
    rig.daemon.start()
    command = {"command": "touch begun; sleep 300", "description": "Wait"}
    rig.api.scripts["wait"] = [Reply([ToolUse("toolu_wait", "Bash", command)], USAGE)]
    one = submit(rig, "wait")
    until((rig.daemon.data_dir / "worktrees" / one / "begun").exists, "the command at work", timeout=60)
    rig.daemon.command("cancel", one)
    assert over(rig, one)["status"] == "stopped"
    until(lambda: not rig.client.survivors(), "0 survivors")


def test_agents_outlive_a_killed_daemon_and_are_adopted(office: Rig) -> None:
    rig = office
    rig.daemon.start()
    names = ["a", "b", "c"]
    for name in names:
        rig.api.scripts[name] = by_shell(name, "1", gate="all")
    ids = [submit(rig, name) for name in names]
    until(
        lambda: len({request.script for request in rig.api.requests} & set(names)) == 3, "all at the gate", timeout=60
    )
    # An agent may be at the gate before the daemon has stored who it is.
    until(lambda: all(task(rig, one)["pid"] for one in ids), "all known", timeout=60)
    pids = {one: task(rig, one)["pid"] for one in ids}
    rig.daemon.kill()
    rig.daemon.start()
    assert {one: task(rig, one)["pid"] for one in ids} == pids
    rig.api.open("all")
    for one in ids:
        done = over(rig, one)
        assert (done["status"], done["merge_state"], done["attempt"]) == ("completed", "merged", 1), done["error"]
        assert (done["input_tokens"], done["output_tokens"]) == (10, 140)


def usage_limit(seconds: int) -> ApiError:
    """A plan's limit, as the API tells it to who is logged in."""
    said = {"status": "rejected", "reset": str(int(time.time()) + seconds), "representative-claim": "five_hour"}
    headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in said.items()}
    return ApiError(429, "rate_limit_error", headers=headers, times=1)


LOGGED_IN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "scripted"}


def test_a_usage_limit_holds_the_pool_until_its_end_and_the_same_session_goes_on(office: Rig) -> None:
    rig = office
    configure(rig, variables=LOGGED_IN)
    rig.daemon.start()
    first, *rest = by_shell("a", "1")
    begin = [Reply([ToolUse("toolu_begin", "Bash", {"command": "touch begun", "description": "Begin"})], USAGE)]
    rig.api.scripts["limited"] = [*begin, usage_limit(15), first, *rest]
    rig.api.scripts["other"] = by_shell("b", "1")
    one = submit(rig, "limited")
    until(lambda: task(rig, one)["hold_reason"], "held", timeout=60)
    held = task(rig, one)
    assert held["status"] == "queued"
    assert "limit" in held["hold_reason"]
    pool = rig.daemon.get("/v1/pool")
    assert pool["hold_reason"] == held["hold_reason"]
    assert 0 < pool["hold_until"] - time.time() * 1000 < 16_000
    # Nothing else is started into the same limit; the hold outlives the daemon.
    other = submit(rig, "other")
    rig.daemon.kill()
    rig.daemon.start()
    assert rig.daemon.get("/v1/pool")["hold_until"] == pool["hold_until"]
    assert task(rig, other)["status"] == "queued"
    done = over(rig, one)
    assert (done["status"], done["merge_state"], done["attempt"]) == ("completed", "merged", 2), done["error"]
    runs = done["runs"]
    assert [run["outcome"] for run in runs] == ["limited", "completed"]
    assert runs[0]["session_uuid"] == runs[1]["session_uuid"] == done["session_uuid"]
    assert runs[1]["resumed"]
    assert done["started_at"] < pool["hold_until"] <= runs[1]["started_at"]
    # Each process's own part, added up: three answers.
    assert (done["input_tokens"], done["output_tokens"]) == (15, 210)
    assert over(rig, other)["status"] == "completed"


def test_a_refused_login_holds_the_pool_for_a_person(office: Rig) -> None:
    rig = office
    configure(rig, variables={"CLAUDE_CODE_MAX_RETRIES": "0"})  # ten of them take three minutes
    rig.daemon.start()
    rig.api.scripts["refused"] = [ApiError(401, "authentication_error", "invalid x-api-key")]
    one = submit(rig, "refused")
    until(lambda: task(rig, one)["hold_reason"], "held", timeout=60)
    assert "tasksd pool resume" in task(rig, one)["hold_reason"]
    assert rig.daemon.get("/v1/pool")["hold_reason"]
    rig.api.scripts["refused"] = by_shell("a", "1")
    rig.daemon.command("pool", "resume")
    done = over(rig, one)
    assert (done["status"], done["attempt"]) == ("completed", 2), done["error"]


def test_an_agent_can_commit_without_any_configuration_and_is_told_to(office: Rig) -> None:
    rig = office
    configure(rig, defaults=True)
    rig.daemon.start()
    rig.daemon.command("pool", "pause")
    one = submit(rig, "plain")
    made = rig.daemon.data_dir / "worktrees" / one / "made"
    commit = "git add -A && git commit -qm 'Make it' && git status --short"
    rig.api.scripts["plain"] = [
        Reply([ToolUse("toolu_w", "Write", {"file_path": str(made), "content": "x\n"})], USAGE),
        Reply([ToolUse("toolu_c", "Bash", {"command": commit, "description": "Commit"})], USAGE),
        Reply([ToolUse("toolu_p", "Bash", {"command": "git push", "description": "Push"})], USAGE),
        Reply([Text("Made it.")], USAGE),
    ]
    rig.daemon.command("pool", "resume")
    done = over(rig, one)
    assert (done["status"], done["merge_state"], done["commits"]) == ("completed", "merged", 1), done
    assert done["calls"] == {"Bash": [2, 1], "Write": [1, 0]}
    failed = rig.daemon.rows("SELECT error_category FROM tool_usage WHERE task_id = ? AND success = 0", [one])
    assert [row["error_category"] for row in failed] == ["blocked"]
    told = next(request.body for request in rig.api.requests if request.script == "plain")
    assert "Commit all of your work" in json.dumps(told["system"])
