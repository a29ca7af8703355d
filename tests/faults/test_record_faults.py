"""The recorder when everything around it fails: exit 0, no output, and no file that passes for an event but is none."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = b'{"hook_event_name":"Stop","x":"' + b"y" * 2000 + b'"}\n'
LARGE = b'{"hook_event_name":"Stop","x":"' + b"y" * 200_000 + b'"}\n'
HUGE = b'{"hook_event_name":"Stop","x":"' + b"y" * (8 << 20) + b'"}\n'


def assert_silent(done: "subprocess.CompletedProcess[bytes]") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def is_whole(content: bytes, payload: bytes) -> bool:
    """Whether it is the event. If not it must show: it must not parse."""
    if content == payload or content == payload.rstrip(b"\n"):
        return True
    with pytest.raises(ValueError, match=r"."):
        json.loads(content)
    return False


def spool_is_missing(hook: Any) -> None:
    hook.spool.rmdir()


def data_directory_is_missing(hook: Any) -> None:
    shutil.rmtree(hook.data_dir)


def spool_is_a_file(hook: Any) -> None:
    hook.spool.rmdir()
    hook.spool.touch()


def data_directory_is_a_file(hook: Any) -> None:
    shutil.rmtree(hook.data_dir)
    hook.data_dir.touch()


def spool_is_a_dangling_link(hook: Any) -> None:
    hook.spool.rmdir()
    hook.spool.symlink_to(hook.data_dir / "nowhere")


def spool_is_full(hook: Any) -> None:
    (hook.spool / ".full").touch()


def counter_of_a_full_spool_is_a_directory(hook: Any) -> None:
    (hook.spool / ".full").touch()
    (hook.spool / ".dropped").mkdir()


STATES = (
    spool_is_missing,
    data_directory_is_missing,
    spool_is_a_file,
    data_directory_is_a_file,
    spool_is_a_dangling_link,
    spool_is_full,
    counter_of_a_full_spool_is_a_directory,
)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("payload", [SMALL, HUGE], ids=["small", "huge"])
def test_no_state_of_the_spool_shows_to_the_client(hook: Any, state: Callable[[Any], None], payload: bytes) -> None:
    state(hook)
    before = sorted(hook.data_dir.parent.rglob("*"))
    assert_silent(hook.run(payload))
    after = [path for path in sorted(hook.data_dir.parent.rglob("*")) if path.name != ".dropped"]
    assert after == [path for path in before if path.name != ".dropped"]


def test_full_spool_counts_each_drop(hook: Any) -> None:
    spool_is_full(hook)
    for _ in range(3):
        assert_silent(hook.run(SMALL))
    assert hook.dropped() == 3


def test_no_home_and_no_directory_named_is_no_error(hook: Any) -> None:
    assert_silent(hook.run(SMALL, env={}))
    assert hook.files() == []


def test_closed_descriptors_are_no_error(hook: Any) -> None:
    line = f"exec {shlex.quote(str(hook.script))} <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=hook.environment(), check=False, timeout=30)
    assert_silent(done)
    assert [file.read_bytes() for file in hook.files()] == [b""]


@pytest.mark.parametrize("sent", [b"", SMALL[:-20], LARGE[:150_000]], ids=["nothing", "a part", "a large part"])
def test_stdin_that_never_closes_ends_with_the_timeout_of_the_registration(hook: Any, sent: bytes) -> None:
    popen = subprocess.Popen(
        [hook.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=hook.environment(), start_new_session=True
    )
    assert popen.stdin is not None
    assert popen.stdout is not None
    popen.stdin.write(sent)
    popen.stdin.flush()
    wait_for(lambda: sum(file.stat().st_size for file in hook.files()) == len(sent) and len(hook.files()) == 1)
    os.killpg(popen.pid, signal.SIGKILL)  # what the client does when the time is up
    popen.wait(timeout=10)
    assert popen.stdout.read() == b""  # nobody is left who holds it open
    popen.stdin.close()
    popen.stdout.close()
    assert [is_whole(file.read_bytes(), LARGE) for file in hook.files()] == [False]


def test_stdout_closes_before_stdin_does(hook: Any) -> None:
    popen = subprocess.Popen([hook.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=hook.environment())
    assert popen.stdin is not None
    assert popen.stdout is not None
    assert popen.stdout.read() == b""
    popen.stdin.write(SMALL)
    popen.stdin.close()
    popen.stdout.close()
    assert popen.wait(timeout=10) == 0


def test_killed_at_any_moment_it_leaves_no_false_event(hook: Any) -> None:
    chance = random.Random(7)
    started = time.perf_counter()
    assert_silent(hook.run(HUGE))
    usual = time.perf_counter() - started
    whole = []
    for _ in range(60):
        for file in hook.files():
            file.unlink()
        popen = subprocess.Popen([hook.script], stdin=subprocess.PIPE, env=hook.environment(), start_new_session=True)
        feeder = subprocess.Popen(["sleep", str(chance.uniform(0, usual))])
        assert popen.stdin is not None
        os.set_blocking(popen.stdin.fileno(), False)
        left = memoryview(HUGE)
        while left and feeder.poll() is None and popen.poll() is None:
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(popen.stdin.fileno(), left[:65536]) :]
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait(timeout=10)
        feeder.wait(timeout=10)
        popen.stdin.close()
        whole += [is_whole(file.read_bytes(), HUGE) for file in hook.files()]
    assert not all(whole)  # otherwise nothing was killed half-way and the test has shown nothing


FAULTS = [
    (call, error)
    for call in ("write", "fsync", "openat", "read", "close")
    for error in ("ENOSPC", "EIO", "EMFILE", "EINTR")
    if (call, error) not in {("read", "ENOSPC"), ("close", "EMFILE"), ("close", "ENOSPC"), ("read", "EMFILE")}
] + [("vfork", "EAGAIN"), ("fork", "EAGAIN"), ("clone", "EAGAIN"), ("dup2", "EBADF"), ("wait4", "EINTR")]


def require_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run(["strace", "-o", str(tmp_path / "probe"), "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")


@pytest.mark.parametrize(("call", "error"), FAULTS, ids=["-".join(fault) for fault in FAULTS])
def test_nth_system_call_failing_stays_silent(hook: Any, tmp_path: Path, call: str, error: str) -> None:
    require_strace(tmp_path)
    log = tmp_path / "trace"
    for n in range(1, 200):
        inject = f"inject={call}:error={error}:when={n}"
        fault = ["strace", "-f", "-o", str(log), "-e", f"trace={call},umask", "-e", inject]
        done = hook.run(LARGE, before=fault)
        trace = log.read_text(errors="replace")
        hit = [line for line in trace.splitlines() if "INJECTED" in line]
        if not hit:
            assert [is_whole(file.read_bytes(), LARGE) for file in hook.files()] == [True]
            return
        if not before_the_script(trace):
            assert_silent(done)
        for file in hook.files():
            is_whole(file.read_bytes(), LARGE)
            file.unlink()
    pytest.fail("the faults never came to an end")


def test_event_is_on_the_disk_when_the_recorder_returns(hook: Any, tmp_path: Path) -> None:
    require_strace(tmp_path)
    log = tmp_path / "trace"
    assert_silent(hook.run(SMALL, before=["strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync"]))
    (file,) = hook.files()
    assert f"<{file}>) = 0" in log.read_text()


def before_the_script(trace: str) -> bool:
    """Whether the fault hit the shell while it started: before the script's first system call, which is umask."""
    shell = [line for line in trace.splitlines() if line.split()[0] == trace.split()[0]]
    begun = next((at for at, line in enumerate(shell) if " umask(" in line), len(shell))
    return any("INJECTED" in line for line in shell[:begun])


