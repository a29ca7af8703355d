"""What the service manager is told (sd_notify) and what it tells us (watchdog, journal). Works without one, too."""

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

log = logging.getLogger(__name__)

SEND_TIMEOUT = 0.05  # seconds; a manager that does not read must not hold the event loop up
STATUS_MAX = 1024  # bytes; systemd drops datagrams above 4096


class Notifier:
    """Datagrams to `NOTIFY_SOCKET`. Without an address every method does nothing, so callers never need to ask.

    No method raises; the first failure to send is logged, later ones are not.
    """

    def __init__(self, address: str | None = None, *, watchdog_interval: float | None = None) -> None:
        self._address = address
        self._watchdog_interval = watchdog_interval
        self._failed = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Notifier":
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ`, so that no child inherits them."""
        address = environ.pop("NOTIFY_SOCKET", None)
        period, owner = environ.pop("WATCHDOG_USEC", None), environ.pop("WATCHDOG_PID", None)
        return cls(address or None, watchdog_interval=_watchdog_interval(period, owner))

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between calls of `watchdog`: half of what the manager allows; None when it does not watch us."""
        return self._watchdog_interval

    def ready(self, status: str | None = None) -> None:
        """Start-up, or a reload, is complete."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """A reload began; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for `seconds` from now before the manager gives up on the start, stop or reload under way."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            name = os.fsencode(self._address)
            if name.startswith(b"@"):
                name = b"\0" + name[1:]
            elif not name.startswith(b"/"):
                raise ValueError("neither a path nor an abstract name")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(SEND_TIMEOUT)
                channel.sendto("\n".join(lines).encode("utf-8", "replace"), name)
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("cannot notify the service manager at %s: %s", self._address, error)
            self._failed = True


def journal_attached(fd: int = 2, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `fd` leads straight into the journal: `$JOURNAL_STREAM` names its device and inode. Never raises."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def _watchdog_interval(period: str | None, owner: str | None) -> float | None:
    if period is None:
        return None
    try:
        usec, pid = int(period), int(owner) if owner else os.getpid()
    except ValueError:
        log.warning("watchdog not fed: WATCHDOG_USEC=%r WATCHDOG_PID=%r are not numbers", period, owner)
        return None
    return usec / 2_000_000 if usec > 0 and pid == os.getpid() else None


def _status(text: str | None) -> list[str]:
    """A line break in the text would begin another assignment (MAINPID=…), so none is let through."""
    if text is None:
        return []
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return ["STATUS=" + line.encode("utf-8", "replace")[:STATUS_MAX].decode("utf-8", "ignore")]
