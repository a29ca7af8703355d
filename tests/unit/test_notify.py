import logging
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tasks.notify import STATUS_MAX, Notifier, journal_attached

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end, bound to a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "n"))
        end.settimeout(10)
        yield end


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier(manager.getsockname())


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(8192).decode().split("\n")


def test_each_method_sends_one_datagram_with_its_assignments(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("ok 2 sessions")
    assert heard(manager) == ["READY=1", "STATUS=ok 2 sessions"]
    notifier.ready()
    assert heard(manager) == ["READY=1"]
    notifier.status("backlog 7")
    assert heard(manager) == ["STATUS=backlog 7"]
    notifier.watchdog()
    assert heard(manager) == ["WATCHDOG=1"]
    notifier.stopping()
    assert heard(manager) == ["STOPPING=1"]
    notifier.extend_timeout(2.5)
    assert heard(manager) == ["EXTEND_TIMEOUT_USEC=2500000"]


def test_reloading_carries_the_monotonic_clock_in_microseconds(manager: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    state, stamp = heard(manager)
    assert state == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@linux_only
def test_an_abstract_name_is_reached() -> None:
    name = f"tasksd-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(10)
        Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).ready()
        assert heard(manager) == ["READY=1"]


def test_a_status_cannot_add_an_assignment_of_its_own(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("a\nMAINPID=1\r\0\x1b[31m\u2028b \ud800")
    assert heard(manager) == ["STATUS=a MAINPID=1 [31m b"]


def test_a_long_status_is_cut_between_characters(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("x" + "é" * 4000)
    (line,) = heard(manager)
    text = line.removeprefix("STATUS=")
    assert text == "x" + "é" * ((STATUS_MAX - 1) // 2)


def test_the_three_variables_are_taken_and_the_others_stay() -> None:
    environ = {"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/h"}
    Notifier.from_environment(environ)
    assert environ == {"HOME": "/h"}


def test_a_child_does_not_inherit_the_manager(manager: socket.socket) -> None:
    script = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import subprocess; from tasks.notify import Notifier\n"
        "Notifier.from_environment().ready()\n"
        "subprocess.run(['env'], check=True)"
    )
    environ = os.environ | {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "9", "WATCHDOG_PID": "9"}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert heard(manager) == ["READY=1"]
    assert "NOTIFY_SOCKET" not in done.stdout
    assert "WATCHDOG" not in done.stdout


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_every_call_is_silent(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment(environ)
    notifier.ready("x")
    notifier.status("x")
    notifier.watchdog()
    notifier.reloading()
    notifier.extend_timeout(1)
    notifier.stopping()
    assert notifier.watchdog_interval is None
    assert not caplog.records


@pytest.mark.parametrize("address", ["/nowhere/at/all", "relative", "vsock:2:1", "/" + "long" * 100, "/\ud800"])
def test_a_failure_to_send_is_logged_once_and_never_raised(address: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(address)
    for _ in range(3):
        notifier.watchdog()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].name == "tasks.notify"


def test_sending_goes_on_after_a_failure(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "n"))
    notifier.status("nobody hears this")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(10)
        notifier.status("back")
        assert heard(manager) == ["STATUS=back"]


def test_a_manager_that_does_not_read_holds_nobody_up(notifier: Notifier, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2000):
        notifier.watchdog()
        if caplog.records:
            break
    else:
        pytest.fail("the queue of the socket never filled")
    begin = time.monotonic()
    notifier.watchdog()
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_a_period_and_only_when_it_is_ours(
    environ: dict[str, str], interval: float | None
) -> None:
    assert Notifier.from_environment(environ).watchdog_interval == interval


def test_the_journal_is_recognised_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        right = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert journal_attached(stream.fileno(), right)
        assert not journal_attached(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not journal_attached(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev + 1}:{found.st_ino}"})
    assert not journal_attached(999_999, right)


@pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "x:y"}, {"JOURNAL_STREAM": "1"}])
def test_an_absent_or_odd_journal_variable_means_no_journal(environ: dict[str, str]) -> None:
    assert not journal_attached(2, environ)
