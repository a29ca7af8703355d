"""Agents that resist, in numbers, with their daemon killed: none is lost, none is started twice, none survives its end."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tasks import process
from tasks.errors import SpawnError
from tasks.process import Graces, Liveness, ProcessIdentity, RunFiles, Watch

from .rig import keeper, torture
from .rig.namespace import Namespace
from .rig.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

POOL = 8
TAME = [trait for trait in torture.TRAITS if trait not in ("chain", "storm")]
SHORT = Graces(interrupt=0.2, terminate=0.2, kill=10.0, drain=4.0)
STOP_LIMIT = 15.0  # seconds
GIB = 1 << 30
MANY = [pytest.mark.slow, pytest.mark.timeout(1800)]


def in_uvloop(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


class Run:
    """One run of an agent: what it is to do, and what must be true of it."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *argv: str,
        status: int | None = None,
        traits: Sequence[str] = torture.TRAITS,
    ) -> None:
        self.files = RunFiles(folder / "runs" / name)
        self.marker = f"{folder.name}{name}.1"
        self.ledger = folder / f"ledger-{name}"
        self.argv = [*argv] or [
            sys.executable,
            "-I",
            "-S",
            torture.__file__,
            str(self.ledger),
            ",".join(traits),
        ]
        #: what it ends with by itself; None: it must be stopped
        self.status = status

    def noted(self) -> list[tuple[ProcessIdentity, str]]:
        """All processes it ever made."""
        if not self.ledger.exists():
            return []
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(ProcessIdentity(int(pid), int(start), process.boot_id()), kind) for pid, start, kind in lines]

    def survivors(self) -> list[tuple[ProcessIdentity, str]]:
        """Those of them that live, and those of which nothing is known but the marker."""
        carriers = [(one, "marked") for one in process.marked(process.RUN_VARIABLE, self.marker)]
        return [one for one in self.noted() if process.probe(one[0]) is not Liveness.GONE] + carriers

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return self.files.output.read_bytes() == b"up\n"
        return False

    def spawn(self, **options: Any) -> ProcessIdentity:
        options = {"cwd": Path("/"), "stdin": None, "output_bytes": 1 << 20, **options}
        environ = {"PATH": os.environ["PATH"], process.RUN_VARIABLE: self.marker}
        return process.spawn(self.files, self.argv, environ=environ, **options)

    def end(self) -> None:
        """Whatever a failed test left of it."""
        if self.files.exit_status() is not None and self.files.shim() is None and not self.survivors():
            return
        asyncio.run(process.stop(self.files, self.marker, graces=Graces(0, 0, 5, 1)))
        for identity, _ in self.survivors():
            process.signal_process(identity, signal.SIGKILL)


@pytest.fixture
def new_run(folder: Path) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(name: str, *argv: str, **options: Any) -> Run:
        made.append(Run(folder, name, *argv, **options))
        return made[-1]

    yield make
    for run in made:
        run.end()


class Keeper:
    """A daemon that only starts agents."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, runs: list[Run]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([[str(r.files.directory), r.marker, r.argv] for r in runs]) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def zombies() -> list[int]:
    return [pid for pid, state in children() if state == "Z"]


def children() -> list[tuple[int, str]]:
    """Our children and their states. Those of all threads: /proc/self/task/<pid>/children is about one."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
            if parent == str(os.getpid()):
                found.append((int(name), state))
    return found


# P3: nothing survives its end


@pytest.mark.parametrize("trait", torture.TRAITS)
def test_no_process_of_that_kind_survives_a_stop(new_run: Callable[..., Run], folder: Path, trait: str) -> None:
    run = new_run("1", sys.executable, "-I", "-S", torture.__file__, str(folder / "ledger-1"), trait)
    shim = run.spawn()
    until(run.is_up, "the whole tree")
    report = asyncio.run(process.stop(run.files, run.marker, graces=SHORT))
    assert report.survivors == ()
    assert run.survivors() == []
    assert {kind for _, kind in run.noted()} >= {"agent", trait}
    assert report.steps == (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    assert run.files.exit_status() == 128 + signal.SIGKILL
    assert process.probe(shim) is Liveness.GONE


@pytest.mark.parametrize("trait", ["deaf", "session", "orphan", "daemon", "cleared-holder", "chain", "storm"])
def test_no_process_of_that_kind_survives_when_the_agent_is_gone(
    new_run: Callable[..., Run], folder: Path, trait: str
) -> None:
    # The other kinds had only their parent or the shim, now gone, to tie them to the run.
    run = new_run("1", sys.executable, "-I", "-S", torture.__file__, str(folder / "ledger-1"), trait)
    shim = run.spawn()
    until(run.is_up, "the whole tree")
    agent = run.files.agent()
    assert agent is not None
    process.signal_process(agent, signal.SIGKILL)
    until(lambda: run.files.exit_status(), "the exit status")

    async def sweep() -> None:
        assert await process.sweep(run.files, run.marker, grace=0.2) >= 1
        assert await Watch(shim, run.files).wait(10)

    asyncio.run(sweep())
    assert run.survivors() == []


# T11 with P2: the daemon killed at any moment


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=MANY)], ids=["few", "many"])
def test_agents_of_a_killed_daemon_are_found_again_and_end(
    new_run: Callable[..., Run], folder: Path, rounds: int
) -> None:
    chance = random.Random(1)
    found = {"adopted": 0, "ended": 0, "never started": 0}

    async def recover(run: Run) -> None:
        started_at = time.monotonic()
        if await asyncio.to_thread(run.files.forbid_start):
            found["never started"] += 1
            return
        shim = run.files.shim()
        found["adopted" if shim else "ended"] += 1
        watch = None if shim is None else Watch(shim, run.files)
        if run.status is None:
            report = await process.stop(run.files, run.marker, graces=SHORT)
            assert report.survivors == ()
            assert time.monotonic() - started_at < STOP_LIMIT
        else:
            assert watch is None or await watch.ended(20)
            assert run.files.exit_status() == run.status
            await process.sweep(run.files, run.marker, grace=0.2)
        assert watch is None or await watch.wait(20)
        with pytest.raises(SpawnError):
            await asyncio.to_thread(run.spawn)

    async def recover_all(runs: list[Run]) -> None:
        await asyncio.gather(*map(recover, runs))

    for number in range(rounds):
        go = folder / f"go-{number}"
        runs = []
        for n in range(POOL):
            name = f"{number}-{n}"
            note = f"echo $$ $(cut -d' ' -f22 /proc/$$/stat) agent >>{folder}/ledger-{name}"
            match n % 4:
                case 0 | 1:
                    runs.append(new_run(name, traits=torture.TRAITS if n == 0 else TAME))
                case 2:
                    runs.append(new_run(name, "sh", "-c", f"{note}; exit {n}", status=n))
                case _:
                    script = f"{note}; until [ -e {go} ]; do sleep 0.02; done; exit {n}"
                    runs.append(new_run(name, "sh", "-c", script, status=n))
        daemon = Keeper()
        daemon.start(runs)
        time.sleep(chance.choice((chance.uniform(0, 0.04), chance.uniform(0, 0.4))))  # any moment
        daemon.kill()
        go.touch()
        in_uvloop(recover_all(runs))
        for run in runs:
            starts = [kind for _, kind in run.noted()].count("agent")
            assert starts <= 1
            assert starts == 0 or run.files.was_started()
            assert run.survivors() == []
            assert process.marked(process.RUN_VARIABLE, run.marker) == []
    assert sum(found.values()) == rounds * POOL
    assert all(found.values()), found  # otherwise the moments were ill chosen


