"""A desk to hand work over at: a real daemon whose agents are shells that run the description as a script."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.client import Client
from tasks.errors import ApiError

COMMAND = [str(Path(sys.executable).parent / "tasksd")]
#: SIGINT as in a terminal, whatever the test runner inherited.
INTERRUPTIBLE = [
    sys.executable, "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from tasks.cli import main; sys.exit(main())",
]  # fmt: skip
TIMEOUT = 20.0

#: The description is the agent's stdin, and so the script.
CONFIG = """
[pool]
max_agents = {agents}
queue_size = {queue}
free_disk = 0
[agent]
command = ["/bin/sh", "-e"]
output = "text"
[enforcement]
pre_task = "warn"
"""

Result = subprocess.CompletedProcess[str]


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return found


class Desk:
    """A home folder with a repository, a data directory and the commands given there."""

    def __init__(self, folder: Path, *, agents: int = 2, queue: int = 20) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.repository = folder / "r"
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TASKSD_DATA_DIR": str(self.data), "LANG": "C.UTF-8",
            "TZ": "UTC", "COLUMNS": "100", "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        config = folder / ".config/tasksd/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(CONFIG.format(agents=agents, queue=queue))
        (folder / ".gitconfig").write_text("[user]\nname = A\nemail = a@example.com\n[init]\ndefaultBranch = main\n")
        self.repository.mkdir()
        self.git("init", "-q")
        (self.repository / "file").write_text("one\n")
        self.git("add", ".")
        self.git("commit", "-qm", "first")
        self.daemon: subprocess.Popen[str] | None = None

    @property
    def client(self) -> Client:
        return Client(str(self.data / "tasksd.sock"), TIMEOUT)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.repository, env=self.environ, capture_output=True, text=True,
            timeout=TIMEOUT, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def start(self) -> None:
        with (self.folder / "daemon.log").open("a") as log:
            self.daemon = subprocess.Popen(
                [*COMMAND, "up"], env=self.environ, cwd=self.folder, stdin=subprocess.DEVNULL, stderr=log, text=True
            )
        until(self._answers, "the daemon answers")

    def _answers(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, (self.folder / "daemon.log").read_text()
        try:
            return self.ask("GET", "/v1/pool")[0] == 200
        except OSError:
            return False

    def stop(self) -> int:
        """Stop the daemon with all agents."""
        assert self.daemon is not None
        self.daemon.terminate()
        try:
            code = self.daemon.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
            raise
        self.daemon = None
        return code

    def close(self) -> None:
        if self.daemon is None:
            return
        try:
            for one in self.client.get("/v1/tasks?live=true"):
                with contextlib.suppress(ApiError):  # it ended by itself meanwhile
                    self.client.post(f"/v1/tasks/{one['task_id']}/cancel")
            until(lambda: self.ask("GET", "/v1/pool")[2]["active_workers"] == 0, "all agents ended")
        finally:
            self.stop()

    # The API.

    def ask(self, method: str, target: str, document: Any = None, raw: bytes | None = None) -> tuple[int, Any, Any]:
        """Status, headers and parsed body of one answer."""
        connection = http.client.HTTPConnection("tasksd", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        try:
            connection.sock.connect(str(self.data / "tasksd.sock"))
            body = raw if raw is not None else None if document is None else json.dumps(document).encode()
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        parsed = json.loads(content) if "json" in (answer.getheader("content-type") or "") else content
        return answer.status, answer.headers, parsed

    def hand_over(self, script: str, **fields: Any) -> str:
        """The id of a new task."""
        order = {"description": script, "workspace": str(self.repository)} | fields
        status, _, answer = self.ask("POST", "/v1/tasks", order)
        assert status == 201, answer
        return str(answer["task_id"])

    def task(self, id_: str) -> Any:
        status, _, answer = self.ask("GET", f"/v1/tasks/{id_}")
        assert status == 200, answer
        return answer

    def ended(self, id_: str, status: str = "completed") -> Any:
        """The task once it is over, and its branch dealt with."""

        def over() -> Any:
            one = self.task(id_)
            kept = one["merge_state"] in ("waiting", "conflict", "kept")
            return one if one["finished_at"] and (kept or not one["worktree"]) else None

        one = until(over, f"task {id_} is over")
        assert one["status"] == status, one
        return one

    def running(self, id_: str) -> Any:
        return until(lambda: (one := self.task(id_))["status"] == "running" and one, f"task {id_} runs")

    # The command line.

    def run(self, *arguments: str, by: list[str] | None = None, code: int | None = 0, **how: Any) -> Result:
        cwd, stdin = how.pop("cwd", self.repository), how.pop("input", None)
        done = subprocess.run(
            [*(by or COMMAND), *arguments], env=self.environ | how, cwd=cwd, capture_output=True, text=True,
            timeout=TIMEOUT, check=False, **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def popen(self, *arguments: str, by: list[str] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*(by or COMMAND), *arguments], env=self.environ, cwd=self.repository, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def desk_in(folder: Path, **settings: int) -> Iterator[Desk]:
    """With its daemon running."""
    made = Desk(folder, **settings)
    made.start()
    try:
        yield made
    finally:
        made.close()
