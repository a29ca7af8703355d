"""A service manager's end of sd_notify: a datagram socket that collects what the daemon says."""

import socket
import time
from pathlib import Path


class Manager:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def variables(self, *, watchdog: float) -> dict[str, str]:
        """The environment of a unit with `WatchdogSec=watchdog`."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog * 1_000_000))}

    def hear(self, message: str, *, timeout: float = 15.0) -> str:
        """Wait for a datagram with this line; the whole of it."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if (heard := self._receive(left)) is not None and message in heard.split("\n"):
                return heard
        raise AssertionError(f"{message} was not heard within {timeout:g} s")

    def heard(self) -> list[str]:
        """All that is there now."""
        found = []
        while (one := self._receive(0.001)) is not None:
            found += one.split("\n")
        return found

    def _receive(self, seconds: float) -> str | None:
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(8192).decode()
        except TimeoutError:
            return None

    def close(self) -> None:
        self._socket.close()
