"""`tasksd demo`, as it is started: with real processes, repositories and its own daemon."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tasks import process
from tasks.client import Client, target
from tasks.config import socket_path
from tasks.demo.ground import environment as demo_environment
from tasks.demo.past import Archive
from tasks.demo.place import MARKER, Place
from tasks.demo.sessions import Scene, play_week

T = TypeVar("T")

COMMAND = [str(Path(sys.executable).parent / "tasksd"), "demo", "--no-browser"]
#: Everything takes a fifth of the time.
QUICK = """
import sys
from pathlib import Path
from tasks.demo.show import show
try:
    show(port=0, keep=Path(sys.argv[1]), say=lambda line: print(line, flush=True), pace=0.2)
except KeyboardInterrupt:
    pass
"""
#: Seconds, for machines that are busy with something else.
PATIENCE = 300.0

pytestmark = pytest.mark.timeout(900)


@dataclass
class Running:
    """A demo that was started, by a user whose home is `home`."""

    process: "subprocess.Popen[str]"
    folder: Path
    #: what it said until it was ready
    said: list[str] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return Client(str(socket_path(self.folder / "data")), 60.0)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(target(path, **query))

    def page(self) -> str:
        return next(line.split()[1] for line in self.said if line.startswith("  page "))


def environment(home: Path) -> dict[str, str]:
    """Of a person with a home, who tries the demo out."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home.parent / "tmp"), "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1", "CLAUDE_CONFIG_DIR": str(home / ".claude"), "XDG_STATE_HOME": str(home / "state"),
    }  # fmt: skip


def canary(home: Path) -> None:
    """What a demo must neither read nor change: every use of git would fail by it, and every session would count."""
    (home.parent / "tmp").mkdir()
    transcripts = home / ".claude/projects/-home-dev-real"
    transcripts.mkdir(parents=True)
    (transcripts / "11111111-1111-4111-8111-111111111111.jsonl").write_text('{"type":"user"}\n')
    (home / ".gitconfig").write_text(f"[core]\n\thooksPath = {home}/hooks\n[commit]\n\tgpgsign = true\n")
    (home / "hooks").mkdir()
    for name in ("post-checkout", "pre-commit"):
        (home / "hooks" / name).write_text("#!/bin/sh\ntouch $HOME/touched\nexit 1\n")
        (home / "hooks" / name).chmod(0o755)
    (home / ".config/tasksd").mkdir(parents=True)
    (home / ".config/tasksd/config.toml").write_text("this is no TOML\n")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below `folder`: its time and its bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def until(probe: Callable[[], T | None], what: str) -> T:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain: {what}")


def marked(folder: Path) -> list[process.ProcessIdentity]:
    return process.marked(MARKER, os.path.realpath(folder))


