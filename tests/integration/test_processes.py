"""Agents under their shim, as real processes: what they inherit, what is kept of them, how they are watched and ended."""

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from tasks import process
from tasks.errors import SpawnError
from tasks.process import Graces, Liveness, ProcessIdentity, RunFiles, StopReport, Watch

from .conftest import Eventually, Programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

T = TypeVar("T")
InLoop = Callable[[Coroutine[Any, Any, T]], T]
SHORT = Graces(interrupt=0.5, terminate=0.5, kill=10.0, drain=4.0)
PYTHON = (sys.executable, "-I", "-S", "-c")
#: keeps a shell busy until somebody ends it
FOREVER = "while :; do sleep 0.05; done"


class Agents:
    """Runs of one test, ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cwd = folder / "worktree"
        self.cwd.mkdir()
        self.runs: list[tuple[RunFiles, str]] = []
        self.started: list[ProcessIdentity] = []

    def files(self) -> RunFiles:
        number = len(self.runs) + 1
        # Unique among all tests on this machine: runs are found by it.
        run = f"test{os.getpid()}.{number}"
        self.runs.append((RunFiles(self.folder / "runs" / str(number)), run))
        return self.runs[-1][0]

    @property
    def run(self) -> str:
        """The marker of the latest run."""
        return self.runs[-1][1]

    def start(self, *argv: str, **options: Any) -> tuple[ProcessIdentity, RunFiles]:
        files = options.pop("files", None) or self.files()
        environ = {"PATH": os.environ["PATH"], process.RUN_VARIABLE: self.run, process.TASK_VARIABLE: "abc123"}
        environ |= options.pop("environ", {})
        options = {"cwd": self.cwd, "stdin": None, "output_bytes": 1 << 20, **options}
        self.started.append(process.spawn(files, argv, environ=environ, **options))
        return self.started[-1], files

    def finish(self, *argv: str, **options: Any) -> RunFiles:
        """Run it to its end."""
        shim, files = self.start(*argv, **options)
        asyncio.run(_end_of(shim, files))
        return files

    def close(self) -> None:
        for files, run in self.runs:
            if files.directory.parent.is_dir():
                asyncio.run(process.stop(files, run, graces=Graces(0, 0, 5, 1)))
        for shim in self.started:
            process.reap(shim)


async def _end_of(shim: ProcessIdentity, files: RunFiles) -> None:
    assert await Watch(shim, files).wait(20), "the shim did not end in time"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def in_loop(request: pytest.FixtureRequest) -> InLoop[Any]:
    """Runs a coroutine in a new event loop of either kind."""

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run


def is_alive(identity: ProcessIdentity) -> bool:
    return process.probe(identity) is Liveness.ALIVE


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


# What an agent inherits


STARTER = """
import asyncio, os, signal
from pathlib import Path
from tasks import process
if args[2] == "ignoring":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGQUIT])
held = [os.dup(1) for _ in range(20)]
for descriptor in held:
    os.set_inheritable(descriptor, True)
os.umask(0o077)
files = process.RunFiles(Path(args[0]))
shim = process.spawn(files, args[3:], cwd=Path(args[1]), environ={"PATH": os.environ["PATH"]}, stdin=None, output_bytes=1 << 20)
async def main():
    assert await process.Watch(shim, files).wait(20)
