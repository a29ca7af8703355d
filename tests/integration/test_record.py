"""The recorder: what it writes, where, and under which name."""

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

PAYLOAD = b'{"hook_event_name":"Stop"}\n'
SHELLS = [("dash",), ("bash",), ("bash", "--posix"), ("busybox", "sh"), ("ksh",), ("mksh",), ("yash",)]


def assert_silent(done: "subprocess.CompletedProcess[bytes]") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_payload_is_stored_byte_for_byte(hook: Any) -> None:
    payload = b'{"a":"\xff\x00\xed\xa0\xbd \\ud83d"}\n'
    assert_silent(hook.run(payload))
    (file,) = hook.files()
    assert file.read_bytes() == payload
    assert file.stat().st_mode & 0o777 == 0o600


def test_name_tells_task_parent_and_own_pid(hook: Any) -> None:
    popen = subprocess.Popen([hook.script], stdin=subprocess.PIPE, env=hook.environment(TASKS_TASK_ID="t-1"))
    popen.communicate(PAYLOAD, timeout=30)
    assert [file.name for file in hook.files()] == [f"t-1.{os.getpid()}.{popen.pid}.0.json"]


def test_copy_of_the_plugin_is_told_apart(hook: Any) -> None:
    assert_silent(hook.run(PAYLOAD, "plugin"))
    assert [file.name.split(".")[3] for file in hook.files()] == ["p0"]


def test_mark_of_an_installed_registration_changes_nothing(hook: Any) -> None:
    assert_silent(hook.run(PAYLOAD, "tasksd"))
    assert [file.name.split(".")[3] for file in hook.files()] == ["0"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a", "a"),
        ("7f3c-b2", "7f3c-b2"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "-"),
        ("", "-"),
        ("-", "-"),
        ("-a", "-"),
        ("A", "-"),
        ("a.b", "-"),
        ("../../etc", "-"),
        ("a b", "-"),
        ("a\nb", "-"),
        ("é", "-"),
        ("*", "-"),
        ("$(id)", "-"),
    ],
)
def test_only_sane_task_ids_enter_the_name(hook: Any, given: str, stored: str) -> None:
    assert_silent(hook.run(PAYLOAD, env=hook.environment(TASKS_TASK_ID=given, LC_ALL="en_US.UTF-8")))
    assert [file.name.split(".")[0] for file in hook.files()] == [stored]


def test_taken_name_is_left_alone_and_the_next_number_used(hook: Any) -> None:
    # `exec` keeps the pid, so the name that the recorder will want is known before it starts
    line = f': >"$TASKSD_DATA_DIR/spool/-.$PPID.$$.0.json"; exec "{hook.script}"'
    done = subprocess.run(["sh", "-c", line], input=PAYLOAD, capture_output=True, env=hook.environment(), check=False)
    assert_silent(done)
    assert {file.name.split(".")[3]: file.read_bytes() for file in hook.files()} == {"0": b"", "1": PAYLOAD}


def test_taken_names_without_end_count_as_a_drop(hook: Any) -> None:
    line = (
        f'for n in 0 1 2 3 4 5 6 7 8 9; do : >"$TASKSD_DATA_DIR/spool/-.$PPID.$$.$n.json"; done; exec "{hook.script}"'
    )
    done = subprocess.run(["sh", "-c", line], input=PAYLOAD, capture_output=True, env=hook.environment(), check=False)
    assert_silent(done)
    assert [file.stat().st_size for file in hook.files()] == [0] * 10
    assert hook.dropped() == 1


def test_data_directory_is_found_like_the_daemon_finds_it(hook: Any, tmp_path: Path) -> None:
    home, state, path = tmp_path / "my home", tmp_path / "state", os.environ["PATH"]
    spools = [home / ".local/state/tasksd/spool", state / "tasksd/spool", home / "mine/spool"]
    for spool in spools:
        spool.mkdir(parents=True)
    for env in (
        {"HOME": str(home)},
        {"HOME": str(home), "XDG_STATE_HOME": str(state)},
        {"HOME": str(home), "XDG_STATE_HOME": str(state), "TASKSD_DATA_DIR": "~/mine"},
    ):
        assert_silent(hook.run(PAYLOAD, env={"PATH": path, **env}))
    assert [len(list(spool.iterdir())) for spool in spools] == [1, 1, 1]


def test_installed_copy_writes_to_the_data_directory_it_lies_in(hook: Any, tmp_path: Path) -> None:
    copy = hook.data_dir / "hooks/record"
    copy.parent.mkdir()
    shutil.copy(hook.script, copy)
    elsewhere = tmp_path / "home/.local/state/tasksd/spool"
    elsewhere.mkdir(parents=True)
    assert_silent(hook.run(PAYLOAD, script=copy, env={"HOME": str(tmp_path / "home")}))
    assert len(hook.files()) == 1
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_every_posix_shell_can_run_it(hook: Any, shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    assert_silent(hook.run(PAYLOAD, before=shell))
    (hook.spool / ".full").touch()
    assert_silent(hook.run(PAYLOAD, before=shell))
    assert [file.read_bytes() for file in hook.files()] == [PAYLOAD]
    assert hook.dropped() == 1


def test_tools_without_fsync_are_enough(hook: Any, tmp_path: Path) -> None:
    # A dd that knows no conv=fsync refuses before it reads; PATH begins with /bin, so it is put in the way there.
    script = tmp_path / "record"
    script.write_text(hook.script.read_text().replace("dd bs=65536", "dd bs=65536 conv=no-such-conversion"))
    script.chmod(0o755)
    assert_silent(hook.run(PAYLOAD, script=script))
    assert [file.read_bytes() for file in hook.files()] == [PAYLOAD]


def test_fifty_at_once_write_fifty_whole_files(hook: Any) -> None:
    payloads = [b'{"n":%d,"x":"%s"}\n' % (n, b"x" * 100_000) for n in range(50)]
    threads = [threading.Thread(target=hook.run, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.read_bytes() for file in hook.files()) == sorted(payloads)


def test_eight_mebibytes_arrive_whole(hook: Any) -> None:
    payload = b'{"x":"' + b"y" * (8 << 20) + b'"}\n'
    assert_silent(hook.run(payload))
    assert [file.read_bytes() for file in hook.files()] == [payload]


def test_empty_payload_leaves_an_empty_file_for_quarantine(hook: Any) -> None:
    assert_silent(hook.run(b""))
    assert [file.read_bytes() for file in hook.files()] == [b""]
