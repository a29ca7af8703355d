"""`TaskManager`: tasks as their owners see them. It stores what is wanted and what became of it; it starts no agents."""

import asyncio
import logging
import math
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from tasks import process
from tasks.config import Settings
from tasks.database import Connection, Database, Value
from tasks.errors import ProbeError, TasksError
from tasks.manager import activity, asked, prompts, statements, transitions
from tasks.manager.asked import Asked
from tasks.manager.branches import branch_exists
from tasks.manager.ledger import RunLedger
from tasks.manager.stopping import end_processes
from tasks.manager.store import now_ms
from tasks.manager.task import Task
from tasks.process import Graces
from tasks.words import Failure, PrivacyLevel, TaskPriority, TaskStatus

log = logging.getLogger(__name__)

#: How often an id is drawn before it is given up: with a million tasks, one draw in sixteen is taken.
DRAWS = 50
#: Milliseconds for which the order of creation is kept against a clock that was set back.
STEP_BACK = 1000
#: Seconds that a folder without a row stays at least: its row may be about to be written.
YOUNGEST_ORPHAN = 3600.0

_DAY = 86_400_000
#: What stands for texts that privacy level `minimal` does not store.
_NOT_STORED = "[not stored: privacy level minimal]"


def draw_id() -> str:
    """6 hexadecimal characters of a random UUID."""
    return uuid.uuid4().hex[:6]


