"""Looking over the processes of the system: who carries a marker, who descends from whom, what they have used.

Plain calls that read /proc, some 20 µs a process: from an event loop, call them in a thread.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.process.identity import Liveness, ProcessIdentity, boot_id, identify, probe, stat_fields


@dataclass(frozen=True, slots=True)
class Entry:
    """A process that is not a zombie, in the moment it was looked at."""

    identity: ProcessIdentity
    parent: int
    session: int


def marked(variable: str, value: str) -> list[ProcessIdentity]:
    """Processes of our own user that were executed with `variable`=`value` in their environment, never this one.

    Not found: those that were given, or gave themselves, another environment, and those that hide theirs (Linux:
    PR_SET_DUMPABLE, programs with capabilities).
    """
    return list(carriers(variable, value))


def carriers(variable: str, value: str, *, looks: int = 1) -> Iterator[ProcessIdentity]:
    """As `marked`, each as soon as it is found, the youngest first. Every further look, some 20 µs, is
    for processes that came into being meanwhile: one that lives for a moment is rarely seen by a single look."""
    return _carriers(f"{variable}={value}", looks)


def cpu_seconds(identities: Iterable[ProcessIdentity]) -> float:
    """User and system time so far of those still alive, in seconds, that of the children they have waited for included
    (Linux; a build whose compilers come and go makes progress)."""
    return sum(_cpu_seconds(identity) for identity in identities)


if sys.platform == "darwin":
    import psutil

    def _carriers(definition: str, looks: int) -> Iterator[ProcessIdentity]:
        variable, _, value = definition.partition("=")
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid == os.getpid() or process.uids().effective != os.geteuid():
                    continue
                identity = identify(process.pid)
                if identity is not None and process.environ().get(variable) == value:
                    yield identity

    def _cpu_seconds(identity: ProcessIdentity) -> float:
        with contextlib.suppress(psutil.Error, OSError):
            times = psutil.Process(identity.pid).cpu_times()
            if probe(identity) is Liveness.ALIVE:
                return float(times.user + times.system)
        return 0.0

    def table() -> dict[int, Entry]:
        """Every process by its pid."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                identity = identify(process.pid)
                if identity is not None:
                    found[process.pid] = Entry(identity, process.ppid(), os.getsid(process.pid))
        return found

    def writers_to_pipes_of(readers: Iterable[int]) -> set[int]:
        """Nobody: there is no way to tell here."""
        return set()

else:
    #: pids below the last that are looked at when the numbers have started again
    _LATEST = 64
    #: bytes enough for any line of stat
    _STAT = 4096

    def _carriers(definition: str, looks: int) -> Iterator[ProcessIdentity]:
        needle, user = b"\0" + os.fsencode(definition) + b"\0", os.geteuid()
        # A process inherits the marker or never has it: one look at each is enough.
        seen = {os.getpid()}
        newest = _newest()
        for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):  # noqa: PTH208
            if pid not in seen:
                seen.add(pid)
                if identity := _carrier(pid, needle, user):
                    yield identity
        for _ in range(looks - 1):
            last = _newest()
            # The numbers start again from the bottom at some time.
            for pid in range(last, max(0, newest if newest < last else last - _LATEST), -1):
                if pid not in seen:
                    seen.add(pid)
                    if identity := _carrier(pid, needle, user):
                        yield identity
            newest = last

    def _newest() -> int:
        """The pid that was given last (proc_loadavg(5)); 0: not known."""
        with contextlib.suppress(OSError, IndexError, ValueError), open("/proc/loadavg", "rb", buffering=0) as file:  # noqa: PTH123
            return int(file.read(128).split()[4])
        return 0

    def _carrier(pid: int, needle: bytes, user: int) -> ProcessIdentity | None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            # All that follows is about one process: its directory does not become that of a later one.
            directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                if os.fstat(directory).st_uid == user and needle in b"\0" + _read(directory, "environ") + b"\0":
                    entry = _entry(pid, _read(directory, "stat", _STAT))
                    return None if entry is None else entry.identity
            finally:
                os.close(directory)
        return None

    def _read(directory: int, name: str, bound: int | None = None) -> bytes:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        try:
            content = part = os.read(descriptor, bound or 1 << 16)
            while part and bound is None:
                part = os.read(descriptor, 1 << 20)
                content += part
            return content
        finally:
            os.close(descriptor)

    def _entry(pid: int, stat: bytes) -> Entry | None:
        fields = stat_fields(stat)
        if fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1:
            return None
        return Entry(ProcessIdentity(pid, int(fields[19]), boot_id()), int(fields[1]), int(fields[3]))

    def _cpu_seconds(identity: ProcessIdentity) -> float:
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{identity.pid}/stat", "rb") as stat:  # noqa: PTH123
            fields = stat_fields(stat.read())
            if int(fields[19]) == identity.started and identity.boot == boot_id():
                return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def table() -> dict[int, Entry]:
        """Every process by its pid."""
        found = {}
        for name in os.listdir("/proc"):  # noqa: PTH208
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
                try:
                    entry = _entry(int(name), os.read(descriptor, _STAT))
                finally:
                    os.close(descriptor)
                if entry is not None:
                    found[int(name)] = entry
        return found

    def writers_to_pipes_of(readers: Iterable[int]) -> set[int]:
        """Who can write to the pipes that the processes `readers` have as standard input, by pid, as far as we may see.

        Looks at every descriptor of every process of ours: slow (milliseconds for a hundred processes).
        """
        pipes = set()
        for pid in readers:
            with contextlib.suppress(OSError):
                pipes.add(os.readlink(f"/proc/{pid}/fd/0"))  # noqa: PTH115
        pipes = {pipe for pipe in pipes if pipe.startswith("pipe:")}
        return {int(name) for name in os.listdir("/proc") if name.isdigit() and _writes_to(name, pipes)}  # noqa: PTH208

    def _writes_to(pid: str, pipes: set[str]) -> bool:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in pipes and _is_written(pid, descriptor):  # noqa: PTH115
                        return True
        return False

    def _is_written(pid: str, descriptor: str) -> bool:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as info:  # noqa: PTH123
            flags = next((line.split()[1] for line in info if line.startswith("flags:")), "0")
        return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
