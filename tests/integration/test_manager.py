"""Tasks as values in the store: created, moved along their graph, looked up, stopped, cleaned up."""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tasks import process
from tasks.config import load
from tasks.database import Connection, Database, Row, Write
from tasks.errors import ImpossibleTransition, NoSuchTask, StoreError, StoreUnavailable, TasksError
from tasks.manager import TRANSITIONS, Task, TaskManager, Usage
from tasks.manager.activity import FIRST_ENTRIES, LONGEST_MESSAGE, MOST_ENTRIES
from tasks.process import Graces, RunFiles
from tasks.words import Failure, MergeState, TaskPriority, TaskStatus

DAY = 86_400_000
QUICK = Graces(interrupt=0.3, terminate=0.3, kill=10.0, drain=2.0)
GOOD: dict[str, Any] = {"user_id": 1, "description": "work"}
SECRET = "sk-ant-api03-" + "a1B2" * 23 + "-abcdefAA"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TASKSD_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def manager(data: Path) -> AsyncIterator[TaskManager]:
    async with TaskManager(data) as made:
        yield made


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


async def set_columns(manager: TaskManager, task_id: str, **columns: Any) -> None:
    """Put a row into a state that would take long to come about."""
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    database = await manager._store()
    await database.apply(
        [Write.one(f"UPDATE tasks SET {changes} WHERE task_id = :task_id", {**columns, "task_id": task_id})]
    )


async def in_status(manager: TaskManager, status: TaskStatus) -> Task:
    """A new task that went its way to `status`."""
    task = await manager.create_task(1, f"becomes {status}")
    way = {
        TaskStatus.PENDING: (),
        TaskStatus.QUEUED: (TaskStatus.QUEUED,),
        TaskStatus.RUNNING: (TaskStatus.QUEUED, TaskStatus.RUNNING),
        TaskStatus.COMPLETED: (TaskStatus.RUNNING, TaskStatus.COMPLETED),
        TaskStatus.FAILED: (TaskStatus.RUNNING, TaskStatus.FAILED),
        TaskStatus.STOPPED: (TaskStatus.QUEUED, TaskStatus.STOPPED),
    }[status]
    for step in way:
        task = await manager.update_task_status(task.task_id, step)
    return task


def rows(data: Path, statement: str) -> list[Row]:
    connection = sqlite3.connect(data / "tasks.db")
    found = connection.execute(statement).fetchall()
    connection.close()
    return found


# Creating.


async def test_the_example_of_the_specification_runs_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # fmt: off
    from tasks.manager import TaskManager

    task_manager = TaskManager(data_dir="data")

    # Create background task
    task = await task_manager.create_task(
        user_id=12345,
        description="Fix authentication bug",
        model="sonnet",
        workspace="/Users/user/Workspace/project",
        agent_type="code_agent",
        workflow="smart-fix"
    )

    # Update task status
    await task_manager.update_task_status(
        task_id=task.task_id,
        status="running",
        pid=12345
    )

    # Add activity log entry
    await task_manager.add_activity(
        task_id=task.task_id,
        message="Starting bug investigation"
    )
    running = await task_manager.get_user_tasks(user_id=12345, status="running")

    # Complete task
    await task_manager.complete_task(
        task_id=task.task_id,
        result="Fixed authentication bug in auth.py:42"
    )

    # Get user's active tasks
    active_tasks = await task_manager.get_user_tasks(
        user_id=12345,
        status="running"
    )
    # fmt: on
    assert [one.task_id for one in running] == [task.task_id]
    assert active_tasks == []
    done = await task_manager.get_task(task.task_id)
    assert done is not None
    assert (done.status, done.result) == ("completed", "Fixed authentication bug in auth.py:42")
    assert [entry.message for entry in done.activity_log] == ["Starting bug investigation"]
    assert (done.model, done.agent_type, done.workflow) == ("sonnet", "code_agent", "smart-fix")
    assert done.workspace == "/Users/user/Workspace/project"


def test_a_manager_that_is_never_closed_ends_with_its_program(programs: Any, data: Path) -> None:
    source = """
import asyncio
from tasks.manager import TaskManager
manager = TaskManager(args[0])
async def main():
    return (await manager.create_task(1, "work")).task_id
say(asyncio.run(main()))
"""
    for prefix in ((), ("env", "PYTHONDEVMODE=1")):
        started = time.monotonic()
        ended = programs.run(source, data, prefix=prefix)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert time.monotonic() - started < 10
    assert not (data / "tasks.db-wal").exists(), "it was closed in good order"
    assert len(rows(data, "SELECT task_id FROM tasks")) == 2


def test_a_manager_that_is_forgotten_closes_its_store_without_a_warning(programs: Any, data: Path) -> None:
    source = """
import asyncio, gc, threading, warnings
from tasks.manager import TaskManager
async def main():
    for _ in range(5):
        manager = TaskManager(args[0])
        await manager.create_task(1, "work")
        del manager
        gc.collect()
    say(sorted(thread.name for thread in threading.enumerate() if "db" in thread.name))
asyncio.run(main())
"""
    ended = programs.run(source, data)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")


def test_one_manager_serves_several_event_loops_one_after_another(data: Path) -> None:
    manager = TaskManager(data)

    async def several() -> list[Task]:
        return await asyncio.gather(*(manager.create_task(1, f"work {n}") for n in range(5)))

    ids = [task.task_id for _ in range(3) for task in asyncio.run(several())]
    assert len(asyncio.run(manager.get_user_tasks(1))) == len(set(ids)) == 15
    asyncio.run(manager.close())
    assert not (data / "tasks.db-wal").exists()


def test_a_loop_that_ends_in_the_middle_of_a_change_leaves_the_manager_at_work(data: Path) -> None:
    manager = TaskManager(data)
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(30)
        connection.execute("INSERT INTO counters VALUES ('slow', 1)")

    async def give_up() -> None:
        change = asyncio.ensure_future(manager._transact(slow))
        assert await asyncio.to_thread(begun.wait, 30)
        assert not change.done()

    async def go_on_with_it() -> Task:
        async with asyncio.timeout(20):
            return await manager.create_task(1, "afterwards")

    asyncio.run(give_up())
    go_on.set()
    task = asyncio.run(go_on_with_it())
    started = time.monotonic()
    asyncio.run(manager.close())
    assert time.monotonic() - started < 4
    assert rows(data, "SELECT task_id FROM tasks") == [(task.task_id,)]
    assert rows(data, "SELECT name FROM counters") == [("slow",)]


