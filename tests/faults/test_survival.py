"""Agents outlive their daemon: killed at any moment, the next one finds every agent, starts none twice, loses no end."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from .rig.waiting import until
from .rig.work import Work, commit, git

AGENTS = 8


def begin(work: Work, *, count: int = AGENTS) -> list[str]:
    """`count` agents at work, each waiting at the gate before it commits."""
    work.configure(agents=count)
    work.daemon.start()
    ids = [work.submit(work.gate("all") + commit(f"file-{number}")) for number in range(count)]
    for one in ids:
        work.running(one)
    return ids


def starts(work: Work, task_id: str) -> int:
    return len([run for run in (work.daemon.data_dir / "runs" / task_id).iterdir() if run.is_dir()])


def test_eight_agents_at_work_are_adopted_after_the_daemon_was_killed(work: Work) -> None:
    ids = begin(work)
    before = {one: work.task(one)["pid"] for one in ids}
    work.daemon.kill()
    work.daemon.start()
    for one in ids:
        assert work.running(one)["pid"] == before[one]
    work.open("all")
    for number, one in enumerate(ids):
        task = work.completed(one)
        assert (task["attempt"], task["merge_state"]) == (1, "merged")
        assert f"file-{number}" in work.files()
        assert starts(work, one) == 1
    until(lambda: not work.marked(), "no process left")
    assert work.worktrees() == []
    assert work.branches() == {"main"}
    work.daemon.stop()


def test_eight_agents_that_ended_while_no_daemon_ran_are_judged_by_what_they_left(work: Work) -> None:
    ids = begin(work)
    work.daemon.kill()
    work.open("all")
    until(lambda: not work.marked(), "the end of all agents")
    work.daemon.start()
    for number, one in enumerate(ids):
        task = work.completed(one)
        assert (task["attempt"], task["merge_state"]) == (1, "merged")
        assert f"file-{number}" in work.files()
    assert work.worktrees() == []
    work.daemon.stop()


def test_a_daemon_that_stops_leaves_its_agents_at_work(work: Work) -> None:
    ids = begin(work, count=2)
    before = {one: work.task(one)["pid"] for one in ids}
    work.daemon.stop()
    for pid in before.values():
        os.kill(pid, 0)
    work.daemon.start()
    work.open("all")
    for one in ids:
        assert work.completed(one)["attempt"] == 1
    work.daemon.stop()


def test_an_agent_that_was_killed_with_its_shim_is_lost_and_not_started_again(work: Work) -> None:
    (one,) = begin(work, count=1)
    work.daemon.kill()
    kill_at_once([*family(work, one), *work.marked(one)])
    until(lambda: not work.marked(one), "the end of the agent")
    work.daemon.start()
    task = work.over(one)
    assert (task["status"], task["failure"], task["attempt"]) == ("failed", "lost", 1)
    assert starts(work, one) == 1
    # A person may decide to try again.
    work.open("all")
    work.ask("POST", f"/v1/tasks/{one}/retry")
    assert work.completed(one)["attempt"] == 2
    work.daemon.stop()


def kill_at_once(pids: list[int]) -> None:
    """None of them sees another end."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def test_an_agent_whose_shim_was_killed_is_watched_to_its_end(work: Work) -> None:
    (one,) = begin(work, count=1)
    agent = work.task(one)["pid"]
    shim = work.daemon.value(f"SELECT shim_pid FROM runs WHERE task_id = '{one}'")
    assert shim != agent
    work.daemon.kill()
    os.kill(shim, signal.SIGKILL)
    work.daemon.start()
    assert work.running(one)["pid"] == agent
    work.open("all")
    assert work.completed(one)["merge_state"] == "merged"  # another part of the shim kept its exit status
    work.daemon.stop()