asyncio.run(main())
"""


@pytest.mark.parametrize("starter", ["plain", "ignoring"])
def test_an_agent_has_every_signal_at_its_default_and_none_blocked(
    programs: Programs, agents: Agents, starter: str
) -> None:
    files = agents.files()
    done = programs.run(STARTER, files.directory, agents.cwd, starter, "cat", "/proc/self/status")
    assert done.returncode == 0, done.stderr
    sets = dict(line.split(":\t") for line in files.output.read_text().splitlines() if line.startswith("Sig"))
    assert {sets["SigIgn"], sets["SigBlk"], sets["SigCgt"], sets["SigPnd"]} == {"0" * 16}


@pytest.mark.parametrize("starter", ["plain", "ignoring"])
def test_an_agent_has_three_file_descriptors(programs: Programs, agents: Agents, starter: str) -> None:
    files = agents.files()
    look = (
        "import os\n"
        "for n in range(256):\n"
        "    try: os.fstat(n)\n"
        "    except OSError: continue\n"
        "    print(n, os.readlink(f'/proc/self/fd/{n}').split(':')[0])"
    )
    programs.run(STARTER, files.directory, agents.cwd, starter, *PYTHON, look)
    assert files.output.read_text() == "0 /dev/null\n1 pipe\n2 pipe\n"


def test_an_agent_makes_files_as_its_user_does(programs: Programs, agents: Agents) -> None:
    files = agents.files()
    programs.run(STARTER, files.directory, agents.cwd, "plain", "touch", "made")
    assert stat.S_IMODE((agents.cwd / "made").stat().st_mode) == 0o644
    agents.finish("touch", "narrow", umask=0o027)
    assert stat.S_IMODE((agents.cwd / "narrow").stat().st_mode) == 0o640


def test_an_agent_is_not_bound_in_the_size_of_its_files(agents: Agents) -> None:
    files = agents.finish("cat", "/proc/self/limits", output_bytes=4096)
    limit = next(line for line in files.output.read_text().splitlines() if line.startswith("Max file size"))
    mine = next(line for line in Path("/proc/self/limits").read_text().splitlines() if line.startswith("Max file size"))
    assert limit == mine


def test_an_agent_is_in_a_session_of_its_own(agents: Agents) -> None:
    shim, files = agents.start(*PYTHON, "import os; print(os.getsid(0), os.getpgid(0), os.getcwd())")
    asyncio.run(_end_of(shim, files))
    assert files.output.read_text().split() == [str(shim.pid), str(shim.pid), str(agents.cwd)]


def test_an_agent_has_the_environment_it_was_given(agents: Agents) -> None:
    given = {
        "EMPTY": "",
        "LINES2": "a\nb",
        "RAW": "\udcff",
        "SHELLOPTS": "xtrace:noexec",
        "dir": "theirs",
        "stat": "theirs",
        "not-a-name": "x",
        "PWD": "/elsewhere",
    }
    files = agents.finish(*PYTHON, "import json, os; print(json.dumps(dict(os.environ)))", environ=given)
    seen = json.loads(files.output.read_text())
    for name in ("SHLVL", "OLDPWD", "_", "LC_CTYPE"):  # some shells, and Python itself, add these
        seen.pop(name, None)
    expected = {name: value for name, value in given.items() if name not in ("SHELLOPTS", "not-a-name")}
    expected |= {"PATH": os.environ["PATH"], "PWD": str(agents.cwd)}
    assert seen == {**expected, process.RUN_VARIABLE: agents.run, process.TASK_VARIABLE: "abc123"}


def test_arguments_arrive_as_given(agents: Agents) -> None:
    arguments = ["", "-n", "--", "a b", "$(exit 9)", "`x`", "'\"", "é", "new\nline", "*", "\udcff"]
    files = agents.finish(*PYTHON, "import json, sys; print(json.dumps(sys.argv[1:]))", *arguments)
    assert json.loads(files.output.read_text()) == arguments


def test_standard_input_is_the_file_or_empty(agents: Agents, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("what is asked")
    assert agents.finish("cat", stdin=tmp_path / "prompt").output.read_text() == "what is asked"
    assert agents.finish("cat").output.read_text() == ""


# What is kept


def test_output_and_errors_are_kept_apart_and_private(agents: Agents) -> None:
    files = agents.finish("sh", "-c", "echo said; echo wrong >&2")
    assert (files.output.read_text(), files.errors.read_text()) == ("said\n", "wrong\n")
    assert {stat.S_IMODE(one.stat().st_mode) for one in files.directory.iterdir()} == {0o600}
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert {one.name for one in files.directory.iterdir()} == {"started", "pid", "output", "errors", "exit"}


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 8", 8), ("exit 255", 255), *((f"kill -{n} $$", 128 + n) for n in (1, 2, 9, 10, 13, 15, 25))],
)
def test_the_exit_status_is_noted(agents: Agents, script: str, status: int) -> None:
    assert agents.finish("sh", "-c", script).exit_status() == status


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_any_posix_shell_will_do(agents: Agents, shell: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    from tasks.process import shim

    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not here")
    sh = tmp_path / "bin" / "sh"
    sh.parent.mkdir()
    sh.symlink_to(found)
    monkeypatch.setattr(shim, "SHELL", str(sh))
    script = "trap 'exit 7' INT; echo said; echo wrong >&2; head -c 100000 /dev/zero; kill -INT $$; exit 9"
    files = agents.finish("sh", "-c", script, output_bytes=8192)
    assert files.exit_status() == 7
    assert (files.output.read_bytes()[:5], files.errors.read_text()) == (b"said\n", "wrong\n")
    assert files.output.stat().st_size in (8192, 16384)
    status = agents.finish("cat", "/proc/self/status").output.read_text()
    assert "SigIgn:\t0000000000000000" in status


def test_a_program_that_cannot_be_executed_is_said_in_errors(agents: Agents, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    files = agents.finish(str(script))
    assert files.exit_status() in (126, 127)
    assert "script" in files.errors.read_text()


def test_output_ends_at_its_limit_and_the_agent_goes_on(agents: Agents) -> None:
    script = "import os, sys\nfor n in range(200): os.write(1, b'%07d\\n' % n * 1000)\nprint('done', file=sys.stderr)"
    files = agents.finish(*PYTHON, script, output_bytes=64 << 10)
    assert files.exit_status() == 0
    assert files.errors.read_text() == "done\n"
    assert files.output.stat().st_size == 64 << 10
    assert files.output.read_bytes()[:8] == b"0000000\n"


def test_the_exit_status_is_noted_while_something_holds_the_output(agents: Agents, in_loop: InLoop[None]) -> None:
    shim, files = agents.start("sh", "-c", f"({FOREVER}) & echo said; exit 5")

    async def watch() -> None:
        watch = Watch(shim, files)
        assert await watch.ended(10)
        assert files.exit_status() == 5
        assert not await watch.wait(0.1)
        assert await process.sweep(files, agents.run, grace=1) >= 1
        assert await watch.wait(10)

    in_loop(watch())
    assert files.output.read_text() == "said\n"
    assert not process.marked(process.RUN_VARIABLE, agents.run)


def test_a_signal_to_the_whole_group_ends_the_agent_and_is_noted(agents: Agents, eventually: Eventually) -> None:
    shim, files = agents.start("sh", "-c", "echo up; exec sleep 60")
    eventually(lambda: files.output.exists() and files.output.read_text())
    os.killpg(shim.pid, signal.SIGTERM)
    asyncio.run(_end_of(shim, files))
    assert files.exit_status() == 128 + signal.SIGTERM


# Starting, once or not at all


def test_a_run_is_not_started_twice(agents: Agents) -> None:
    files = agents.finish("true")
    assert files.was_started()
    with pytest.raises(SpawnError, match="second time"):
        agents.start("true", files=files)
    assert not files.forbid_start()


class Unprepared(RunFiles):
    def prepare(self) -> None:
        """As if the prohibition had come right after."""


def test_a_shim_on_its_way_respects_the_prohibition_to_start(agents: Agents) -> None:
    files = agents.files()
    assert files.forbid_start()
    assert files.forbid_start()
    assert not files.was_started()
    agents.finish("touch", "made", files=Unprepared(files.directory))
    assert not (agents.cwd / "made").exists()
    assert not files.was_started()
    assert files.exit_status() is None
    with pytest.raises(SpawnError):
        agents.start("true", files=files)


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        (["no-such-program"], {}, r"no-such-program in .*worktree: it is not on PATH"),
        (["./no-such-program"], {}, r"no-such-program in .*worktree: it is not an executable file"),
        (["/dev/null"], {}, "not an executable file"),
        (["true"], {"cwd": Path("/no/such/place")}, "start true in /no/such/place"),
        (["true"], {"stdin": Path("/no/such/prompt")}, "/no/such/prompt"),
        (["true", "a\0b"], {}, "NUL"),
        (["true", "x" * (4 << 20)], {}, "Argument list too long"),
    ],
)
def test_what_cannot_be_started_is_said(agents: Agents, argv: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpawnError, match=message):
        agents.start(*argv, **options)
    assert not agents.runs[-1][0].was_started()
    assert not zombies()


def test_a_directory_that_cannot_be_made_is_said(agents: Agents, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    agents.runs.append((RunFiles(tmp_path / "file" / "1"), "none"))
    with pytest.raises(SpawnError, match="cannot make"):
        agents.start("true", files=agents.runs[-1][0])


def test_a_program_is_looked_for_where_the_agent_works(agents: Agents) -> None:
    program = agents.cwd / "tool"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    assert agents.finish("./tool").output.read_text() == "here\n"
    assert agents.finish("tool", environ={"PATH": f"{os.environ['PATH']}:."}).output.read_text() == "here\n"


# Watching


@pytest.fixture(params=["pidfd", "polling"])
def way_of_watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(38, "Function not implemented")

    if request.param == "polling":
        monkeypatch.setattr(os, "pidfd_open", refuse)
    return str(request.param)


@pytest.mark.usefixtures("way_of_watching")
def test_a_watch_sees_the_end_of_our_child_and_reaps_it(agents: Agents, in_loop: InLoop[None]) -> None:
    shim, files = agents.start("sh", "-c", "read line; exit 3", stdin=None)

    async def watch() -> None:
        watch = Watch(shim, files)
        assert await watch.wait(20)
        assert await watch.wait(0)
        assert await watch.ended(0)
        watch.close()

    in_loop(watch())
    assert files.exit_status() == 3
    assert not zombies()


@pytest.mark.usefixtures("way_of_watching")
def test_a_watch_sees_the_end_of_a_run_whose_starter_is_dead(
    programs: Programs, agents: Agents, in_loop: InLoop[None]
) -> None:
    files = agents.files()
    starter = programs.start(STARTER, files.directory, agents.cwd, "plain", "sh", "-c", FOREVER)

    async def adopt() -> None:
        while (shim := files.shim()) is None or (agent := files.agent()) is None:
            await asyncio.sleep(0.005)
        starter.kill()
        starter.wait()
        watch = Watch(shim, files)
        assert not await watch.wait(0.05)
        assert is_alive(agent)
        assert process.signal_process(agent, signal.SIGTERM)
        assert await watch.wait(20)

    in_loop(adopt())
    assert files.exit_status() == 128 + signal.SIGTERM


def test_a_watch_of_what_is_gone_or_of_another_process_ends_at_once(agents: Agents, in_loop: InLoop[None]) -> None:
    files = agents.files()

    async def watch() -> None:
        me = process.identify(os.getpid())
        assert me is not None
        stranger = ProcessIdentity(pid=me.pid, started=me.started - 1, boot=me.boot)
        assert await Watch(stranger, files).wait(5)

    in_loop(watch())


def test_a_cancelled_wait_can_be_taken_up_again(agents: Agents, in_loop: InLoop[None]) -> None:
    shim, files = agents.start("sh", "-c", FOREVER)

    async def watch() -> None:
        watch = Watch(shim, files)
        waiting = asyncio.create_task(watch.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await process.stop(files, agents.run, graces=SHORT)
        assert await watch.wait(10)
        watch.close()
        watch.close()

    in_loop(watch())


# Finding and measuring


def test_a_run_is_found_by_its_marker_and_its_shim_is_not(agents: Agents, eventually: Eventually) -> None:
    shim, files = agents.start("sh", "-c", FOREVER)
    eventually(lambda: files.agent() is not None)
    eventually(lambda: files.agent() in process.marked(process.RUN_VARIABLE, agents.run))
    assert shim not in process.marked(process.RUN_VARIABLE, agents.run)
    assert process.marked(process.RUN_VARIABLE, agents.run[:-1]) == []
    assert process.marked(process.RUN_VARIABLE, agents.run + "0") == []
    assert process.marked("UNS_RUN", agents.run) == []


def test_nobody_finds_himself_by_a_marker(programs: Programs) -> None:
    source = (
        "from tasks import process; import os\n"
        "say(process.marked('HOME', os.environ['HOME']).count(process.identify(os.getpid())))"
    )
    assert programs.run(source).stdout == "0\n"


def test_cpu_time_counts_a_process_and_the_children_it_waited_for(agents: Agents, eventually: Eventually) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = (
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    _, files = agents.start(*PYTHON, script)
    eventually(lambda: files.output.exists() and files.output.read_text())
    agent = files.agent()
    assert agent is not None
    assert process.cpu_seconds([agent]) >= 0.28
    assert process.cpu_seconds([ProcessIdentity(agent.pid, agent.started + 1, agent.boot)]) == 0
    assert process.cpu_seconds([]) == 0


# Signals and ends


def test_a_signal_reaches_exactly_the_process_it_is_for() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = process.identify(child.pid)
        assert identity is not None
        later = ProcessIdentity(identity.pid, identity.started + 1, identity.boot)
        earlier_boot = ProcessIdentity(identity.pid, identity.started, "another")
        assert not process.signal_process(later, signal.SIGKILL)
        assert not process.signal_process(earlier_boot, signal.SIGKILL)
        assert child.poll() is None
        assert process.signal_process(identity, signal.SIGTERM)
        while is_alive(identity):
            time.sleep(0.005)
        assert not process.signal_process(identity, signal.SIGTERM)  # a zombie
        assert child.wait() == -signal.SIGTERM


RECYCLE = """
import asyncio, contextlib, os, signal, subprocess, sys, time
from pathlib import Path
from tasks import process

