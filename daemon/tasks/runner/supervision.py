"""Watches one agent at work: its output becomes activity, its limits are kept, its end is noticed. Knows no task rows."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks import process
from tasks.agent import OutputReader
from tasks.config import AgentSettings
from tasks.process import ProcessIdentity, RunFiles
from tasks.words import Failure

#: Seconds between two looks at an agent.
TICK = 1.0
#: Seconds that a shim has to go once nothing of its run is left.
REAP_TIMEOUT = 10.0
#: Bytes by which a shell counts the size of files: what an agent writes is cut at a multiple of it.
BLOCK = 512
#: Bytes of output read at once.
PIECE = 256 << 10
#: After this part of the silence that is allowed the agent's CPU time is looked at, and then as often, but not less often
#: than every so many seconds.
CPU_PART, CPU_INTERVAL = 0.25, 30.0
#: Part of one core below which a process counts as idle: a waiting client still runs its timers.
IDLE = 0.02
#: The most that one look adds to the time of silence: nobody looked while the machine, or the daemon, stood still.
LONGEST_TICK = 5 * TICK


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was reached."""

    failure: Failure
    text: str


@dataclass(slots=True)
class Progress:
    """How long an agent has shown no sign of work. Seconds of the clock that stands still in suspend."""

    clock: Callable[[], float]
    quiet: float = 0.0
    _looked: float = field(init=False)
    _cpu: float | None = None
    _cpu_age: float = 0.0

    def __post_init__(self) -> None:
        self._looked = self.clock()

    def tick(self, *, moved: bool) -> None:
        """One look; `moved`: it wrote something since the last one."""
        now = self.clock()
        passed = min(now - self._looked, LONGEST_TICK)
        self._looked = now
        self._cpu_age += passed
        if moved:
            self.quiet = 0.0
            self._cpu = None
        else:
            self.quiet += passed

    def wants_cpu(self, patience: float) -> bool:
        """Whether its CPU time may decide something now, if it may be silent for `patience` seconds."""
        interval = min(CPU_INTERVAL, patience * CPU_PART)
        return self.quiet >= interval and (self._cpu is None or self._cpu_age >= interval)

    def note_cpu(self, seconds: float) -> None:
        """The CPU time that the agent and what it started have used so far."""
        before, age = self._cpu, self._cpu_age
        self._cpu, self._cpu_age = seconds, 0.0
        if before is not None and age > 0 and (seconds - before) / age >= IDLE:
            self.quiet = 0.0
            self._cpu = None


