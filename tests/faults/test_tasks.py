"""The life of tasks on a real daemon: order, isolation, merging, limits, holds, what people ask for."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from .rig.waiting import until
from .rig.work import Refused, Work, commit, git, snapshot


def test_work_is_isolated_merged_and_cleaned_up(work: Work) -> None:
    work.daemon.start()
    one = work.submit(commit("new.txt", "hello"), workflow="smart-fix", agent_type="code_agent")
    task = work.completed(one)
    assert (task["merge_state"], task["commits"], task["attempt"], task["worktree"]) == ("merged", 1, 1, None)
    assert (work.repository / "new.txt").read_text() == "hello\n"  # the clean checkout followed
    # The daemon's own files are private; those of its user have the rights they would have had by hand.
    assert (work.repository / "new.txt").stat().st_mode & 0o777 == 0o644
    assert all(path.stat().st_mode & 0o055 for path in (work.repository / ".git").rglob("*"))
    assert git(work.repository, "status", "--porcelain") == ""
    assert git(work.repository, "log", "-1", "--format=%s").startswith(f"Merge task {one}: echo hello")
    assert work.branches() == {"main"}
    assert work.worktrees() == []
    assert git(work.repository, "rev-parse", f"refs/tasksd/backup/{one}^{{commit}}") == git(
        work.repository, "rev-parse", "HEAD^2"
    )
    work.daemon.stop()


def test_the_agent_gets_its_task_and_nothing_of_the_daemon_s_own(work: Work) -> None:
    work.daemon.variables |= {"CLAUDECODE": "1", "GIT_DIR": "/nowhere", "NOTIFY_SOCKET": "/nowhere"}
    work.daemon.start()
    one = work.submit("env; umask; ls -l /proc/self/fd; pwd; readlink /proc/self/fd/0", isolate=False)
    work.completed(one)
    output = (work.daemon.data_dir / "runs" / one / "1/output").read_text()
    assert f"TASKS_TASK_ID={one}" in output
    assert f"TASKS_RUN={one}.1" in output
    assert f"TASKSD_DATA_DIR={work.daemon.data_dir}" in output
    assert "\n0022\n" in output
    assert not any(name in output for name in ("CLAUDECODE", "GIT_DIR", "NOTIFY_SOCKET", "PYTHONSAFEPATH"))
    assert str(work.repository) in output
    work.daemon.stop()


def test_urgent_tasks_go_first_and_the_oldest_of_equals(work: Work) -> None:
    work.configure(agents=1)
    work.daemon.start()
    first = work.submit(work.gate("first"), isolate=False)
    work.running(first)
    order = Path(work.folder / "order")
    for name, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal"), ("e", "high")):
        work.submit(f"echo {name} >> {order}", priority=priority, isolate=False)
    work.open("first")
    until(lambda: order.exists() and len(order.read_text().split()) == 5, "all five", timeout=60)
    assert order.read_text().split() == ["c", "e", "b", "d", "a"]
    work.daemon.stop()


def test_a_conflict_is_parked_with_its_files_and_merged_by_hand_later(work: Work) -> None:
    work.daemon.start()
    edit = "echo {} > README\ngit commit -qam 'Change it'\n"
    both = [work.submit(work.gate("both") + edit.format(name)) for name in ("left", "right")]
    for one in both:
        work.running(one)
    work.open("both")
    states = {one: work.completed(one) for one in both}
    assert sorted(task["merge_state"] for task in states.values()) == ["conflict", "merged"]
    (parked,) = (task for task in states.values() if task["merge_state"] == "conflict")
    assert parked["merge_paths"] == ["README"]
    worktree = Path(parked["worktree"])
    assert worktree.is_dir()
    assert parked["branch"] in work.branches()
    # The person resolves it in the worktree, and says so.
    assert "CONFLICT" in git_fails(worktree, "merge", "main")
    (worktree / "README").write_text("both\n")
    git(worktree, "commit", "-qam", "Resolve")
    merged = work.ask("POST", f"/v1/tasks/{parked['task_id']}/merge", {})
    assert merged["merge_state"] == "merged"
    assert (work.repository / "README").read_text() == "both\n"
    assert work.worktrees() == []
    work.daemon.stop()


def git_fails(folder: Path, *arguments: str) -> str:
    with pytest.raises(AssertionError) as failed:
        git(folder, *arguments)
    return str(failed.value)


def test_a_dirty_checkout_is_left_byte_for_byte_and_the_merge_waits_for_it(work: Work) -> None:
    work.configure(more="[git]\nretry = 1")
    work.daemon.start()
    one = work.submit(work.gate("go") + commit("new.txt") + "echo changed > README\ngit commit -qam 'Change README'\n")
    work.running(one)
    repository = work.repository
    (repository / ".gitignore").write_text("*.log\n")
    (repository / "debug.log").write_text("ignored\n")
    (repository / "notes.txt").write_text("untracked\n")
    (repository / "stashed").write_text("in the stash\n")
    git(repository, "add", "stashed")
    git(repository, "stash", "-q")
    (repository / "staged").write_text("staged\n")
    git(repository, "add", "staged")
    (repository / "README").write_text("my own change\n")
    before = snapshot(repository)
    work.open("go")
    task = work.completed(one)
    assert task["merge_state"] == "waiting"
    assert "README" in task["merge_detail"] or "uncommitted" in task["merge_detail"].lower()
    assert snapshot(repository) == before
    work.daemon.kill()
    work.daemon.start()
    until(lambda: work.task(one)["merge_state"] == "waiting", "still waiting")
    assert snapshot(repository) == before
    # As soon as the person has committed, it goes through by itself.
    git(repository, "checkout", "-q", "README")
    git(repository, "commit", "-qm", "Mine")
    work.wait(one, lambda task: task["merge_state"] == "merged", "the merge")
    assert (repository / "new.txt").exists()
    assert (repository / "README").read_text() == "changed\n"
    assert (repository / "notes.txt").read_text() == "untracked\n"
    work.daemon.stop()


def test_a_dirty_workspace_holds_a_task_until_it_is_clean(work: Work) -> None:
    work.daemon.start()
    (work.repository / "README").write_text("my own change\n")
    answer = work.ask("POST", "/v1/tasks", {"description": commit("new.txt"), "workspace": str(work.repository)})
    assert "Uncommitted changes in" in json.dumps(answer)
    one = answer["task_id"] if "task_id" in answer else answer["task"]["task_id"]
    held = work.wait(one, lambda task: task["hold_reason"], "held")
    assert held["status"] == "queued"
    assert held["hold_reason"].startswith(f"Uncommitted changes in {work.repository}")
    git(work.repository, "checkout", "-q", "README")
    assert work.completed(one)["merge_state"] == "merged"
    work.daemon.stop()


def test_what_the_agent_did_not_commit_is_reported_and_kept(work: Work) -> None:
    work.daemon.start()
    one = work.submit("echo work > left-behind\n")
    task = work.completed(one)
    assert task["merge_state"] == "kept"
    assert (Path(task["worktree"]) / "left-behind").read_text() == "work\n"
    assert any("without committing" in entry["message"] for entry in task["activity"])
    work.daemon.stop()


def test_a_rule_that_blocks_fails_the_task_and_keeps_its_work(work: Work) -> None:
    work.configure(more='[enforcement.types.strict]\npost_task = "block"\ncommits_required = true\n')
    work.daemon.start()
    task = work.over(work.submit("true", agent_type="strict"))
    assert (task["status"], task["failure"]) == ("failed", "policy")
    task = work.over(work.submit(commit("x") + "echo more > y\n", agent_type="strict"))
    assert (task["status"], task["failure"], task["merge_state"]) == ("failed", "policy", "kept")
    assert work.files(task["branch"]) == {"README", "x"}
    assert work.completed(work.submit(commit("z"), agent_type="strict"))["merge_state"] == "merged"
    work.daemon.stop()


def test_a_failed_task_says_why_and_can_be_retried_where_it_stopped(work: Work) -> None:
    work.daemon.start()
    script = commit("first") + "[ -e $GATES/fixed ] || { echo it broke >&2; exit 3; }\n" + commit("second")
    one = work.submit(script.replace("git commit -qm 'Add first'", "git commit -qm 'Add first' || true"))
    task = work.over(one)
    assert (task["status"], task["failure"], task["merge_state"], task["commits"]) == (
        "failed",
        "agent_error",
        "kept",
        1,
    )
    assert "3" in task["error"] and "it broke" in task["error"]
    work.open("fixed")
    work.ask("POST", f"/v1/tasks/{one}/retry")
    task = work.completed(one)
    assert (task["attempt"], task["merge_state"], task["commits"]) == (2, "merged", 2)
    assert work.files() == {"README", "first", "second"}
    work.daemon.stop()


def test_a_waiting_task_can_be_cancelled_and_one_at_work_with_all_its_processes(work: Work) -> None:
    work.configure(agents=1)
    work.daemon.start()
    busy = work.submit("trap '' INT\n(setsid sleep 300 &)\n" + work.gate("never"), isolate=False)
    waiting = work.submit("touch should-not-exist", isolate=False)
    work.running(busy)
    assert work.ask("POST", f"/v1/tasks/{waiting}/cancel")["status"] == "stopped"
    work.ask("POST", f"/v1/tasks/{busy}/cancel")
    assert work.over(busy)["status"] == "stopped"
    until(lambda: not work.marked(busy), "0 survivors", timeout=30)
    assert not (work.repository / "should-not-exist").exists()
    with pytest.raises(Refused) as refused:
        work.ask("POST", f"/v1/tasks/{busy}/cancel")
        work.ask("POST", f"/v1/tasks/{work.submit('true', isolate=False)}/retry")
    assert refused.value.status == 409
    work.daemon.stop()


@pytest.mark.parametrize(
    ("setting", "script", "failure", "says"),
    [
        ("wall_clock = 2", "while :; do echo busy; sleep 0.1; done", "timeout", "agent.wall_clock"),
        ("output_bytes = 100000", "yes", "output_limit", "agent.output_bytes"),
        ("no_progress = 3", "sleep 300", "no_progress", "agent.no_progress"),
        ('command = ["no-such-program-here"]', "true", "not_started", "no-such-program-here"),
        ('setup = "echo cannot; exit 4"', "true", "not_started", "status 4"),
    ],
)
def test_every_limit_ends_in_an_error_of_its_own(
    work: Work, setting: str, script: str, failure: str, says: str
) -> None:
    work.configure(more=f"[agent.types.limited]\n{setting}\n")
    work.daemon.start()
    task = work.over(work.submit(script, agent_type="limited"), timeout=60)
    assert (task["status"], task["failure"]) == ("failed", failure), task["error"]
    assert says in task["error"]
    until(lambda: not work.marked(), "0 survivors")
    assert work.worktrees() == []
    work.daemon.stop()


def test_an_agent_that_computes_silently_is_not_taken_for_stuck(work: Work) -> None:
    work.configure(more="[agent.types.limited]\nno_progress = 6\n")
    work.daemon.start()
    busy = "i=0; end=$(($(date +%s) + 12)); while [ $(date +%s) -lt $end ]; do i=$((i+1)); done"
    assert work.over(work.submit(busy, agent_type="limited", isolate=False), timeout=60)["status"] == "completed"
    work.daemon.stop()


def test_no_agent_starts_on_a_full_disk(work: Work) -> None:
    work.config.write_text(work.config.read_text().replace("free_disk = 0", f"free_disk = {1 << 60}"))
    work.daemon.start()
    one = work.submit("true")
    held = work.wait(one, lambda task: task["hold_reason"], "held")
    assert "pool.free_disk" in held["hold_reason"]
    assert held["status"] == "queued"
    work.daemon.stop()


def test_a_setup_command_and_ignored_files_prepare_the_worktree(work: Work) -> None:
    work.configure(agent='setup = "cp .env prepared && touch once.$(ls once.* 2>/dev/null | wc -l)"')
    (work.repository / ".gitignore").write_text(".env\nprepared\nonce.*\n")
    (work.repository / ".worktreeinclude").write_text(".env\n")
    git(work.repository, "add", ".")
    git(work.repository, "commit", "-qm", "Prepare")
    (work.repository / ".env").write_text("KEY=1\n")
    work.daemon.start()
    one = work.submit("grep KEY .env && grep KEY prepared && ls once.* && false || " + commit("x").replace("\n", ";"))
    work.over(one)
    assert "KEY=1" in (work.daemon.data_dir / "runs" / one / "1/output").read_text()
    work.daemon.stop()


def test_without_git_a_task_works_in_place_and_says_so(work: Work) -> None:
    plain = work.folder / "plain"
    plain.mkdir()
    work.daemon.start()
    task = work.completed(work.submit("touch here", workspace=str(plain)))
    assert (plain / "here").exists()
    assert task["worktree"] is None
    assert any("not in a git repository" in entry["message"] for entry in task["activity"])
    # Two in one folder at once would be in each other's way.
    first = work.submit(work.gate("one"), workspace=str(plain))
    work.running(first)
    second = work.submit("touch second", workspace=str(plain))
    held = work.wait(second, lambda task: task["hold_reason"], "held")
    assert first in held["hold_reason"]
    work.open("one")
    assert work.completed(second)
    work.daemon.stop()


@pytest.mark.parametrize("state", ["no commits", "missing"])
def test_a_workspace_without_commits_or_without_folder_is_refused_at_once(work: Work, state: str) -> None:
    folder = work.folder / "other"
    if state == "no commits":
        folder.mkdir()
        git(folder, "init", "-q")
    work.daemon.start()
    with pytest.raises(Refused) as refused:
        work.submit("true", workspace=str(folder))
    assert refused.value.status == 400
    assert ("no commit yet" if state == "no commits" else "not a folder") in refused.value.detail
    assert work.ask("GET", "/v1/tasks") == []
    work.daemon.stop()


def test_work_begun_at_a_detached_head_is_kept_and_merged_where_the_person_says(work: Work) -> None:
    git(work.repository, "checkout", "-q", "--detach")
    work.daemon.start()
    task = work.completed(work.submit(commit("x")))
    assert (task["merge_state"], task["base_branch"]) == ("kept", None)
    assert "--into" in task["merge_detail"]
    with pytest.raises(Refused):
        work.ask("POST", f"/v1/tasks/{task['task_id']}/merge", {})
    merged = work.ask("POST", f"/v1/tasks/{task['task_id']}/merge", {"into": "main"})
    assert merged["merge_state"] == "merged"
    assert "x" in work.files("main")
    work.daemon.stop()


def test_a_bare_repository_takes_work_too(work: Work) -> None:
    bare = work.folder / "bare.git"
    git(work.folder, "clone", "-q", "--bare", str(work.repository), str(bare))
    work.daemon.start()
    task = work.completed(work.submit(commit("x"), workspace=str(bare)))
    assert task["merge_state"] == "merged"
    assert "x" in git(bare, "ls-tree", "--name-only", "main")
    work.daemon.stop()


def test_the_pool_can_be_paused_and_resized_and_remembers_it(work: Work) -> None:
    work.daemon.start()
    work.ask("POST", "/v1/pool/pause")
    ids = [
        work.submit(work.gate("all"), isolate=False, workspace=str(make(work.folder / f"in-{name}"))) for name in "abcd"
    ]
    work.daemon.kill()
    work.daemon.start()
    pool = work.ask("GET", "/v1/pool")
    assert pool["paused"]
    until(lambda: work.ask("GET", "/v1/pool")["queued_tasks"] == 4, "all four in the queue again")
    assert {work.task(one)["status"] for one in ids} == {"queued"}
    work.ask("POST", "/v1/pool/resize", {"total_workers": 2})
    work.ask("POST", "/v1/pool/resume")
    until(lambda: work.ask("GET", "/v1/pool")["active_workers"] == 2, "two at work")
    work.open("all")
    for one in ids:
        work.completed(one)
    work.daemon.stop()


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_full_queue_refuses_more(work: Work) -> None:
    work.configure(agents=1, pool="queue_size = 2")
    work.daemon.start()
    work.ask("POST", "/v1/pool/pause")
    work.submit("true")
    work.submit("true")
    with pytest.raises(Refused) as refused:
        work.submit("true")
    assert refused.value.status == 429
    assert "pool.queue_size" in refused.value.detail
    work.daemon.stop()


def test_secrets_are_in_no_row(work: Work) -> None:
    secret = "ghp_" + "a1B2" * 9
    work.daemon.start()
    one = work.submit(f"echo using {secret}; echo {secret} >&2; exit 1", isolate=False)
    work.over(one)
    found = json.dumps(work.ask("GET", f"/v1/tasks/{one}"))
    assert secret not in found
    assert secret.encode() not in b"".join(
        path.read_bytes() for path in work.daemon.data_dir.glob("tasks.db*") if path.is_file()
    )
    for path in (work.daemon.data_dir / "runs").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    work.daemon.stop()


def test_clean_removes_what_has_arrived_and_keeps_the_rest(work: Work) -> None:
    work.configure(more='[git]\nmerge = "keep"')
    work.daemon.start()
    kept, arrived = work.completed(work.submit(commit("a"))), work.completed(work.submit(commit("b")))
    assert {kept["merge_state"], arrived["merge_state"]} == {"kept"}
    git(work.repository, "merge", "-q", "--squash", arrived["branch"])
    git(work.repository, "commit", "-qm", "Squashed by hand")
    dry = work.ask("POST", "/v1/tasks/clean", {"older_than_ms": 0, "dry_run": True})
    assert len(work.worktrees()) == 2
    done = work.ask("POST", "/v1/tasks/clean", {"older_than_ms": 0})
    assert [(one["task_id"], one["removed"]) for one in dry if one["what"].startswith("worktree")] == [
        (one["task_id"], one["removed"]) for one in done if one["what"].startswith("worktree")
    ]
    assert work.worktrees() == [kept["worktree"]]
    assert work.branches() == {"main", kept["branch"]}
    assert work.task(arrived["task_id"])["merge_state"] == "merged"
    work.daemon.stop()


def test_a_daemon_that_was_stopped_finds_its_agent_again_and_can_end_it(work: Work) -> None:
    work.daemon.start()
    one = work.submit(work.gate("never"))
    pid = work.running(one)["pid"]
    work.daemon.stop()
    os.kill(pid, 0)
    work.daemon.start()
    assert work.running(one)["pid"] == pid
    work.ask("POST", f"/v1/tasks/{one}/cancel")
    assert work.over(one)["status"] == "stopped"
    until(lambda: not work.marked(one), "0 survivors")
    work.daemon.stop()


def test_an_agent_at_work_is_no_stuck_one_because_the_daemon_stood_still(work: Work) -> None:
    """As in a laptop that sleeps: what nobody looked at for longer than the limit is no silence of the agent's."""
    work.configure(more="[agent.types.watched]\nno_progress = 12\n")
    work.daemon.start()
    one = work.submit("for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done\n" + work.gate("go"), agent_type="watched")
    work.running(one)
    work.daemon.signal(signal.SIGSTOP)
    deadline = time.monotonic() + 14
    until(lambda: time.monotonic() > deadline, "longer than the limit")
    work.daemon.signal(signal.SIGCONT)
    assert work.running(one)["failure"] is None
    work.open("go")
    assert work.completed(one)["attempt"] == 1
    work.daemon.stop()