def start(command: list[str], home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(running: "subprocess.Popen[str]", beginning: str) -> list[str]:
    """The lines that it says, up to the one that begins so."""
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line.rstrip("\n"))
        if line.startswith(beginning):
            return said
    raise AssertionError(f"it ended: {said}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("person") / "home"
    home.mkdir()
    canary(home)
    folder = tmp_path_factory.mktemp("d") / "demo"
    before = contents(home)
    started = start([sys.executable, "-c", QUICK, str(folder)], home)
    try:
        running = Running(started, folder)
        running.said = read_until(started, "Ctrl-C")
        until(lambda: running.get("/v1/status")["spool"]["pending"] == 0, "the history is stored")
        yield running
        started.send_signal(signal.SIGINT)
        rest, _ = started.communicate(timeout=PATIENCE)
        assert (started.returncode, rest) == (0, "")
        assert not marked(folder)
        assert (folder / "data/tasks.db").exists(), "the folder was to be kept"
        assert contents(home) == before
    finally:
        started.kill()
        started.communicate()
        for one in marked(folder):
            process.signal_process(one, signal.SIGKILL)


def test_a_week_of_sessions_and_tasks_is_there(demo: Running) -> None:
    sessions = demo.get("/v1/sessions", limit=500)
    tasks = demo.get("/v1/tasks", limit=500)
    assert len(sessions) > 80
    over = [one for one in tasks if one["finished_at"] is not None]
    assert len(over) >= 40
    assert {one["merge_state"] for one in over} >= {"merged", "conflict", "kept", "none"}
    assert len({one["failure"] for one in over}) > 5
    assert not [one for one in sessions if one["status"] == "lost"]


def test_everything_that_hooks_told_is_in_transcripts_too_and_has_a_price_but_for_one_model(demo: Running) -> None:
    def accounted() -> Any:
        told = demo.get("/v1/costs", days=8)
        return told if told["total"]["messages"] > 2500 and told["total"]["unpriced"] > 50 else None

    costs = until(accounted, "transcripts are read")
    assert costs["total"]["cost"] > 10


def test_calls_fail_in_many_ways(demo: Running) -> None:
    errors = demo.get("/v1/stats/errors", days=8)
    assert len(errors["categories"]) >= 10


def test_the_conflict_is_a_real_one(demo: Running) -> None:
    (task,) = [one for one in demo.get("/v1/tasks", limit=500) if "shorter of two limits" in one["description"]]
    assert task["merge_state"] == "conflict"
    again = demo.client.post(f"/v1/tasks/{task['task_id']}/merge")
    assert (again["merge_state"], again["merge_paths"]) == ("conflict", ["harbor/session.py"])
    assert again["merge_detail"] == task["merge_detail"]
    merged = subprocess.run(
        ["git", "merge", "-q", "main"],
        cwd=task["worktree"],
        env=demo_environment(Place(demo.folder)),
        capture_output=True,
    )
    assert merged.returncode == 1
    assert "<<<<<<<" in (Path(task["worktree"]) / "harbor/session.py").read_text()


def test_what_was_merged_is_in_the_repository(demo: Running) -> None:
    merged = [one for one in demo.get("/v1/tasks", limit=500) if one["merge_state"] == "merged"]
    for one in merged[-5:]:
        done = subprocess.run(
            ["git", "merge-base", "--is-ancestor", one["merge_commit"], "main"], cwd=one["workspace"], timeout=60
        )
        assert done.returncode == 0


def test_new_tasks_are_worked_on_and_merged(demo: Running) -> None:
    began = int((demo.folder / "config.toml").stat().st_mtime * 1000)

    def merged() -> Any:
        tasks = demo.get("/v1/tasks", since=began, limit=500)
        return [one for one in tasks if one["merge_state"] == "merged" and one["cost_usd"]]

    task = until(merged, "a task of now is merged")[0]
    found = demo.get(f"/v1/tasks/{task['task_id']}")
    assert found["calls"]
    assert found["activity"]
    until(lambda: demo.get(f"/v1/tasks/{task['task_id']}")["spent"]["cost"], "its cost is accounted")


def test_people_are_at_work_and_one_waits_for_permission(demo: Running) -> None:
    def waiting() -> Any:
        live = demo.get("/v1/sessions", live=True, limit=100)
        return [one for one in live if one["status"] == "waiting_permission" and one["task_id"] is None]

    assert until(waiting, "somebody is asked for permission")[0]["pid"]


def test_the_page_is_served(demo: Running) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(demo.page() + "login", timeout=60) as answer:
        assert answer.status == 200
    once = demo.client.post("/v1/dashboard", {"username": "demo"})["url"]
    assert once.startswith(demo.page())


@pytest.mark.parametrize("when", ["Making up", "Ctrl-C"])
def test_ending_it_removes_everything(tmp_path: Path, when: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    canary(home)
    before = contents(home)
    started = start(COMMAND, home)
    try:
        read_until(started, when)
        (folder,) = (tmp_path / "tmp").glob("tasksd-demo-*")
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=PATIENCE)
        assert started.returncode == 0
        assert not list((tmp_path / "tmp").iterdir())
        assert not marked(folder)
        assert contents(home) == before
    finally:
        started.kill()
        started.communicate()


def test_no_process_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    canary(home)
    started = start([sys.executable, "-c", QUICK, str(tmp_path / "demo")], home)
    try:
        read_until(started, "Ctrl-C")
        until(lambda: len(marked(tmp_path / "demo")) > 5, "agents are at work")
        started.kill()
        started.communicate()
        until(lambda: not marked(tmp_path / "demo"), "the daemon and all agents are gone")
    finally:
        started.kill()
        for one in marked(tmp_path / "demo"):
            process.signal_process(one, signal.SIGKILL)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    canary(home)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("Dear …")
    done = subprocess.run(
        [*COMMAND, "--keep", str(tmp_path / "mine")],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]


def test_a_week_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    until_ms = 1_790_000_000_000

    def played(name: str, seed: int) -> dict[str, str]:
        place = Place(tmp_path / name)
        place.spool.mkdir(parents=True)
        archive = Archive(place.spool)
        play_week(Scene(archive, place, until_ms), seed)
        archive.save()
        return {
            str(path.relative_to(place.folder)).replace(name, ""): path.read_text().replace(name, "")
            for path in place.folder.rglob("*.json*")
        }

    assert played("place-1", 1) == played("place-2", 1)


def test_events_of_the_past_are_what_hooks_write(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.spool.mkdir(parents=True)
    now = time.time_ns() // 1_000_000
    play_week(Scene(Archive(place.spool), place, now), 7)
    kinds = set()
    for path in place.spool.iterdir():
        event = json.loads(path.read_bytes())
        kinds.add(event["hook_event_name"])
        assert now - 8 * 86_400_000 < path.stat().st_mtime_ns / 1_000_000 <= now
        assert path.stat().st_mode & 0o777 == 0o600
    assert kinds >= {"SessionStart", "PreToolUse", "PostToolUse", "PostToolUseFailure", "PostToolBatch", "SubagentStop",
                     "PermissionRequest", "Notification", "Stop", "StopFailure", "SessionEnd"}  # fmt: skip


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    canary(home)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], env=environment(home), capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert not list((tmp_path / "tmp").iterdir())
