"""Ending a run for good: asking its agent, then killing whatever belongs to it until nothing is left."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tasks.process.environment import RUN_VARIABLE
from tasks.process.identity import Liveness, ProcessIdentity, probe
from tasks.process.runfiles import RunFiles, noted
from tasks.process.signalling import signal_process
from tasks.process.table import Entry, carriers, marked, table, writers_to_pipes_of
from tasks.process.watch import reap

T = TypeVar("T")

_SCANNING = threading.Lock()
#: seconds between two looks at a process that was asked to end
_POLL = 0.02
#: sweeps in a row that must find nothing, and looks of each: a chain of processes that fork and end at once slips
#: through a single one
_CALM = 2
_LOOKS = 100
#: seconds a shim may take for each step of its start
_STARTING = 5.0
#: seconds the shim has for what is left in its pipes, before we look who else holds them
_DRAINING = 0.2
#: rounds of stopping processes before they are killed
_FREEZES = 5


@dataclass(frozen=True, slots=True)
class Graces:
    """How long each step of `stop` waits, in seconds."""

    #: for the agent after SIGINT; the client then kills its tools and runs its SessionEnd hooks
    interrupt: float = 10.0
    #: for the agent after SIGTERM
    terminate: float = 5.0
    #: for all rounds of SIGKILL together
    kill: float = 10.0
    #: for the shim, to write what is left of the output and the exit status
    drain: float = 5.0


@dataclass(frozen=True, slots=True)
class StopReport:
    """What `stop` did."""

    #: signals sent, in order, each once
    steps: tuple[signal.Signals, ...]
    #: processes that got SIGKILL, those of the shim not counted
    killed: int
    #: what still lives: held in the kernel, or not ours to signal
    survivors: tuple[ProcessIdentity, ...]


async def stop(files: RunFiles, run: str, *, graces: Graces = Graces()) -> StopReport:
    """End the run with marker `run` (`<task id>.<attempt>`) in `files`, whatever state it is in; idempotent.

    SIGINT to the agent, then SIGTERM, then SIGKILL to all that belongs to the run, again and again until nothing does,
    each after its grace and each to the process it is meant for or to none. An agent that was not started yet never
    will be. Output and exit status are complete afterwards unless the shim had to be killed, too.

    To the run belong processes that carry its marker, and what can be seen of those without it while this goes on:
    descendants, members of the sessions those lead or led, the session of the shim, and who holds the agent's output.
    Out of reach: a process that cleared its environment, is in a session where nothing else of the run is, lost its
    parent before the stop began and closed its output; and processes of other users.
    """
    return await _Run(files, run).stop(graces)


async def sweep(files: RunFiles, run: str, *, grace: float = 2.0) -> int:
    """After the agent has ended: SIGTERM to what it left behind, SIGKILL after `grace` seconds; returns how many
    processes there were. The shim, free of them, then ends by itself. What belongs to a run: see `stop`.
    """
    return await _Run(files, run).sweep(grace)


@dataclass(slots=True)
class _Run:
    files: RunFiles
    marker: str
    #: all that was ever seen of the run, so that it is found when the tie it was found by is gone
    seen: set[ProcessIdentity] = field(default_factory=set)
    killed: set[ProcessIdentity] = field(default_factory=set)
    steps: list[signal.Signals] = field(default_factory=list)

    async def stop(self, graces: Graces) -> StopReport:
        if not await asyncio.to_thread(self.files.forbid_start):
            await self._ask_agent(graces)
        await self._kill_all(graces.kill)
        await self._end_shim(graces)
        await self._kill_all(graces.kill)
        return StopReport(tuple(self.steps), len(self.killed), tuple(await _scan(self._members)))

    async def sweep(self, grace: float) -> int:
        for member in (found := await _scan(self._members)):
            _send(member, signal.SIGTERM)
        await _until(lambda: all(map(_is_gone, found)), grace)
        await self._kill_all(Graces().kill)
        if shim := self.files.shim():
            await self._drain(shim, grace)
        return len(self.seen)

    async def _ask_agent(self, graces: Graces) -> None:
        # A shim on its way has made `started` before it writes in it, and that before it starts the agent.
        await _until(lambda: noted(self.files.started) is not None, _STARTING)
        await _until(lambda: noted(self.files.pid) is not None or self.files.shim() is None, _STARTING)
        for signum, grace in ((signal.SIGINT, graces.interrupt), (signal.SIGTERM, graces.terminate)):
            await _scan(self._members)
            agent = self.files.agent()
            if agent is None or not _send(agent, signum):
                return
            self.steps.append(signum)
            await _until(lambda agent=agent: _is_gone(agent), grace)  # type: ignore[misc]

    async def _kill_all(self, seconds: float) -> None:
        end, calm = time.monotonic() + seconds, 0
        while calm < _CALM and time.monotonic() < end:
            found = await _scan(self._kill_found)
            calm = 0 if found else calm + 1
            await _until(lambda found=found: all(map(_is_gone, found)), min(1.0, seconds))  # type: ignore[misc]

    def _kill_found(self) -> list[ProcessIdentity]:
        """One round; returns what it found. A stopped process neither forks nor leaves its children to init, so all
        are stopped first, and at once: some live for a moment only."""
        known: set[ProcessIdentity] = set()
        for carrier in carriers(RUN_VARIABLE, self.marker, looks=_LOOKS):
            signal_process(carrier, signal.SIGSTOP)
            known.add(carrier)
        for _ in range(_FREEZES):
            new = set(self._members()) - known
            if not new:
                break
            for member in new:
                signal_process(member, signal.SIGSTOP)
            known |= new
        self._kill(known)
        return list(known)

    def _kill(self, members: Iterable[ProcessIdentity]) -> None:
        for member in members:
            if signal_process(member, signal.SIGKILL):
                self.killed.add(member)
                if signal.SIGKILL not in self.steps:
                    self.steps.append(signal.SIGKILL)

    async def _end_shim(self, graces: Graces) -> None:
        shim = noted(self.files.started)
        if shim is None:
            return
        if not await self._drain(shim, graces.drain):
            for process in await _scan(self._family):
                signal_process(process.identity, signal.SIGKILL)
            await _until(lambda: _is_gone(shim), graces.kill)
        reap(shim)

    async def _drain(self, shim: ProcessIdentity, seconds: float) -> bool:
        """Let the shim end by itself. What keeps it from that, by holding the output, was found by nothing else: kill it."""
        end = time.monotonic() + seconds
        while not await _until(lambda: _is_gone(shim), _DRAINING):
            self._kill(await _scan(self._holders))
            await self._kill_all(seconds)
            if time.monotonic() > end:
                return _is_gone(shim)
        return True

    def _holders(self) -> list[ProcessIdentity]:
        processes = table()
        family = {entry.identity.pid for entry in self._family(processes)}
        held = writers_to_pipes_of(family) - family - {os.getpid()}
        found = [processes[pid].identity for pid in held if pid in processes]
        self.seen.update(found)
        return found

    def _family(self, processes: dict[int, Entry] | None = None) -> list[Entry]:
        """The shim and its own processes: what descends from it, but not through the agent."""
        processes = table() if processes is None else processes
        shim, agent = noted(self.files.started), self.files.agent()
        if shim is None or shim.pid not in processes or processes[shim.pid].identity != shim:
            return []
        family = {shim.pid}
        outside = {identity.pid for identity in self.seen} | ({agent.pid} if agent else set())
        while new := {p for p, e in processes.items() if e.parent in family and p not in family and p not in outside}:
            family |= new
        return [processes[pid] for pid in family]

    def _members(self) -> list[ProcessIdentity]:
        """All that belongs to the run now, as far as can be seen; see `stop`."""
        carriers = set(marked(RUN_VARIABLE, self.marker))
        processes = table()
        self.seen |= carriers
        if agent := self.files.agent():
            self.seen.add(agent)
        family = {entry.identity.pid for entry in self._family(processes)}
        shim = noted(self.files.started)
        apart = family | {os.getpid(), 1} | _ancestors(os.getpid(), processes)
        members = {one.pid for one in self.seen if one.pid in processes and processes[one.pid].identity == one}
        while True:
            sessions = _sessions_of(members, processes)
            if shim is not None and shim.pid in family:
                sessions.add(shim.pid)
            new = {
                pid
                for pid, entry in processes.items()
                if pid not in members and pid not in apart and (entry.parent in members or entry.session in sessions)
            }
            if not new:
                break
            members |= new
        members -= apart
        self.seen |= {processes[pid].identity for pid in members}
        return [processes[pid].identity for pid in members]


def _sessions_of(members: set[int], processes: dict[int, Entry]) -> set[int]:
    """Sessions that a member leads, or that hold one and whose leader is gone: its number is not given to another
    process while the session lasts, so a member of it proves what it was."""
    sessions = {processes[pid].session for pid in members}
    return {session for session in sessions if session in members or session not in processes} - {0}


def _ancestors(pid: int, processes: dict[int, Entry]) -> set[int]:
    found: set[int] = set()
    while pid in processes and pid not in found:
        found.add(pid)
        pid = processes[pid].parent
    return found


async def _scan(look: Callable[[], T]) -> T:
    """One at a time: threads that contend for the interpreter are too slow for what lives for a moment."""

    def locked() -> T:
        with _SCANNING:
            return look()

    return await asyncio.to_thread(locked)


def _send(identity: ProcessIdentity, signum: signal.Signals) -> bool:
    """Signal it, and let it go on if it was stopped: it could not see the signal."""
    return signal_process(identity, signum) and (signal_process(identity, signal.SIGCONT) or True)


def _is_gone(identity: ProcessIdentity) -> bool:
    return probe(identity) is Liveness.GONE


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(_POLL)
    return met