async def test_it_opens_the_store_once_however_many_ask_at_once(data: Path) -> None:
    manager = TaskManager(data)
    opened = await asyncio.gather(*(manager._store() for _ in range(20)))
    assert len(set(map(id, opened))) == 1
    await manager.close()
    assert (await manager.create_task(1, "after closing")).status is TaskStatus.PENDING
    await manager.close()


async def test_a_database_that_is_given_is_used_and_left_open(data: Path) -> None:
    async with Database(data / "tasks.db") as database:
        async with TaskManager(database=database) as manager:
            task = await manager.create_task(1, "work")
        assert await database.query("SELECT task_id FROM tasks") == [(task.task_id,)]
        assert (data / "runs" / task.task_id / "prompt").read_text() == "work"


def test_settings_and_a_data_directory_contradict_each_other(data: Path) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        TaskManager(data, settings=load(data_dir=data))


async def test_a_store_that_cannot_be_opened_is_said_and_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    manager = TaskManager(tmp_path / "file/data")
    for _ in range(2):
        with pytest.raises((StoreUnavailable, NotADirectoryError)):
            await manager.create_task(1, "work")
    await manager.close()


async def test_everything_that_was_asked_for_is_stored(manager: TaskManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manager._settings.data_dir)
    before = time.time_ns() // 1_000_000
    task = await manager.create_task(
        -5, "Do it\nwell", model="opus", workspace="sub/project", agent_type="reviewer", workflow="w",
        priority=TaskPriority.HIGH, isolate=False, budget_usd=2.5, max_turns=7,
    )  # fmt: skip
    assert task == await manager.get_task(task.task_id)
    assert before <= task.created_at <= time.time_ns() // 1_000_000
    stored = task.to_dict()
    assert json.loads(json.dumps(stored)) == stored
    assert {name: stored[name] for name in stored if stored[name] is not None and name != "created_at"} == {
        "task_id": task.task_id, "user_id": -5, "description": "Do it\nwell", "status": "pending", "priority": "high",
        "agent_type": "reviewer", "workflow": "w", "model": "opus",
        "workspace": str(manager._settings.data_dir / "sub/project"), "isolate": False, "budget_usd": 2.5,
        "max_turns": 7, "attempt": 0, "commits": 0, "merge_state": "none", "merge_paths": [], "activity_log": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        {"description": ""}, {"description": " \n\t"}, {"description": "a\0b"}, {"description": "é" * (1 << 19) + "x"},
        {"description": None}, {"user_id": "1"}, {"user_id": True}, {"user_id": 1 << 63}, {"priority": 3},
        {"priority": "urgent"}, {"budget_usd": 0}, {"budget_usd": float("nan")}, {"budget_usd": -1}, {"max_turns": 0},
        {"max_turns": 1.5}, {"model": ""}, {"model": "a\nb"}, {"agent_type": "x" * 201}, {"workflow": "\ud800"},
        {"workspace": ""}, {"workspace": "/a\0b"}, {"workspace": "/caf\udce9"},
    ],
    ids=ascii,
)  # fmt: skip
async def test_what_cannot_be_stored_is_refused_and_leaves_nothing(manager: TaskManager, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        await manager.create_task(**{**GOOD, **bad})
    assert await manager.list_tasks() == []
    assert not manager._runs_dir.exists()


@pytest.mark.parametrize("priority", ["low", "LOW", 2, TaskPriority.LOW])
async def test_a_priority_may_be_a_word_or_a_number(manager: TaskManager, priority: Any) -> None:
    assert (await manager.create_task(1, "work", priority=priority)).priority is TaskPriority.LOW


async def test_the_prompt_is_kept_word_for_word_and_the_row_without_secrets(manager: TaskManager, data: Path) -> None:
    text = f"-p use {SECRET}\r\n\ttabs, é, 日本, \U0001f600\n" + "long " * 50_000
    task = await manager.create_task(1, text)
    assert await manager.prompt(task.task_id) == text
    assert SECRET not in task.description
    assert "[REDACTED:" in task.description
    assert len(task.description.encode()) <= 8192
    for path in data.glob("tasks.db*"):
        assert SECRET.encode() not in path.read_bytes()
    prompt = await manager.prompt_file(task.task_id)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (prompt, prompt.parent, prompt.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


async def test_a_prompt_of_one_mebibyte_is_accepted(manager: TaskManager) -> None:
    text = "é" * (1 << 19)
    task = await manager.create_task(1, text)
    assert await manager.prompt(task.task_id) == text


async def test_lone_surrogates_become_replacement_characters(manager: TaskManager) -> None:
    task = await manager.create_task(1, "caf\udce9 \ud83d")
    assert task.description == await manager.prompt(task.task_id) == "caf\ufffd \ufffd"


async def test_at_privacy_level_minimal_no_text_of_people_or_agents_is_in_the_row(data: Path) -> None:
    async with TaskManager(settings=load(data_dir=data, privacy_level="minimal")) as manager:
        task = await manager.create_task(1, "a private matter")
        await manager.update_task_status(task.task_id, "running")
        done = await manager.complete_task(task.task_id, "a private answer")
        assert "private" not in str((done.description, done.result)).replace("privacy", "")
        assert await manager.prompt(task.task_id) == "a private matter"


async def test_an_id_that_is_taken_is_drawn_again(data: Path) -> None:
    draws = iter(["aaaaaa", "aaaaaa", "bbbbbb", "cccccc", "dddddd", "eeeeee"])
    async with TaskManager(data, draw=lambda: next(draws), taken=lambda id_, _: id_ == "dddddd") as manager:
        assert (await manager.create_task(1, "first")).task_id == "aaaaaa"
        assert (await manager.create_task(1, "second")).task_id == "bbbbbb"
        (data / "runs/cccccc").mkdir()
        assert (await manager.create_task(1, "third", workspace="/w")).task_id == "eeeeee"
        assert [await manager.prompt(one) for one in ("aaaaaa", "bbbbbb", "eeeeee")] == ["first", "second", "third"]
        assert list((data / "runs/cccccc").iterdir()) == []


async def test_an_id_whose_branch_is_there_is_drawn_again(data: Path, tmp_path: Path) -> None:
    repository, plain = tmp_path / "repository", tmp_path / "plain"
    plain.mkdir()
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (
        ("init", "-q", str(repository)), ("-C", str(repository), *author, "commit", "-q", "--allow-empty", "-m", "one"),
        ("-C", str(repository), "branch", "task/aaaaaa"), ("-C", str(repository), "pack-refs", "--all"),
    ):  # fmt: skip
        subprocess.run(["git", *command], check=True)
    draws = iter(["aaaaaa", "bbbbbb", "aaaaaa", "aaaaaa", "cccccc"])
    async with TaskManager(data, draw=lambda: next(draws)) as manager:
        assert (await manager.create_task(1, "work", workspace=repository)).task_id == "bbbbbb"
        assert (await manager.create_task(1, "work", workspace=repository, isolate=False)).task_id == "aaaaaa"
        assert (await manager.create_task(1, "work", workspace=plain)).task_id == "cccccc"


async def test_an_id_whose_row_is_there_without_its_folder_is_drawn_again(data: Path) -> None:
    draws = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    async with TaskManager(data, draw=lambda: next(draws)) as manager:
        await manager.create_task(1, "first")
        (data / "runs/aaaaaa/prompt").unlink()
        (data / "runs/aaaaaa").rmdir()
        assert (await manager.create_task(1, "second")).task_id == "bbbbbb"
        assert [path.name for path in (data / "runs").iterdir()] == ["bbbbbb"]
        with pytest.raises(NoSuchTask, match="prompt"):
            await manager.prompt("aaaaaa")


async def test_when_no_id_is_free_that_is_said(data: Path) -> None:
    async with TaskManager(data, draw=lambda: "aaaaaa") as manager:
        await manager.create_task(1, "first")
        with pytest.raises(TasksError, match="no free task id"):
            await manager.create_task(1, "second")
        assert await manager.prompt("aaaaaa") == "first"


def test_ids_are_6_hexadecimal_characters_that_differ(data: Path) -> None:
    from tasks.manager.manager import draw_id

    drawn = {draw_id() for _ in range(1000)}
    assert all(len(one) == 6 and int(one, 16) >= 0 and one == one.lower() for one in drawn)
    assert len(drawn) > 990


async def test_tasks_created_at_once_are_told_apart_by_time_in_the_order_of_the_calls(manager: TaskManager) -> None:
    made = await asyncio.gather(*(manager.create_task(1, f"{n}") for n in range(30)))
    assert [task.description for task in sorted(made, key=lambda task: task.created_at)] == [str(n) for n in range(30)]
    assert [task.description for task in await manager.unfinished()] == [str(n) for n in range(30)]


async def test_a_full_disk_stores_neither_row_nor_prompt(manager: TaskManager, monkeypatch: pytest.MonkeyPatch) -> None:
    await manager.create_task(1, "before")
    manager._runs_dir.chmod(0o500)
    if os.geteuid() == 0:

        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tasks.manager.prompts.os.fsync", full)
    with pytest.raises(StoreUnavailable, match="prompt"):
        await manager.create_task(1, "on a full disk")
    monkeypatch.undo()
    manager._runs_dir.chmod(0o700)
    assert [task.description for task in await manager.list_tasks()] == ["before"]
    assert len(list(manager._runs_dir.iterdir())) == 1


async def test_a_row_that_cannot_be_stored_leaves_a_prompt_that_does_no_harm(manager: TaskManager) -> None:
    database = await manager._store()
    await database.apply(
        [Write.one("CREATE TRIGGER no BEFORE INSERT ON tasks BEGIN SELECT raise(ABORT, 'not now'); END")]
    )
    with pytest.raises(StoreError, match="not now"):
        await manager.create_task(1, "work")
    await database.apply([Write.one("DROP TRIGGER no")])
    assert await manager.list_tasks() == []
    task = await manager.create_task(1, "work")
    assert await manager.prompt(task.task_id) == "work"


CREATE = """
import asyncio
from tasks.manager import TaskManager
async def main():
    async with TaskManager(args[0]) as manager:
        number = 0
        while True:
            task = await manager.create_task(1, f"prompt {number} of {args[1]}")
            say(task.task_id, f"prompt {number} of {args[1]}")
            number += 1
asyncio.run(main())
"""


def test_what_was_created_before_a_kill_is_there_and_every_row_has_its_prompt(programs: Any, data: Path) -> None:
    acknowledged: dict[str, str] = {}
    for turn in range(4):
        program = programs.start(CREATE, data, turn)
        for _ in range(3 + turn):
            task_id, _, prompt = program.stdout.readline().strip().partition(" ")
            acknowledged[task_id] = prompt
        program.kill()
        for line in program.communicate()[0].splitlines():
            task_id, _, prompt = line.partition(" ")
            if prompt.endswith(f"of {turn}"):
                acknowledged[task_id] = prompt
    stored: dict[str, str] = dict(rows(data, "SELECT task_id, description FROM tasks"))
    assert len(acknowledged) >= 18
    assert acknowledged.items() <= stored.items()
    for task_id, prompt in stored.items():
        assert (data / "runs" / task_id / "prompt").read_text() == prompt


# The graph.


ALLOWED = {
    ("pending", "queued"), ("pending", "running"), ("pending", "failed"), ("pending", "stopped"),
    ("queued", "pending"), ("queued", "running"), ("queued", "failed"), ("queued", "stopped"),
    ("running", "queued"), ("running", "completed"), ("running", "failed"), ("running", "stopped"),
    ("failed", "pending"), ("stopped", "pending"),
}  # fmt: skip


@pytest.mark.parametrize("before", list(TaskStatus))
async def test_every_pair_of_statuses_is_a_step_or_refused(manager: TaskManager, before: TaskStatus) -> None:
    for after in TaskStatus:
        task = await in_status(manager, before)
        if before is after:
            assert await manager.update_task_status(task.task_id, after) == task
        elif (before, after) in ALLOWED:
            moved = await manager.update_task_status(task.task_id, after)
            assert moved.status is after
            assert (moved.finished_at is not None) == after.is_over
            assert (moved.failure is not None) == (after is TaskStatus.FAILED)
            ran = TaskStatus.RUNNING in (before, after) or before is TaskStatus.FAILED
            assert (moved.started_at is not None) == ran
        else:
            with pytest.raises(ImpossibleTransition, match=f"{task.task_id} is {before} and cannot become {after}: "):
                await manager.update_task_status(task.task_id, after)
            assert await manager.get_task(task.task_id) == task


def test_the_graph_is_the_one_that_is_tested() -> None:
    assert {(before, after) for before, targets in TRANSITIONS.items() for after in targets} == ALLOWED
    assert set(TRANSITIONS) == set(TaskStatus)


@pytest.mark.parametrize(
    ("status", "advice"), [("completed", "new task"), ("failed", "tasksd retry"), ("stopped", "tasksd retry")]
)
async def test_an_impossible_step_says_what_to_do_instead(manager: TaskManager, status: str, advice: str) -> None:
    task = await in_status(manager, TaskStatus(status))
    with pytest.raises(ImpossibleTransition, match=advice):
        await manager.update_task_status(task.task_id, "running")


async def test_a_status_that_does_not_exist_is_refused(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    with pytest.raises(ValueError, match="accepted are pending, queued"):
        await manager.update_task_status(task.task_id, "done")


@pytest.mark.parametrize(
    ("status", "given"),
    [("queued", {"pid": 5}), ("failed", {"result": "r"}), ("completed", {"error": "e"}), ("stopped", {"failure": "lost"}),
     ("running", {"pid": 0}), ("running", {"pid": 1 << 31}), ("running", {"pid": True}), ("failed", {"failure": "bad"})],
    ids=str,
)  # fmt: skip
async def test_what_does_not_belong_to_a_status_is_refused(
    manager: TaskManager, status: str, given: dict[str, Any]
) -> None:
    task = await manager.create_task(1, "work")
    with pytest.raises(ValueError, match=next(iter(given))):
        await manager.update_task_status(task.task_id, status, **given)
    assert await manager.get_task(task.task_id) == task


async def test_an_unknown_task_is_said_by_every_method(manager: TaskManager) -> None:
    agent = process.identify(os.getpid())
    assert agent is not None
    assert await manager.get_task("ffffff") is None
    for call in (
        manager.update_task_status("ffffff", "queued"), manager.add_activity("ffffff", "m"), manager.prompt("ffffff"),
        manager.complete_task("ffffff"), manager.fail_task("ffffff", "e"), manager.stop_task("ffffff"),
        manager.retry_task("ffffff"), manager.find_task("ffffff"), manager.hold("ffffff", "r"),
        manager.clear_hold("ffffff"), manager.set_worktree("ffffff", commits=1), manager.run_identified("ffffff", agent),
        manager.set_merge("ffffff", MergeState.KEPT), manager.begin_run("ffffff", session_uuid="s"),
        manager.run_spawned("ffffff", 1, agent), manager.end_run("ffffff", 1, exit_status=0, outcome="completed"),
        manager.prompt_file("../../etc/passwd"),
    ):  # fmt: skip
        with pytest.raises(NoSuchTask, match="there is no task"):
            await call


async def test_a_running_task_holds_the_identity_of_its_process_and_loses_it_at_its_end(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    me = process.identify(os.getpid())
    running = await manager.update_task_status(task.task_id, "running", pid=os.getpid(), session_uuid="s-1")
    assert (running.identity, running.host, running.session_uuid) == (me, socket.gethostname(), "s-1")
    parent = await manager.update_task_status(task.task_id, TaskStatus.RUNNING, pid=os.getppid())
    assert parent.pid == os.getppid()
    assert (parent.started_at, parent.session_uuid) == (running.started_at, "s-1")
    ended = await manager.complete_task(task.task_id, "done")
    assert (ended.identity, ended.pid, ended.host) == (None, None, socket.gethostname())


async def test_a_pid_that_nobody_has_is_kept_without_an_identity(manager: TaskManager) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    task = await manager.create_task(1, "work")
    running = await manager.update_task_status(task.task_id, "running", pid=child.pid)
    assert (running.pid, running.identity) == (child.pid, None)


async def test_the_first_result_and_the_first_failure_stand(manager: TaskManager) -> None:
    done, broken = [await in_status(manager, TaskStatus.RUNNING) for _ in range(2)]
    first = await manager.complete_task(done.task_id, "first")
    assert await manager.complete_task(done.task_id, "second") == first
    lost = await manager.fail_task(broken.task_id, f"gone with {SECRET}", failure=Failure.LOST)
    assert (lost.failure, SECRET in str(lost.error)) == (Failure.LOST, False)
    assert await manager.fail_task(broken.task_id, "again") == lost


async def test_a_retry_clears_the_end_and_keeps_branch_worktree_activity_and_sums(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    attempt = await manager.begin_run(task.task_id, session_uuid="s")
    await manager.set_worktree(
        task.task_id, worktree="/w", branch="task/x", base_branch="main", base_commit="c", commits=2
    )
    await manager.add_activity(task.task_id, "began")
    await manager.end_run(
        task.task_id, attempt, exit_status=1, outcome="agent_error", result=Usage(turns=3, cost_usd=0.5)
    )
    await manager.fail_task(task.task_id, "no luck", failure=Failure.TIMEOUT)
    await manager.set_merge(task.task_id, MergeState.CONFLICT, detail="a and b", paths=["a"], commit="d")
    again = await manager.retry_task(task.task_id)
    assert (again.status, again.result, again.error, again.failure, again.finished_at) == (
        "pending",
        None,
        None,
        None,
        None,
    )
    assert (again.merge_state, again.merge_detail, again.merge_paths, again.merge_commit) == ("none", None, (), None)
    assert (again.worktree, again.branch, again.base_branch, again.base_commit, again.commits) == (
        "/w", "task/x", "main", "c", 2,
    )  # fmt: skip
    assert (again.turns, again.cost_usd, again.attempt) == (3, 0.5, 1)
    assert [entry.message for entry in again.activity_log] == ["began", "tried again; it had failed: no luck"]
    assert await manager.begin_run(task.task_id, session_uuid="s2") == 2


@pytest.mark.parametrize("status", [one for one in TaskStatus if one not in (TaskStatus.FAILED, TaskStatus.STOPPED)])
async def test_only_what_failed_or_was_stopped_is_tried_again(manager: TaskManager, status: TaskStatus) -> None:
    task = await in_status(manager, status)
    with pytest.raises(ImpossibleTransition, match=task.task_id):
        await manager.retry_task(task.task_id)
    assert await manager.get_task(task.task_id) == task


async def test_a_task_whose_branch_is_being_merged_is_not_tried_again(manager: TaskManager) -> None:
    task = await in_status(manager, TaskStatus.STOPPED)
    await manager.set_merge(task.task_id, MergeState.MERGING)
    with pytest.raises(ImpossibleTransition, match="being merged"):
        await manager.retry_task(task.task_id)


RACE = """
import asyncio
from tasks.errors import ImpossibleTransition
from tasks.manager import TaskManager
async def main():
    won = []
    async with TaskManager(args[0]) as manager:
        say("ready"); hear()
        for task_id in args[2:]:
            try:
                match args[1]:
                    case "complete": await manager.complete_task(task_id, "done")
                    case "fail": await manager.fail_task(task_id, "broken")
                    case "begin": await manager.begin_run(task_id, session_uuid="s")
                won.append(task_id)
            except ImpossibleTransition:
                pass
    say(*won)
asyncio.run(main())
"""


@pytest.mark.parametrize(("one", "other"), [("complete", "fail"), ("begin", "begin")])
async def test_of_two_processes_that_decide_about_a_task_one_wins(
    programs: Any, manager: TaskManager, data: Path, one: str, other: str
) -> None:
    start = TaskStatus.QUEUED if one == "begin" else TaskStatus.RUNNING
    ids = [(await in_status(manager, start)).task_id for _ in range(40)]
    racers = [programs.start(RACE, data, what, *ids) for what in (one, other)]
    for racer in racers:
        assert await asyncio.to_thread(racer.stdout.readline) == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ends = [await asyncio.to_thread(racer.communicate, None, 60) for racer in racers]
    assert [err for _, err in ends] == ["", ""]
    won = [out.split() for out, _ in ends]
    assert sorted(won[0] + won[1]) == sorted(ids)
    for winners, status in zip(won, ("completed", "failed"), strict=True):
        expected = "running" if one == "begin" else status
        assert {str(task.status) for task in [await manager.find_task(task_id) for task_id in winners]} <= {expected}


# Activity.


async def test_activity_is_a_json_array_of_timed_events_without_secrets(manager: TaskManager, data: Path) -> None:
    before = time.time_ns() // 1_000_000
    task = await manager.create_task(1, "work")
    await manager.add_activity(task.task_id, f"logging in with {SECRET}")
    await manager.add_activities(task.task_id, ["x" * 5000, "nul \0 and \ud800", ""])
    await manager.add_activities(task.task_id, [])
    ((text,),) = rows(data, "SELECT activity_log FROM tasks")
    log = json.loads(text)
    assert all(set(entry) == {"at", "message"} and entry["at"] >= before for entry in log)
    assert [entry["at"] for entry in log] == sorted(entry["at"] for entry in log)
    assert SECRET not in text
    assert [len(entry["message"]) <= LONGEST_MESSAGE for entry in log] == [True] * 4
    assert [entry["message"] for entry in log[2:]] == ["nul \ufffd and \ufffd", ""]
    full = await manager.get_task(task.task_id)
    assert full is not None
    assert [entry.to_dict() for entry in full.activity_log] == full.to_dict()["activity_log"] == log


@pytest.mark.parametrize("batch", [1, 7, 1200])
async def test_a_long_log_keeps_its_first_and_newest_entries_and_counts_the_rest(
    manager: TaskManager, batch: int
) -> None:
    task = await manager.create_task(1, "work")
    total = 1200 if batch > 1 else 560
    messages = [f"message {n}" for n in range(total)]
    for start in range(0, total, batch):
        await manager.add_activities(task.task_id, messages[start : start + batch])
    log = (await manager.find_task(task.task_id)).activity_log
    newest = MOST_ENTRIES - FIRST_ENTRIES - 1
    assert len(log) == MOST_ENTRIES
    assert [entry.message for entry in log[:FIRST_ENTRIES]] == messages[:FIRST_ENTRIES]
    assert [entry.message for entry in log[-newest:]] == messages[-newest:]
    mark = log[FIRST_ENTRIES]
    assert mark.left_out == total - FIRST_ENTRIES - newest
    assert mark.message == f"… {mark.left_out} entries left out …"


async def test_activity_from_many_at_once_is_all_there(manager: TaskManager, data: Path) -> None:
    task = await manager.create_task(1, "work")
    async with TaskManager(data) as other:
        await asyncio.gather(*(one.add_activity(task.task_id, f"{n}") for n in range(40) for one in (manager, other)))
    log = (await manager.find_task(task.task_id)).activity_log
    assert sorted(entry.message for entry in log) == sorted([str(n) for n in range(40)] * 2)


# Looking up.


async def test_the_beginning_of_an_id_finds_the_task_when_it_is_unique(data: Path) -> None:
    draws = iter(["abc123", "abd456", "ffffff"])
    async with TaskManager(data, draw=lambda: next(draws)) as manager:
        for _ in range(3):
            await manager.create_task(1, "work")
        assert (await manager.find_task("abc")).task_id == "abc123"
        assert (await manager.find_task(" ABD456 ")).task_id == "abd456"
        assert (await manager.find_task("f")).task_id == "ffffff"
        with pytest.raises(NoSuchTask, match="several tasks begin with 'ab': abc123, abd456"):
            await manager.find_task("ab")
        for unknown in ("", "abc1234", "x", "%", "abc12_", "\ud800"):
            with pytest.raises(NoSuchTask, match="no task"):
                await manager.find_task(unknown)


async def test_tasks_are_listed_by_whatever_they_are_about(manager: TaskManager) -> None:
    made = []
    for n in range(6):
        task = await manager.create_task(
            n % 2, f"{n}", workflow="w" if n < 3 else "v", agent_type="a" if n != 1 else None, workspace=f"/w/{n % 3}"
        )
        await set_columns(manager, task.task_id, created_at=1000 * n)
        made.append(task.task_id)
    await manager.update_task_status(made[2], "queued")
    await manager.update_task_status(made[3], "stopped")

    async def listed(**given: Any) -> str:
        return "".join(task.description for task in await manager.list_tasks(**given))

    assert await listed() == "543210"
    assert await listed(user_id=0) == "420"
    assert await listed(statuses=["queued", TaskStatus.STOPPED]) == "32"
    assert await listed(workflow="w") == "210"
    assert await listed(agent_type="a") == "54320"
    assert await listed(workspace="/w/1/") == "41"
    assert await listed(since=2000, until=4000) == "32"
    assert await listed(user_id=0, statuses=["pending"], workflow="w", since=0) == "0"
    assert await listed(limit=2) == "54"
    assert await listed(limit=0) == ""
    assert await listed(limit=2, after=(4000, made[4])) == "32"
    assert [task.description for task in await manager.get_user_tasks(1)] == ["5", "3", "1"]
    assert [task.description for task in await manager.get_user_tasks(1, "stopped")] == ["3"]
    counts = await manager.count_tasks()
    assert (counts[TaskStatus.PENDING], counts[TaskStatus.QUEUED], counts[TaskStatus.RUNNING]) == (4, 1, 0)
    with pytest.raises(ValueError, match="limit"):
        await manager.list_tasks(limit=-1)


async def test_pages_meet_every_task_once_though_many_have_one_time(manager: TaskManager) -> None:
    ids = [(await manager.create_task(1, "work")).task_id for _ in range(11)]
    for task_id in ids:
        await set_columns(manager, task_id, created_at=5)
    found: list[str] = []
    after = None
    while page := await manager.list_tasks(limit=3, after=after):
        found += [task.task_id for task in page]
        after = (page[-1].created_at, page[-1].task_id)
    assert sorted(found) == sorted(ids)


async def test_lists_leave_the_activity_out_unless_asked(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    await manager.add_activity(task.task_id, "begun")
    (brief,) = await manager.list_tasks()
    (full,) = await manager.list_tasks(activity=True)
    assert (brief.activity_log, full.activity_log[0].message) == ((), "begun")


class Asked(Database):
    """Remembers the queries."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[tuple[str, Any]] = []

    async def query(self, statement: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[Row]:
        self.asked.append((statement, parameters))
        return await super().query(statement, parameters)

    async def plan(self) -> str:
        statement, parameters = self.asked[-1]
        found = await super().query("EXPLAIN QUERY PLAN " + statement, parameters)
        return " | ".join(row[3] for row in found)


async def test_queries_use_the_indices(data: Path) -> None:
    async with Asked(data / "tasks.db") as database:
        manager = TaskManager(database=database)
        task = await manager.create_task(1, "work")
        unknown = "b" if task.task_id.startswith("a") else "a"
        for call, wanted in (
            (lambda: manager.get_user_tasks(1, "running"), "INDEX idx_tasks_user_status (user_id=? AND status=?"),
            (lambda: manager.get_user_tasks(1), "INDEX idx_tasks_user_status (user_id=?"),
            (lambda: manager.list_tasks(statuses=["running", "queued"]), "INDEX idx_tasks_status (status=?"),
            (lambda: manager.list_tasks(workflow="w"), "INDEX idx_tasks_workflow (workflow=?"),
            (
                lambda: manager.list_tasks(workflow="w", since=1),
                "INDEX idx_tasks_workflow (workflow=? AND created_at>?",
            ),
            (lambda: manager.list_tasks(since=1, until=5), "INDEX idx_tasks_created (created_at>? AND created_at<?"),
            (lambda: manager.list_tasks(after=(5, "a")), "INDEX idx_tasks_created (created_at<?"),
            (lambda: manager.list_tasks(), "SCAN tasks USING INDEX idx_tasks_created"),
            (lambda: manager.list_tasks(agent_type="a"), "SCAN tasks USING INDEX idx_tasks_created"),
            (manager.unfinished, "INDEX idx_tasks_status (status=?"),
            (manager.waiting_merges, "INDEX idx_tasks_merge (merge_state=?"),
            (lambda: manager.find_task(unknown), "(task_id>? AND task_id<?)"),
            (manager.count_tasks, "USING COVERING INDEX idx_tasks_status"),
            (lambda: manager.latest_run("aaaaaa"), "SEARCH runs USING PRIMARY KEY (task_id=?)"),
        ):
            with contextlib.suppress(NoSuchTask):
                await call()
            assert wanted in await database.plan()


# Runs, worktrees, merges, holds.


async def test_a_run_from_its_begin_to_its_end(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    await manager.update_task_status(task.task_id, "queued")
    await manager.hold(task.task_id, "dirty workspace", 5)
    monotonic = time.monotonic()
    assert await manager.begin_run(task.task_id, session_uuid="s-1", host="here", resumed=True) == 1
    begun = await manager.find_task(task.task_id)
    assert (begun.status, begun.attempt, begun.session_uuid, begun.host) == ("running", 1, "s-1", "here")
    assert (begun.hold_reason, begun.hold_until) == (None, None)
    run = await manager.latest_run(task.task_id)
    assert run is not None
    assert (run.shim, run.finished_at, run.resumed, run.started_at) == (None, None, True, begun.started_at)
    assert monotonic <= run.started_monotonic <= time.monotonic()

    shim, agent = process.identify(os.getppid()), process.identify(os.getpid())
    assert shim is not None
    assert agent is not None
    await manager.run_spawned(task.task_id, 1, shim)
    assert (await manager.run_identified(task.task_id, agent, attempt=1)).identity == agent
    with pytest.raises(ImpossibleTransition, match="not wanted"):
        await manager.run_identified(task.task_id, agent, attempt=2)

    reported = Usage(
        turns=2, input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4, cost_usd=0.25
    )
    for _ in range(2):
        ended = await manager.end_run(task.task_id, 1, exit_status=143, outcome="limited", result=reported)
        assert (ended.status, ended.turns, ended.input_tokens, ended.cost_usd) == ("running", 2, 10, 0.25)
    held = await manager.hold(task.task_id, "usage limit", 99)
    assert (held.status, held.hold_reason, held.hold_until, held.pid) == ("queued", "usage limit", 99, None)
    assert await manager.begin_run(task.task_id, session_uuid="s-1", resumed=True) == 2
    ended = await manager.end_run(
        task.task_id, 2, exit_status=0, outcome="completed", result=Usage(turns=1, cost_usd=0.5)
    )
    assert (ended.turns, ended.input_tokens, ended.cost_usd, ended.started_at) == (3, 10, 0.75, begun.started_at)
    first, second = await manager.runs(task.task_id)
    assert (first.shim, first.exit_status, first.outcome, first.output_tokens) == (shim, 143, "limited", 20)
    assert (second.exit_status, second.outcome, second.turns, second.input_tokens) == (0, "completed", 1, None)
    assert second.to_dict()["attempt"] == 2
    with pytest.raises(NoSuchTask, match="no run 3"):
        await manager.end_run(task.task_id, 3, exit_status=0, outcome="completed")
    with pytest.raises(NoSuchTask, match="no run 3"):
        await manager.run_spawned(task.task_id, 3, shim)


@pytest.mark.parametrize("status", [one for one in TaskStatus if one not in (TaskStatus.PENDING, TaskStatus.QUEUED)])
async def test_a_run_begins_only_for_a_task_that_waits(manager: TaskManager, status: TaskStatus) -> None:
    task = await in_status(manager, status)
    with pytest.raises(ImpossibleTransition):
        await manager.begin_run(task.task_id, session_uuid="s")
    assert await manager.find_task(task.task_id) == task
    assert await manager.runs(task.task_id) == []


async def test_a_run_whose_task_was_stopped_meanwhile_is_recorded_all_the_same(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    await manager.begin_run(task.task_id, session_uuid="s", host="elsewhere")
    await manager.stop_task(task.task_id)
    me = process.identify(os.getpid())
    assert me is not None
    assert (await manager.run_spawned(task.task_id, 1, me)).status is TaskStatus.STOPPED
    with pytest.raises(ImpossibleTransition):
        await manager.run_identified(task.task_id, me)
    ended = await manager.end_run(task.task_id, 1, exit_status=130, outcome="stopped", result=Usage(turns=1))
    assert (ended.status, ended.turns) == ("stopped", 1)


@pytest.mark.parametrize("status", list(TaskStatus))
async def test_what_waits_or_runs_can_be_held(manager: TaskManager, status: TaskStatus) -> None:
    task = await in_status(manager, status)
    if status.is_over:
        with pytest.raises(ImpossibleTransition, match="cannot become held"):
            await manager.hold(task.task_id, "full disk", 5)
        return
    held = await manager.hold(task.task_id, "full disk", 5)
    assert (held.hold_reason, held.hold_until) == ("full disk", 5)
    assert held.status is (TaskStatus.PENDING if status is TaskStatus.PENDING else TaskStatus.QUEUED)
    assert (await manager.clear_hold(task.task_id)).hold_reason is None


async def test_of_a_worktree_what_is_not_given_stays(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    await manager.set_worktree(task.task_id, worktree="/w", branch="task/x", base_branch=None, base_commit="c")
    await manager.set_worktree(task.task_id, commits=3)
    after = await manager.set_worktree(task.task_id, worktree=None)
    assert (after.worktree, after.branch, after.base_branch, after.base_commit, after.commits) == (
        None, "task/x", None, "c", 3,
    )  # fmt: skip


async def test_what_is_merged_stays_merged(manager: TaskManager) -> None:
    task = await in_status(manager, TaskStatus.COMPLETED)
    conflict = await manager.set_merge(
        task.task_id, MergeState.CONFLICT, detail=f"see https://u:{SECRET}@h/", paths=["a", "caf\udce9"]
    )
    assert conflict.merge_paths == ("a", "caf\ufffd")
    assert SECRET not in str(conflict.merge_detail)
    merged = await manager.set_merge(task.task_id, MergeState.MERGED, commit="c0ffee")
    assert (merged.merge_paths, merged.merge_detail, merged.merge_commit) == ((), None, "c0ffee")
    kept = await manager.set_merge(task.task_id, MergeState.KEPT, detail="its worktree is in use")
    assert (kept.merge_state, kept.merge_detail, kept.merge_commit) == ("merged", "its worktree is in use", "c0ffee")


async def test_what_is_left_to_do_is_listed(manager: TaskManager) -> None:
    tasks = {}
    for name, priority in (("low", 2), ("first", 1), ("second", 1), ("urgent", 0), ("over", 0), ("merging", 0)):
        tasks[name] = (await manager.create_task(1, name, priority=priority)).task_id
    for name in ("over", "merging"):
        await manager.stop_task(tasks[name])
    assert [task.description for task in await manager.unfinished()] == ["urgent", "first", "second", "low"]
    assert await manager.waiting_merges() == []
    await manager.set_merge(tasks["merging"], MergeState.MERGING)
    assert [task.description for task in await manager.waiting_merges()] == ["merging"]
    assert [task.description for task in await manager.to_recover()][:2] == ["urgent", "merging"]
    await manager.set_merge(tasks["merging"], MergeState.WAITING)
    assert [task.description for task in await manager.waiting_merges()] == ["merging"]
    await manager.set_merge(tasks["merging"], MergeState.CONFLICT)
    assert await manager.waiting_merges() == []
    assert {task.description for task in await manager.to_recover()} == {"urgent", "first", "second", "low"}
    await manager.set_worktree(tasks["over"], worktree="/w")
    assert "over" in {task.description for task in await manager.to_recover()}


async def test_a_stopped_task_with_an_open_run_is_to_be_recovered(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    await manager.begin_run(task.task_id, session_uuid="s", host="elsewhere")
    await manager.stop_task(task.task_id)
    assert [one.task_id for one in await manager.to_recover()] == [task.task_id]
    await manager.end_run(task.task_id, 1, exit_status=None, outcome="stopped")
    assert await manager.to_recover() == []


async def test_state_survives_and_none_forgets_it(manager: TaskManager, data: Path) -> None:
    assert await manager.get_state("pool.paused") is None
    await manager.set_state("pool.paused", {"since": 5, "why": ["é"]})
    await manager.set_state("pool.max_agents", 3)
    async with TaskManager(data) as other:
        assert await other.get_state("pool.paused") == {"since": 5, "why": ["é"]}
        await other.set_state("pool.paused", None)
    assert await manager.get_state("pool.paused") is None
    assert await manager.get_state("pool.max_agents") == 3
    with pytest.raises(ValueError, match="JSON"):
        await manager.set_state("bad", float("nan"))


# Stopping.


async def test_a_task_is_stopped_with_its_reason(manager: TaskManager) -> None:
    task = await in_status(manager, TaskStatus.QUEUED)
    stopped = await manager.stop_task(task.task_id, "not needed any more")
    assert (stopped.status, stopped.error) == ("stopped", "not needed any more")
    assert [entry.message for entry in stopped.activity_log] == ["stopped: not needed any more"]
    assert await manager.stop_task(task.task_id, "again") == stopped


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED])
async def test_what_ended_is_not_stopped(manager: TaskManager, status: TaskStatus) -> None:
    task = await in_status(manager, status)
    with pytest.raises(ImpossibleTransition):
        await manager.stop_task(task.task_id)


def start_marked(
    children: list[subprocess.Popen[bytes]], source: str = "", **variables: str
) -> subprocess.Popen[bytes]:
    """A program that lives until it is ended, once it is ready."""
    program = "import sys, time, signal, subprocess\n" + source + "\nprint('ready', flush=True)\ntime.sleep(600)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", program], env={"PATH": os.environ["PATH"], **variables}, stdout=subprocess.PIPE
    )
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


async def test_processes_with_the_mark_are_ended_even_when_they_ignore_signals(
    manager: TaskManager, children: list[subprocess.Popen[bytes]]
) -> None:
    task = await manager.create_task(1, "work")
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn = start_marked(children, deaf, TASKS_TASK_ID=task.task_id)
    family = start_marked(
        children, "subprocess.Popen(['sleep', '600'], start_new_session=True)", TASKS_TASK_ID=task.task_id
    )
    other = start_marked(children, TASKS_TASK_ID="ffffff")
    await manager.update_task_status(task.task_id, "running")
    assert (await manager.stop_task(task.task_id, graces=QUICK)).status is TaskStatus.STOPPED
    assert stubborn.wait(10) == -9
    assert family.wait(10) in (-2, -15)  # a machine that is busy is asked twice
    assert process.marked(process.TASK_VARIABLE, task.task_id) == []
    assert other.poll() is None


async def test_a_stranger_whose_pid_was_recorded_is_never_signalled(
    manager: TaskManager, children: list[subprocess.Popen[bytes]]
) -> None:
    stranger = start_marked(children)
    task = await manager.create_task(1, "work")
    await manager.update_task_status(task.task_id, "running", pid=stranger.pid)
    await manager.stop_task(task.task_id, graces=QUICK)
    assert stranger.poll() is None


async def test_processes_of_a_task_that_ran_on_another_machine_are_left_alone(
    manager: TaskManager, children: list[subprocess.Popen[bytes]]
) -> None:
    task = await manager.create_task(1, "work")
    child = start_marked(children, TASKS_TASK_ID=task.task_id)
    await manager.update_task_status(task.task_id, "running", pid=child.pid)
    await set_columns(manager, task.task_id, host="elsewhere")
    await manager.stop_task(task.task_id, graces=QUICK)
    assert child.poll() is None


async def test_the_runs_so_far_are_ended_and_the_next_one_is_not(
    manager: TaskManager, children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    task = await manager.create_task(1, "work")
    attempt = await manager.begin_run(task.task_id, session_uuid="s")
    run = f"{task.task_id}.{attempt}"
    files = RunFiles(manager._runs_dir / task.task_id / str(attempt))
    files.prepare()
    environ = {"PATH": os.environ["PATH"], "TASKS_TASK_ID": task.task_id, "TASKS_RUN": run}
    shim = process.spawn(files, ["sleep", "600"], cwd=tmp_path, environ=environ, stdin=None, output_bytes=1 << 20)
    await manager.run_spawned(task.task_id, attempt, shim)
    following = start_marked(children, TASKS_TASK_ID=task.task_id, TASKS_RUN=f"{task.task_id}.{attempt + 1}")
    await manager.stop_task(task.task_id, graces=QUICK)
    assert process.marked(process.RUN_VARIABLE, run) == []
    assert files.exit_status() is not None
    assert following.poll() is None


# Cleaning up.


async def test_only_old_tasks_with_nothing_left_to_look_at_are_cleaned_up(manager: TaskManager) -> None:
    now = time.time_ns() // 1_000_000
    old, young = now - 31 * DAY, now - 29 * DAY
    branch = {"branch": "task/x", "base_commit": "c"}
    cases: dict[str, tuple[bool, TaskStatus, dict[str, Any]]] = {
        "completed": (True, TaskStatus.COMPLETED, {}),
        "failed": (True, TaskStatus.FAILED, {}),
        "stopped": (True, TaskStatus.STOPPED, {}),
        "merged": (True, TaskStatus.COMPLETED, {**branch, "merge_state": "merged", "commits": 3}),
        "no commits": (True, TaskStatus.COMPLETED, branch),
        "young": (False, TaskStatus.COMPLETED, {"finished_at": young}),
        "worktree": (False, TaskStatus.COMPLETED, {**branch, "worktree": "/w"}),
        "merged, worktree": (False, TaskStatus.COMPLETED, {"merge_state": "merged", "worktree": "/w"}),
        "commits": (False, TaskStatus.FAILED, {**branch, "commits": 1}),
        "own branch": (False, TaskStatus.FAILED, {"branch": "mine"}),
        "conflict": (False, TaskStatus.COMPLETED, {**branch, "merge_state": "conflict"}),
        "kept": (False, TaskStatus.COMPLETED, {**branch, "merge_state": "kept"}),
        "waiting": (False, TaskStatus.COMPLETED, {**branch, "merge_state": "waiting"}),
        "merging": (False, TaskStatus.COMPLETED, {**branch, "merge_state": "merging"}),
        "pending": (False, TaskStatus.PENDING, {}),
        "running": (False, TaskStatus.RUNNING, {}),
    }
    ids = {}
    for name, (_, status, columns) in cases.items():
        ids[name] = (await in_status(manager, status)).task_id
        (manager._runs_dir / ids[name] / "1").mkdir()
        at = {"finished_at": old} if status.is_over else {}
        await set_columns(manager, ids[name], created_at=old, **at | columns)
    goes = {ids[name] for name, (gone, _, _) in cases.items() if gone}
    assert {task.task_id for task in await manager.cleanup_tasks(30, dry_run=True)} == goes
    assert len(list(manager._runs_dir.iterdir())) == len(await manager.list_tasks()) == len(cases)
    assert {task.task_id for task in await manager.cleanup_tasks(30)} == goes
    assert {task.task_id for task in await manager.list_tasks()} == set(ids.values()) - goes
    assert {path.name for path in manager._runs_dir.iterdir()} == set(ids.values()) - goes
    assert await manager.cleanup_tasks(30) == []


async def test_runs_go_with_their_task(manager: TaskManager, data: Path) -> None:
    task = await manager.create_task(1, "work")
    await manager.begin_run(task.task_id, session_uuid="s", host="elsewhere")
    await manager.complete_task(task.task_id)
    await set_columns(manager, task.task_id, finished_at=5)
    assert [one.task_id for one in await manager.cleanup_tasks(0)] == [task.task_id]
    assert rows(data, "SELECT * FROM runs") == []


async def test_more_tasks_than_one_transaction_takes_are_cleaned_up(manager: TaskManager) -> None:
    database = await manager._store()
    columns = "task_id, user_id, description, status, created_at, finished_at"
    insert = f"INSERT INTO tasks ({columns}) VALUES (?, 1, '', 'stopped', 1, 1)"
    await database.apply([Write(insert, [(f"{n:06x}",) for n in range(1201)])])
    assert len(await manager.cleanup_tasks()) == 1201
    assert await manager.list_tasks() == []


async def test_old_prompts_without_a_row_are_cleaned_up_and_nothing_else(manager: TaskManager) -> None:
    task = await manager.create_task(1, "work")
    runs = manager._runs_dir
    for name in ("aaaaaa", "bbbbbb", "not-a-task"):
        (runs / name).mkdir()
        (runs / name / "prompt").write_text("secret")
    for name in ("aaaaaa", "not-a-task", task.task_id):
        os.utime(runs / name, (1, 1))
    (runs / "cccccc").symlink_to(runs / "not-a-task")
    await manager.cleanup_tasks(0)
    assert {path.name for path in runs.iterdir()} == {"bbbbbb", "cccccc", "not-a-task", task.task_id}


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
async def test_an_age_that_makes_no_sense_is_refused(manager: TaskManager, days: float) -> None:
    with pytest.raises(ValueError, match="older_than_days"):
        await manager.cleanup_tasks(days)
