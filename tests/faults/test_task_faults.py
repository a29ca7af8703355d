"""What users, laptops and disks do to tasks: nothing stays at work for ever, nothing is orphaned, nothing is done twice."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from .rig.waiting import until
from .rig.work import Refused, Work, commit, git

#: While the file exists, nothing can be written to the store.
FAILING_STORE = """
import os
from tasks.database import Database
from tasks.errors import StoreUnavailable
transaction = Database.transaction

async def failing(self, work):
    if os.path.exists(os.environ["BROKEN"]):
        raise StoreUnavailable("cannot write: the disk is full")
    return await transaction(self, work)
Database.transaction = failing
"""

#: What is held is looked at again after one second.
SHORT_HOLDS = """
import sys
import tasks.runner.runner
sys.modules["tasks.runner.runner"].HOLD = 1.0
"""


def starts(work: Work, task_id: str) -> int:
    """Runs that an agent was started in."""
    return len(list((work.daemon.data_dir / "runs" / task_id).glob("[0-9]*/pid")))


@pytest.mark.parametrize("moment", ["at work", "at its end"])
def test_a_store_that_fails_for_a_while_costs_no_task_its_daemon(work: Work, moment: str) -> None:
    broken = work.folder / "broken"
    work.daemon.start(FAILING_STORE, BROKEN=str(broken))
    one = work.submit(work.gate("go") + "echo more\nsleep 1\necho still more\n" + work.gate("end") + commit("x"))
    work.running(one)
    if moment == "at work":
        broken.touch()
        work.open("go")
        until(lambda: "carrying out" in work.daemon.log, "the failure of the store")
        broken.unlink()
        work.open("end")
    else:
        work.open("go")
        work.wait(one, lambda task: "waiting at end" in json.dumps(task["activity"]), "the second gate")
        broken.touch()
        work.open("end")
        until(lambda: "carrying out" in work.daemon.log, "the failure of the store")
        until(lambda: not work.marked(one), "the end of the agent")
        broken.unlink()
    task = work.completed(one)
    assert (task["attempt"], task["merge_state"], starts(work, one)) == (1, "merged", 1)
    assert work.worktrees() == []


def test_a_task_cancelled_while_the_store_failed_its_carrier_ends(work: Work) -> None:
    broken = work.folder / "broken"
    work.daemon.start(FAILING_STORE, BROKEN=str(broken))
    one = work.submit(work.gate("go") + "echo more\n" + work.gate("never"))
    work.running(one)
    broken.touch()
    work.open("go")
    until(lambda: "carrying out" in work.daemon.log, "the failure of the store")
    broken.unlink()
    work.ask("POST", f"/v1/tasks/{one}/cancel")
    assert work.over(one)["status"] == "stopped"
    until(lambda: not work.marked(one), "the end of the agent")
    until(lambda: not work.worktrees(), "no worktree left")


def test_a_retry_without_the_prompt_fails_and_says_why(work: Work) -> None:
    work.daemon.start()
    one = work.submit("exit 3", isolate=False)
    assert work.over(one)["status"] == "failed"
    work.ask("POST", "/v1/tasks/clean", {"older_than_ms": 0})
    work.ask("POST", f"/v1/tasks/{one}/retry")
    task = work.over(one)
    assert (task["status"], task["failure"]) == ("failed", "not_started")
    assert "prompt" in task["error"]
    work.daemon.stop()


def test_a_deleted_folder_of_runs_ends_the_tasks_that_it_held(work: Work) -> None:
    work.configure(agents=1)
    work.daemon.start()
    first = work.submit(work.gate("go") + commit("x"))
    work.running(first)
    second = work.submit("true")
    shutil.rmtree(work.daemon.data_dir / "runs")
    work.open("go")
    task = work.over(first)
    assert (task["failure"], task["merge_state"], task["commits"]) == ("lost", "kept", 1)
    assert work.over(second)["failure"] == "not_started"
    third = work.submit(commit("y"))
    assert work.completed(third)["merge_state"] == "merged"
    work.daemon.stop()


def test_a_daemon_told_to_stop_its_agents_leaves_none(work: Work) -> None:
    work.configure(agents=2)
    work.daemon.start(STOP_AGENTS)
    ids = [work.submit(work.gate("never")) for _ in range(2)]
    waiting = work.submit(f"touch {work.folder}/started")
    for one in ids:
        work.running(one)
    work.daemon.signal(signal.SIGTERM)
    assert work.daemon.wait(timeout=60) == 0
    assert not work.marked()
    assert not (work.folder / "started").exists()
    work.daemon.assert_calm()
    work.daemon.start()
    assert {work.over(one)["status"] for one in ids} == {"stopped"}
    assert work.completed(waiting)
    until(lambda: not work.worktrees(), "no worktree left")
    work.daemon.stop()


STOP_AGENTS = """
import tasks.daemon
run = tasks.daemon.run
tasks.daemon.run = lambda settings, **_: run(settings, stop_agents=True)
"""


def test_two_tasks_in_place_never_work_at_once(work: Work) -> None:
    plain = work.folder / "plain"
    plain.mkdir()
    work.daemon.start(SHORT_HOLDS)
    work.ask("POST", "/v1/pool/pause")
    script = "mkdir busy || exit 9\nsleep 0.3\nrmdir busy\n"
    ids = [work.submit(script, workspace=str(plain)) for _ in range(2)]
    work.ask("POST", "/v1/pool/resume")
    for one in ids:
        task = work.over(one)
        assert (task["status"], task["error"]) == ("completed", None)
    work.daemon.stop()


def test_a_clock_set_back_holds_no_task_for_longer(work: Work) -> None:
    source = """