def recycle(pid):
    '''Start a stranger under that number, which nobody has any more.'''
    for _ in range(200):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError as error:
            say("SKIP", error); raise SystemExit
        # A session leader with a member, neither of which has anything to do with the run.
        stranger = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
        if stranger.pid == pid:
            return stranger
        stranger.kill(); stranger.wait()
    say("SKIP no luck with the number"); raise SystemExit

def members(stranger):
    return Path(f"/proc/{stranger.pid}/task/{stranger.pid}/children").read_text().split()

def kill_everybody():
    while pids := [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError): os.waitpid(pid, os.WNOHANG)  # we are init here

async def main():
    files = process.RunFiles(Path(args[0]))
    environ = {"PATH": os.environ["PATH"], "TASKS_RUN": "recycled.1"}
    shim = process.spawn(
        files, ["sleep", "600"], cwd=Path("/"), environ=environ, stdin=None, output_bytes=4096
    )
    while (agent := files.agent()) is None: await asyncio.sleep(0.005)
    # Within one tick of the kernel's clock two processes of one pid look the same; the system needs longer to reuse it.
    while time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") < agent.started + 2: await asyncio.sleep(0.005)
    kill_everybody()
    strangers = [recycle(agent.pid), recycle(shim.pid)]
    before = [members(stranger) for stranger in strangers]
    while not all(before):
        await asyncio.sleep(0.005)
        before = [members(stranger) for stranger in strangers]
    assert process.probe(agent) is process.probe(shim) is process.Liveness.GONE
    assert process.identify(agent.pid) and process.identify(shim.pid)
    assert files.agent() is None and files.shim() is None
    assert not process.signal_process(agent, signal.SIGKILL)
    assert await process.Watch(shim, files).wait(1)
    report = await process.stop(files, "recycled.1", graces=process.Graces(1, 1, 2, 1))
    assert report == process.StopReport((), 0, ()), report
    assert await process.sweep(files, "recycled.1", grace=0.1) == 0
    assert [stranger.poll() for stranger in strangers] == [None, None]
    assert [members(stranger) for stranger in strangers] == before
    say("the strangers live")
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="sets the next pid of a namespace")
def test_a_stranger_under_a_recycled_pid_is_never_signalled(programs: Programs, tmp_path: Path) -> None:
    done = programs.run(RECYCLE, tmp_path / "run", prefix=programs.unshared("-pf", "--kill-child", "--mount-proc"))
    assert done.stdout == "the strangers live\n", done.stderr


