"""The spool and its quarantine against everything that can lie in a directory."""

import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tasks.config import SpoolSettings
from tasks.errors import StoreUnavailable, TasksError
from tasks.spool import Entry, Quarantine, Spool, SpoolFile, Unreadable
from tasks.spool.quarantine import NoSuchQuarantinedFile
from tasks.words import QuarantineReason as Reason

NAME = "-.100.200.0.json"
SETTINGS = SpoolSettings(max_files=10, max_bytes=10_000, max_event_bytes=5000)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of others")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", SETTINGS)
    made.prepare()
    return made


@pytest.fixture
def quarantine(spool: Spool, tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine", spool.path, SETTINGS, "1.2.3")


def put(path: Path, content: bytes = b"{}", *, mode: int = 0o600, at: int | None = None) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    if at is not None:
        os.utime(path, ns=(at, at))
    return path


def only(spool: Spool) -> Entry:
    (entry,) = spool.scan()
    return entry


def read(spool: Spool) -> SpoolFile | Unreadable | None:
    """What reading the one entry gives; fails when it hangs."""
    answer: list[SpoolFile | Unreadable | None] = []
    reading = threading.Thread(target=lambda: answer.append(spool.read(only(spool))), daemon=True)
    reading.start()
    reading.join(10)
    assert not reading.is_alive(), "reading hangs"
    return answer[0]


# Hostile entries.


def symlink(path: Path) -> None:
    put(path.parent.parent / "target")
    path.symlink_to("../target")


def symlink_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling_symlink(path: Path) -> None:
    path.symlink_to("nothing")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def hardlink(path: Path) -> None:
    put(path.parent.parent / "target")
    path.hardlink_to(path.parent.parent / "target")


def fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def directory(path: Path) -> None:
    path.mkdir(mode=0o700)
    put(path / "inside")


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may be too long
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def sparse_terabyte(path: Path) -> None:
    put(path)
    os.truncate(path, 1 << 40)


def writable_by_all(path: Path) -> None:
    put(path, mode=0o666)


def writable_by_group(path: Path) -> None:
    put(path, mode=0o620)


def one_byte_too_large(path: Path) -> None:
    put(path, b"x" * 5001)


HOSTILE: dict[Callable[[Path], None], Reason] = {
    symlink: Reason.NOT_REGULAR,
    symlink_to_zero: Reason.NOT_REGULAR,
    dangling_symlink: Reason.NOT_REGULAR,
    loop: Reason.NOT_REGULAR,
    fifo: Reason.NOT_REGULAR,
    directory: Reason.NOT_REGULAR,
    unix_socket: Reason.NOT_REGULAR,
    hardlink: Reason.HARDLINK,
    sparse_terabyte: Reason.TOO_LARGE,
    one_byte_too_large: Reason.TOO_LARGE,
    writable_by_all: Reason.WRITABLE_BY_OTHERS,
    writable_by_group: Reason.WRITABLE_BY_OTHERS,
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_entry_is_named_for_what_it_is_and_can_be_set_aside(
    spool: Spool, quarantine: Quarantine, make: Callable[[Path], None]
) -> None:
    make(spool.path / NAME)
    found = read(spool)
    assert isinstance(found, Unreadable)
    assert found.reason is HOSTILE[make]
    assert quarantine.put(found.name, found.reason, found.detail, found.size)
    assert spool.scan() == []
    (kept,) = quarantine.list()
    assert (kept.name, kept.reason) == (NAME, found.reason)
    quarantine.content(kept.id)
    quarantine.drop(kept.id)
    assert list(quarantine.path.iterdir()) == []


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_entry_can_be_retried_and_is_refused_again(
    spool: Spool, quarantine: Quarantine, make: Callable[[Path], None]
) -> None:
    make(spool.path / NAME)
    id_ = quarantine.put(NAME, HOSTILE[make], "", 0)
    assert id_ is not None
    quarantine.retry(id_)
    assert quarantine.list() == []
    found = read(spool)
    # The modes are tightened for a retry: what was wrong about those files was their mode.
    wanted: Reason | None = None if HOSTILE[make] is Reason.WRITABLE_BY_OTHERS else HOSTILE[make]
    assert (found.reason if isinstance(found, Unreadable) else None) == wanted


@pytest.mark.parametrize(
    "name",
    [
        b"x", b".hidden", b"-.1.2.json", b"-.1.2.3.json.tmp", b"-.1.2.3.JSON", b"-.1.2.3.json\n", b"-.1.2.3.jso\xff",
        b"\xff\xfe", b"-.-1.2.3.json", b"UPPER.1.2.3.json", b"a" * 41 + b".1.2.3.json", b"-a.1.2.3.json",
        b"-.12345678901.2.3.json", b"-.1.2.1234567.json", b"..1.2.3.json", "-.1.2.\u0663.json".encode(),
    ],
)  # fmt: skip
def test_a_name_that_no_recorder_gives_is_a_bad_name(spool: Spool, quarantine: Quarantine, name: bytes) -> None:
    put(Path(os.fsdecode(os.path.join(os.fsencode(spool.path), name))))
    found = read(spool)
    assert isinstance(found, Unreadable)
    assert found.reason is Reason.BAD_NAME
    id_ = quarantine.put(found.name, found.reason, found.detail, found.size)
    assert id_ is not None
    assert os.fsencode(quarantine.get(id_).name) == name
    quarantine.retry(id_)
    again = read(spool)
    assert isinstance(again, SpoolFile)
    assert (again.task_id, again.client_pid, again.raw) == (None, None, b"{}")


@as_root
def test_a_file_of_another_user_is_named_so(spool: Spool) -> None:
    os.chown(put(spool.path / NAME), 65534, 65534)
    found = read(spool)
    assert isinstance(found, Unreadable)
    assert found.reason is Reason.FOREIGN_OWNER
    assert "65534" in found.detail


AS_NOBODY = """
import os, shutil, tempfile
from pathlib import Path
from tasks.config import SpoolSettings
from tasks.spool import Quarantine, Spool, Unreadable, SpoolFile
from tasks.words import QuarantineReason as Reason
top = Path(tempfile.mkdtemp())
try:
    settings = SpoolSettings()
    spool = Spool(top / "spool", settings)
    spool.path.mkdir()
    (spool.path / "-.1.1.0.json").mkdir()                                  # root's, with something in it
    (spool.path / "-.1.1.0.json/x").touch()
    (spool.path / "-.1.1.1.json").write_bytes(b"{}")                       # root's, unreadable
    (spool.path / "-.1.1.1.json").chmod(0o600)
    (spool.path / "-.1.1.2.json").mkdir(mode=0o700)                        # our own, without rights
    (spool.path / "-.1.1.3.json").write_bytes(b"{}")                       # our own, without rights
    (spool.path / "-.1.1.4.json").write_bytes(b"{}")                       # an event
    for path in (top, spool.path, *(spool.path / f"-.1.1.{n}.json" for n in (2, 3, 4))):
        os.chown(path, 65534, 65534)
    (spool.path / "-.1.1.2.json").chmod(0)
    (spool.path / "-.1.1.3.json").chmod(0)
    (spool.path / "-.1.1.4.json").chmod(0o600)
    spool.path.chmod(0)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    spool = Spool(top / "spool", settings)
    try: spool.scan()
    except PermissionError: pass
    quarantine = Quarantine(top / "quarantine", spool.path, settings, "1")
    for turn in range(2):
        for entry in spool.scan():
            found = spool.read(entry)
            if isinstance(found, Unreadable):
                id_ = quarantine.put(found.name, found.reason, found.detail, found.size)
                say(turn, entry.name, found.reason, id_ is not None)
            elif isinstance(found, SpoolFile):
                say(turn, entry.name, found.raw)
                spool.remove([entry.name])
    say("left", *(entry.name for entry in spool.scan()))
    say("notes", quarantine.count(), len(quarantine.list()))
    for one in quarantine.list(): quarantine.drop(one.id)
    say("dropped", len(list(quarantine.path.iterdir())))
finally:
    shutil.rmtree(top, ignore_errors=True)
"""


@as_root
def test_what_cannot_even_be_moved_delays_nothing_and_leaves_no_note(programs: Any) -> None:
    ended = programs.run(AS_NOBODY)
    assert ended.returncode == 0, ended.stderr
    lines = set(ended.stdout.splitlines())
    assert "0 -.1.1.0.json not_regular False" in lines  # a directory of root's: the kernel refuses to move it
    assert "1 -.1.1.0.json not_regular False" in lines
    assert "0 -.1.1.1.json foreign_owner True" in lines
    assert {line.rpartition(" ")[2] for line in lines if "-.1.1.2.json" in line} == {"True"}
    assert "0 -.1.1.3.json foreign_owner True" in lines
    assert "0 -.1.1.4.json b'{}'" in lines
    assert {"left -.1.1.0.json", "notes 3 3", "dropped 0"} <= lines


def test_a_terabyte_of_nothing_does_not_fill_the_spool(spool: Spool) -> None:
    sparse_terabyte(spool.path / NAME)
    usage = spool.usage(spool.scan())
    assert usage.files == 1
    assert not spool.mark_full(usage)


# Reading.


def test_a_file_gives_what_its_name_and_its_bytes_say(spool: Spool) -> None:
    put(spool.path / "task-7.123.456.p2.json", b'{"a": 1}', at=1_700_000_000_123_456_789)
    assert read(spool) == SpoolFile(
        "task-7.123.456.p2.json", 1_700_000_000_123_456_789, "task-7", 123, 456, True, b'{"a": 1}'
    )


def test_a_client_with_pid_0_is_an_unknown_one(spool: Spool) -> None:
    put(spool.path / "-.0.456.0.json")
    found = read(spool)
    assert isinstance(found, SpoolFile)
    assert (found.task_id, found.client_pid, found.by_plugin) == (None, None, False)


def test_an_empty_file_and_one_of_the_largest_size_are_read(spool: Spool) -> None:
    for content in (b"", b"\x00" * 5000):
        put(spool.path / NAME, content)
        found = read(spool)
        assert isinstance(found, SpoolFile)
        assert found.raw == content


def test_a_file_that_is_gone_is_no_trouble(spool: Spool) -> None:
    put(spool.path / NAME)
    entry = only(spool)
    (spool.path / NAME).unlink()
    assert spool.read(entry) is None
    spool.remove([entry.name])


@as_root
def test_a_file_that_cannot_be_removed_keeps_no_other_from_it(spool: Spool) -> None:
    for number in range(3):
        put(spool.path / f"-.1.1.{number}.json")
    held = spool.path / "-.1.1.1.json"
    if shutil.which("chattr") is None or subprocess.call(["chattr", "+i", held], stderr=subprocess.DEVNULL):
        pytest.skip("this file system has no immutable files")
    try:
        spool.remove([entry.name for entry in spool.scan()])
        assert [entry.name for entry in spool.scan()] == ["-.1.1.1.json"]
    finally:
        subprocess.call(["chattr", "-i", held])


def test_the_oldest_comes_first_and_equal_times_go_by_name(spool: Spool) -> None:
    for name, at in (("c", 3), ("b", 2), ("a", 2), ("d", 1)):
        put(spool.path / name, at=at * 1_000_000_000)
    assert [entry.name for entry in spool.scan()] == ["d", "a", "b", "c"]
    assert spool.usage(spool.scan()).oldest_mtime_ns == 1_000_000_000


def test_times_before_1970_and_far_ahead_are_times(spool: Spool) -> None:
    put(spool.path / "-.1.1.0.json", at=-5_000_000_000)
    put(spool.path / "-.1.1.1.json", at=4_000_000_000 * 1_000_000_000)
    assert [entry.mtime_ns for entry in spool.scan()] == [-5_000_000_000, 4_000_000_000_000_000_000]


# Bounds.


def test_the_marker_is_set_above_a_bound_and_removed_below_80_percent(spool: Spool) -> None:
    marker = spool.path / ".full"
    states = []
    for files in (10, 11, 9, 8, 7, 11):
        for path in spool.path.glob("*.json"):
            path.unlink()
        for number in range(files):
            put(spool.path / f"-.1.1.{number}.json")
        states.append((files, spool.mark_full(spool.usage(spool.scan())), marker.exists()))
    assert states == [
        (10, False, False), (11, True, True), (9, True, True), (8, True, True), (7, False, False), (11, True, True),
    ]  # fmt: skip


def test_the_marker_goes_by_bytes_too(spool: Spool) -> None:
    for number in range(3):
        put(spool.path / f"-.1.1.{number}.json", b"x" * 4000)
    assert spool.mark_full(spool.usage(spool.scan()))
    (spool.path / "-.1.1.0.json").unlink()
    assert spool.mark_full(spool.usage(spool.scan()))
    (spool.path / "-.1.1.1.json").unlink()
    assert not spool.mark_full(spool.usage(spool.scan()))


def test_a_marker_that_cannot_be_removed_stops_nothing(spool: Spool) -> None:
    (spool.path / ".full").mkdir()
    put(spool.path / ".full/x")
    assert spool.mark_full(spool.usage(spool.scan()))


def test_the_recorder_drops_and_counts_while_the_marker_stands(spool: Spool, hook: Any, tmp_path: Path) -> None:
    for number in range(11):
        put(hook.spool / f"-.1.1.{number}.json")
    full = Spool(hook.spool, SETTINGS)
    full.mark_full(full.usage(full.scan()))
    for _ in range(3):
        assert hook.run(b"{}").returncode == 0
    assert full.dropped() == 3
    assert len(full.scan()) == 11


INODES = """
import subprocess
from pathlib import Path
from tasks.config import SpoolSettings
from tasks.spool import Spool
place = Path(args[0]); place.mkdir()
made = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=40", "tmpfs", str(place)], capture_output=True, text=True)
if made.returncode: say("SKIP cannot mount", made.stderr.strip()); sys.exit()
spool = Spool(place / "spool", SpoolSettings(max_files=10))
spool.prepare()
try:
    for number in range(100): (spool.path / f"-.1.1.{number}.json").write_bytes(b"{}")
except OSError as error: say(error.errno)
entries = spool.scan()
say(spool.mark_full(spool.usage(entries)))
spool.remove([entry.name for entry in entries])
say(len(spool.scan()))
"""


def test_a_disk_without_inodes_does_not_keep_the_spool_from_being_read(programs: Any, tmp_path: Path) -> None:
    ended = programs.run(INODES, tmp_path / "disk", prefix=programs.unshared("-m"))
    assert (ended.returncode, ended.stdout.split()) == (0, ["28", "False", "0"]), ended.stderr


# The directory itself.


def test_a_spool_that_was_deleted_is_made_anew(spool: Spool) -> None:
    shutil.rmtree(spool.path)
    assert spool.identity() is None
    assert spool.scan() == []
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700


def test_a_spool_that_was_replaced_is_another_one_and_is_read(spool: Spool) -> None:
    before = spool.identity()
    spool.path.rename(spool.path.with_name("old"))
    spool.path.mkdir()
    put(spool.path / NAME)
    assert spool.identity() != before
    assert isinstance(read(spool), SpoolFile)


def test_a_spool_with_loose_or_lost_rights_is_tightened(spool: Spool) -> None:
    for mode in (0o777, 0o000, 0o500):
        spool.path.chmod(mode)
        spool.prepare()
        assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700


def test_a_file_in_place_of_the_spool_is_reported(spool: Spool) -> None:
    spool.path.rmdir()
    put(spool.path)
    with pytest.raises(StoreUnavailable, match="spool"):
        spool.scan()


@as_root
def test_a_spool_of_another_user_is_refused(spool: Spool) -> None:
    os.chown(spool.path, 65534, 65534)
    with pytest.raises(StoreUnavailable, match="65534"):
        spool.prepare()


# Quarantine.


def set_aside(spool: Spool, quarantine: Quarantine, number: int = 0, content: bytes = b"odd") -> str:
    name = f"t1.77.88.{number}.json"
    put(spool.path / name, content, at=1_600_000_000_000_000_000)
    id_ = quarantine.put(name, Reason.BAD_JSON, "why", len(content), content)
    assert id_ is not None
    return id_


def test_a_quarantined_file_says_what_and_why(spool: Spool, quarantine: Quarantine) -> None:
    before = time.time_ns() // 1_000_000
    id_ = set_aside(spool, quarantine)
    (one,) = quarantine.list()
    assert one == quarantine.get(id_)
    assert (one.id, one.name, one.reason, one.detail, one.size) == (id_, "t1.77.88.0.json", "bad_json", "why", 3)
    assert before <= one.quarantined_at <= time.time_ns() // 1_000_000
    assert (one.version, len(one.sha256 or "")) == ("1.2.3", 64)
    assert quarantine.content(id_) == b"odd"
    assert quarantine.content(id_, 2) == b"od"
    assert quarantine.count() == 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in quarantine.path.iterdir()} == {0o600}
    assert stat.S_IMODE(quarantine.path.stat().st_mode) == 0o700


def test_what_is_gone_is_not_quarantined(spool: Spool, quarantine: Quarantine) -> None:
    assert quarantine.put(NAME, Reason.TORN, "", 0) is None
    assert quarantine.list() == []
    assert list(quarantine.path.iterdir()) == []


def test_a_retried_file_keeps_its_time_its_task_its_client_and_its_recorder(
    spool: Spool, quarantine: Quarantine
) -> None:
    put(spool.path / "t1.77.88.p3.json", at=1_600_000_000_000_000_000)
    id_ = quarantine.put("t1.77.88.p3.json", Reason.TORN, "", 2)
    assert id_ is not None
    quarantine.retry(id_)
    found = read(spool)
    assert isinstance(found, SpoolFile)
    assert (found.task_id, found.client_pid, found.by_plugin) == ("t1", 77, True)
    assert found.mtime_ns == 1_600_000_000_000_000_000
    assert list(quarantine.path.iterdir()) == []


def test_files_retried_at_once_do_not_replace_each_other(spool: Spool, quarantine: Quarantine) -> None:
    ids = [set_aside(spool, quarantine, number, b"%d" % number) for number in range(40)]
    threads = [threading.Thread(target=quarantine.retry, args=(id_,)) for id_ in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes() for path in spool.path.iterdir()} == {b"%d" % number for number in range(40)}


def test_a_retry_into_a_spool_that_is_gone_says_so_and_keeps_the_file(spool: Spool, quarantine: Quarantine) -> None:
    id_ = set_aside(spool, quarantine)
    shutil.rmtree(spool.path)
    with pytest.raises(TasksError, match="retry"):
        quarantine.retry(id_)
    assert quarantine.content(id_) == b"odd"


def test_dropping_deletes_a_file_and_its_note(spool: Spool, quarantine: Quarantine) -> None:
    kept, dropped = set_aside(spool, quarantine), set_aside(spool, quarantine)
    quarantine.drop(dropped)
    assert [one.id for one in quarantine.list()] == [kept]
    assert len(list(quarantine.path.iterdir())) == 2


@pytest.mark.parametrize("id_", ["", "1-", "../x", "1-../../x", "1-a/b", "0000-abcd", "1-a\0", "١-a", "x-y"])
def test_no_id_leads_out_of_the_quarantine(spool: Spool, quarantine: Quarantine, id_: str) -> None:
    set_aside(spool, quarantine)
    for call in (quarantine.get, quarantine.content, quarantine.retry, quarantine.drop):
        with pytest.raises(NoSuchQuarantinedFile):
            call(id_)
    assert quarantine.count() == 1


def test_trimming_keeps_the_newest_up_to_the_number(spool: Spool, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine", spool.path, SpoolSettings(quarantine_max_files=3), "1")
    ids = [set_aside(spool, quarantine, number) for number in range(5)]
    assert quarantine.trim() == 2
    assert [one.id for one in quarantine.list()] == ids[2:]
    assert quarantine.trim() == 0


def test_trimming_keeps_the_newest_up_to_the_bytes(spool: Spool, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine", spool.path, SpoolSettings(quarantine_max_bytes=100_000), "1")
    ids = [set_aside(spool, quarantine, number, b"x" * 40_000) for number in range(4)]
    assert quarantine.trim() == 2
    assert [one.id for one in quarantine.list()] == ids[2:]


def test_trimming_drops_what_is_older_than_the_days(spool: Spool, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine", spool.path, SpoolSettings(quarantine_max_days=7), "1")
    young, old = set_aside(spool, quarantine), set_aside(spool, quarantine)
    ago = f"{time.time_ns() - 8 * 86_400 * 10**9:019d}-abcd"
    for suffix in ("", ".reason"):
        (quarantine.path / (old + suffix)).rename(quarantine.path / (ago + suffix))
    assert quarantine.trim() == 1
    assert [one.id for one in quarantine.list()] == [young]


def test_an_entry_whose_note_was_lost_is_still_listed_and_can_be_dropped(spool: Spool, quarantine: Quarantine) -> None:
    ids = [set_aside(spool, quarantine, number) for number in range(3)]
    (quarantine.path / f"{ids[0]}.reason").write_bytes(b"")  # a power cut
    (quarantine.path / f"{ids[1]}.reason").write_bytes(b'{"name_hex": 5}')
    (quarantine.path / f"{ids[2]}.reason").unlink()
    assert [one.id for one in quarantine.list()] == ids
    assert quarantine.count() == 3
    quarantine.retry(ids[0])
    for id_ in ids[1:]:
        quarantine.drop(id_)
    assert list(quarantine.path.iterdir()) == []


def test_notes_without_an_entry_are_swept_away(spool: Spool, quarantine: Quarantine) -> None:
    gone, kept = set_aside(spool, quarantine), set_aside(spool, quarantine)
    (quarantine.path / gone).unlink()
    (quarantine.path / "0000000000000000001-abcd.reason").write_bytes(b"")
    assert quarantine.count() == 1
    assert quarantine.trim() == 0
    # A young one may belong to an entry that is just being moved.
    assert {path.name for path in quarantine.path.iterdir()} == {kept, f"{kept}.reason", f"{gone}.reason"}


FULL_DISK = """
import subprocess
from pathlib import Path
from tasks.config import SpoolSettings
from tasks.spool import Quarantine, Spool
from tasks.words import QuarantineReason as Reason
place = Path(args[0]); place.mkdir()
made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True)
if made.returncode: say("SKIP cannot mount", made.stderr.strip()); sys.exit()
spool = Spool(place / "spool", SpoolSettings()); spool.prepare()
quarantine = Quarantine(place / "quarantine", spool.path, SpoolSettings(), "1"); quarantine.prepare()
(spool.path / "odd").write_bytes(b"odd")
try: (place / "ballast").write_bytes(b"x" * 100_000)
except OSError: pass
for _ in range(3):
    try: quarantine.put("odd", Reason.BAD_NAME, "", 3); say("put")
    except OSError as error: say(error.errno, quarantine.count(), len(list(quarantine.path.iterdir())))
(place / "ballast").unlink()
say(quarantine.put("odd", Reason.BAD_NAME, "", 3) is not None, quarantine.count())
"""


def test_a_full_disk_leaves_no_half_written_notes(programs: Any, tmp_path: Path) -> None:
    ended = programs.run(FULL_DISK, tmp_path / "disk", prefix=programs.unshared("-m"))
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["28 0 0"] * 3 + ["True 1"]), ended.stderr