import os, time
real = time.time_ns
time.time_ns = lambda: real() - (3600 * 10**9 if os.path.exists(os.environ["BACK"]) else 0)
"""
    back = work.folder / "back"
    work.daemon.start(source + SHORT_HOLDS, BACK=str(back))
    (work.repository / "README").write_text("my own change\n")
    one = work.submit(commit("x"))
    work.wait(one, lambda task: task["hold_reason"], "held")
    back.touch()
    git(work.repository, "checkout", "-q", "README")
    assert work.completed(one)
    work.daemon.stop()


def test_commits_on_another_branch_are_told(work: Work) -> None:
    work.daemon.start()
    one = work.submit("git checkout -qb mine\n" + commit("x"))
    task = work.completed(one)
    assert task["merge_state"] == "kept"
    assert "mine" in task["merge_detail"]
    work.daemon.stop()


def test_a_merge_asked_for_elsewhere_never_goes_to_the_first_branch(work: Work) -> None:
    work.configure(more='[git]\nretry = 1\nmerge = "keep"')
    git(work.repository, "checkout", "-qb", "release")
    git(work.repository, "checkout", "-q", "main")
    work.daemon.start()
    one = work.submit(commit("x"))
    assert work.completed(one)["merge_state"] == "kept"
    git(work.repository, "checkout", "-q", "release")
    (work.repository / "README").write_text("dirty\n")
    asked = work.ask("POST", f"/v1/tasks/{one}/merge", {"into": "release"})
    assert (asked["merge_state"], asked["base_branch"]) == ("waiting", "release")
    main = git(work.repository, "rev-parse", "main")
    plain = work.folder / "plain"
    plain.mkdir()
    work.over(work.submit("sleep 3", workspace=str(plain)))
    assert git(work.repository, "rev-parse", "main") == main
    git(work.repository, "checkout", "-q", "README")
    work.wait(one, lambda task: task["merge_state"] == "merged", "the merge into release")
    assert "x" in work.files("release")
    assert git(work.repository, "rev-parse", "main") == main
    with pytest.raises(Refused, match="no branch nowhere"):
        kept = work.completed(work.submit(commit("y")))
        work.ask("POST", f"/v1/tasks/{kept['task_id']}/merge", {"into": "nowhere"})
    work.daemon.stop()


def test_clean_goes_by_the_end_of_tasks_and_leaves_those_alone_that_were_tried_again(work: Work) -> None:
    work.daemon.start()
    one = work.submit("sleep 2", isolate=False)
    work.over(one)
    assert work.ask("POST", "/v1/tasks/clean", {"older_than_ms": 1500}) == []
    work.daemon.stop()


def test_a_trouble_with_files_does_not_end_the_daemon(work: Work) -> None:
    """Locks of repositories cannot be taken: merges wait, the daemon lives."""
    work.configure(more="[git]\nretry = 1")
    work.daemon.start()
    one = work.submit(work.gate("go") + commit("new.txt") + "echo changed > README\ngit commit -qam Change\n")
    work.running(one)
    (work.repository / "README").write_text("my own change\n")
    work.open("go")
    assert work.completed(one)["merge_state"] == "waiting"
    locks = work.daemon.data_dir / "repositories"
    aside = locks.with_name("aside")
    locks.rename(aside)
    locks.write_text("not a folder")
    work.wait(one, lambda task: "repositories" in (task["merge_detail"] or ""), "told")
    work.daemon.assert_alive()
    locks.unlink()
    aside.rename(locks)
    git(work.repository, "checkout", "-q", "README")
    work.wait(one, lambda task: task["merge_state"] == "merged", "the merge")
    work.daemon.stop()


def test_a_machine_that_changed_its_name_keeps_its_agents(work: Work) -> None:
    source = "import os, socket\nsocket.gethostname = lambda: os.environ['NAMED']\n"
    work.daemon.start(source, NAMED="cafe")
    one = work.submit(work.gate("go") + commit("x"))
    work.running(one)
    work.daemon.kill()
    work.daemon.start(source, NAMED="home")
    work.open("go")
    assert work.completed(one)["attempt"] == 1
    work.daemon.stop()


def test_impossible_workspaces_are_refused_or_fail_but_break_nothing(work: Work) -> None:
    work.daemon.start()
    for workspace in ("/nowhere/\udcff", "/nowhere/\ud800", "/proc/1", "/dev/null"):
        try:
            work.over(work.submit("true", workspace=workspace))
        except Refused as refused:
            assert refused.status < 500, workspace
    work.daemon.stop()


def test_a_worktree_that_no_row_knows_goes_with_its_cancelled_task(work: Work) -> None:
    work.daemon.start(KILLED_AFTER_CREATION)
    process = work.daemon.process
    assert process is not None
    one = work.submit(commit("x"))
    until(lambda: process.poll() is not None, "the kill")
    assert work.worktrees()
    work.daemon.kill()
    work.config.write_text(work.config.read_text().replace("free_disk = 0", f"free_disk = {1 << 60}"))
    work.daemon.start()
    work.wait(one, lambda task: task["hold_reason"], "held")
    work.ask("POST", f"/v1/tasks/{one}/cancel")
    until(lambda: (work.worktrees(), work.branches()) == ([], {"main"}), "nothing left of it")
    work.daemon.stop()


KILLED_AFTER_CREATION = """
import os, signal, time
from tasks.git import Worktrees
create = Worktrees.create