class Supervision:
    """One agent from its start (or its adoption) to its end.

    Setting `stop` ends it. `on_notes` is awaited with what the output told, in order, at most once a tick; `on_agent` once,
    with the identity of the agent under the shim.
    """

    def __init__(
        self,
        files: RunFiles,
        shim: ProcessIdentity | None,
        token: str,
        settings: AgentSettings,
        *,
        started_monotonic: float,
        stop: asyncio.Event,
        on_notes: Callable[[list[str]], Awaitable[None]],
        on_agent: Callable[[ProcessIdentity], Awaitable[None]],
        redact: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files = files
        self.reader = OutputReader(settings.output if settings.command else "stream-json", redact=redact)
        self._shim = shim
        self._token = token
        self._settings = settings
        self._started = started_monotonic
        self._on_notes = on_notes
        self._on_agent = on_agent
        self._clock = clock
        self._progress = Progress(clock)
        self._agent: ProcessIdentity | None = None
        self._read = 0
        self._errors = 0
        self._noted = _noted(files.directory)
        self._stop = stop

    async def run(self) -> Breach | None:
        """Until the agent and its shim are gone, nothing of it is left, and its output is read. None: it ended by itself.

        Cancelled, it leaves the agent alone: a daemon that stops does not take its agents along.
        """
        watch = None if self._shim is None else process.Watch(self._shim, self.files)
        try:
            breach = await (self._without_shim() if watch is None else self._until_end(watch))
            if breach is not None or self._stop.is_set():
                await process.stop(self.files, self._token)
            else:
                await process.sweep(self.files, self._token)
            if watch is not None:
                await watch.wait(REAP_TIMEOUT)  # it is our child, and nobody else takes it from the table of processes
        finally:
            if watch is not None:
                watch.close()
        await self._look()
        return breach

    async def _until_end(self, watch: process.Watch) -> Breach | None:
        while not self._stop.is_set():
            if await self._ended_or_told(watch):
                return None
            if breach := await self._tick():
                return breach
        return None

    async def _ended_or_told(self, watch: process.Watch) -> bool:
        """Whether the agent ended, or is to end, within a tick."""
        ended = asyncio.ensure_future(watch.ended(TICK))
        told = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
            return told.done() or ended.result()
        finally:
            for waiting in (ended, told):
                waiting.cancel()
            await asyncio.gather(ended, told, return_exceptions=True)

    async def _without_shim(self) -> Breach | None:
        """An agent whose shim was killed: nobody keeps its exit status, its end is looked for."""
        while not self._stop.is_set() and await asyncio.to_thread(self._lives):
            if breach := await self._tick():
                return breach
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._stop.wait()
        return None

    async def _tick(self) -> Breach | None:
        moved = await self._look()
        self._progress.tick(moved=moved)
        if self._progress.wants_cpu(self._patience()):
            self._progress.note_cpu(await asyncio.to_thread(self._cpu_seconds))
        return self._breach()

    def _lives(self) -> bool:
        return bool(process.marked(process.RUN_VARIABLE, self._token))

    def _cpu_seconds(self) -> float:
        return process.cpu_seconds(process.marked(process.RUN_VARIABLE, self._token))

    async def _look(self) -> bool:
        """Take in what was written since the last look. Returns whether anything was."""
        if self._agent is None and (agent := await asyncio.to_thread(self.files.agent)):
            self._agent = agent
            await self._on_agent(agent)
        before = (self._read, self._errors)
        notes: list[str] = []
        while data := await asyncio.to_thread(_read, self.files.output, self._read):
            known = max(0, min(len(data), self._noted - self._read))
            if known:
                await asyncio.to_thread(self.reader.feed, data[:known])  # told already, before the daemon was restarted
            notes += [note.message for note in await asyncio.to_thread(self.reader.feed, data[known:])]
            self._read += len(data)
            if len(data) < PIECE:
                break
        self._errors = _size(self.files.errors)
        if notes:
            await self._on_notes(notes)
        if self._read > self._noted:
            self._noted = self._read
            await asyncio.to_thread(_note, self.files.directory, self._noted)
        return before != (self._read, self._errors)

    def _patience(self) -> int:
        """Seconds for which it may be silent and idle."""
        settings = self._settings
        return min(settings.result_grace, settings.no_progress) if self.reader.is_done else settings.no_progress

    def _breach(self) -> Breach | None:
        settings = self._settings
        if max(self._read, self._errors) >= settings.output_bytes // BLOCK * BLOCK:
            return Breach(
                Failure.OUTPUT_LIMIT,
                f"the agent wrote {settings.output_bytes:,} bytes of output, the most that agent.output_bytes allows; "
                f"its beginning is in {self.files.directory}",
            )
        if self._clock() - self._started >= settings.wall_clock:
            return Breach(
                Failure.TIMEOUT, f"the agent ran for {settings.wall_clock} s, the most that agent.wall_clock allows"
            )
        patience = self._patience()
        if self._progress.quiet < patience:
            return None
        if self.reader.is_done:
            # It has said all there is to say: ended for it, and judged by what it said.
            self._stop.set()
            return None
        return Breach(
            Failure.NO_PROGRESS,
            f"the agent neither wrote nor computed anything for {patience} s (agent.no_progress); it may wait for an "
            "answer that nobody gives: see `tasksd logs`",
        )


def free_bytes(path: Path) -> int:
    """Free on the file system of `path`, for this user."""
    return shutil.disk_usage(path).free


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _noted(directory: Path) -> int:
    """Up to where the output has been told as activity, by this daemon or one before it."""
    try:
        return int((directory / "noted").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _note(directory: Path, offset: int) -> None:
    draft = directory / "noted.draft"
    with contextlib.suppress(OSError):  # a full disk: a line of activity may be told twice
        draft.write_text(str(offset), encoding="ascii")
        draft.rename(directory / "noted")
