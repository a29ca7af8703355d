"""A real `tasksd up` as its own process, in a data directory of its own."""

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.config import socket_path

from .waiting import until

#: What a healthy daemon never writes to stderr.
ALARMS = ("Traceback", "Error:", "Exception", "never awaited", "ResourceWarning")
STOP_GRACE = 15.0  # seconds


def tasksd() -> Path:
    """The console script of the environment that runs the tests."""
    beside = Path(sys.executable).with_name("tasksd")
    if beside.is_file():
        return beside
    found = shutil.which("tasksd")
    assert found, "the console script tasksd is not installed; install the project into this environment"
    return Path(found)


class Daemon:
    """`start`, ask, `stop`; it may be started again on the same data."""

    def __init__(self, data_dir: Path, *, home: Path) -> None:
        self.data_dir = data_dir
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._log = data_dir.with_name(data_dir.name + ".log")

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon is not started"
        return self._process.pid

    @property
    def spool(self) -> Path:
        return self.data_dir / "spool"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the daemon and of `command`: nothing is inherited but PATH."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            "TASKSD_DATA_DIR": str(self.data_dir),
        }

    @property
    def log(self) -> str:
        """Everything that the daemons of this data directory wrote to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def command(self, *args: str) -> str:
        """Run `tasksd ARGS` beside the daemon and return its stdout; AssertionError when it fails."""
        done = subprocess.run(
            [str(tasksd()), *args], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"tasksd {' '.join(args)} → {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start it and return once it answers on its socket."""
        assert self._process is None, "the daemon runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(tasksd()), "up"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._answers, "an answer of the daemon")

    def stop(self) -> None:
        """SIGTERM; AssertionError unless it ends in time, with 0 and without an alarm in its log."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            returncode = process.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon did not stop within {STOP_GRACE:g} s\n{self.log}") from None
        assert returncode == 0, f"the daemon ended with {returncode}\n{self.log}"
        assert not any(alarm in self.log for alarm in ALARMS), self.log

    def kill(self) -> None:
        """SIGKILL, for crashes; what it wrote is not judged."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def get(self, path: str) -> Any:
        """The JSON that GET `path` answers; AssertionError for another status than 200, OSError when nobody listens."""
        connection = _UnixConnection(socket_path(self.data_dir, self.environment))
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, f"GET {path} → {response.status} {body[:500]!r}"
        return json.loads(body)

    def rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query on a read-only connection of its own."""
        connection = sqlite3.connect(f"file:{self.data_dir / 'tasks.db'}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def pending(self) -> list[str]:
        """The names of the event files that nobody has stored yet."""
        return sorted(name for name in os.listdir(self.spool) if not name.startswith("."))

    def drained(self, *, timeout: float = 30.0) -> None:
        """Return once no event file is left in the spool."""
        try:
            until(lambda: not self.pending(), "an empty spool", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; left: {self.pending()[:5]}\n{self.log}") from None

    def _answers(self) -> bool:
        assert self._process is not None
        if (returncode := self._process.poll()) is not None:
            raise AssertionError(f"tasksd up ended with {returncode} before it answered\n{self.log}")
        try:
            self.get("/v1/status")
        except (OSError, http.client.HTTPException):
            return False
        return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
