"""What a daemon does about the tasks it finds at its start, as a table: state found → what is done."""

from dataclasses import dataclass
from enum import StrEnum

from tasks.process import Liveness
from tasks.words import MergeState, TaskStatus


@dataclass(frozen=True, slots=True)
class Found:
    """The state of one task and of its latest run."""

    status: TaskStatus
    merge_state: MergeState = MergeState.NONE
    #: there is a worktree, and no word on why it is kept
    worktree: bool = False
    #: there is a row of a run
    run: bool = False
    #: the run's row says how it ended
    run_finished: bool = False
    #: the run was started on this machine
    here: bool = True
    #: the process that keeps the exit status; None: the row does not know it
    shim: Liveness | None = None
    #: processes with the run's mark live
    marked: bool = False
    #: the shim got as far as to say that it is there
    started: bool = False
    exit_status: bool = False


class Action(StrEnum):
    """What is done about it."""

    #: nothing
    LEAVE = "leave"
    #: give it to the pool
    ENQUEUE = "enqueue"
    #: the agent is at work: watch it again
    ADOPT = "adopt"
    #: it ended while nobody looked: judge it by what it left
    JUDGE = "judge"
    #: no process was ever started: queue it again
    RESTART = "restart"
    #: it may live; look again soon
    LOOK_AGAIN = "look_again"
    #: it is over, and processes of it live on: end them
    END = "end"
    #: it is over, and what becomes of its branch is not settled
    SETTLE = "settle"


def decide(found: Found) -> Action:
    """The table; the first line that fits counts.

    | status  | found                                               | action     | because
    |---------|-----------------------------------------------------|------------|---------------------------------------
    | pending | anything                                            | leave      | never given to this pool
    | queued  | processes with the mark of its last run             | end        | it was put back, and its agent must go first
    | queued  | else                                                | enqueue    | the row is the truth, the queue derived
    | running | no run, or a run on another machine                 | leave      | somebody else runs it
    | running | the shim's state cannot be told                     | look again | unknown is not dead
    | running | the shim lives                                      | adopt      | agents outlive the daemon
    | running | an exit status, or a run that ended                 | judge      | its end was missed
    | running | processes with its mark, no (known) shim            | adopt      | killed before the row, or only the shim died
    | running | not started                                         | restart    | killed before the spawn
    | running | else                                                | judge      | lost, unless its output ends in a result
    | over    | processes with its mark                             | end        | killed while it was being stopped
    | over    | merging, a worktree without a word, an open run     | settle     | killed before, in or after the merge
    | over    | else                                                | leave      |
    """
    match found.status:
        case TaskStatus.PENDING:
            return Action.LEAVE
        case TaskStatus.QUEUED:
            return Action.END if found.marked and found.here else Action.ENQUEUE
        case TaskStatus.RUNNING:
            return _running(found)
        case _:
            return _over(found)


def _running(found: Found) -> Action:
    if not found.run or not found.here:
        return Action.LEAVE
    if found.shim is Liveness.UNKNOWN:
        return Action.LOOK_AGAIN
    if found.shim is Liveness.ALIVE:
        return Action.ADOPT
    if found.exit_status or found.run_finished:
        return Action.JUDGE
    if found.marked:
        return Action.ADOPT
    if found.shim is None and not found.started:
        return Action.RESTART
    return Action.JUDGE


def _over(found: Found) -> Action:
    if not found.here:
        return Action.LEAVE
    if found.marked:
        return Action.END
    unsettled = found.merge_state in (MergeState.NONE, MergeState.MERGED) and found.worktree
    if found.merge_state is MergeState.MERGING or unsettled or (found.run and not found.run_finished):
        return Action.SETTLE
    return Action.LEAVE
