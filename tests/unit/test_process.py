import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tasks.errors import ProbeError
from tasks.process import Liveness, ProcessIdentity, command_line, identify, probe, scrubbed, started_at_ms

DEADLINE = 10.0  # seconds
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.005)


@contextmanager
def running(*argv: str, executable: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, executable=executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def identity_of(pid: int) -> ProcessIdentity:
    identity = identify(pid)
    assert identity is not None
    return identity


def in_private_namespaces(*options: str, script: str) -> str:
    """Run a Python `script` under `unshare`; skip the test where that is not permitted."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = ["unshare", *user, *options]
    trial = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    if trial.returncode != 0:
        pytest.skip(f"unshare is not permitted: {trial.stderr.decode().strip()}")
    preamble = (
        f"import sys; sys.path[:] = {sys.path!r}\nimport tasks.process as p\nfrom tasks.errors import ProbeError\n"
    )
    done = subprocess.run(
        [*prefix, sys.executable, "-c", preamble + script], capture_output=True, text=True, timeout=60, check=False
    )
    if "SKIP" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_running_process_is_alive_and_keeps_its_identity() -> None:
    with running("cat") as child:
        identity = identity_of(child.pid)
        assert probe(identity) is Liveness.ALIVE
        assert identify(child.pid) == identity


def test_two_processes_have_different_identities() -> None:
    with running("cat") as one, running("cat") as other:
        assert identify(one.pid) != identify(other.pid)


def test_a_process_that_ended_and_was_reaped_is_gone() -> None:
    with running("cat") as child:
        identity = identity_of(child.pid)
    assert identify(child.pid) is None
    assert probe(identity) is Liveness.GONE


def test_a_zombie_counts_as_gone() -> None:
    with running("cat") as child:
        identity = identity_of(child.pid)
        child.kill()
        wait_until(lambda: probe(identity) is Liveness.GONE)
        os.kill(child.pid, 0)  # not reaped yet: the pid still exists
        assert identify(child.pid) is None
        assert command_line(child.pid) == []


def test_a_stopped_process_is_alive() -> None:
    with running("cat") as child:
        identity = identity_of(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        assert os.waitpid(child.pid, os.WUNTRACED)[0] == child.pid
        assert probe(identity) is Liveness.ALIVE


@linux_only
def test_a_process_whose_main_thread_ended_is_alive_while_another_thread_works() -> None:
    script = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with running(sys.executable, "-c", script) as child:
        assert child.stdout is not None
        child.stdout.readline()
        wait_until(lambda: b") Z" in Path(f"/proc/{child.pid}/stat").read_bytes())
        assert probe(identity_of(child.pid)) is Liveness.ALIVE


@pytest.mark.parametrize("changed", [{"started": 1}, {"boot": "00000000-0000-0000-0000-000000000000"}])
def test_another_start_time_or_another_boot_means_gone(changed: dict[str, int | str]) -> None:
    stored = replace(identity_of(os.getpid()), **changed)  # type: ignore[arg-type]
    assert probe(stored) is Liveness.GONE


@pytest.mark.parametrize("pid", [0, -1, pytest.param(-os.getpid(), id="minus our own"), 2**31, 2**63, 2**200])
def test_a_number_that_cannot_be_a_pid_is_no_process(pid: int) -> None:
    assert identify(pid) is None
    assert command_line(pid) == []


@linux_only
def test_a_program_name_that_imitates_the_fields_after_it_does_not_mislead(tmp_path: Path) -> None:
    names = [") R 1 1", "x) Z 1", "a\n) X", "(((", "\x80\xff)"]
    for name in names:
        program = tmp_path / name
        cat = shutil.which("cat")
        assert cat is not None
        shutil.copy(cat, program)
        with running(str(program)) as child, running("cat") as later:
            assert Path(f"/proc/{child.pid}/comm").read_bytes() == name.encode() + b"\n"
            identity = identity_of(child.pid)
            assert probe(identity) is Liveness.ALIVE
            # Both started within this test, so a field read one too early or too late would be far away.
            assert 0 <= identity_of(later.pid).started - identity.started < 100 * DEADLINE


@linux_only
def test_a_reused_pid_is_gone_and_the_stranger_is_another_process() -> None:
    script = """
import subprocess, time
first = subprocess.Popen(["sleep", "60"])
identity = p.identify(first.pid)
assert p.probe(identity) is p.Liveness.ALIVE
first.kill(); first.wait()
end = time.monotonic() + 10
while True:
    # Start times are told apart by the tick.
    while time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 10_000_000 <= identity.started: pass
    try:
        open("/proc/sys/kernel/ns_last_pid", "w").write(str(first.pid - 1))
    except OSError as error:
        print("SKIP", error); raise SystemExit
    stranger = subprocess.Popen(["sleep", "60"])
    if stranger.pid == first.pid:
        break
    stranger.kill(); stranger.wait()
    assert time.monotonic() < end
print(p.probe(identity), p.probe(p.identify(stranger.pid)), p.identify(stranger.pid).pid == identity.pid)
stranger.kill()
"""
    assert in_private_namespaces("-pf", "--mount-proc", script=script) == "gone alive True"


@linux_only
def test_without_proc_nothing_is_known_and_nothing_is_declared_dead() -> None:
    script = """
import os, subprocess
me = p.identify(os.getpid())
if subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"]).returncode: print("SKIP mount"); raise SystemExit
try:
    p.identify(me.pid)
except ProbeError as error:
    print(p.probe(me), "mount it" in str(error))
"""
    assert in_private_namespaces("-m", script=script) == "unknown True"


@linux_only
def test_a_proc_of_another_pid_namespace_declares_nobody_dead() -> None:
    script = "print(p.probe(p.ProcessIdentity(pid=4_000_000, started=1, boot=p.boot_id())))"
    assert in_private_namespaces("-pf", script=script) == "unknown"


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_process_that_proc_hides_is_unknown(hidepid: int) -> None:
    script = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
stored = p.identify(child.pid)
# A pid namespace of its own: older kernels share the options of /proc within one.
if subprocess.run(["mount", "-t", "proc", "-o", "hidepid={hidepid}", "proc", "/proc"]).returncode:
    print("SKIP mount"); raise SystemExit
os.setgroups([]); os.setgid(65534); os.setuid(65534)
earlier = p.ProcessIdentity(pid=stored.pid, started=stored.started, boot="an earlier boot")
print(p.probe(stored), p.probe(earlier), p.identify(4_000_000))
"""
    assert in_private_namespaces("-pf", "--mount-proc", script=script) == "unknown gone None"


def test_running_out_of_file_descriptors_is_unknown() -> None:
    script = f"""
import sys; sys.path[:] = {sys.path!r}
import os, resource
import tasks.process as p
me, child = p.identify(os.getpid()), p.ProcessIdentity(pid=2**22, started=1, boot=p.boot_id())
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print(p.probe(me), p.probe(child))
os.close(held.pop())
print(p.probe(me))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["unknown unknown", "alive"]


def test_the_start_time_lies_between_the_moments_around_the_start() -> None:
    tick = 10  # ms
    before = time.time_ns() // 1_000_000
    with running("cat") as child:
        after = time.time_ns() // 1_000_000
        started = started_at_ms(identity_of(child.pid))
        assert before - 2 * tick <= started <= after + 1


def test_a_file_of_an_earlier_process_predates_a_later_one(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.touch()
    mtime = old.stat().st_mtime_ns // 1_000_000
    wait_until(lambda: time.time_ns() // 1_000_000 > mtime + 50)
    with running("cat") as child:
        assert mtime < started_at_ms(identity_of(child.pid))


def test_the_start_time_of_an_earlier_boot_is_refused() -> None:
    with pytest.raises(ProbeError, match="earlier boot"):
        started_at_ms(replace(identity_of(os.getpid()), boot="another"))


def test_the_command_line_is_given_as_passed() -> None:
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", "", "a b", "é", "new\nline", "\udcff"]
    with running(*argv) as child:
        wait_until(lambda: command_line(child.pid) == argv)


def test_empty_arguments_at_the_end_are_dropped() -> None:
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", "", "x"]
    with running(*argv, "", "") as child:
        wait_until(lambda: command_line(child.pid) == argv)


@linux_only
def test_the_command_line_of_a_kernel_thread_or_of_nobody_is_empty() -> None:
    assert command_line(2**22) == []
    if Path("/proc/2/comm").exists() and Path("/proc/2/comm").read_text() == "kthreadd\n":
        assert command_line(2) == []


def test_an_agent_inherits_no_session_of_another_client_and_nothing_of_the_service_manager() -> None:
    private = [
        "CLAUDECODE",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_PROJECT_DIR",
        "CLAUDE_PLUGIN_ROOT",
        "CLAUDE_ENV_FILE",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "SYSTEMD_EXEC_PID",
        "PYTHONSAFEPATH",
        "TASKS_TASK_ID",
        "TASKS_RUN",
        "PWD",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_KEY_0",
        "GIT_ASKPASS",
    ]
    kept = [
        "HOME",
        "PATH",
        "LANG",
        "SSH_AUTH_SOCK",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "ANTHROPIC_API_KEY",
        "TASKSD_DATA_DIR",
        "VIRTUAL_ENV",
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_EMAIL",
        "GIT_SSH_COMMAND",
        "GITHUB_TOKEN",
    ]
    environ = dict.fromkeys([*private, *kept], "x")
    assert sorted(scrubbed(environ)) == sorted(kept)
    assert len(environ) == len(private) + len(kept)
