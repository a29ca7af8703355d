"""What a new daemon does about every state in which an old one may have left a task: the table, row by row."""

import itertools

import pytest
from tasks.process import Liveness
from tasks.runner.recovery import Action, Found, decide
from tasks.words import MergeState, TaskStatus

PENDING, QUEUED, RUNNING = TaskStatus.PENDING, TaskStatus.QUEUED, TaskStatus.RUNNING
OVER = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED)


def test_what_was_never_queued_is_left_alone() -> None:
    assert decide(Found(PENDING)) is Action.LEAVE


def test_a_queued_task_is_given_to_the_pool() -> None:
    assert decide(Found(QUEUED)) is Action.ENQUEUE
    assert decide(Found(QUEUED, run=True, run_finished=True, exit_status=True)) is Action.ENQUEUE


def test_a_task_that_was_put_back_does_not_start_beside_its_old_agent() -> None:
    assert decide(Found(QUEUED, run=True, run_finished=True, marked=True)) is Action.END


def test_a_task_that_somebody_else_runs_is_left_to_them() -> None:
    assert decide(Found(RUNNING)) is Action.LEAVE
    assert decide(Found(RUNNING, run=True, here=False)) is Action.LEAVE
    assert decide(Found(RUNNING, run=True, here=False, shim=Liveness.GONE, exit_status=True)) is Action.LEAVE


def test_an_agent_that_cannot_be_looked_at_is_looked_at_again() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.UNKNOWN, started=True)) is Action.LOOK_AGAIN


def test_an_agent_at_work_is_adopted() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.ALIVE, started=True, marked=True)) is Action.ADOPT


def test_an_agent_whose_shim_still_closes_its_output_is_adopted_too() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.ALIVE, started=True, exit_status=True)) is Action.ADOPT


def test_an_end_that_nobody_saw_is_judged_by_what_it_left() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.GONE, started=True, exit_status=True)) is Action.JUDGE


def test_a_daemon_killed_between_the_end_of_a_run_and_its_verdict_judges_again() -> None:
    assert decide(Found(RUNNING, run=True, run_finished=True, shim=Liveness.GONE, started=True)) is Action.JUDGE


def test_an_agent_started_but_not_stored_is_adopted() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.ALIVE, marked=True, started=True)) is Action.ADOPT
    assert decide(Found(RUNNING, run=True, shim=None, marked=True, started=True)) is Action.ADOPT


def test_a_worktree_that_nobody_said_a_word_about_is_settled_also_when_its_branch_was_merged() -> None:
    for status in OVER:
        assert decide(Found(status, MergeState.MERGED, worktree=True, run=True, run_finished=True)) is Action.SETTLE
        assert decide(Found(status, MergeState.MERGED, run=True, run_finished=True)) is Action.LEAVE


def test_an_agent_that_outlived_its_shim_is_adopted() -> None:
    assert decide(Found(RUNNING, run=True, shim=Liveness.GONE, marked=True, started=True)) is Action.ADOPT


def test_a_run_that_never_began_is_queued_again() -> None:
    assert decide(Found(RUNNING, run=True, shim=None, started=False)) is Action.RESTART


def test_a_run_that_began_and_left_nothing_is_judged_as_lost_and_not_started_twice() -> None:
    assert decide(Found(RUNNING, run=True, shim=None, started=True)) is Action.JUDGE
    assert decide(Found(RUNNING, run=True, shim=Liveness.GONE, started=True)) is Action.JUDGE


@pytest.mark.parametrize("status", OVER)
def test_processes_of_a_task_that_is_over_are_ended(status: TaskStatus) -> None:
    assert decide(Found(status, run=True, marked=True, started=True)) is Action.END


@pytest.mark.parametrize("status", OVER)
def test_a_branch_without_a_verdict_is_settled(status: TaskStatus) -> None:
    assert decide(Found(status, MergeState.MERGING, run=True, run_finished=True)) is Action.SETTLE
    assert decide(Found(status, MergeState.NONE, worktree=True, run=True, run_finished=True)) is Action.SETTLE
    assert decide(Found(status, run=True, run_finished=False)) is Action.SETTLE


@pytest.mark.parametrize("status", OVER)
@pytest.mark.parametrize("merge", [MergeState.CONFLICT, MergeState.KEPT, MergeState.WAITING])
def test_what_is_settled_is_left_as_it_is(status: TaskStatus, merge: MergeState) -> None:
    assert decide(Found(status, merge, worktree=True, run=True, run_finished=True)) is Action.LEAVE


def test_nothing_that_may_live_is_ever_started_again() -> None:
    """Over every state there is: a second start needs proof that the first one never was."""
    for status, shim in itertools.product(TaskStatus, [None, *Liveness]):
        for worktree, finished, marked, started, exited in itertools.product([False, True], repeat=5):
            found = Found(
                status, worktree=worktree, run=True, run_finished=finished, shim=shim, marked=marked, started=started,
                exit_status=exited,
            )  # fmt: skip
            action = decide(found)
            if action is Action.RESTART:
                assert shim is None and not found.started and not found.marked, found
            if action is Action.ENQUEUE:
                assert not found.marked, found
            if found.marked and shim is not Liveness.UNKNOWN and status is not PENDING:
                assert action in (Action.ADOPT, Action.END, Action.JUDGE), found
