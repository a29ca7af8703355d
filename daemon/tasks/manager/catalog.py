"""Looking tasks up: by id, by what they are about, by what is left to do."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from tasks.database import Value
from tasks.errors import NoSuchTask
from tasks.manager import asked, prompts, statements
from tasks.manager.store import Store, storable
from tasks.manager.task import Run, Task
from tasks.words import TaskStatus


class TaskCatalog(Store):
    """Questions only; nothing here changes anything."""

    async def get_task(self, task_id: str) -> Task | None:
        rows = await (await self._store()).query(statements.GET, {"task_id": task_id})
        return Task.from_row(rows[0]) if rows else None

    async def find_task(self, prefix: str) -> Task:
        """The one task whose id is, or begins with, `prefix`. Raises NoSuchTask when there is none, or more than one."""
        wanted = storable(prefix).strip().lower()
        rows = await (await self._store()).query(statements.FIND, {"low": wanted, "high": wanted + "g"})
        ids = [task_id for (task_id,) in rows]
        if not wanted or not ids:
            raise statements.no_such_task(prefix)
        if len(ids) > 1:
            named = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
            raise NoSuchTask(f"several tasks begin with {prefix!r}: {named}; give more of the id")
        task = await self.get_task(ids[0])
        if task is None:
            raise statements.no_such_task(prefix)
        return task

    async def list_tasks(
        self,
        *,
        user_id: int | None = None,
        statuses: Iterable[TaskStatus | str] = (),
        workflow: str | None = None,
        agent_type: str | None = None,
        workspace: str | os.PathLike[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = 100,
        activity: bool = False,
    ) -> list[Task]:
        """The tasks that meet everything given, newest first. `since` (inclusive) and `until` (exclusive) are creation times
        in epoch milliseconds; `after` is (created_at, task_id) of the last task of the page before; no statuses: all.

        Their activity logs are left empty unless `activity` is true.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit = {limit}: a number of 0 or more is needed, or None")
        given: dict[str, Value] = {
            "user_id": user_id, "workflow": workflow, "agent_type": agent_type,
            "workspace": None if workspace is None else asked.folder(workspace),
        }  # fmt: skip
        parameters = {name: value for name, value in given.items() if value is not None}
        conditions = [f"{name} = :{name}" for name in parameters]
        if named := sorted({asked.status(one) for one in statuses}):
            conditions.append(f"status IN ({', '.join(f':status{n}' for n in range(len(named)))})")
            parameters |= {f"status{n}": one for n, one in enumerate(named)}
        for name, condition, value in (
            ("since", "created_at >= :since", since),
            ("until", "created_at < :until", until),
        ):
            if value is not None:
                conditions.append(condition)
                parameters[name] = value
        if after is not None:
            conditions.append("(created_at, task_id) < (:after_at, :after_id)")
            parameters |= {"after_at": after[0], "after_id": after[1]}
        parameters["limit"] = (1 << 62) if limit is None else limit
        statement = statements.listing(conditions, activity=activity)
        return [Task.from_row(row) for row in await (await self._store()).query(statement, parameters)]

    async def get_user_tasks(self, user_id: int, status: TaskStatus | str | None = None) -> list[Task]:
        """All tasks of a user, or those of one status; newest first, activity logs left empty."""
        return await self.list_tasks(user_id=user_id, statuses=() if status is None else (status,), limit=None)

    async def count_tasks(self) -> dict[TaskStatus, int]:
        """How many tasks have each status; every status is there."""
        counts = dict.fromkeys(TaskStatus, 0)
        for name, count in await (await self._store()).query(statements.COUNTS):
            counts[TaskStatus(name)] = count
        return counts

    async def prompt_file(self, task_id: str) -> Path:
        """The file with the task's prompt, word for word, in UTF-8. Raises NoSuchTask when the task or the file is gone."""
        if prompts.TASK_ID.fullmatch(task_id) is None or await self.get_task(task_id) is None:
            raise statements.no_such_task(task_id)
        path = self._runs_dir / task_id / "prompt"
        if not await asyncio.to_thread(path.is_file):
            raise NoSuchTask(f"the prompt of task {task_id} is gone ({path}): submit the work as a new task")
        return path

    async def prompt(self, task_id: str) -> str:
        """What was asked for, word for word. Raises NoSuchTask when the task or its file is gone."""
        path = await self.prompt_file(task_id)
        return (await asyncio.to_thread(path.read_bytes)).decode()

    async def latest_run(self, task_id: str) -> Run | None:
        """The last run that was begun."""
        rows = await (await self._store()).query(statements.LATEST_RUN, {"task_id": task_id})
        return Run.from_row(rows[0]) if rows else None

    async def runs(self, task_id: str) -> list[Run]:
        """All runs, the first one first."""
        rows = await (await self._store()).query(statements.RUNS, {"task_id": task_id})
        return [Run.from_row(row) for row in rows]

    async def unfinished(self) -> list[Task]:
        """All that are pending, queued or running: the urgent ones first, the oldest first among equals. Without activity."""
        return await self._tasks(statements.UNFINISHED)

    async def waiting_merges(self) -> list[Task]:
        """All whose merge waits or was begun, the first to finish first. Without activity."""
        return await self._tasks(statements.WAITING_MERGES)

    async def to_recover(self) -> list[Task]:
        """What a daemon has to look at when it starts: all that are not over, and those over whose run has no recorded end,
        whose merge was begun, or whose worktree is there without a word on its merge. Without activity.
        """
        return await self._tasks(statements.TO_RECOVER)

    async def _tasks(self, statement: str) -> list[Task]:
        return [Task.from_row(row) for row in await (await self._store()).query(statement)]
