"""The guard in the real client's sessions: what a person and the model get to see, and that no agent is ever held up."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from .rig.answers import Reply, Text, ToolUse, Turn
from .rig.client import Run
from .rig.rig import Rig
from .rig.scenarios import Scenario

pytestmark = pytest.mark.client

AS_TEST = "git -c user.name=Test -c user.email=test@example.invalid"


@pytest.fixture
def guarded(rig: Rig) -> Iterator[Rig]:
    """Recorder and guard registered, nothing runs; the branch is main."""
    git(rig, "branch", "-M", "main")
    rig.daemon.command("hooks", "install", "--guard", "--settings", str(rig.client.settings_file))
    yield rig


def git(rig: Rig, *words: str) -> str:
    command = ["git", "-C", str(rig.client.project), *words]
    return subprocess.check_output(command, env=rig.client.environment(), text=True).strip()


def configure(rig: Rig, **settings: object) -> None:
    folder = rig.client.home / ".config/tasksd"
    folder.mkdir(parents=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "config.toml").write_text("[guard]\n" + "".join(lines))


def play(rig: Rig, *turns: Turn, prompt: str = "Work.", args: Sequence[str] = ()) -> Run:
    return rig.play(Scenario(f"{prompt} [[work]]", {"work": turns}, []), args=args)


def bash(id_: str, command: str) -> Reply:
    return Reply([ToolUse(f"toolu_{id_}", "Bash", {"command": command, "description": "Go on"})])


def told(rig: Rig) -> str:
    """Everything that the model was sent as text."""
    return json.dumps([request.body["messages"] for request in rig.api.requests if request.script])


def verdicts(rig: Rig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rig.daemon.get("/v1/verdicts")
    return found


def turns_of(rig: Rig) -> int:
    return sum(request.script == "work" for request in rig.api.requests)


def test_model_is_told_of_changes_that_were_there_before_its_prompt(guarded: Rig) -> None:
    guarded.daemon.start()
    (guarded.client.project / "mine.txt").write_text("x")
    run = play(guarded)
    assert not run.result["is_error"]
    assert f"Uncommitted changes in {guarded.client.project}: mine.txt" in told(guarded)
    (verdict,) = verdicts(guarded)
    assert (verdict["stage"], verdict["mode"], verdict["passed"]) == ("prompt", "warn", False)
    assert verdict["session_uuid"] == run.session_id


def test_prompt_in_a_dirty_workspace_never_reaches_the_model_where_that_blocks(guarded: Rig) -> None:
    configure(guarded, prompt="block")
    guarded.daemon.start()
    (guarded.client.project / "mine.txt").write_text("x")
    run = play(guarded)
    assert turns_of(guarded) == 0
    assert "mine.txt" in json.dumps(run.lines) + run.stderr
    assert [(v["stage"], v["mode"], v["passed"]) for v in verdicts(guarded)] == [("prompt", "block", False)]
    git(guarded, "add", "mine.txt")
    git(guarded, "-c", "user.name=Test", "-c", "user.email=test@example.invalid", "commit", "--quiet", "-m", "Mine")
    play(guarded)
    assert turns_of(guarded) == 1


def test_agent_is_sent_back_once_commits_as_it_was_told_and_stops(guarded: Rig) -> None:
    guarded.daemon.start()
    new = guarded.client.project / "new.txt"
    branch = "work"
    run = play(
        guarded,
        Reply([ToolUse("toolu_write", "Write", {"file_path": str(new), "content": "new\n"})]),
        Reply([Text("I am done.")]),
        bash("commit", f"git switch -c {branch} && git add -- new.txt && {AS_TEST} commit -m New"),
        Reply([Text("Now I am.")]),
    )
    assert run.result["result"] == "Now I am."
    assert git(guarded, "log", "-1", "--format=%s", branch) == "New"
    assert git(guarded, "status", "--porcelain") == ""
    assert "git switch -c agent/" in told(guarded)
    assert "git add -- new.txt" in told(guarded)
    (verdict,) = verdicts(guarded)
    assert (verdict["stage"], verdict["passed"]) == ("stop", True)
    assert "sent back once" in verdict["message"]


def test_agent_that_cannot_commit_is_let_go_and_that_is_recorded(guarded: Rig) -> None:
    configure(guarded, stop_times=2)
    guarded.daemon.start()
    new = guarded.client.project / "new.txt"
    write = Reply([ToolUse("toolu_write", "Write", {"file_path": str(new), "content": "new\n"})])
    run = play(guarded, write, *(Reply([Text(f"No, {n}.")]) for n in range(9)), args=("--disallowedTools", "Bash"))
    assert run.result["result"] == "No, 2."  # the first stop and two more
    assert not run.result["is_error"]
    (verdict,) = verdicts(guarded)
    assert (verdict["stage"], verdict["mode"], verdict["passed"]) == ("stop", "block", False)
    assert "new.txt" in verdict["message"]
    assert "sent back 2 times and is let go" in verdict["message"]


def test_commit_on_main_is_denied_and_on_a_branch_it_is_not(guarded: Rig) -> None:
    guarded.daemon.start()
    before = git(guarded, "rev-parse", "main")
    run = play(
        guarded,
        bash("main", f"{AS_TEST} commit --allow-empty -m Wrong"),
        bash("branch", f"git switch --quiet -c work && {AS_TEST} commit --allow-empty -m Right"),
    )
    denied = run.tool_results["toolu_main"]
    assert denied["is_error"]
    assert "protected branch main" in json.dumps(denied["content"])
    assert not run.tool_results["toolu_branch"].get("is_error")
    assert git(guarded, "rev-parse", "main") == before
    assert git(guarded, "log", "-1", "--format=%s", "work") == "Right"
    assert [verdict["stage"] for verdict in verdicts(guarded)] == ["commit"]


def test_plain_session_in_a_clean_workspace_notices_nothing(guarded: Rig) -> None:
    guarded.daemon.start()
    run = play(guarded, bash("look", "git log --oneline; git status"))
    assert not run.result["is_error"]
    assert turns_of(guarded) == 2
    assert "tasksd:" not in told(guarded)
    assert verdicts(guarded) == []


@pytest.mark.parametrize("state", ["killed", "hanging", "never started"])
def test_everything_goes_on_without_the_daemon(guarded: Rig, state: str) -> None:
    (guarded.client.project / "mine.txt").write_text("x")
    if state != "never started":
        guarded.daemon.start()
    if state == "killed":
        guarded.daemon.kill()
    if state == "hanging":
        os.kill(guarded.daemon.pid, signal.SIGSTOP)
    try:
        run = play(guarded, bash("commit", f"git add . && {AS_TEST} commit -m Anyway"), Reply([Text("Done.")]))
    finally:
        if state == "hanging":
            os.kill(guarded.daemon.pid, signal.SIGCONT)
    assert not run.result["is_error"]
    assert not run.tool_results["toolu_commit"].get("is_error")
    assert git(guarded, "log", "-1", "--format=%s") == "Anyway"
    assert turns_of(guarded) == 2
    assert "tasksd:" not in told(guarded)
