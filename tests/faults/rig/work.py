"""Tasks on a real daemon whose agent is `sh`: the description of a task is the script that it runs."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .daemon import Daemon
from .waiting import until

OVER = ("completed", "failed", "stopped")
IDENTITY = {
    "GIT_AUTHOR_NAME": "Dev", "GIT_AUTHOR_EMAIL": "dev@example.org", "GIT_COMMITTER_NAME": "Dev",
    "GIT_COMMITTER_EMAIL": "dev@example.org", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip

Record = dict[str, Any]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **IDENTITY},
    )  # fmt: skip
    assert done.returncode == 0, f"git {' '.join(arguments)} → {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def commit(name: str, content: str = "x") -> str:
    """A script that adds one file and commits it."""
    return f"echo {content} > {name}\ngit add {name}\ngit commit -qm 'Add {name}'\n"


class Refused(AssertionError):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail


class Work:
    """A repository, a configuration, and what the daemon's API says about tasks."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.repository = folder / "repo"
        self.config = folder / "config.toml"
        self.gates = folder / "gates"
        self.gates.mkdir()
        daemon.variables["TASKSD_CONFIG"] = str(self.config)
        self.configure()
        self.make_repository(self.repository)

    def configure(self, *, agents: int = 3, pool: str = "", agent: str = "", more: str = "") -> None:
        """Write the configuration; the daemon reads it at its next start."""
        environment = ", ".join(f'{name} = "{value}"' for name, value in {**IDENTITY, "GATES": str(self.gates)}.items())
        self.config.write_text(
            f'[pool]\nmax_agents = {agents}\nfree_disk = 0\n{pool}\n[agent]\ncommand = ["sh"]\noutput = "text"\n'
            f"environment = {{ {environment} }}\n{agent}\n{more}\n"
        )

    def make_repository(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "main")
        (folder / "README").write_text("hello\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "Begin")
        return folder

    def gate(self, name: str) -> str:
        """A script that waits until `open(name)`."""
        return f'echo waiting at {name}\nwhile [ ! -e "$GATES/{name}" ]; do sleep 0.05; done\n'

    def open(self, name: str) -> None:
        (self.gates / name).touch()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = _Connection(self.daemon.data_dir / "tasksd.sock")
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"content-type": "application/json"}
            )
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        answer: Any = json.loads(raw) if raw else {}
        if response.status >= 400:
            raise Refused(response.status, str(answer.get("detail")))
        return answer

    def submit(self, description: str, **options: Any) -> str:
        """The id of the new task."""
        body = {"description": description, "workspace": str(self.repository), **options}
        answer = self.ask("POST", "/v1/tasks", body)
        return str(answer.get("task", answer)["task_id"])

    def task(self, task_id: str) -> Record:
        found: Record = self.ask("GET", f"/v1/tasks/{task_id}")
        return found

    def wait(self, task_id: str, condition: Callable[[Record], Any], what: str, *, timeout: float = 30.0) -> Record:
        last: Record = {}

        def fits() -> bool:
            nonlocal last
            last = self.task(task_id)
            return bool(condition(last))

        try:
            until(fits, what, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; the task: {json.dumps(last, indent=1)}\n{self.daemon.log}") from None
        return last

    def running(self, task_id: str) -> Record:
        """The task, once its agent is known to run."""
        return self.wait(task_id, lambda one: one["status"] == "running" and one["pid"], f"{task_id} running")

    def over(self, task_id: str, *, timeout: float = 30.0) -> Record:
        """The task, once it is over and its branch is settled."""

        def settled(one: Record) -> bool:
            return one["status"] in OVER and one["merge_state"] != "merging" and self._settled(one)

        return self.wait(task_id, settled, f"{task_id} over", timeout=timeout)

    def _settled(self, one: Record) -> bool:
        if one["merge_state"] == "merged":
            return one["worktree"] is None or one["merge_detail"] is not None
        return one["worktree"] is None or one["merge_state"] in ("conflict", "kept", "waiting")

    def completed(self, task_id: str) -> Record:
        one = self.over(task_id)
        assert one["status"] == "completed", f"{json.dumps(one, indent=1)}\n{self.daemon.log}"
        return one

    def marked(self, task_id: str | None = None) -> list[int]:
        """The processes that carry the mark of this task, or of any."""
        wanted = b"TASKS_TASK_ID=" + (task_id or "").encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environ = (entry / "environ").read_bytes()
                    own = f"TASKSD_DATA_DIR={self.daemon.named}".encode() in environ
                except OSError:
                    continue
                if own and any(one.startswith(wanted) for one in environ.split(b"\0")):
                    found.append(int(entry.name))
        return found

    def kill_agents(self) -> None:
        for pid in self.marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def files(self, ref: str = "main") -> set[str]:
        return set(git(self.repository, "ls-tree", "-r", "--name-only", ref).splitlines())

    def branches(self) -> set[str]:
        return set(git(self.repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines())

    def worktrees(self) -> list[str]:
        lines = git(self.repository, "worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")][1:]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def snapshot(folder: Path) -> Mapping[str, tuple[int, bytes]]:
    """Every file of a checkout, the index, the stash and HEAD, byte for byte; objects and our own refs left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if relative.startswith((".git/objects", ".git/worktrees", ".git/refs/heads/task", ".git/refs/tasksd")):
            continue
        if relative.startswith((".git/logs/refs/heads/task", ".git/packed-refs", ".git/index.lock")):
            continue
        if path.is_file() and not path.is_symlink():
            found[relative] = (path.stat().st_mode, path.read_bytes())
    return found