def stopped(agents: Agents, files: RunFiles) -> Coroutine[Any, Any, StopReport]:
    return process.stop(files, agents.run, graces=SHORT)


@pytest.mark.parametrize(
    ("script", "steps", "status"),
    [
        ("trap 'exit 1' INT", [signal.SIGINT], 1),
        ("trap '' INT; trap 'exit 143' TERM", [signal.SIGINT, signal.SIGTERM], 143),
        ("trap '' INT TERM", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], 137),
    ],
)
def test_an_agent_is_asked_before_it_is_killed(
    agents: Agents, in_loop: InLoop[StopReport], eventually: Eventually, script: str, steps: list[int], status: int
) -> None:
    # The loop is a builtin's, so that no child of the shell needs killing.
    shim, files = agents.start(*PYTHON, _trapping(script))
    eventually(lambda: files.output.exists() and files.output.read_text())
    report = in_loop(stopped(agents, files))
    assert list(report.steps) == steps
    assert report.survivors == ()
    assert files.exit_status() == status
    assert not is_alive(shim)
    assert not zombies()


def _trapping(script: str) -> str:
    """A Python program that does what the traps of `script` say, and has no children."""
    ignored = "".join(
        f"signal.signal(signal.SIG{name}, signal.SIG_IGN)\n"
        for name in ("INT", "TERM")
        if f"'' {name}" in script or "'' INT TERM" in script
    )
    ends = "".join(
        f"signal.signal(signal.SIG{name}, lambda *_: os._exit({code}))\n"
        for name, code in (("INT", 1), ("TERM", 143))
        if f"'exit {code}' {name}" in script
    )
    return f"import os, signal, time\n{ignored}{ends}print('up', flush=True)\nwhile True: time.sleep(1)"


