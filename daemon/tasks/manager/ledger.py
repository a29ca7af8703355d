"""What whoever carries tasks out has to remember: runs, worktrees, merges, holds, and what must survive a restart."""

import json
import socket
import time
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from tasks.database import Connection, Value
from tasks.manager import activity, statements, transitions
from tasks.manager.catalog import TaskCatalog
from tasks.manager.store import now_ms, storable
from tasks.manager.task import USAGE_COLUMNS, Task, Usage
from tasks.process import ProcessIdentity
from tasks.words import MergeState, TaskStatus


class Reported(Protocol):
    """What a client said of one run: `tasks.agent.AgentResult`, `Usage`."""

    @property
    def turns(self) -> int | None: ...
    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def cache_read_tokens(self) -> int | None: ...
    @property
    def cache_write_tokens(self) -> int | None: ...
    @property
    def cost_usd(self) -> float | None: ...


class Unset(Enum):
    """Stands for what is left as it is, where None is a value."""

    UNSET = "unset"


UNSET = Unset.UNSET


class RunLedger(TaskCatalog):
    """Every method is one transaction and durable when it returns. What changes a task raises NoSuchTask when there is none."""

    async def begin_run(
        self, task_id: str, *, session_uuid: str, host: str | None = None, resumed: bool = False
    ) -> int:
        """The task runs from here on (`started_at`, no hold), and a run that has no process yet is recorded.

        Returns the number of the attempt, from 1 on. Raises ImpossibleTransition unless it waited: of several callers one
        gets through.
        """
        at, monotonic, host = now_ms(), time.monotonic(), host or socket.gethostname()

        def work(connection: Connection) -> int:
            task = statements.fetch(connection, task_id)
            if task.status is TaskStatus.RUNNING:
                raise transitions.impossible(task, TaskStatus.RUNNING, f"run {task.attempt} of it is under way")
            attempt = task.attempt + 1
            columns = transitions.moved(task, TaskStatus.RUNNING, at)
            columns |= {"attempt": attempt, "session_uuid": session_uuid, "host": host}
            statements.update(connection, task_id, columns)
            run: dict[str, Value] = {"task_id": task_id, "attempt": attempt, "session_uuid": session_uuid, "host": host}
            run |= {"resumed": int(resumed), "started_at": at, "started_monotonic": monotonic}
            connection.execute(statements.BEGIN_RUN, run)
            return attempt

        return await self._transact(work)

    async def run_spawned(self, task_id: str, attempt: int, shim: ProcessIdentity) -> Task:
        """The shell around the agent lives. Returns the task: it may have been stopped meanwhile, and then the shim must go."""

        def work(connection: Connection) -> Task:
            task = statements.fetch(connection, task_id)
            statements.fetch_run(connection, task_id, attempt)
            process: dict[str, Value] = {"pid": shim.pid, "started": shim.started, "boot": shim.boot}
            connection.execute(statements.RUN_SPAWNED, {**process, "task_id": task_id, "attempt": attempt})
            return task

        return await self._transact(work)

    async def run_identified(self, task_id: str, agent: ProcessIdentity, *, attempt: int | None = None) -> Task:
        """The agent's own process is known. Raises ImpossibleTransition when the task does not run any more, or runs
        another attempt than the one given.
        """

        def decide(task: Task) -> dict[str, Value]:
            if task.status is not TaskStatus.RUNNING or attempt not in (None, task.attempt):
                raise transitions.impossible(task, "identified", f"its agent (pid {agent.pid}) is not wanted any more")
            return {"pid": agent.pid, "process_started": agent.started, "boot": agent.boot}

        return await self._change(task_id, decide)

    async def end_run(
        self,
        task_id: str,
        attempt: int,
        *,
        exit_status: int | None,
        outcome: str,
        result: Reported | None = None,
    ) -> Task:
        """The agent ended, or never started. What `result` reports is added to the sums of the task, whose status stays as
        it is. Of several calls for one run the first counts.
        """
        usage = Usage(**{name: getattr(result, name) for name in USAGE_COLUMNS}) if result is not None else Usage()
        at = now_ms()

        def work(connection: Connection) -> Task:
            task = statements.fetch(connection, task_id)
            if statements.fetch_run(connection, task_id, attempt).finished_at is not None:
                return task
            ended: dict[str, Value] = {"exit_status": exit_status, "outcome": outcome, "finished_at": at}
            ended |= {name: getattr(usage, name) for name in USAGE_COLUMNS}
            connection.execute(statements.END_RUN, {**ended, "task_id": task_id, "attempt": attempt})
            return statements.update(connection, task_id, statements.sums(task, usage))

        return await self._transact(work)

    async def hold(self, task_id: str, reason: str, until: int | None = None) -> Task:
        """It has to wait, whatever slots there are; `until` (epoch milliseconds) is when to look again. One that runs goes
        back into the queue. Raises ImpossibleTransition when it is over.
        """
        reason = await self._redact(reason)
        return await self._change(task_id, lambda task: transitions.held(task, reason, until, now_ms()))

    async def clear_hold(self, task_id: str) -> Task:
        """Nothing holds it any more."""
        return await self._change(task_id, lambda _: {"hold_reason": None, "hold_until": None})

    async def set_worktree(
        self,
        task_id: str,
        *,
        worktree: str | Unset | None = UNSET,
        branch: str | Unset | None = UNSET,
        base_branch: str | Unset | None = UNSET,
        base_commit: str | Unset | None = UNSET,
        commits: int | Unset = UNSET,
        notes: Sequence[str] = (),
    ) -> Task:
        """Where it works, and what is on its branch. What is not given stays; `worktree=None` says that it was removed.
        `notes` become activity.
        """
        given: dict[str, str | int | Unset | None] = {
            "worktree": worktree, "branch": branch, "base_branch": base_branch, "base_commit": base_commit,
            "commits": commits,
        }  # fmt: skip
        columns: dict[str, Value] = {name: value for name, value in given.items() if not isinstance(value, Unset)}
        said, at = [await self._redact(note) for note in notes], now_ms()

        def decide(task: Task) -> dict[str, Value]:
            return columns | ({"activity_log": activity.appended(task.activity_log, said, at)} if said else {})

        return await self._change(task_id, decide)

    async def set_merge(
        self,
        task_id: str,
        state: MergeState,
        *,
        detail: str | None = None,
        paths: Sequence[str] = (),
        commit: str | None = None,
    ) -> Task:
        """What became of its branch. What is merged stays merged, with its commit, until the task is tried again; then only
        the detail changes.
        """
        stored = json.dumps([storable(path) for path in paths], ensure_ascii=False) if paths else None
        detail = None if detail is None else await self._redact(detail)

        def decide(task: Task) -> dict[str, Value]:
            if task.merge_state is MergeState.MERGED:
                return {
                    "merge_detail": detail,
                    "merge_commit": commit if task.merge_commit is None else task.merge_commit,
                }
            return {"merge_state": state, "merge_detail": detail, "merge_paths": stored, "merge_commit": commit}

        return await self._change(task_id, decide)

    async def get_state(self, name: str) -> object | None:
        """What `set_state` stored; None: nothing."""
        rows = await (await self._store()).query(statements.GET_STATE, {"name": name})
        return json.loads(rows[0][0]) if rows else None

    async def set_state(self, name: str, value: object | None) -> None:
        """Keep `value` (anything that JSON can hold) over restarts; None forgets it."""
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        statement = statements.DELETE_STATE if value is None else statements.SET_STATE
        parameters: dict[str, Value] = {"name": name} if value is None else {"name": name, "value": text}
        await self._transact(lambda connection: connection.execute(statement, parameters).rowcount)