class TaskManager(RunLedger):
    """Tasks in the store of `data_dir` (default: as for the daemon), with the daemon, beside it and without it.

    Opens the store when it is first needed, or uses `database` and leaves that open. Everything is durable when a method
    returns. Raises StoreUnavailable, StoreBusy or StoreCorrupt when the store cannot do it, NoSuchTask for an unknown id.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        database: Database | None = None,
        settings: Settings | None = None,
        draw: Callable[[], str] = draw_id,
        taken: Callable[[str, str], bool] = branch_exists,
    ) -> None:
        super().__init__(data_dir, database=database, settings=settings)
        #: makes ids; must give 6 hexadecimal characters
        self._draw = draw
        #: whether an id cannot be used in a workspace because its branch is there; called in a thread
        self._taken = taken
        self._latest = 0

    async def create_task(
        self,
        user_id: int,
        description: str,
        *,
        model: str | None = None,
        workspace: str | os.PathLike[str] | None = None,
        agent_type: str | None = None,
        workflow: str | None = None,
        priority: TaskPriority | int | str = TaskPriority.NORMAL,
        isolate: bool = True,
        budget_usd: float | None = None,
        max_turns: int | None = None,
        queued: bool = False,
    ) -> Task:
        """Store a new task: `pending`, or `queued`, so that a daemon of this store takes it up. `description` is the agent's
        prompt: it is kept word for word in a file of its own, without secrets in the row. `workspace` is made absolute;
        whether it exists is not looked at.

        Raises ValueError for what cannot be stored (an empty text, more than 1 MiB, NUL, names that cannot be printed).
        """
        wanted = asked.asked(
            user_id, description, model=model, workspace=workspace, agent_type=agent_type, workflow=workflow,
            priority=priority, isolate=isolate, budget_usd=budget_usd, max_turns=max_turns,
        )  # fmt: skip
        created_at = self._tick()
        row: dict[str, Value] = asdict(wanted) | {
            "description": await self._kept(wanted.description), "isolate": int(isolate), "created_at": created_at,
            "status": TaskStatus.QUEUED if queued else TaskStatus.PENDING,
        }  # fmt: skip
        await self._store()
        for _ in range(DRAWS):
            task_id = self._draw()
            # The prompt first: whoever sees the row finds it. One without a row does no harm, and `cleanup_tasks` takes it.
            if not await asyncio.to_thread(self._claim, task_id, wanted):
                continue
            if task := await self._transact(_insertion({**row, "task_id": task_id})):
                log.info("task created task=%s user=%d", task_id, wanted.user_id)
                return task
            await asyncio.to_thread(prompts.remove, self._runs_dir, task_id)
        raise TasksError(f"no free task id in {DRAWS} draws; remove old tasks and the folders in {self._runs_dir}")

    async def update_task_status(
        self,
        task_id: str,
        status: TaskStatus | str,
        *,
        pid: int | None = None,
        session_uuid: str | None = None,
        result: str | None = None,
        error: str | None = None,
        failure: Failure | str | None = None,
    ) -> Task:
        """Let the task become `status`, by the graph in `tasks.manager.transitions`; to stay what it is changes nothing but
        the process (`pid`) and session given with it. Processes are left alone: `stop_task` ends them.

        A `pid` belongs to a running task, a `result` to a completed one, an `error` to a failed or stopped one, a `failure`
        to a failed one. Raises ImpossibleTransition, and ValueError for anything else that does not fit together.
        """
        to = asked.status(status)
        _check_belongings(to, pid=pid, result=result, error=error, failure=failure)
        running: dict[str, Value] = {} if pid is None else _process(pid)
        running |= {} if session_uuid is None else {"session_uuid": session_uuid}
        ended: dict[str, Value] = {}
        if result is not None:
            ended["result"] = await self._kept(result)
        if error is not None:
            ended["error"] = await self._redact(error)
        if failure is not None:
            ended["failure"] = asked.failure(failure)

        def decide(task: Task) -> Mapping[str, Value]:
            columns = transitions.moved(task, to, now_ms())
            if columns and to is TaskStatus.RUNNING:
                columns["host"] = socket.gethostname()
            return {**columns, **running, **(ended if columns else {})}

        return await self._change(task_id, decide)

    async def add_activity(self, task_id: str, message: str) -> None:
        """One more entry in the task's activity log: without secrets, cut to 500 characters."""
        await self.add_activities(task_id, [message])

    async def add_activities(self, task_id: str, messages: Iterable[str]) -> None:
        """The same for several, at the cost of one. Of more than 500 entries the first 50 and the newest are kept."""
        stored = [await self._redact(message[: 8 * activity.LONGEST_MESSAGE]) for message in messages]
        await self._change(
            task_id,
            lambda task: {"activity_log": activity.appended(task.activity_log, stored, now_ms())} if stored else {},
        )

    async def complete_task(self, task_id: str, result: str | None = None) -> Task:
        """It is done. A task that is completed already keeps its first result. Raises ImpossibleTransition."""
        return await self.update_task_status(task_id, TaskStatus.COMPLETED, result=result)

    async def fail_task(self, task_id: str, error: str, *, failure: Failure | str = Failure.AGENT_ERROR) -> Task:
        """It failed, for the reason `error`. One that failed already keeps its first. Raises ImpossibleTransition."""
        return await self.update_task_status(task_id, TaskStatus.FAILED, error=error, failure=failure)

    async def retry_task(self, task_id: str) -> Task:
        """A failed or stopped task is pending again: without result, error, hold and end, with its branch, worktree,
        activity and sums. Raises ImpossibleTransition, also while its branch is being merged.
        """

        def decide(task: Task) -> Mapping[str, Value]:
            columns = transitions.moved(task, TaskStatus.PENDING, now_ms())
            if not columns or not task.status.is_over:
                raise transitions.impossible(task, "tried again", "only what failed or was stopped can be")
            before = f"tried again; it had {task.status}" + (f": {task.error}" if task.error else "")
            return {**columns, "activity_log": activity.appended(task.activity_log, [before], now_ms())}

        return await self._change(task_id, decide)

    async def stop_task(self, task_id: str, reason: str | None = None, *, graces: Graces | None = None) -> Task:
        """End a task for good: first its row, which nobody starts an agent for any more, then its processes on this machine,
        known by the mark (TASKS_TASK_ID) that they inherited: no other process is ever signalled. They are asked first, and
        have the time that `graces` gives them. A task that was stopped already is looked through again.

        Raises ImpossibleTransition when it completed or failed.
        """
        error = None if reason is None else await self._redact(reason)

        def decide(task: Task) -> Mapping[str, Value]:
            columns = transitions.moved(task, TaskStatus.STOPPED, now_ms())
            said = "stopped" if error is None else f"stopped: {error}"
            log_ = activity.appended(task.activity_log, [said], now_ms())
            return {**columns, "error": error, "activity_log": log_} if columns else {}

        task = await self._change(task_id, decide)
        if task.host == socket.gethostname():
            await end_processes(self._runs_dir, task, graces=graces or Graces())
        return task

    async def cleanup_tasks(self, older_than_days: float = 30, *, dry_run: bool = False) -> list[Task]:
        """Remove the rows and files of tasks that have been over for that many days, and prompts without a row as old.

        What may have a branch or a worktree to look at stays: only what was merged, or had nothing to merge, goes. Returns
        what was removed, or with `dry_run` would be, the oldest first.
        """
        if not 0 <= older_than_days < math.inf:
            raise ValueError(f"older_than_days = {older_than_days}: a number of 0 or more is needed")
        before = {"before": max(0, round(now_ms() - older_than_days * _DAY))}
        if dry_run:
            return [Task.from_row(row) for row in await (await self._store()).query(statements.OLD, before)]
        removed: list[Task] = []
        # In short transactions: others write too. The row first: a task that is tried again meanwhile keeps its files.
        while batch := await self._transact(lambda connection: statements.delete_old(connection, before)):
            for task in batch:
                await asyncio.to_thread(prompts.remove, self._runs_dir, task.task_id)
            removed += batch
        await self._remove_orphans(max(older_than_days * _DAY / 1000, YOUNGEST_ORPHAN))
        log.info("tasks removed count=%d", len(removed))
        return sorted(removed, key=lambda task: (task.finished_at or 0, task.task_id))

    async def _remove_orphans(self, seconds: float) -> None:
        for task_id in await asyncio.to_thread(prompts.folders, self._runs_dir, older_than=seconds):
            if await self.get_task(task_id) is None:
                log.info("removing files without a task task=%s", task_id)
                await asyncio.to_thread(prompts.remove, self._runs_dir, task_id)

    async def _kept(self, text: str) -> str:
        """What a person or an agent said, as far as the privacy level lets it be stored."""
        return _NOT_STORED if self._settings.privacy.level is PrivacyLevel.MINIMAL else await self._redact(text)

    def _claim(self, task_id: str, wanted: Asked) -> bool:
        """Store the prompt under an id that nobody else has; False: it is taken."""
        if wanted.isolate and wanted.workspace is not None and self._taken(task_id, wanted.workspace):
            return False
        return prompts.write(self._runs_dir, task_id, wanted.description)

    def _tick(self) -> int:
        """Now, but later than the last time: tasks submitted in one millisecond keep their order."""
        now = now_ms()
        self._latest = self._latest + 1 if 0 <= self._latest - now < STEP_BACK else now
        return self._latest