MOUNT = "unshare"


def in_mount_namespace(hook: Any, options: str, line: str, payload: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Run the shell line with a small file system of its own as spool; `$record` is the recorder."""
    if shutil.which(MOUNT) is None:
        pytest.skip("unshare is not installed")
    mount = f'mount -t tmpfs -o {options} none "$TASKSD_DATA_DIR/spool"'
    probe = [MOUNT, "-rm", "sh", "-c", mount]
    if subprocess.run(probe, env=hook.environment(), capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount")
    return subprocess.run(
        [MOUNT, "-rm", "sh", "-c", f"{mount} || exit 9; {line}"],
        input=payload,
        capture_output=True,
        env=hook.environment(record=str(hook.script)),
        timeout=60,
        check=False,
    )


def test_full_disk_leaves_a_short_file(hook: Any) -> None:
    line = '"$record"; status=$?; cat "$TASKSD_DATA_DIR"/spool/*.json; exit $status'
    done = in_mount_namespace(hook, "size=64k", line, LARGE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert 0 < len(done.stdout) < len(LARGE)
    assert not is_whole(done.stdout, LARGE)


def test_disk_without_inodes_counts_a_drop_where_it_can(hook: Any) -> None:
    line = 'cd "$TASKSD_DATA_DIR/spool"; : >.dropped; while mkdir $$.$((n += 1)) 2>&-; do :; done; "$record"; s=$?; '
    line += "wc -c <.dropped; ls *.json 2>/dev/null; exit $s"
    done = in_mount_namespace(hook, "size=1m,nr_inodes=20", line, SMALL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [b"1"]


def test_read_only_file_system_shows_nothing(hook: Any) -> None:
    line = 'mount -o remount,ro "$TASKSD_DATA_DIR/spool" || exit 9; '
    line += '"$record"; s=$?; ls -A "$TASKSD_DATA_DIR/spool"; exit $s'
    done = in_mount_namespace(hook, "size=1m", line, LARGE)
    assert_silent(done)


@pytest.mark.parametrize(
    ("payload", "limit"), [(SMALL, 0.050), (b'{"x":"' + b"y" * (2 << 20) + b'"}', 0.100)], ids=["2 KB", "2 MB"]
)
@pytest.mark.parametrize(
    "runs", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["few", "many"]
)
@pytest.mark.parametrize("state", [None, spool_is_missing, spool_is_full], ids=["normal", "missing", "full"])
def test_recorder_is_fast_whatever_the_spool_is(
    hook: Any, state: Callable[[Any], None] | None, payload: bytes, limit: float, runs: int
) -> None:
    if state is not None:
        state(hook)
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        done = hook.run(payload)
        took.append(time.perf_counter() - started)
        assert_silent(done)
        for file in hook.files():
            file.unlink()
    assert sorted(took)[int(runs * 0.99) - 1] < limit


def wait_for(condition: Callable[[], bool], *, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the recorder did not get that far"
        time.sleep(0.005)
