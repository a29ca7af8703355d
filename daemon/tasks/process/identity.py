"""Who a process is, and whether it still lives.

A pid alone names nothing, it is reused within seconds on a busy machine: what is stored is a `ProcessIdentity`.
"""

import os
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.errors import ProbeError

#: Largest value the kernel's pid_t holds; anything above cannot be a process and would overflow kill(2).
PID_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, never confused with a later one of the same pid. Holds across restarts of whoever stored it."""

    pid: int
    #: Linux: clock ticks since boot (field 22 of /proc/<pid>/stat), unmoved by clock steps; macOS: µs since 1970 as the
    #: kernel noted them at the start
    started: int
    #: Linux: /proc/sys/kernel/random/boot_id; macOS: kern.bootsessionuuid (kern.boottime moves when the clock is set)
    boot: str


class Liveness(StrEnum):
    """What a probe found out. `UNKNOWN` is never proof of death: ask again later."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has `pid` now; None when there is none or only a zombie is left of it.

    Raises ProbeError when that cannot be told (no permission, no file descriptors, no usable /proc).
    """
    if not 0 < pid <= PID_MAX:
        return None
    started = _started(pid)
    return None if started is None else ProcessIdentity(pid=pid, started=started, boot=boot_id())


def identify_dead_or_alive(pid: int) -> ProcessIdentity | None:
    """As `identify`, but a zombie, too, is somebody: until it is reaped nobody else can have its pid."""
    if not 0 < pid <= PID_MAX:
        return None
    started = _started(pid, zombies=True)
    return None if started is None else ProcessIdentity(pid=pid, started=started, boot=boot_id())


def probe(identity: ProcessIdentity) -> Liveness:
    """Whether that very process lives. Never raises; a reused pid and an earlier boot mean `GONE`."""
    try:
        if identity.boot != boot_id():
            return Liveness.GONE
        return Liveness.ALIVE if identify(identity.pid) == identity else Liveness.GONE
    except ProbeError:
        return Liveness.UNKNOWN


def started_at_ms(identity: ProcessIdentity) -> int:
    """When the process started: epoch milliseconds by the clock as it is set now, at most one tick (10 ms) too early.

    The mtime of a file may lie before the start of its writer: by a tick of the file system's clock (up to 10 ms), or
    by however far the clock was set in between. Leave room for that when comparing.
    Raises ProbeError for a process of an earlier boot.
    """
    if identity.boot != boot_id():
        raise ProbeError(f"process {identity.pid} belongs to an earlier boot: its start time is not known any more")
    return _started_at_ms(identity.started)


def command_line(pid: int) -> list[str]:
    """The arguments of the process, program first; empty when it is gone, a zombie or a kernel thread.

    Trailing empty arguments are dropped: a program that renames itself (node does) leaves NULs in their place.
    Raises ProbeError when it cannot be read.
    """
    return _command_line(pid) if 0 < pid <= PID_MAX else []


def stat_fields(stat: bytes) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the third on: [0] is field 3, the state (proc_pid_stat(5))."""
    # The name in parentheses is the program's own choice and may hold anything, ") R 1" too.
    return stat.rpartition(b")")[2].split()


if sys.platform == "darwin":
    import psutil

    def _started(pid: int, *, zombies: bool = False) -> int | None:
        try:
            process = psutil.Process(pid)
            if not zombies and process.status() == psutil.STATUS_ZOMBIE:
                return None
            # The public create_time() moves with each clock step since psutil was imported; the kernel's own does not.
            backend: Any = vars(process)["_proc"]
            return round(float(backend.create_time(monotonic=True)) * 1_000_000)
        except psutil.NoSuchProcess:
            return None
        except (psutil.Error, OSError) as error:
            raise ProbeError(f"cannot tell whether process {pid} lives: {error}; trying again may work") from error

    @lru_cache(maxsize=1)
    def boot_id() -> str:
        """Names this run of the kernel. Raises ProbeError when it cannot be read."""
        import ctypes

        value, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.sysctlbyname(b"kern.bootsessionuuid", value, ctypes.byref(size), None, ctypes.c_size_t(0)):
            reason = os.strerror(ctypes.get_errno())
            raise ProbeError(f"cannot read kern.bootsessionuuid: {reason}; processes cannot be told apart without it")
        return value.value.decode("ascii")

    def _started_at_ms(started: int) -> int:
        return started // 1000

    def _command_line(pid: int) -> list[str]:
        try:
            return psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            return []
        except (psutil.Error, OSError) as error:
            raise ProbeError(f"cannot read the command line of process {pid}: {error}") from error

else:

    def _started(pid: int, *, zombies: bool = False) -> int | None:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except FileNotFoundError:
            _confirm_absent(pid)
            return None
        except ProcessLookupError:  # it ended between open and read
            return None
        except OSError as error:
            raise ProbeError(f"cannot tell whether process {pid} lives: {error}; trying again may work") from error
        fields = stat_fields(stat)
        try:
            state, threads, started = fields[0], int(fields[17]), int(fields[19])
        except (IndexError, ValueError) as error:
            raise ProbeError(f"cannot read /proc/{pid}/stat: unexpected form {stat[:80]!r}") from error
        # A main thread that ended while other threads go on shows as Z too; such a process still works.
        return None if not zombies and state in (b"Z", b"X", b"x") and threads <= 1 else started

    def _confirm_absent(pid: int) -> None:
        """Raise ProbeError unless an absent /proc/<pid> proves that the process is gone."""
        question = f"cannot tell whether process {pid} lives"
        try:
            own = Path("/proc/self").readlink().name
        except OSError as error:
            raise ProbeError(f"{question}: /proc is not usable ({error}); mount it") from error
        if own != str(os.getpid()):
            raise ProbeError(f"{question}: /proc belongs to another pid namespace; mount that of ours")
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except OSError:
            pass  # it exists and belongs to somebody else
        raise ProbeError(f"{question}: /proc hides it; mount it without hidepid")

    @lru_cache(maxsize=1)
    def boot_id() -> str:
        """Names this run of the kernel. Raises ProbeError when it cannot be read."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ProbeError(f"cannot read the boot id: {error}; processes cannot be told apart without it") from error
        if not boot:
            raise ProbeError("cannot read the boot id: it is empty; processes cannot be told apart without it")
        return boot

    def _started_at_ms(started: int) -> int:
        # Not btime of /proc/stat: it is cut to whole seconds.
        booted_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return (booted_ns + started * 1_000_000_000 // os.sysconf("SC_CLK_TCK")) // 1_000_000

    def _command_line(pid: int) -> list[str]:
        try:
            content = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            _confirm_absent(pid)
            return []
        except ProcessLookupError:
            return []
        except OSError as error:
            raise ProbeError(f"cannot read the command line of process {pid}: {error}") from error
        content = content.rstrip(b"\0")
        return [os.fsdecode(argument) for argument in content.split(b"\0")] if content else []