def killed(self, *args):
    create(self, *args)
    time.sleep(0.5)  # whoever submitted it gets an answer
    os.kill(os.getpid(), signal.SIGKILL)
Worktrees.create = killed
"""


def test_a_start_that_was_slower_than_the_next_daemon_is_adopted(work: Work) -> None:
    """The shim shows itself between two looks of the new daemon."""
    work.daemon.start()
    one = work.submit(work.gate("go") + commit("x"))
    work.running(one)
    work.daemon.kill()
    work.daemon.start(LATE_SHIM)
    work.open("go")
    assert work.completed(one)["attempt"] == 1
    until(lambda: not work.marked(), "no process left")
    work.daemon.stop()


LATE_SHIM = """
import dataclasses
from tasks.runner import upkeep
facts, looked = upkeep.facts, []

def early(task, run, files):
    found, shim = facts(task, run, files)
    if looked:
        return found, shim
    looked.append(1)
    return dataclasses.replace(found, shim=None, started=False, marked=False), None
upkeep.facts = early
"""


def test_a_task_that_cannot_be_looked_at_does_not_keep_the_daemon_from_starting(work: Work) -> None:
    source = """
import os
from tasks.runner import upkeep
facts = upkeep.facts
def failing(*args):
    if os.path.exists(os.environ["BROKEN"]):
        raise OSError(28, "No space left on device")
    return facts(*args)
