"""/v1/doctor: what `tasksd doctor` finds, looked at by a process of its own."""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.api.access import Ctx
from tasks.api.context import Context

router = APIRouter(tags=["status"])

#: Seconds that a look may take, and for which its answer is given again.
TIMEOUT, LASTS = 60.0, 60.0

# As the command itself begins; -P: nothing of the folder that the daemon was started in is imported.
_COMMAND = ("-P", "-c", "import sys; from tasks.cli import main; sys.exit(main())")


class Finding(BaseModel):
    check: str
    #: ok, warning, problem
    verdict: str
    message: str
    #: what to do; null: all is well
    remedy: str | None


class Diagnosis(BaseModel):
    #: epoch milliseconds
    checked_at: int
    #: in the order in which it is best repaired
    findings: list[Finding]


_FINDINGS = TypeAdapter(list[Finding])


class Doctor:
    """Looks when asked to, one look at a time; whoever asks during a look is given what it finds."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._looking = asyncio.Lock()
        self._ahead: asyncio.Task[None] | None = None
        self._found: Diagnosis | str = "nobody has looked yet"
        self._ended = -math.inf

    async def diagnosis(self, *, fresh: bool) -> Diagnosis:
        """At most LASTS seconds old, or `fresh`. Raises HTTPException (503) when it cannot be had."""
        asked = time.monotonic()
        async with self._looking:
            recent = not fresh and isinstance(self._found, Diagnosis) and time.monotonic() - self._ended < LASTS
            if not recent and self._ended < asked:
                await self._look()
        if isinstance(self._found, str):
            raise HTTPException(503, f"cannot run `tasksd doctor`: {self._found}")
        return self._found

    @property
    def last(self) -> Diagnosis | str:
        """What was found the last time; or why nothing was."""
        return self._found

    @property
    def looks(self) -> bool:
        """Whether a look is under way."""
        return self._looking.locked() or (self._ahead is not None and not self._ahead.done())

    def look_ahead(self, age: float) -> None:
        """Begin a look that nobody waits for, unless one is under way, or the last ended less than `age` seconds ago."""
        if not self.looks and time.monotonic() - self._ended > age:
            self._ahead = asyncio.create_task(self._look_alone(), name="doctor")

    async def _look_alone(self) -> None:
        with contextlib.suppress(HTTPException):  # it is kept as what was found
            await self.diagnosis(fresh=True)

    async def _look(self) -> None:
        began = time.time_ns() // 1_000_000
        try:
            self._found = Diagnosis(checked_at=began, findings=_FINDINGS.validate_json(await self._output()))
        except ValidationError:
            self._found = "it ended without an answer; run it in a terminal to see why"
        except TimeoutError:
            self._found = f"it takes longer than {TIMEOUT:.0f} s; run it in a terminal to see what it waits for"
        except OSError as error:
            self._found = f"it does not start: {error.strerror}"
        self._ended = time.monotonic()

    async def _output(self) -> bytes:
        command = (sys.executable, *_COMMAND, "--data-dir", os.fspath(self._data_dir), "doctor", "--json")
        # A task of its own: called off while it starts, asyncio would end the program but not what that has started.
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # one group to kill
            ),
            name="doctor",
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                process = await asyncio.shield(starting)
                output, _ = await process.communicate()
                return output
        finally:
            await asyncio.shield(_end(starting))


async def _end(starting: asyncio.Task[asyncio.subprocess.Process]) -> None:
    with contextlib.suppress(OSError):  # it did not start
        process = await starting
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def doctor_of(ctx: Context) -> Doctor:
    """The one of this daemon, for all who ask."""
    if ctx.doctor is None:
        ctx.doctor = Doctor(ctx.settings.data_dir)
    return ctx.doctor


@router.get("/doctor")
async def read_doctor(ctx: Ctx, fresh: Annotated[bool, Query(description="look again now")] = False) -> Diagnosis:
    """What is wrong, and what to do about it. Looked at anew when the last look is older than a minute."""
    return await doctor_of(ctx).diagnosis(fresh=fresh)