def test_a_suspended_agent_is_asked_too(agents: Agents, in_loop: InLoop[StopReport], eventually: Eventually) -> None:
    _, files = agents.start(*PYTHON, _trapping("trap 'exit 1' INT"))
    eventually(lambda: files.output.exists() and files.output.read_text())
    agent = files.agent()
    assert agent is not None
    assert process.signal_process(agent, signal.SIGSTOP)
    report = in_loop(stopped(agents, files))
    assert (report.steps, files.exit_status()) == ((signal.SIGINT,), 1)


def test_stopping_what_was_never_started_keeps_it_from_starting(agents: Agents, in_loop: InLoop[StopReport]) -> None:
    files = agents.files()
    assert in_loop(stopped(agents, files)) == StopReport((), 0, ())
    with pytest.raises(SpawnError):
        agents.start("true", files=files)


def test_stopping_at_the_moment_of_the_start_leaves_nothing(agents: Agents, in_loop: InLoop[Any]) -> None:
    async def run() -> None:
        for _ in range(10):
            shim, files = await asyncio.to_thread(agents.start, "sh", "-c", FOREVER)
            report = await stopped(agents, files)
            assert report.survivors == ()
            # A shim that was on its way sees that it must not start, and ends.
            assert await Watch(shim, files).wait(10)
            assert process.marked(process.RUN_VARIABLE, agents.run) == []

    in_loop(run())
    assert not zombies()


