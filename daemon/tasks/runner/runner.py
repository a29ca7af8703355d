"""One task from its slot to its end, read from top to bottom. The row is the truth: every step is stored before the next."""

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from tasks import process
from tasks.agent import COMPLETED, LIMITED, Judgement, judge, launch, resumable
from tasks.errors import GitError, ImpossibleTransition, RepositoryBusy, SpawnError, StoreError, TasksError
from tasks.manager import Run, Task
from tasks.process import ProcessIdentity, RunFiles
from tasks.runner.parts import Parts, run_mark, tail
from tasks.runner.place import Place, Placing
from tasks.runner.settling import Settling
from tasks.runner.supervision import Breach, Supervision, free_bytes
from tasks.words import Failure, PrivacyLevel, TaskStatus

log = logging.getLogger(__name__)

#: Seconds after which a task that had to be held back is looked at again.
HOLD = 10.0
#: Seconds to hold the pool for a limit or an outage that names no end, doubled each time up to the second.
LIMIT_HOLD, LONGEST_LIMIT_HOLD = 120.0, 3600.0
#: Seconds to hold it when the client is turned away for the person's account, and how often for one task.
ACCOUNT_HOLD, ACCOUNT_TRIES = 900.0, 3
#: Dollars: what a session that has spent its budget may still spend, since the client takes 0 for no limit.
LEAST_BUDGET = 0.01
#: Outcomes of runs beside completed, stopped and the failures.
ACCOUNT, IN_USE = "account", "session_in_use"

#: Held, and not failed: an update of the client takes it away for a moment.
NO_CLIENT = (
    "no Claude Code client was found on the daemon's PATH: install it, set agent.command, or run `tasksd service install` "
    "again from a shell that finds it"
)
#: What an agent has to know that works in a worktree of a task: it goes into its system prompt.
INSTRUCTIONS = (
    "You work unattended, in a git worktree and on a branch of your own that were made for this one task. Commit all of your "
    "work there, in commits with good messages, before you finish: what is committed is merged for you, what is not is left "
    "behind. Do not switch branches, merge, rebase or push, and change nothing outside this folder."
)
#: What a session that the API stopped serving is told afterwards.
RESUME_PROMPT = "You were interrupted because the API stopped serving you. Go on with the task where you left off.\n"
#: What stands for an agent's words at privacy level `minimal`.
_NOT_SAID = "what it said is not stored (privacy level minimal); `tasksd logs` has it"
_NAMES = {LIMITED: "a usage limit", Failure.AGENT_ERROR: "the agent failed", Failure.LOST: "its end is not known"}


class Outcome(StrEnum):
    """What came of giving a task a slot."""

    OVER = "over"
    #: it is queued again, see hold_reason
    HELD = "held"
    #: a usage limit: nothing should be started until then
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a task's turn in the pool ended; `until` in epoch milliseconds, `seconds` the same from then on."""

    outcome: Outcome
    until: int | None = None
    reason: str | None = None
    #: for a clock that nobody sets
    seconds: float = 0.0