def test_an_agent_that_lost_all_of_its_shim_is_lost_at_its_end_and_its_work_is_kept(work: Work) -> None:
    work.configure()
    work.daemon.start()
    one = work.submit(commit("early") + "exec >/dev/null 2>&1\n" + work.gate("all") + commit("late"))
    agent = work.running(one)["pid"]
    until(lambda: "early" in work.files(f"task/{one}"), "the first commit")
    work.daemon.kill()
    kill_at_once([pid for pid in family(work, one) if pid != agent and stat(pid)[1] != agent])
    work.daemon.start()
    assert work.running(one)["pid"] == agent
    work.open("all")
    task = work.over(one)
    assert (task["failure"], task["merge_state"], task["commits"]) == ("lost", "kept", 2)
    assert {"early", "late"} <= work.files(f"task/{one}")
    work.daemon.stop()


def family(work: Work, task_id: str) -> list[int]:
    """The session of the shim: its shells, what copies the output, the agent."""
    shim = work.daemon.value(f"SELECT shim_pid FROM runs WHERE task_id = '{task_id}'")
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and stat(int(entry.name))[3] == shim
    ]


def stat(pid: int) -> list[int]:
    """Of /proc/<pid>/stat: a 0 for the state, then parent, group, session; zeros when it is gone."""
    with contextlib.suppress(OSError):
        return [0, *map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:4])]
    return [0, 0, 0, 0]


def test_a_task_cancelled_while_the_daemon_is_killed_stays_cancelled_and_its_agent_ends(work: Work) -> None:
    work.configure()
    work.daemon.start()
    one = work.submit("trap '' INT TERM\n" + work.gate("never"))
    work.running(one)
    work.ask("POST", f"/v1/tasks/{one}/cancel")
    assert work.marked(one)
    work.daemon.kill()
    work.daemon.start()
    until(lambda: not work.marked(one), "the end of the agent", timeout=40)
    assert work.over(one)["status"] == "stopped"
    work.daemon.stop()


@pytest.mark.parametrize("rounds", [3])
def test_tasks_that_wait_are_still_there_after_kills(work: Work, rounds: int) -> None:
    work.configure()
    work.daemon.start()
    first = [work.submit(work.gate("all") + commit(f"file-{number}")) for number in range(6)]
    for _ in range(rounds):
        until(lambda: len(work.ask("GET", "/v1/tasks?status=running")) == 3, "three agents at work")
        work.daemon.kill()
        work.daemon.start()
    work.open("all")
    for one in first:
        *before, last = work.completed(one)["runs"]
        # A run whose agent never started, because the daemon was killed right before it, is no second start.
        assert ({run["outcome"] for run in before} <= {"not_started"}, last["outcome"]) == (True, "completed")
    assert work.files() == {"README", *(f"file-{number}" for number in range(6))}
    work.daemon.stop()


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_no_kill_of_the_daemon_loses_doubles_or_orphans_a_task(work: Work, kills: int) -> None:
    """Killed at random moments all the way through: every task is done once, and all of it arrives."""
    random_ = random.Random(kills)
    work.configure(agents=4, more="[git]\nretry = 1")
    work.daemon.start()
    count = 2 * kills
    starts_file = work.folder / "starts"
    ids = [
        work.submit(f"echo {number} >> {starts_file}\nsleep 0.{random_.randrange(1, 9)}\n" + commit(f"file-{number}"))
        for number in range(count)
    ]
    for _ in range(kills):
        deadline = time.monotonic() + random_.uniform(0.1, 1.5)
        until(lambda: time.monotonic() > deadline, "the moment")  # noqa: B023
        work.daemon.kill()
        work.daemon.start()
    for one in ids:
        task = work.over(one, timeout=60)
        assert (task["status"], task["merge_state"]) == ("completed", "merged"), json.dumps(task, indent=1)
    assert sorted(map(int, starts_file.read_text().split())) == list(range(count))
    assert work.files() == {"README", *(f"file-{number}" for number in range(count))}
    assert (work.branches(), work.worktrees()) == ({"main"}, [])
    assert git(work.repository, "status", "--porcelain") == ""
    git(work.repository, "fsck", "--no-dangling")
    until(lambda: not work.marked(), "no process left")
    work.daemon.stop()