def _insertion(row: Mapping[str, Value]) -> Callable[[Connection], Task | None]:
    def insert(connection: Connection) -> Task | None:
        if connection.execute(statements.INSERT, row).rowcount == 0:
            return None
        return statements.fetch(connection, str(row["task_id"]))

    return insert


def _process(pid: int) -> dict[str, Value]:
    """The columns for the process that has `pid` now; a pid alone, when none has it or that cannot be told."""
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid <= process.PID_MAX:
        raise ValueError(f"pid = {pid!r}: the number of a process is needed")
    try:
        identity = process.identify(pid)
    except ProbeError as error:
        log.info("cannot tell which process that is pid=%d error=%s", pid, error)
        identity = None
    return {
        "host": socket.gethostname(), "pid": pid, "process_started": identity.started if identity else None,
        "boot": identity.boot if identity else None,
    }  # fmt: skip


def _check_belongings(to: TaskStatus, **given: object) -> None:
    fitting = {
        "pid": (TaskStatus.RUNNING,),
        "result": (TaskStatus.COMPLETED,),
        "error": (TaskStatus.FAILED, TaskStatus.STOPPED),
        "failure": (TaskStatus.FAILED,),
    }
    for name, value in given.items():
        if value is not None and to not in fitting[name]:
            raise ValueError(f"{name} = {value!r} does not belong to a task that is {to}")