class Runner:
    """Carries tasks out. Knows those that are at work now."""

    def __init__(self, parts: Parts, settling: Settling) -> None:
        self._parts = parts
        self._manager = parts.manager
        self._placing = Placing(parts)
        self._settling = settling
        self._host = socket.gethostname()
        #: tasks at work, each with what ends it
        self._stops: dict[str, asyncio.Event] = {}
        #: workspaces in which a task works in place
        self._in_place: dict[str, str] = {}
        #: limits that named no end, without a success between them, and the end of the last hold for one
        self._limits_in_a_row = 0
        self._limit_end = 0.0

    def stop(self, task_id: str) -> bool:
        """End the work on a task, whose row says already that it is over. Whether it was at work."""
        if stop := self._stops.get(task_id):
            stop.set()
        return stop is not None

    @property
    def at_work(self) -> list[str]:
        return list(self._stops)

    async def carry_out(self, task_id: str, *, workspace: str | None = None, agent_type: str | None = None) -> Ended:
        """Run a queued task. `workspace` and `agent_type` are what the pool counts by."""
        task = await self._manager.get_task(task_id)
        if task is None or task.status is not TaskStatus.QUEUED:
            return Ended(Outcome.OVER)  # cancelled while it waited
        with self._at_work(task_id):
            try:
                return await self._carry_out(task)
            except ImpossibleTransition:
                # Somebody else decided about it meanwhile: a person, another process. Their word stands.
                log.info("left alone, its row changed meanwhile task=%s", task_id)
        await self._settling.settle(task_id)
        return Ended(Outcome.OVER)

    async def _carry_out(self, task: Task) -> Ended:
        isolated = await self._parts.in_thread(self._placing.is_isolated, task)
        if not isolated and (other := self._in_place.get(_folder(task))):
            return await self._hold(task, f"task {other} works in {task.workspace} itself; one at a time does")
        with self._working_in(task, isolated=isolated):
            if reason := await self._reason_to_hold(task):
                return await self._hold(task, reason)
            try:
                place = await self._placing.find(task, isolated=isolated)
            except RepositoryBusy as error:
                return await self._hold(task, str(error))
            except (GitError, OSError) as error:
                return await self._fail(task, Failure.NO_WORKTREE, str(error))
            if task.hold_reason is not None:
                await self._manager.clear_hold(task.task_id)
            try:
                await self._placing.set_up(task, place, self._stops[task.task_id])
            except (SpawnError, OSError) as error:
                return await self._fail(task, Failure.NOT_STARTED, str(error))
            return await self._work(task, place)

    async def _work(self, task: Task, place: Place) -> Ended:
        """From a place to work at to a settled task."""
        session, resume = await self._session(task)
        attempt = await self._manager.begin_run(task.task_id, session_uuid=session, host=self._host, resumed=resume)
        self._parts.changed()
        files = RunFiles(self._parts.settings.runs_dir / task.task_id / str(attempt))
        try:
            shim = await self._start(task, place, files, session, resume=resume, attempt=attempt)
        except StoreError:
            raise
        except (TasksError, OSError, ValueError) as error:
            await self._manager.end_run(task.task_id, attempt, exit_status=None, outcome=Failure.NOT_STARTED)
            return await self._fail(task, Failure.NOT_STARTED, str(error))
        await self._manager.run_spawned(task.task_id, attempt, shim)
        log.info("agent started task=%s attempt=%d pid=%d place=%s", task.task_id, attempt, shim.pid, place.workdir)
        return await self._see_through(task.task_id, attempt, files, shim, time.monotonic())

    async def take_up(self, task: Task, run: Run, shim: ProcessIdentity | None) -> Ended:
        """Go on with a run that an earlier daemon started: watch its agent, or judge what it left."""
        files = RunFiles(self._parts.settings.runs_dir / task.task_id / str(run.attempt))
        with self._at_work(task.task_id), self._working_in(task, isolated=task.worktree is not None):
            try:
                if shim is not None:
                    await self._manager.run_spawned(task.task_id, run.attempt, shim)
                started = run.started_monotonic if shim and run.boot in (None, shim.boot) else time.monotonic()
                return await self._see_through(task.task_id, run.attempt, files, shim, started)
            except ImpossibleTransition:
                log.info("left alone, its row changed meanwhile task=%s", task.task_id)
        await self._settling.settle(task.task_id)
        return Ended(Outcome.OVER)

    async def _see_through(
        self, task_id: str, attempt: int, files: RunFiles, shim: ProcessIdentity | None, started: float
    ) -> Ended:
        """From a started agent to a settled task."""
        manager, settings = self._manager, self._parts.settings
        task = await self._known(task_id)

        async def on_notes(notes: list[str]) -> None:
            if settings.privacy.level is not PrivacyLevel.MINIMAL:
                await manager.add_activities(task_id, notes)
            self._parts.changed()

        async def on_agent(agent: ProcessIdentity) -> None:
            with contextlib.suppress(ImpossibleTransition):
                await manager.run_identified(task_id, agent, attempt=attempt)

        supervision = Supervision(
            files, shim, run_mark(task_id, attempt), settings.agent.of(task.agent_type),
            started_monotonic=started, stop=self._stops[task_id], on_notes=on_notes, on_agent=on_agent,
            redact=self._parts.redact,
        )  # fmt: skip
        if task.status.is_over:
            self._stops[task_id].set()  # cancelled between its start and now
        breach = await supervision.run()
        return await self._conclude(task_id, attempt, files, supervision, breach)

    async def _conclude(
        self, task_id: str, attempt: int, files: RunFiles, supervision: Supervision, breach: Breach | None
    ) -> Ended:
        manager = self._manager
        task = await self._known(task_id)
        reader = supervision.reader
        status = await asyncio.to_thread(files.exit_status)
        errors = await asyncio.to_thread(tail, files.errors)
        settings = self._parts.settings.agent.of(task.agent_type)
        verdict = (
            judge(settings, reader, status, errors=errors) if breach is None else Judgement(breach.failure, breach.text)
        )
        if self._parts.settings.privacy.level is PrivacyLevel.MINIMAL and verdict.outcome != COMPLETED:
            verdict = replace(verdict, text=f"{_NAMES.get(verdict.outcome, verdict.outcome)}: {_NOT_SAID}")
        stopped = task.status is not TaskStatus.RUNNING
        outcome = _outcome(verdict, stopped=stopped)
        await manager.end_run(task_id, attempt, exit_status=status, outcome=outcome, result=reader.result)
        if stopped:
            log.info("agent stopped task=%s attempt=%d", task_id, attempt)
            await self._settling.settle(task_id)
            return Ended(Outcome.OVER)
        log.info("agent ended task=%s attempt=%d outcome=%s exit_status=%s", task_id, attempt, outcome, status)
        if verdict.session is not None and await self._count(task_id, outcome) < 2:
            # It is not there (it never got as far, or its transcript was deleted), or it is there already. Once: what fails
            # twice for its session has another reason.
            await manager.hold(task_id, f"starts again: {verdict.text}", _now())
            return Ended(Outcome.HELD)
        if verdict.account and await self._count(task_id, ACCOUNT) < ACCOUNT_TRIES:
            return await self._put_back(
                task, f"{verdict.text}: put that right, then `tasksd pool resume`", _now() + round(ACCOUNT_HOLD * 1000)
            )
        match verdict.outcome:
            case "limited":
                return await self._limited(task, verdict, reader.limit.resets_at if reader.limit else None)
            case "completed":
                await self._settling.complete(task, verdict.text)
            case failure:
                await self._fail(task, Failure(failure), verdict.text)
        self._limits_in_a_row = 0
        self._parts.changed()
        await self._settling.settle(task_id)
        return Ended(Outcome.OVER)

    async def _limited(self, task: Task, verdict: Judgement, resets_at: int | None) -> Ended:
        """Back into the queue; the pool waits with it."""
        if time.monotonic() >= self._limit_end:  # what meets the same limit at the same time is no further one
            self._limit_end = time.monotonic() + min(LIMIT_HOLD * 2**self._limits_in_a_row, LONGEST_LIMIT_HOLD)
            self._limits_in_a_row = min(self._limits_in_a_row + 1, 10)
        until = _now() + round((self._limit_end - time.monotonic()) * 1000) if resets_at is None else resets_at
        return await self._put_back(task, verdict.text, until)

    async def _put_back(self, task: Task, reason: str, until: int) -> Ended:
        """Into the queue again; the pool waits with it."""
        seconds = (until - _now()) / 1000
        await self._manager.hold(task.task_id, reason, until)
        await self._manager.add_activities(task.task_id, [f"put back into the queue: {reason}"])
        self._parts.changed()
        return Ended(Outcome.LIMITED, until, reason, seconds)

    async def _reason_to_hold(self, task: Task) -> str | None:
        """Why it cannot start now although it has a slot."""
        settings = self._parts.settings
        if (floor := settings.pool.free_disk) and free_bytes(settings.data_dir) < floor:
            return f"less than {floor:,} bytes are free on the disk of {settings.data_dir} (pool.free_disk)"
        if not settings.agent.of(task.agent_type).command and await asyncio.to_thread(self._parts.find_program) is None:
            return NO_CLIENT
        if task.worktree is not None:
            return None  # goes on with work that was let in before
        verdict = await self._parts.in_thread(
            self._parts.enforcer.pre_task, task.workspace or "", task.agent_type, task_id=task.task_id
        )
        if verdict.blocks and self._parts.redact(verdict.message) == task.hold_reason:
            return verdict.message  # said already
        await self._settling.record(verdict)
        if verdict.message and not verdict.blocks:
            await self._manager.add_activities(task.task_id, [verdict.message])
        return verdict.message if verdict.blocks else None

    async def _session(self, task: Task) -> tuple[str, bool]:
        """The session to use, and whether to go on with it: only what a usage limit stopped is gone on with."""
        run = await self._manager.latest_run(task.task_id)
        settings = self._parts.settings.agent.of(task.agent_type)
        if run is not None and run.outcome in (LIMITED, IN_USE) and run.session_uuid and resumable(settings):
            return run.session_uuid, True
        return str(uuid.uuid4()), False

    async def _count(self, task_id: str, outcome: str) -> int:
        """Runs that ended so."""
        return sum(run.outcome == outcome for run in await self._manager.runs(task_id))

    async def _budget(self, task: Task, session: str) -> tuple[float | None, int | None]:
        """Dollars and turns that are left for a session: the client counts each of its processes anew. None: no limit."""
        settings = self._parts.settings.agent.of(task.agent_type)
        dollars, turns = task.budget_usd or settings.budget_usd, task.max_turns or settings.max_turns
        before = [run for run in await self._manager.runs(task.task_id) if run.session_uuid == session]
        spent, taken = sum(run.cost_usd or 0 for run in before), sum(run.turns or 0 for run in before)
        return max(dollars - spent, LEAST_BUDGET) if dollars else None, max(turns - taken, 1) if turns else None

    async def _start(
        self, task: Task, place: Place, files: RunFiles, session: str, *, resume: bool, attempt: int
    ) -> ProcessIdentity:
        parts = self._parts
        settings = parts.settings.agent.of(task.agent_type)
        hooks = await asyncio.to_thread(parts.missing_hooks, place.workdir) if not settings.command else None
        program = None if settings.command else await asyncio.to_thread(parts.find_program)
        if program is None and not settings.command:
            raise SpawnError(NO_CLIENT)
        budget_usd, max_turns = await self._budget(task, session)
        call = launch(
            settings, program=program, session=session, resume=resume, model=task.model, budget_usd=budget_usd,
            max_turns=max_turns, hooks=hooks, instructions=INSTRUCTIONS if place.isolated else "",
        )  # fmt: skip
        environ = {
            **process.scrubbed(parts.environ),
            **settings.environment,
            **call.environ,
            "TASKSD_DATA_DIR": str(parts.settings.data_dir),
            process.TASK_VARIABLE: task.task_id,
            process.RUN_VARIABLE: run_mark(task.task_id, attempt),
        }
        prompt = await self._manager.prompt_file(task.task_id)
        files.prepare()
        if resume:
            prompt = files.directory / "prompt"
            prompt.write_text(RESUME_PROMPT, encoding="utf-8")
        return await parts.in_thread(
            process.spawn, files, call.argv, cwd=place.workdir, environ=environ, stdin=prompt,
            output_bytes=settings.output_bytes, umask=parts.umask,
        )  # fmt: skip

    @contextlib.contextmanager
    def _at_work(self, task_id: str) -> Iterator[None]:
        self._stops[task_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._stops[task_id]

    @contextlib.contextmanager
    def _working_in(self, task: Task, *, isolated: bool) -> Iterator[None]:
        key = _folder(task)
        if not isolated:
            self._in_place[key] = task.task_id
        try:
            yield
        finally:
            if self._in_place.get(key) == task.task_id:
                del self._in_place[key]

    async def _hold(self, task: Task, reason: str) -> Ended:
        until = _now() + round(HOLD * 1000)
        if task.hold_reason != reason:
            log.info("held task=%s reason=%s", task.task_id, reason)
        await self._manager.hold(task.task_id, reason, until)
        self._parts.changed()
        return Ended(Outcome.HELD, until, reason, HOLD)

    async def _fail(self, task: Task, failure: Failure, error: str) -> Ended:
        # Not the error: it may quote what the agent said.
        log.warning("task failed task=%s failure=%s", task.task_id, failure)
        await self._manager.fail_task(task.task_id, error, failure=failure)
        self._parts.changed()
        await self._settling.settle(task.task_id)
        return Ended(Outcome.OVER)

    async def _known(self, task_id: str) -> Task:
        task = await self._manager.get_task(task_id)
        if task is None:
            raise TasksError(f"task {task_id} vanished from the store while it was carried out")
        return task


def _folder(task: Task) -> str:
    """One name for the folder that it works for."""
    return os.path.realpath(task.workspace or "")


def _outcome(verdict: Judgement, *, stopped: bool) -> str:
    """As it is stored with the run."""
    if stopped:
        return "stopped"
    if verdict.session is not None:
        return f"session_{verdict.session}"
    return ACCOUNT if verdict.account else str(verdict.outcome)


def _now() -> int:
    return time.time_ns() // 1_000_000
