"""From handing a task over to its agent's first instruction, worktree included, against `git worktree add` and a start by hand.

    python tests/benchmarks/bench_tasks.py [--files N] [--rounds N]

Both sides in turns in one repository, so that noise cancels. The agent is `sh`, and says the time first thing.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 1.5  # times by hand
START_TIMEOUT = 60.0  # seconds
SAY_THE_TIME = "date +%s%N\n"

_GIT = {
    "GIT_AUTHOR_NAME": "B", "GIT_AUTHOR_EMAIL": "b@example.invalid", "GIT_COMMITTER_NAME": "B",
    "GIT_COMMITTER_EMAIL": "b@example.invalid", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


class Api(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=START_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"content-type": "application/json"}
        self.request(method, path, None if body is None else json.dumps(body), headers)
        answer = json.loads(self.getresponse().read())
        self.close()
        return answer


def repository(folder: Path, files: int) -> Path:
    folder.mkdir()
    for number in range(files):
        path = folder / f"d{number // 200}" / f"file{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {number}\n" + "x = 1\n" * 20)
    for words in (["init", "-q", "-b", "main"], ["config", "gc.auto", "0"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run(["git", *words], cwd=folder, env=os.environ | _GIT, check=True)
    return folder


def by_hand(repo: Path, target: Path, name: str) -> float:
    """Seconds until the agent says the time."""
    started = time.time_ns()
    command = ["git", "worktree", "add", "-q", "-b", f"hand/{name}", str(target)]
    subprocess.run(command, cwd=repo, env=os.environ | _GIT, check=True)
    agent = subprocess.run(
        ["sh"], cwd=target, input=SAY_THE_TIME, env=os.environ, capture_output=True, text=True, check=True
    )
    took = (int(agent.stdout) - started) / 1e9
    subprocess.run(["git", "worktree", "remove", "--force", str(target)], cwd=repo, env=os.environ | _GIT, check=True)
    os.sync()  # what is left to write of it is not the next one's
    return took


def by_daemon(api: Api, data: Path, repo: Path) -> float:
    started = time.time_ns()
    task = api.ask("POST", "/v1/tasks", {"description": SAY_THE_TIME, "workspace": str(repo)})
    task_id = task.get("task", task)["task_id"]
    output = data / "runs" / task_id / "1/output"
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if output.exists() and (said := output.read_text()).endswith("\n"):
            took = (int(said) - started) / 1e9
            while api.ask("GET", f"/v1/tasks/{task_id}")["worktree"] is not None:
                time.sleep(0.05)
            os.sync()
            return took
        time.sleep(0.002)
    sys.exit(f"the agent of {task_id} did not start: {api.ask('GET', f'/v1/tasks/{task_id}')}")


def measured(files: int, rounds: int) -> float:
    """Prints the medians, returns their ratio."""
    program = str(Path(sys.executable).parent / "tasksd")
    with tempfile.TemporaryDirectory(prefix="tasksd-") as name:
        folder, data = Path(name), Path(name) / "d"
        repo = repository(folder / "repo", files)
        config = folder / "config.toml"
        config.write_text('[pool]\nfree_disk = 0\n[agent]\ncommand = ["sh"]\noutput = "text"\n')
        environ = {"PATH": os.environ["PATH"], "HOME": name, "TASKSD_DATA_DIR": str(data), "TASKSD_CONFIG": str(config)}
        daemon = subprocess.Popen([program, "up"], env=environ, stderr=subprocess.DEVNULL)
        try:
            api = Api(data / "tasksd.sock")
            deadline = time.monotonic() + START_TIMEOUT
            while not (data / "tasksd.sock").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            hand, ours = [], []
            for number in range(rounds + 1):
                hand.append(by_hand(repo, folder / f"hand{number}", str(number)))
                ours.append(by_daemon(api, data, repo))
        finally:
            daemon.terminate()
            daemon.wait()
    floor, took = statistics.median(hand[1:]), statistics.median(ours[1:])
    ratio = took / floor
    print(
        f"{files:6} files: by hand {floor * 1000:7.1f} ms, by the daemon {took * 1000:7.1f} ms, ratio {ratio:.2f}, "
        f"overhead {(took - floor) * 1000:.0f} ms"
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, action="append", help="size of the repository (default: 50, 2000, 20000)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    ratios = {files: measured(files, options.rounds) for files in options.files or [50, 2000, 20_000]}
    largest = max(ratios)
    print(f"limit {LIMIT} (of the largest): {'ok' if ratios[largest] <= LIMIT else 'too slow'}")


if __name__ == "__main__":
    main()