def test_without_a_client_tasks_wait_for_one_instead_of_failing(work: Work) -> None:
    work.config.write_text(work.config.read_text().replace('command = ["sh"]\noutput = "text"\n', ""))
    tools = work.folder / "bin"
    tools.mkdir()
    work.daemon.variables["PATH"] = f"{tools}:/usr/bin:/bin"
    work.daemon.start()
    one = work.submit("hello", isolate=False)
    held = work.wait(one, lambda task: task["hold_reason"], "held")
    assert "no Claude Code client" in held["hold_reason"]
    client = tools / "claude"
    client.write_text("#!/bin/sh\n" + 'echo \'{"type":"result","subtype":"success","is_error":false,"num_turns":1}\'\n')
    client.chmod(0o755)
    work.ask("POST", "/v1/pool/resume")  # looks again at once
    assert work.completed(one)["turns"] == 1
    work.daemon.stop()


def test_what_cannot_be_done_with_a_task_is_said_for_what_it_is(work: Work) -> None:
    work.configure(more='[enforcement.types.strict]\npost_task = "block"\ncommits_required = true\n')
    work.daemon.start()
    busy = work.submit(work.gate("go"), isolate=False)
    work.running(busy)
    with pytest.raises(Refused, match=f"task {busy} is running"):
        work.ask("POST", f"/v1/tasks/{busy}/retry")
    work.open("go")
    idle = work.over(work.submit("true", agent_type="strict"))
    assert (idle["failure"], idle["worktree"]) == ("policy", None)
    assert "kept" not in idle["error"]
    with pytest.raises(Refused, match="nothing is left to merge"):
        work.ask("POST", f"/v1/tasks/{idle['task_id']}/merge", {})
    left = work.completed(work.submit("touch left"))
    assert left["merge_detail"].startswith("the worktree is kept: ")
    assert left["merge_detail"].count("kept") == 1
    with pytest.raises(Refused, match="name its working tree"):
        work.submit("true", workspace=str(work.repository / ".git"))
    work.daemon.stop()
