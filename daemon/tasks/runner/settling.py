"""What becomes of finished work: the rules checked, the branch merged or kept, the worktree removed once that is safe."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path

from tasks import process
from tasks.enforcer import Verdict, verdict_write
from tasks.errors import GitError, ImpossibleTransition, NotARepository, StoreError, TasksError
from tasks.git import Removal, Worktree
from tasks.manager import Task
from tasks.runner.parts import Parts
from tasks.words import Failure, MergeState, TaskStatus

log = logging.getLogger(__name__)

#: Characters of the description in the subject of a merge.
SUBJECT = 60


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean` did, or would do, about one thing that a finished task left."""

    task_id: str
    #: worktree, run files or backup ref, with its place
    what: str
    removed: bool
    #: why it is kept
    reason: str | None = None


class Settling:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._manager = parts.manager
        #: one settlement of a task at a time
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def record(self, verdict: Verdict) -> None:
        """Keep a verdict; one that nothing was checked for (the rule is off) is none."""
        if not verdict.is_off:
            await self._parts.database.apply([verdict_write(verdict)])

    async def complete(self, task: Task, result: str) -> None:
        """The agent says it is done: check the rules, and complete the task or fail it for them."""
        verdict = await self._parts.in_thread(
            self._parts.enforcer.post_task,
            task.task_id,
            task.worktree or task.workspace or "",
            task.agent_type,
            base_commit=task.base_commit,
        )
        await self.record(verdict)
        if not verdict.passed and verdict.blocks:
            await self._manager.fail_task(task.task_id, verdict.message, failure=Failure.POLICY)
            return
        if not verdict.passed:
            await self._manager.add_activities(task.task_id, [f"warning: {verdict.message}"])
        await self._manager.complete_task(task.task_id, result)

    async def settle(self, task_id: str) -> None:
        """Bring the branch of a task that is over to its end, unless that was decided. May be called again and again, and
        after any crash."""
        async with self._lock(task_id):
            task = await self._manager.get_task(task_id)
            if task is None or not task.status.is_over or task.worktree is None:
                return
            if task.merge_state not in (MergeState.NONE, MergeState.MERGING, MergeState.MERGED):
                return
            try:
                await self._settle(task)
            except StoreError:
                raise
            except (TasksError, OSError) as error:
                log.warning("settling failed task=%s error=%s", task_id, error)
                # A disk or a lock may be in order again soon; what git says, is for a person.
                again = isinstance(error, OSError) and task.status is TaskStatus.COMPLETED and task.base_branch
                await self._manager.set_merge(
                    task_id, MergeState.WAITING if again else MergeState.KEPT, detail=str(error)
                )
            self._parts.changed()

    async def _settle(self, task: Task) -> None:
        if task.merge_state is MergeState.MERGING and task.base_branch:
            await self._merge(task, task.base_branch)  # it was cut off; whatever it was begun for, it is finished
            return
        if task.merge_state is MergeState.MERGED:
            await self._drop(task, MergeState.MERGED, task.base_branch)
            return
        if await self._parts.in_thread(self._is_gone, task):
            # Removed by us, right before a kill, or by somebody else.
            await self._manager.set_worktree(
                task.task_id, worktree=None, notes=["its worktree and its branch are gone"]
            )
            await self._manager.set_merge(task.task_id, MergeState.NONE)
            return
        if strayed := await self._strayed(task):
            await self._manager.set_merge(task.task_id, MergeState.KEPT, detail=strayed)
            return
        commits = await self._count_commits(task)
        keep = self._parts.settings.git.merge == "keep"
        if task.status is TaskStatus.COMPLETED and commits and not keep and task.base_branch:
            await self._merge(task, task.base_branch)
            return
        if not commits:
            await self._drop(task, MergeState.NONE, None)
            return
        if task.status is not TaskStatus.COMPLETED:
            reason = f"the task {task.status}; its {_count(commits)} can be merged with `tasksd merge {task.task_id}`"
        elif keep:
            reason = 'git.merge is "keep"; merge it yourself, or with `tasksd merge`'
        else:
            reason = f"HEAD was detached when it started: `tasksd merge {task.task_id} --into BRANCH`"
        await self._manager.set_merge(task.task_id, MergeState.KEPT, detail=reason)

    async def merge(self, task_id: str, into: str | None = None) -> Task:
        """Merge now, whatever was decided before. Raises TasksError when there is nothing that could be."""
        async with self._lock(task_id):
            task = await self._known(task_id)
            if not task.status.is_over:
                raise ImpossibleTransition(
                    f"task {task_id} is {task.status}: it is merged when it is over; `tasksd cancel {task_id}` ends it"
                )
            if task.merge_state is MergeState.MERGED:
                raise ImpossibleTransition(f"task {task_id} is merged already, as {(task.merge_commit or '')[:12]}")
            if task.branch is None or task.workspace is None:
                raise ImpossibleTransition(
                    f"task {task_id} has no branch: it worked in the workspace itself, or not at all"
                )
            if into is None and task.base_branch is None:
                raise ImpossibleTransition(
                    f"HEAD was detached when task {task_id} started: say where to, with --into BRANCH"
                )
            repository = await self._parts.in_thread(self._repository, task)
            if await self._parts.in_thread(self._parts.tracker.tip, repository, task.branch) is None:
                raise ImpossibleTransition(
                    f"task {task_id} has no branch {task.branch} any more: nothing is left to merge"
                )
            if into is not None and into != task.base_branch:
                if await self._parts.in_thread(self._parts.tracker.tip, repository, into) is None:
                    raise ImpossibleTransition(f"there is no branch {into} to merge task {task_id} into")
                # Stored first: a merge that has to wait, or is cut off, goes on into the same branch.
                task = await self._manager.set_worktree(task_id, base_branch=into)
            await self._count_commits(task)
            await self._merge(task, task.base_branch or "")
            self._parts.changed()
            return await self._known(task_id)

    async def _merge(self, task: Task, target: str) -> None:
        parts, task_id = self._parts, task.task_id
        await self._manager.set_merge(task_id, MergeState.MERGING, detail=f"merging into {target}")
        repository = await parts.in_thread(self._repository, task)
        merged = await parts.in_thread(
            parts.merger.merge,
            repository,
            task.branch or "",
            target,
            message=_message(task),
            task_id=task_id,
            base=task.base_commit,
        )
        detail = merged.reason or None
        await self._manager.set_merge(task_id, merged.state, detail=detail, paths=merged.paths, commit=merged.commit)
        log.info("merge task=%s target=%s state=%s detail=%s", task_id, target, merged.state, detail)
        if merged.state is MergeState.MERGED:
            await self._manager.add_activities(task_id, [f"merged into {target} as {(merged.commit or '')[:12]}"])
            await self._drop(await self._known(task_id), MergeState.MERGED, target)
        elif merged.state is MergeState.NONE:
            await self._drop(await self._known(task_id), MergeState.NONE, target)
        elif task.merge_state is not merged.state or task.merge_detail != detail:
            await self._manager.add_activities(task_id, [f"not merged into {target}: {detail}"])

    async def _drop(self, task: Task, state: MergeState, target: str | None) -> None:
        """Remove worktree and branch when nothing can be lost by it; else keep both and say why."""
        parts = self._parts
        if task.worktree is None:
            return
        removal = await parts.in_thread(self._remove, task, target or task.base_branch)
        if removal.removed:
            await self._manager.set_worktree(task.task_id, worktree=None)
            return
        detail = f"the worktree is {removal.reason}"  # "kept: " and why
        kept = state if state is MergeState.MERGED else MergeState.KEPT
        await self._manager.set_merge(task.task_id, kept, detail=detail, commit=task.merge_commit)
        await self._manager.add_activities(task.task_id, [detail])

    async def retry_waiting(self) -> int:
        """Try the merges that wait for a checkout to become clean, or were cut off. Returns how many there were."""
        waiting = await self._manager.waiting_merges()
        for task in waiting:
            async with self._lock(task.task_id):
                now = await self._known(task.task_id)
                try:
                    if now.merge_state is MergeState.MERGING:
                        await self._settle(now)  # cut off by a failure of the store: nobody else merges it now
                    elif now.merge_state is MergeState.WAITING and now.base_branch:
                        await self._merge(now, now.base_branch)
                except StoreError:
                    raise
                except (TasksError, OSError) as error:
                    await self._manager.set_merge(now.task_id, MergeState.WAITING, detail=str(error))
        if waiting:
            self._parts.changed()
        return len(waiting)

    async def clean(self, *, older_than_ms: int, now: int, dry_run: bool) -> list[Cleaned]:
        """Remove what finished tasks left, where that loses nothing: worktrees whose work has arrived, old run files and
        backup refs. Rows stay: they are the history."""
        found: list[Cleaned] = []
        tasks = await self._manager.list_tasks(
            statuses=[status for status in TaskStatus if status.is_over], until=now - older_than_ms, limit=None
        )
        for one in tasks:
            async with self._lock(one.task_id):
                task = await self._known(one.task_id)
                # Meanwhile it may have been tried again.
                if task.status.is_over and (task.finished_at or 0) < now - older_than_ms:
                    found += await self._clean(task, dry_run=dry_run)
        found += await self._expire(older_than_ms, now=now, dry_run=dry_run)
        return found

    async def _clean(self, task: Task, *, dry_run: bool) -> list[Cleaned]:
        parts, found = self._parts, []
        if task.worktree is not None:
            what = f"worktree {task.worktree}"
            try:
                removal = await parts.in_thread(self._remove, task, task.base_branch, dry_run=dry_run)
            except GitError as error:
                return [Cleaned(task.task_id, what, removed=False, reason=str(error))]
            found.append(Cleaned(task.task_id, what, removal.removed, removal.reason))
            if not removal.removed:
                return found
            if not dry_run:
                await self._manager.set_worktree(task.task_id, worktree=None)
                if task.merge_state in (MergeState.CONFLICT, MergeState.WAITING, MergeState.KEPT):
                    state = MergeState.MERGED if task.commits else MergeState.NONE
                    await self._manager.set_merge(task.task_id, state, detail="found merged by somebody else")
        folder = parts.settings.runs_dir / task.task_id
        if await asyncio.to_thread(folder.is_dir) and not await asyncio.to_thread(
            process.marked, process.TASK_VARIABLE, task.task_id
        ):
            if not dry_run:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            found.append(Cleaned(task.task_id, f"output and prompt in {folder}", removed=True))
        return found

    async def _expire(self, older_than_ms: int, *, now: int, dry_run: bool) -> list[Cleaned]:
        """Backups of branches that were deleted as long ago."""
        worktrees, found = self._parts.worktrees, []
        for repository in await self._repositories():
            with contextlib.suppress(GitError):
                if dry_run:
                    backups = await self._parts.in_thread(worktrees.backups, repository)
                    gone = [one for one in backups if one.made < now - older_than_ms]
                else:
                    gone = await self._parts.in_thread(worktrees.expire, repository, older_than_ms / 1000)
                found += [Cleaned(one.task_id, f"backup {one.ref} in {repository}", removed=True) for one in gone]
        if not dry_run:
            await self._parts.in_thread(worktrees.sweep)
        return found

    async def _repositories(self) -> list[Path]:
        rows = await self._parts.database.query("SELECT DISTINCT workspace FROM tasks WHERE branch IS NOT NULL")
        found = set()
        for (workspace,) in rows:
            with contextlib.suppress(GitError, OSError):
                found.add(await self._parts.in_thread(self._parts.tracker.repository, workspace))
        return sorted(found)

    async def _strayed(self, task: Task) -> str | None:
        """What to say when the agent left its commits on another branch than the task's; None: it did not."""
        tracker, folder = self._parts.tracker, task.worktree or ""
        with contextlib.suppress(GitError, OSError):  # no worktree: nothing to stray to
            branch = await self._parts.in_thread(tracker.branch, folder)
            if branch is None or branch == task.branch or not task.base_commit:
                return None
            known = await self._parts.in_thread(tracker.tip, folder, task.branch or "")
            commits = await self._parts.in_thread(tracker.commits, folder, known or task.base_commit, "HEAD")
            if commits:
                return f"the agent left {_count(len(commits))} on the branch {branch}: merge that by hand"
        return None

    async def _count_commits(self, task: Task) -> int:
        """How many commits the branch has beyond where it began; stored."""
        if task.branch is None or task.base_commit is None or task.workspace is None:
            return 0
        commits = await self._parts.in_thread(
            self._parts.tracker.commits, task.workspace, task.base_commit, f"refs/heads/{task.branch}"
        )
        await self._manager.set_worktree(task.task_id, worktree=task.worktree, commits=len(commits))
        return len(commits)

    def _remove(self, task: Task, target: str | None, *, dry_run: bool = False) -> Removal:
        """Worktree and branch, with proof. Blocking."""
        path = Path(task.worktree or "")
        worktree = Worktree(
            task_id=task.task_id, path=path, workdir=path, branch=task.branch or "", base_branch=task.base_branch,
            base_commit=task.base_commit or "", repository=self._repository(task),
        )  # fmt: skip
        ref = f"refs/heads/{target}" if target else None
        return self._parts.worktrees.remove(worktree, target=ref, dry_run=dry_run)

    def _is_gone(self, task: Task) -> bool:
        """Whether neither worktree nor branch is there. Blocking. Raises GitError when the repository is not."""
        if task.worktree is None or os.path.lexists(task.worktree):
            return False
        return self._parts.tracker.tip(self._repository(task), task.branch or "") is None

    def _repository(self, task: Task) -> Path:
        """The repository of a task; its workspace may be gone, its worktree knows it too."""
        for folder in (task.workspace, task.worktree):
            if folder is not None:
                with contextlib.suppress(NotARepository, FileNotFoundError, NotADirectoryError):
                    return self._parts.tracker.repository(folder)
        raise NotARepository(f"the repository of task {task.task_id} is gone: {task.workspace}")

    def _lock(self, task_id: str) -> asyncio.Lock:
        return self._locks.setdefault(task_id, asyncio.Lock())

    async def _known(self, task_id: str) -> Task:
        return await self._manager.find_task(task_id)


def _message(task: Task) -> str:
    first = next(iter(task.description.strip().splitlines()), "")
    subject = first if len(first) <= SUBJECT else first[: SUBJECT - 1].rstrip() + "…"
    about = {"agent type": task.agent_type, "workflow": task.workflow, "session": task.session_uuid}
    lines = [f"{name}: {json.dumps(value)}" for name, value in about.items() if value]
    return "\n".join([f"Merge task {task.task_id}: {subject}", *([""] if lines else []), *lines])


def _count(commits: int) -> str:
    return f"{commits} commit{'s' * (commits != 1)}"