# P4


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=MANY)], ids=["few", "many"])
def test_many_short_runs_leave_no_zombie_and_never_exceed_the_pool(new_run: Callable[..., Run], count: int) -> None:
    runs = [new_run(str(n), "sh", "-c", f"exit {n % 200}") for n in range(count)]
    most = 0

    async def carry_out(run: Run, slots: asyncio.Semaphore) -> None:
        nonlocal most
        async with slots:
            shim = await asyncio.to_thread(run.spawn)
            watch = Watch(shim, run.files)
            most = max(most, len(children()))
            assert await watch.wait(30)

    async def all_of_them() -> None:
        slots = asyncio.Semaphore(POOL)
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(carry_out(run, slots))

    descriptors = len(os.listdir("/proc/self/fd"))
    in_uvloop(all_of_them())
    assert [run.files.exit_status() for run in runs] == [n % 200 for n in range(count)]
    assert zombies() == []
    assert 1 < most <= POOL + 1  # one may be reaped a moment after its slot was given away
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


# P5: output


def test_a_gibibyte_of_output_without_a_daemon_is_bounded_and_holds_nobody_up(new_run: Callable[..., Run]) -> None:
    script = f"head -c {GIB} /dev/zero; echo $? >&2; head -c {GIB // 8} /dev/zero >&2; exit 3"
    run = new_run("1", "sh", "-c", script)
    daemon = Keeper()
    daemon.start([run])
    assert daemon.hear() == "started"
    daemon.kill()
    until(lambda: run.files.exit_status() is not None, "the end of the agent", timeout=60)
    until(lambda: run.files.shim() is None, "the end of the shim")
    assert run.files.exit_status() == 3
    assert run.files.errors.read_bytes()[:2] == b"0\n"
    assert run.files.output.stat().st_size == run.files.errors.stat().st_size == 1 << 20


def test_an_agent_goes_on_when_what_keeps_its_output_is_killed(new_run: Callable[..., Run], folder: Path) -> None:
    go = folder / "go"
    script = f"echo up; until [ -e {go} ]; do sleep 0.02; done; head -c 10000000 /dev/zero; echo $? >&2; exit 4"
    run = new_run("1", "sh", "-c", script)
    shim = run.spawn()
    until(run.is_up, "the agent")
    killed = [pid for pid in _descendants(shim.pid) if Path(f"/proc/{pid}/comm").read_text() == "cat\n"]
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    go.touch()

    async def end() -> None:
        assert await Watch(shim, run.files).wait(20)

    asyncio.run(end())
    assert run.files.exit_status() == 4
    assert run.files.output.read_bytes() == b"up\n"


def test_the_exit_status_is_noted_on_a_full_disk(folder: Path) -> None:
    place = folder / "small"
    place.mkdir()
    namespace = Namespace(f"mount -t tmpfs -o size=256k tmpfs {place}")
    try:
        directory = place / "runs" / "1"
        source = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "import asyncio\nfrom pathlib import Path\nfrom tasks.process import RunFiles, Watch, spawn\n"
            "async def main():\n"
            f"    files = RunFiles(Path({str(directory)!r}))\n"
            "    argv = ['sh', '-c', 'head -c 1000000 /dev/zero || exit 1; exit 3']\n"
            "    environ = {'PATH': '/usr/bin:/bin'}\n"
            "    shim = spawn(files, argv, cwd=Path('/'), environ=environ, stdin=None, output_bytes=1 << 30)\n"
            "    assert await Watch(shim, files).wait(20)\n"
            "    print(files.exit_status(), files.output.stat().st_size)\n"
            "asyncio.run(main())\n"
        )
        done = subprocess.run(
            [*namespace.prefix, sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        status, size = map(int, done.stdout.split())
        assert status == 3
        assert 0 < size < 256 << 10
    finally:
        namespace.close()


def _descendants(pid: int) -> list[int]:
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        found += [child, *_descendants(child)]
    return found
