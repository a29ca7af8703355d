"""What is stored about a task and about one run of its agent, as values."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from tasks.database import Row
from tasks.manager.activity import Activity, parsed
from tasks.process import ProcessIdentity
from tasks.words import Failure, MergeState, TaskPriority, TaskStatus


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client reported about one run; None: it did not say."""

    turns: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A row of `tasks` (schema.sql says what each column means). Times are epoch milliseconds."""

    task_id: str
    user_id: int
    #: without secrets, and cut; the prompt itself is `TaskManager.prompt`
    description: str
    status: TaskStatus
    priority: TaskPriority
    agent_type: str | None
    workflow: str | None
    model: str | None
    #: absolute
    workspace: str | None
    isolate: bool
    budget_usd: float | None
    max_turns: int | None
    #: why it is not started although there is a slot, and when that is looked at again
    hold_reason: str | None
    hold_until: int | None
    #: runs begun
    attempt: int
    session_uuid: str | None
    host: str | None
    #: the agent's process while it runs; `identity` is the same, safe against reuse of the pid
    pid: int | None
    process_started: int | None
    boot: str | None
    worktree: str | None
    branch: str | None
    base_branch: str | None
    base_commit: str | None
    commits: int
    merge_state: MergeState
    merge_detail: str | None
    #: the files in conflict, relative to the repository
    merge_paths: tuple[str, ...]
    merge_commit: str | None
    result: str | None
    error: str | None
    failure: Failure | None
    #: this and the following: sums over its runs
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None
    #: oldest first; lists of tasks leave it empty unless asked
    activity_log: tuple[Activity, ...]
    created_at: int
    started_at: int | None
    finished_at: int | None

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """The task of a row with the columns of `COLUMNS`, in that order."""
        stored: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        stored["status"] = TaskStatus(stored["status"])
        stored["priority"] = TaskPriority(stored["priority"])
        stored["isolate"] = bool(stored["isolate"])
        stored["merge_state"] = MergeState(stored["merge_state"])
        stored["merge_paths"] = tuple(json.loads(stored["merge_paths"] or "[]"))
        stored["failure"] = None if stored["failure"] is None else Failure(stored["failure"])
        stored["activity_log"] = parsed(stored["activity_log"])
        return cls(**stored)

    @property
    def identity(self) -> ProcessIdentity | None:
        """The agent's process, when it was seen alive. It means something on `host` only."""
        if self.pid is None or self.process_started is None or self.boot is None:
            return None
        return ProcessIdentity(self.pid, self.process_started, self.boot)

    def to_dict(self) -> dict[str, Any]:
        """All fields in the types of JSON; words for the priority ("high", "normal", "low")."""
        return asdict(self) | {
            "status": self.status.value,
            "priority": self.priority.name.lower(),
            "merge_state": self.merge_state.value,
            "merge_paths": list(self.merge_paths),
            "failure": None if self.failure is None else self.failure.value,
            "activity_log": [entry.to_dict() for entry in self.activity_log],
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `runs`: one start of an agent for a task. Times are epoch milliseconds."""

    task_id: str
    attempt: int
    session_uuid: str | None
    #: went on with the session of an earlier run
    resumed: bool
    host: str
    shim_pid: int | None
    shim_started: int | None
    boot: str | None
    started_at: int
    #: seconds of `time.monotonic()` on `host`, in the boot it began in
    started_monotonic: float
    #: None: its end has not been recorded
    finished_at: int | None
    #: as a shell says it: 128 + signal
    exit_status: int | None
    outcome: str | None
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """The run of a row with the columns of `RUN_COLUMNS`, in that order."""
        stored: dict[str, Any] = dict(zip(RUN_COLUMNS, row, strict=True))
        return cls(**stored | {"resumed": bool(stored["resumed"])})

    @property
    def shim(self) -> ProcessIdentity | None:
        """The shell around the agent; None: it was not started, as far as is recorded."""
        if self.shim_pid is None or self.shim_started is None or self.boot is None:
            return None
        return ProcessIdentity(self.shim_pid, self.shim_started, self.boot)

    def to_dict(self) -> dict[str, Any]:
        """All fields in the types of JSON."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Task))
RUN_COLUMNS = tuple(field.name for field in fields(Run))
#: The columns that tasks and runs have in common and `Usage` is about.
USAGE_COLUMNS = tuple(field.name for field in fields(Usage))