upkeep.facts = failing
"""
    broken = work.folder / "broken"
    work.daemon.start()
    one = work.submit(work.gate("go") + commit("x"))
    work.running(one)
    work.daemon.kill()
    broken.touch()
    work.daemon.start(source, BROKEN=str(broken))
    broken.unlink()
    work.open("go")
    assert work.completed(one)["attempt"] == 1
    work.daemon.stop()


def test_level_minimal_keeps_no_words_of_agents(work: Work) -> None:
    work.configure(more='[privacy]\nlevel = "minimal"')
    work.daemon.start()
    one = work.submit("echo said-this-aloud; echo said-this-too >&2; exit 3", isolate=False)
    work.over(one)
    assert "said-this" not in json.dumps(work.ask("GET", f"/v1/tasks/{one}"))
    assert "said-this" not in work.daemon.log
    work.daemon.stop()


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_many_short_tasks_leave_nothing_behind_in_the_daemon(work: Work, count: int) -> None:
    work.configure(agents=4, pool="queue_size = 500")
    work.daemon.start(SHORT_HOLDS)

    def carry_out(number: int) -> None:
        ids = [work.submit("true", isolate=one % 4 == 0, workspace=str(folders[one % 4])) for one in range(number)]
        for one in ids:
            work.over(one, timeout=300)

    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{work.daemon.pid}/fd")), len(os.listdir(f"/proc/{work.daemon.pid}/task"))

    folders = [work.repository, *(work.folder / name for name in "abc")]
    for folder in folders[1:]:
        folder.mkdir()
    carry_out(12)
    fds, threads = held()
    carry_out(count)

    def no_more() -> bool:
        return all(now <= before + 8 for now, before in zip(held(), (fds, threads), strict=True))

    until(no_more, f"as many files and threads as before: {fds}, {threads}")
    children = Path(f"/proc/{work.daemon.pid}/task/{work.daemon.pid}/children")
    until(lambda: not children.read_text().split(), "no child, no zombie")
    assert not work.marked()
    work.daemon.stop()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('rm -rf "$PWD"\n', id="deletes its worktree"),
        pytest.param('cd /; git -C "$OLDPWD" worktree remove --force --force "$OLDPWD"\n', id="removes its worktree"),
        pytest.param("git update-ref -d HEAD\n", id="deletes its branch"),
        pytest.param("git checkout -q --detach\n" + commit("y"), id="detaches its head"),
        pytest.param("git commit -q --amend -m Other\n", id="amends", marks=pytest.mark.slow),
        pytest.param("git checkout -q --orphan new && git commit -qm New\n", id="begins anew", marks=pytest.mark.slow),
        pytest.param("git symbolic-ref HEAD refs/heads/nowhere\n", id="is nowhere", marks=pytest.mark.slow),
        pytest.param("git reset -q --hard HEAD~1\n", id="takes it back", marks=pytest.mark.slow),
        pytest.param("git switch -qc b; echo 1 >README; git commit -qam 1; git switch -q -; echo 2 >README; "
                     "git commit -qam 2; git rebase -q b\n", id="leaves a rebase"),
        pytest.param("rm .git\n", id="cuts the worktree off"),
        pytest.param("git worktree unlock .\ngit worktree move . ../moved-$TASKS_TASK_ID\n", id="moves its worktree"),
        pytest.param(": > $(git rev-parse --git-dir)/index.lock\n", id="lock", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_whatever_an_agent_does_to_its_worktree_the_task_ends_and_no_commit_is_lost(work: Work, script: str) -> None:
    work.daemon.start()
    one = work.submit(commit("x") + "git rev-parse HEAD > $GATES/made\n" + script + "exit 0\n")
    assert work.over(one)["status"] in ("completed", "failed")
    made = (work.gates / "made").read_text().strip()
    git(work.repository, "cat-file", "-e", made)
    work.daemon.assert_calm()
    assert "error" not in work.daemon.log.lower().replace("error=", ""), work.daemon.log
    other = work.submit(commit("z"))
    assert work.completed(other)["merge_state"] == "merged"
    work.daemon.stop()
