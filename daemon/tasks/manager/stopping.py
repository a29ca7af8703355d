"""Ending the processes of a task that was stopped. Nothing is signalled that does not carry the mark of the task."""

import asyncio
import logging
import signal
import time
from pathlib import Path

from tasks import process
from tasks.errors import ProbeError
from tasks.manager.task import Task
from tasks.process import Graces, Liveness, ProcessIdentity, RunFiles

log = logging.getLogger(__name__)

#: Seconds between two looks at processes that were asked to end.
POLL = 0.05


async def end_processes(runs_dir: Path, task: Task, *, graces: Graces) -> None:
    """End what lives of the task's runs up to this one, the latest first, and what carries its mark without a run.

    A run that begins meanwhile, because the task is tried again, is left alone.
    """
    try:
        for attempt in range(task.attempt, 0, -1):
            await _end_run(runs_dir, task, attempt, graces)
        await _end_others(task, graces)
    except ProbeError as error:
        log.warning("cannot tell whether processes are left task=%s error=%s", task.task_id, error)


async def _end_run(runs_dir: Path, task: Task, attempt: int, graces: Graces) -> None:
    run, files = f"{task.task_id}.{attempt}", RunFiles(runs_dir / task.task_id / str(attempt))
    is_open = attempt == task.attempt and await asyncio.to_thread(_is_open, files)
    if is_open or await asyncio.to_thread(_has_processes, run):
        report = await process.stop(files, run, graces=graces)
        log.info("stopped run=%s steps=%s survivors=%s", run, [one.name for one in report.steps], report.survivors)


def _has_processes(run: str) -> bool:
    return bool(process.marked(process.RUN_VARIABLE, run))


def _is_open(files: RunFiles) -> bool:
    return files.directory.is_dir() and files.exit_status() is None


async def _end_others(task: Task, graces: Graces) -> None:
    """Processes that somebody else started for the task, with nothing but its id in their environment."""
    for signum, grace in (
        (signal.SIGINT, graces.interrupt),
        (signal.SIGTERM, graces.terminate),
        (signal.SIGKILL, graces.kill),
    ):
        end = time.monotonic() + grace
        signalled: set[ProcessIdentity] = set()
        while (found := await asyncio.to_thread(_others, task)) and time.monotonic() < end:
            # Who was born since the last look is told too, once.
            for identity in found - signalled:
                log.info("ending task=%s pid=%d signal=%s", task.task_id, identity.pid, signum.name)
                process.signal_process(identity, signum)
            signalled |= found
            await asyncio.sleep(POLL)
        if not found:
            return


def _others(task: Task) -> set[ProcessIdentity]:
    found = set(process.marked(process.TASK_VARIABLE, task.task_id))
    if found:
        for attempt in range(1, task.attempt + 2):
            found -= set(process.marked(process.RUN_VARIABLE, f"{task.task_id}.{attempt}"))
    return {identity for identity in found if process.probe(identity) is not Liveness.GONE}
