"""`WorkflowEnforcer`: is the workspace clean before a task, and did the agent commit what it changed?"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks import config
from tasks.config import EnforcementSettings
from tasks.database import SyncDatabase
from tasks.enforcer import rules
from tasks.enforcer.snapshot import Snapshot, snapshot
from tasks.enforcer.verdicts import Verdict, verdict_write
from tasks.errors import NotARepository, StoreError, TasksError
from tasks.git import GitTracker
from tasks.words import RuleMode, Stage

log = logging.getLogger(__name__)

AnyPath = str | os.PathLike[str]

#: Workspaces whose state before a task is remembered; the oldest is forgotten first.
REMEMBERED = 256


class WorkflowEnforcer:
    """Checks workspaces by the rules of the configuration; synchronous, without a daemon and beside one. Thread-safe.

    `rules`: in place of those of the config file. `data_dir`: the store in which every verdict is recorded; None: they are
    not recorded (the daemon records them itself). Nothing is ever changed in a workspace.
    """

    def __init__(
        self,
        git_tracker: GitTracker | None = None,
        *,
        rules: EnforcementSettings | None = None,
        data_dir: AnyPath | None = None,
    ) -> None:
        self._tracker = git_tracker or GitTracker()
        self._rules = rules if rules is not None else config.load(data_dir=data_dir).enforcement
        self._database_file = None if data_dir is None else config.load(data_dir=data_dir).database_file
        self._database: SyncDatabase | None = None
        self._before: dict[tuple[str, str | None], Snapshot] = {}
        self._lock = threading.Lock()

    def check_pre_task(self, workspace: AnyPath, agent_type: str | None = None) -> tuple[bool, str]:
        """(whether a task may start, why not or what to know). In mode `warn` it may, with the message.

        The state seen is what `validate_post_task` compares with: what was dirty before is not held against the agent.
        """
        verdict = self._before_task(os.fspath(workspace), agent_type, None, remember=True)
        self._record(verdict)
        return not verdict.blocks, verdict.message

    def validate_post_task(
        self,
        task_id: str | None,
        workspace: AnyPath,
        agent_type: str | None = None,
        *,
        base_commit: str | None = None,
    ) -> tuple[bool, str]:
        """(whether the rules are met, what is wrong). In mode `warn` the caller says so and goes on, in `block` it stops.

        `base_commit`: where the agent began (None: at the HEAD that `check_pre_task` saw).
        """
        verdict = self.post_task(task_id, workspace, agent_type, base_commit=base_commit)
        self._record(verdict)
        return verdict.passed, verdict.message

    def pre_task(self, workspace: AnyPath, agent_type: str | None = None, *, task_id: str | None = None) -> Verdict:
        """The verdict of `check_pre_task`, not recorded. With `task_id` the state is remembered for that task alone,
        without one it is not remembered. Never raises for what it finds.
        """
        return self._before_task(os.fspath(workspace), agent_type, task_id, remember=task_id is not None)

    def post_task(
        self,
        task_id: str | None,
        workspace: AnyPath,
        agent_type: str | None = None,
        *,
        base_commit: str | None = None,
    ) -> Verdict:
        """The verdict of `validate_post_task`, not recorded. Never raises for what it finds."""
        place, mine = os.fspath(workspace), self._rules.of(agent_type)
        mode = mine.post_task
        before = self._remembered(place, task_id)

        def judge() -> Verdict:
            state = self._tracker.state(place)
            changed = snapshot(state, mine.dirty, mine.exempt).changed_since(before)
            if changed is None:
                reason = "too many files were dirty before to tell which the agent changed"
                return rules.cannot_check(Stage.POST_TASK, mode, place, reason)
            if changed or not mine.commits_required:
                return rules.judge_after(mode, place, changed, lacks_commit=False)
            base = base_commit or (before.head if before is not None else None)
            if base is None and before is None and state.head is not None:
                reason = "where the agent began is not known (no pre-task check, no base_commit)"
                return rules.cannot_check(Stage.POST_TASK, mode, place, reason)
            committed = state.head is not None and (
                base is None or bool(self._tracker.commits(place, base, state.head))
            )
            return rules.judge_after(mode, place, (), lacks_commit=not committed)

        if mode is RuleMode.OFF:
            return replace(rules.off(Stage.POST_TASK, place), agent_type=agent_type, task_id=task_id)
        was_repository = base_commit is not None or before is not None
        verdict = self._carefully(judge, Stage.POST_TASK, mode, place, was_repository=was_repository)
        return replace(verdict, agent_type=agent_type, task_id=task_id)

    def remember(self, workspace: AnyPath, agent_type: str | None = None, *, task_id: str | None = None) -> None:
        """Take the state of a workspace as the one before the task (of `task_id`, where given), whatever the rules say.

        For a worktree after its set-up, and for a task that goes on. What cannot be read is not remembered.
        """
        self._before_task(os.fspath(workspace), agent_type, task_id, remember=True)

    def close(self) -> None:
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _before_task(self, place: str, agent_type: str | None, task_id: str | None, *, remember: bool) -> Verdict:
        mine = self._rules.of(agent_type)
        mode = mine.pre_task

        def judge() -> Verdict:
            state = self._tracker.state(place)
            if remember:
                self._keep(place, task_id, snapshot(state, mine.dirty, mine.exempt))
            if state.bare:
                reason = f"{place} is a bare repository: it has no files that could be uncommitted"
                return rules.not_applicable(Stage.PRE_TASK, mode, place, reason)
            return rules.judge_before(mode, place, state.dirt(mine.dirty, mine.exempt))

        if remember:
            self._keep(place, task_id, None)
        verdict = rules.off(Stage.PRE_TASK, place)
        if remember or mode is not RuleMode.OFF:
            seen = self._carefully(judge, Stage.PRE_TASK, mode, place)
            verdict = verdict if mode is RuleMode.OFF else seen
        return replace(verdict, agent_type=agent_type, task_id=task_id)

    def _carefully(
        self, judge: Callable[[], Verdict], stage: Stage, mode: RuleMode, place: str, *, was_repository: bool = False
    ) -> Verdict:
        try:
            return judge()
        except NotARepository as error:
            if was_repository:
                return rules.judge_after(mode, place, ("the repository, which is gone",), lacks_commit=False)
            reason = f"{place} is not in a git repository" if Path(place).is_dir() else str(error)
            return rules.not_applicable(stage, mode, place, f"{reason}: no rule for commits applies")
        except (TasksError, OSError) as error:
            return rules.cannot_check(stage, mode, place, error)

    def _keep(self, place: str, task_id: str | None, seen: Snapshot | None) -> None:
        with self._lock:
            self._before.pop((place, task_id), None)
            if seen is not None:
                self._before[place, task_id] = seen
            while len(self._before) > REMEMBERED:
                del self._before[next(iter(self._before))]

    def _remembered(self, place: str, task_id: str | None) -> Snapshot | None:
        with self._lock:
            return self._before.get((place, task_id)) or self._before.get((place, None))

    def _record(self, verdict: Verdict) -> None:
        if self._database_file is None or verdict.is_off:
            return
        try:
            with self._lock:
                if self._database is None:
                    self._database = SyncDatabase(self._database_file)
                database = self._database
            database.apply([verdict_write(verdict)])
        except StoreError as error:
            # The answer matters more than its record.
            log.warning("a verdict was not recorded workspace=%s error=%s", verdict.workspace, error)
