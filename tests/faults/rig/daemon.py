"""A real `tasksd up` as its own process, and what its socket and its database say."""

import contextlib
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .waiting import until

#: What a daemon that only met trouble of its environment never writes to stderr.
ALARMS = ("Traceback", "ended by a bug", "never awaited", "ResourceWarning", "never retrieved")

#: Runs `tasksd up` after some source that prepares a fault.
_PATCHED = "import sys\nfrom tasks.cli import main\nsys.argv = ['tasksd', 'up']\nsys.exit(main())\n"


class Daemon:
    """May be started, stopped and killed any number of times on the same data."""

    def __init__(self, data_dir: Path, *, prefix: Sequence[str] = (), seen_at: Path | None = None) -> None:
        """`prefix` starts it (in a namespace); `seen_at` is where this process finds `data_dir` then."""
        self.named = data_dir
        self.data_dir = seen_at or data_dir
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = tuple(prefix)
        self._log = Path(tempfile.mkstemp(prefix="tasksd-", suffix=".log", dir=data_dir.parent)[1])
        self.variables: dict[str, str] = {}

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon is not started"
        return self.process.pid

    @property
    def spool(self) -> Path:
        return self.data_dir / "spool"

    @property
    def log(self) -> str:
        """Everything that the daemons of this data directory wrote to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def spawn(self, source: str | None = None, **variables: str) -> "subprocess.Popen[bytes]":
        """Start it, perhaps after some Python source, and return at once."""
        assert self.process is None, "the daemon runs already"
        command = [str(_script()), "up"] if source is None else [sys.executable, "-c", source + "\n" + _PATCHED]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.named.parent),
            "LANG": "C.UTF-8",
            "TASKSD_DATA_DIR": str(self.named),
            **self.variables,
            **variables,
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def start(self, source: str | None = None, **variables: str) -> "Daemon":
        """Start it and return once it answers on its socket."""
        process = self.spawn(source, **variables)

        def answers() -> bool:
            code = process.poll()
            assert code is None, f"tasksd up ended with {code} before it answered\n{self.log}"
            return self.status() is not None

        until(answers, "an answer of the daemon")
        return self

    def wait(self, *, timeout: float = 15.0) -> int:
        """Its exit code; AssertionError when it does not end in time."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end within {timeout:g} s\n{self.log}") from None
        self.process = None
        return code

    def stop(self, *, timeout: float = 15.0) -> None:
        """SIGTERM; AssertionError unless it ends in time, with 0 and without an alarm in its log."""
        self.signal(signal.SIGTERM)
        code = self.wait(timeout=timeout)
        assert code == 0, f"the daemon ended with {code}\n{self.log}"
        self.assert_calm()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def assert_alive(self) -> None:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the daemon ended with {code}\n{self.log}"

    def assert_calm(self) -> None:
        assert not any(alarm in self.log for alarm in ALARMS), self.log

    def status(self, *, timeout: float = 10.0) -> Any:
        """The answer of /v1/status; None when nobody listens. AssertionError for another answer than 200."""
        connection = _UnixConnection(self.data_dir / "tasksd.sock", timeout)
        try:
            connection.request("GET", "/v1/status")
            response = connection.getresponse()
            body = response.read()
        except (FileNotFoundError, ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        assert response.status == 200, f"GET /v1/status → {response.status} {body[:500]!r}\n{self.log}"
        return json.loads(body)

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self.data_dir / 'tasks.db'}?mode=ro", uri=True, timeout=10)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self.database() as connection:
            return connection.execute(sql, values).fetchall()

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def pending(self) -> list[str]:
        """The names of the event files that nobody has stored yet."""
        return sorted(name for name in os.listdir(self.spool) if not name.startswith("."))

    def drained(self, *, timeout: float = 30.0) -> None:
        """Return once no event file is left in the spool."""
        try:
            until(lambda: not self.pending(), "an empty spool", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; left: {self.pending()[:5]}\n{self.log}") from None

    def quarantined(self) -> list[dict[str, Any]]:
        """The reasons of what is in quarantine; each with its `id`, and `name` as text."""
        found = []
        for note in sorted((self.data_dir / "quarantine").glob("*.reason")):
            record = json.loads(note.read_bytes())
            record["id"] = note.name.removesuffix(".reason")
            record["name"] = bytes.fromhex(record["name_hex"]).decode("utf-8", "surrogateescape")
            if os.path.lexists(note.with_name(record["id"])):
                found.append(record)
        return found


def _script() -> Path:
    """The console script of the environment that runs the tests."""
    beside = Path(sys.executable).with_name("tasksd")
    if beside.is_file():
        return beside
    found = shutil.which("tasksd")
    assert found, "the console script tasksd is not installed; install the project into this environment"
    return Path(found)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