def test_stopping_twice_finds_nothing_to_do(agents: Agents, in_loop: InLoop[Any]) -> None:
    async def run() -> None:
        _, files = await asyncio.to_thread(agents.start, "sh", "-c", FOREVER)
        await stopped(agents, files)
        assert await stopped(agents, files) == StopReport((), 0, ())

    in_loop(run())


def test_what_an_ended_agent_left_behind_is_swept(agents: Agents, in_loop: InLoop[Any]) -> None:
    script = f"setsid sh -c 'trap \"\" TERM; {FOREVER}' </dev/null >/dev/null 2>&1 & exit 0"

    async def run() -> None:
        shim, files = await asyncio.to_thread(agents.start, "sh", "-c", script)
        watch = Watch(shim, files)
        assert await watch.ended(10)
        while not process.marked(process.RUN_VARIABLE, agents.run):
            await asyncio.sleep(0.005)
        report = await stopped(agents, files)
        assert report.steps == (signal.SIGKILL,)
        assert report.killed >= 1
        assert await watch.wait(10)

    in_loop(run())
    assert process.marked(process.RUN_VARIABLE, agents.run) == []


def test_a_run_is_stopped_without_disturbing_its_neighbour(agents: Agents, in_loop: InLoop[Any]) -> None:
    async def run() -> None:
        _, kept = await asyncio.to_thread(agents.start, "sh", "-c", FOREVER)
        _, ended = await asyncio.to_thread(agents.start, "sh", "-c", FOREVER)
        while kept.agent() is None:
            await asyncio.sleep(0.005)
        await stopped(agents, ended)
        assert kept.agent() is not None
        assert kept.shim() is not None

    in_loop(run())
