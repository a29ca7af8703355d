"""hooks/guard as the client starts it: against daemons that behave in every way, and against the real API and git."""

import ast
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from tasks import assets
from tasks.api import ApiServer, Context, bind_unix_socket, create_app
from tasks.api import guard as resource
from tasks.config import load, socket_path
from tasks.database import Database
from tasks.database.engine import LOCK_TIMEOUT, WriteLock
from tasks.enforcer import guard
from tasks.enforcer.snapshot import Snapshot
from tasks.users import owner

SCRIPT = assets.path("hooks/guard")
SESSION = "0a1b2c3d-1111-4222-8333-444455556666"
ANSWER = b'{"decision": "block", "reason": "because"}'
PATIENCE = 2.0  # seconds that the guard has; a loaded machine needs some to start it
SLACK = 10.0


def prompt(**fields: object) -> dict[str, object]:
    return {"hook_event_name": "UserPromptSubmit", "session_id": SESSION, "cwd": "/", "prompt": "Go on", **fields}


def command(text: str, **fields: object) -> dict[str, object]:
    tool = {"tool_name": "Bash", "tool_input": {"command": text, "description": "x" * 99}}
    return {"hook_event_name": "PreToolUse", "session_id": SESSION, "cwd": "/", **tool, **fields}


class Asking:
    """Runs the guard with one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        (data_dir / "spool").mkdir(parents=True)

    def run(
        self,
        payload: object,
        *,
        script: Path = SCRIPT,
        before: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        environ = {"PATH": os.environ["PATH"], "TASKSD_DATA_DIR": str(self.data_dir), **(variables or {})}
        given = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return subprocess.run(
            [*before, str(script), "tasksd"], input=given, capture_output=True, env=environ, timeout=60, check=False
        )


def says_nothing(done: "subprocess.CompletedProcess[bytes]") -> bool:
    return (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class Listener:
    """A daemon that answers every connection with `answer(connection)`, and keeps what it was asked."""

    def __init__(self, path: Path, answer: Callable[[socket.socket], None]) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def questions(self) -> list[Any]:
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.asked]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                self.asked.append(_request(connection))
                self._answer(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def _request(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(1 << 16)
    length = int(got.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(got.partition(b"\r\n\r\n")[2]) < length:
        got += connection.recv(1 << 16)
    return got


def answering(body: bytes, status: str = "200 OK") -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the name of a test would make socket paths too long."""
    return tmp_path_factory.mktemp("g")


@pytest.fixture
def asking(place: Path) -> Asking:
    return Asking(place / "d")


@pytest.fixture
def listen(asking: Asking) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(answer: Callable[[socket.socket], None] | None = None) -> Listener:
        made.append(Listener(asking.data_dir / "tasksd.sock", answer or answering(ANSWER)))
        return made[-1]

    yield start
    for one in made:
        one.close()


# What the guard prints.


def test_the_daemons_answer_is_printed_as_it_is(asking: Asking, listen: Callable[..., Listener]) -> None:
    listener = listen()
    done = asking.run(prompt())
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER, b"")
    assert listener.questions == [
        {"hook_event_name": "UserPromptSubmit", "session_id": SESSION, "cwd": "/", "permission_mode": None,
         "agent_id": None, "stop_hook_active": False, "task_id": None, "prompt": "Go on"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"{}"),
        answering(b""),
        answering(b"[1]"),
        answering(b'"text"'),
        answering(b"null"),
        answering(b"not json"),
        answering(b'{"a": 1} and more'),
        answering(b'{"decision": "blo'),
        answering(b'{"a": "\xff"}'),
        answering(ANSWER, "500 Internal Server Error"),
        answering(ANSWER, "422 Unprocessable Entity"),
        answering(b'{"a": "' + b"x" * (1 << 20) + b'"}'),
        lambda connection: connection.sendall(ANSWER),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n"),
        lambda connection: None,
        lambda connection: connection.sendall(os.urandom(9999)),
    ],
)
def test_answer_that_is_no_answer_is_not_printed(
    asking: Asking, listen: Callable[..., Listener], answer: Callable[[socket.socket], None]
) -> None:
    listener = listen(answer)
    assert says_nothing(asking.run(prompt()))
    assert len(listener.asked) == 1


def test_without_a_daemon_it_says_nothing(asking: Asking) -> None:
    assert says_nothing(asking.run(prompt()))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(asking.data_dir / "tasksd.sock"))
    stale.close()
    assert says_nothing(asking.run(prompt()))
    shutil.rmtree(asking.data_dir)
    assert says_nothing(asking.run(prompt()))


@pytest.mark.parametrize("silence", ["accepts and waits", "never accepts", "drips"])
def test_daemon_that_hangs_costs_two_seconds(asking: Asking, listen: Callable[..., Listener], silence: str) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as deaf:
        if silence == "never accepts":
            deaf.bind(str(asking.data_dir / "tasksd.sock"))
            deaf.listen(0)
        else:
            listen(drip if silence == "drips" else lambda connection: cast(None, over.wait(20)))
        before = time.monotonic()
        assert says_nothing(asking.run(prompt()))
        assert time.monotonic() - before < PATIENCE + SLACK
        over.set()


def test_stdin_that_is_never_closed_costs_two_seconds(asking: Asking) -> None:
    environ = {"PATH": os.environ["PATH"], "TASKSD_DATA_DIR": str(asking.data_dir)}
    before = time.monotonic()
    with subprocess.Popen([SCRIPT, "tasksd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as guard:
        assert guard.stdin is not None
        guard.stdin.write(b'{"hook_event_name":')
        guard.stdin.flush()
        assert guard.wait(30) == 0
    assert time.monotonic() - before < PATIENCE + SLACK


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\n", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"{}",
        b'{"hook_event_name": "Stop"}', b'{"hook_event_name": 1, "session_id": 2, "cwd": 3}',
        json.dumps(prompt(session_id=None)).encode(), json.dumps(prompt(hook_event_name="SubagentStop")).encode(),
        json.dumps(prompt(hook_event_name="PreToolUse")).encode(), json.dumps(command("x", tool_input=[])).encode(),
        json.dumps(prompt()).encode() + b"x",
    ],
)  # fmt: skip
def test_payload_that_is_none_is_not_asked_about(
    asking: Asking, listen: Callable[..., Listener], payload: bytes
) -> None:
    listener = listen()
    assert says_nothing(asking.run(payload))
    assert listener.asked == []


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox", "ksh", "mksh", "yash", "zsh"])
def test_every_shell_can_start_it(asking: Asking, listen: Callable[..., Listener], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    listen()
    before = (shell, "sh") if shell == "busybox" else (shell,)
    assert asking.run(prompt(), before=before).stdout == ANSWER


@pytest.mark.parametrize("python", ["no-such-python-here", "sh -c 'exit 2' x", "sh -c 'kill -9 $$' x", "false"])
def test_python_that_is_missing_or_broken_blocks_nobody(asking: Asking, place: Path, python: str) -> None:
    broken = place / "guard"
    text = SCRIPT.read_text()
    assert text.count("\npython3 -I -S") == 1
    broken.write_text(text.replace("\npython3 -I -S", f"\n{python} -I -S"))
    broken.chmod(0o755)
    assert says_nothing(asking.run(prompt(), script=broken))


def test_old_pythons_of_the_system_understand_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


# What it asks.


def test_only_what_an_answer_needs_is_sent(asking: Asking, listen: Callable[..., Listener]) -> None:
    listener = listen()
    asking.run(
        prompt(hook_event_name="Stop", stop_hook_active=True, permission_mode="plan", agent_id="a1", secret="s" * 9),
        variables={"TASKS_TASK_ID": "abc123"},
    )
    asking.run(prompt(prompt="<task-notification>" + "x" * 5000))
    asking.run(command("git commit"))
    stop, begun, tool = listener.questions
    assert stop == {
        "hook_event_name": "Stop", "session_id": SESSION, "cwd": "/", "permission_mode": "plan", "agent_id": "a1",
        "stop_hook_active": True, "task_id": "abc123",
    }  # fmt: skip
    assert begun["prompt"].startswith("<task-notification>")
    assert len(begun["prompt"]) < 100
    assert (tool["tool_name"], tool["command"], tool["cut"]) == ("Bash", "git commit", False)


@pytest.mark.parametrize("text", ["ls", "git status", "echo commit", "git log", "make", ""])
def test_command_that_cannot_commit_costs_no_question(
    asking: Asking, listen: Callable[..., Listener], text: str
) -> None:
    listener = listen()
    assert says_nothing(asking.run(command(text)))
    assert listener.asked == []


@pytest.mark.parametrize("filler", ["x", "\x01", "é", "😀", "\ud83d", '"', "\n", "\\"])
def test_question_always_fits_into_a_request(asking: Asking, listen: Callable[..., Listener], filler: str) -> None:
    listener = listen()
    asking.run(command("git commit -m '" + filler * 10))
    asking.run(command("git commit -m '" + filler * 100_000 + "'; git commit"))
    small, large = listener.questions
    assert (small["cut"], large["cut"]) == (False, True)
    assert all(len(request) < 60_000 for request in listener.asked)
    assert all(question["command"].startswith("git commit -m '") for question in listener.questions)


def test_payload_of_megabytes_and_of_bytes_that_are_no_text_is_asked_about(
    asking: Asking, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    payload = json.dumps(prompt(prompt="x" * (5 << 20))).encode().replace(b"Go on", b"\xff\x00")
    assert asking.run(payload).stdout == ANSWER
    assert asking.run(b'{"hook_event_name":"Stop","session_id":"\xff\\ud83d","cwd":"/"}').stdout == ANSWER
    assert listener.questions[1]["session_id"] == "\ufffd?"


# Where it asks.


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_socket_is_where_the_daemon_has_it(place: Path, listen: Callable[..., Listener], long: bool) -> None:
    home = place / ("h" * 90 if long else "h")
    ways: dict[str, dict[str, str]] = {
        "TASKSD_DATA_DIR": {"TASKSD_DATA_DIR": f"{home}//a/./data/"},
        "home in it": {"TASKSD_DATA_DIR": "~/b", "HOME": str(home)},
        "XDG_STATE_HOME": {"XDG_STATE_HOME": str(home / "state")},
        "HOME": {"HOME": str(home)},
    }
    for way, variables in ways.items():
        environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(place / "r"), **variables}
        settings = load(environ=environ)
        settings.data_dir.mkdir(parents=True)
        path = socket_path(settings.data_dir, environ)
        assert (path.parent == settings.data_dir) is not long
        try:
            listener = Listener(path, answering(ANSWER))
        except PermissionError:
            pytest.skip("the run-time directory of this user cannot be written to")
        try:
            done = subprocess.run(
                [SCRIPT], input=json.dumps(prompt()).encode(), capture_output=True, check=False, timeout=60,
                env={"PATH": os.environ["PATH"], **environ},
            )  # fmt: skip
            assert done.stdout == ANSWER, way
        finally:
            listener.close()
            path.unlink()


def test_installed_copy_asks_the_daemon_of_its_own_data_directory(
    asking: Asking, listen: Callable[..., Listener], place: Path
) -> None:
    installed = asking.data_dir / "hooks/guard"
    installed.parent.mkdir()
    shutil.copy(SCRIPT, installed)
    listen()
    environ = {"PATH": os.environ["PATH"], "HOME": str(place)}
    done = subprocess.run(
        [installed, "tasksd"], input=json.dumps(prompt()).encode(), capture_output=True, env=environ, check=False
    )
    assert done.stdout == ANSWER


def test_socket_of_somebody_else_is_not_asked(asking: Asking, listen: Callable[..., Listener]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    listener = listen()
    os.chown(asking.data_dir / "tasksd.sock", 12345, -1)
    assert says_nothing(asking.run(prompt()))
    os.chown(asking.data_dir / "tasksd.sock", 0, -1)
    os.chown(asking.data_dir, 12345, -1)
    assert says_nothing(asking.run(prompt()))
    assert listener.asked == []


# With the real API, store and git.


class Guarded:
    """The API alone, on its socket; the guard asks it as the client would."""

    def __init__(self, asking: Asking, database: Database) -> None:
        self.asking = asking
        self.database = database

    async def ask(self, payload: dict[str, object], **variables: str) -> Any:
        """What the guard prints, as JSON; None: nothing."""
        done = await asyncio.to_thread(self.asking.run, payload, variables=variables)
        assert (done.returncode, done.stderr) == (0, b"")
        return json.loads(done.stdout) if done.stdout else None

    async def verdicts(self) -> list[tuple[Any, ...]]:
        return await self.database.query("SELECT stage, mode, passed, session_uuid, task_id FROM verdicts ORDER BY id")


@pytest.fixture
async def guarded(asking: Asking, repository: Any) -> AsyncIterator[Guarded]:
    settings = load(data_dir=asking.data_dir, environ={"HOME": str(asking.data_dir)})
    async with Database(settings.database_file) as database:
        none = cast(Any, None)
        context = Context(
            settings=settings, database=database, ingest=none, spool=none, quarantine=none, version="1.2.3",
            watcher=lambda: "watching", poke=lambda: None,
        )  # fmt: skip
        async with ApiServer(create_app(context, owner("socket")), bind_unix_socket(settings.socket_path)):
            yield Guarded(asking, database)


async def test_work_left_uncommitted_is_sent_back_twice_and_let_go(guarded: Guarded, repository: Any) -> None:
    here = {"cwd": str(repository.root)}
    stop = prompt(hook_event_name="Stop", **here)
    repository.write(mine__txt="a person's")
    warned = await guarded.ask(prompt(**here))
    assert "mine.txt" in warned["hookSpecificOutput"]["additionalContext"]
    repository.write(work__py="the agent's")
    for _ in range(2):
        answer = await guarded.ask(stop)
        assert answer["decision"] == "block"
        assert "git add -- work.py" in answer["reason"]
        stop |= {"stop_hook_active": True}
    assert "let go" in (await guarded.ask(stop))["systemMessage"]
    assert await guarded.ask(stop) is None
    assert await guarded.ask(prompt(**here)) is None
    assert await guarded.verdicts() == [
        ("prompt", "warn", 0, SESSION, None),
        ("stop", "block", 0, SESSION, None),
    ]


async def test_agent_that_commits_is_not_held_up(guarded: Guarded, repository: Any) -> None:
    here = {"cwd": str(repository.root / "src")}
    assert await guarded.ask(prompt(**here)) is None
    repository.write(work__py="the agent's")
    repository.commit()
    assert await guarded.ask(prompt(hook_event_name="Stop", **here)) is None
    assert await guarded.verdicts() == []


async def test_session_of_a_task_is_known_by_its_id(guarded: Guarded, repository: Any) -> None:
    here = {"cwd": str(repository.root)}
    repository.write(mine__txt="a person's")
    assert await guarded.ask(prompt(**here), TASKS_TASK_ID="abc123") is None
    repository.write(work__py="the agent's")
    for _ in range(3):
        await guarded.ask(prompt(hook_event_name="Stop", **here), TASKS_TASK_ID="abc123")
    assert await guarded.verdicts() == [("stop", "block", 0, SESSION, "abc123")]


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("git commit -m x", True),
        ("cd src && git commit -m x", True),
        ("git add . && bash -c 'git commit -m x'", True),
        ("git merge side", True),
        ("git checkout side && git checkout main && git commit", True),
        ("git switch -c new && git commit -m x", False),
        ("git switch side && git commit -m x", False),
        ("git merge origin/main", False),
        ("cd missing && git commit -m x", False),
        ("cd / && git commit -m x", False),
        ("git commit --dry-run", False),
        ("echo git commit", False),
        ("cd ../elsewhere && git commit", False),
        ("cd ../unborn && git commit", False),
        ("cd ../detached && git commit", False),
    ],
)
async def test_commit_on_a_protected_branch_is_denied(
    guarded: Guarded, repository: Any, make_repository: Any, text: str, denied: bool
) -> None:
    make_repository("elsewhere").git("switch", "-q", "-c", "work")
    make_repository("unborn", commit=False)
    make_repository("detached").git("switch", "-q", "--detach")
    answer = await guarded.ask(command(text, cwd=str(repository.root)))
    if denied:
        said = answer["hookSpecificOutput"]
        assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "deny")
        assert "protected branch main" in said["permissionDecisionReason"]
    else:
        assert answer is None
    assert await guarded.verdicts() == [("commit", "block", 0, SESSION, None)] * denied


async def test_strange_folders_are_let_through(guarded: Guarded, tmp_path: Path) -> None:
    for cwd in ("/", str(tmp_path), "/no/such/folder", "relative", "", "\0", "/\0", "/" + "x" * 9000):
        for question in (prompt(cwd=cwd), prompt(hook_event_name="Stop", cwd=cwd), command("git commit", cwd=cwd)):
            assert await guarded.ask(question) is None


async def test_git_that_hangs_lets_the_agent_go_on_in_time(
    guarded: Guarded, repository: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write(mine__txt="a person's")
    programs = place / "bin"
    programs.mkdir()
    (programs / "git").write_text('#!/bin/sh\n[ "$1" = --version ] && exec echo git version 2.45.0\nexec sleep 60\n')
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    before = time.monotonic()
    assert await guarded.ask(prompt(cwd=str(repository.root)), PATH=os.defpath) is None
    assert time.monotonic() - before < PATIENCE + SLACK


async def test_store_that_is_busy_lets_the_agent_go_on_in_time(guarded: Guarded, repository: Any) -> None:
    body = json.dumps(prompt(cwd=str(repository.root))).encode()
    head = b"POST /v1/guard HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    lock = WriteLock(guarded.database.path)
    before = time.monotonic()
    with lock.held():
        reader, writer = await asyncio.open_unix_connection(str(guarded.asking.data_dir / "tasksd.sock"))
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        answer = await reader.read(-1)
    writer.close()
    lock.close()
    assert answer.endswith(b"\r\n\r\n{}")
    assert time.monotonic() - before < LOCK_TIMEOUT - 1


async def test_stop_that_cannot_be_counted_is_not_sent_back(
    guarded: Guarded, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"cwd": str(repository.root)}
    await guarded.ask(prompt(**here))
    repository.write(work__py="the agent's")
    await guarded.database.transaction(lambda connection: connection.execute("DROP TABLE guarded_sessions"))
    assert await guarded.ask(prompt(hook_event_name="Stop", **here)) is None


async def test_sessions_of_long_ago_are_forgotten(guarded: Guarded, repository: Any) -> None:
    old = guard.Memory(Snapshot("/x", None), in_turn=False).writes("old", 5)
    await guarded.database.apply(old[:1])
    await guarded.ask(prompt(cwd=str(repository.root)))
    assert await guarded.database.query("SELECT session_uuid FROM guarded_sessions") == [(SESSION,)]


async def test_recorded_verdicts_can_be_asked_for(guarded: Guarded, repository: Any) -> None:
    await guarded.ask(command("git commit", cwd=str(repository.root)))
    reader, writer = await asyncio.open_unix_connection(str(guarded.asking.data_dir / "tasksd.sock"))
    writer.write(b"GET /v1/verdicts?days=1&limit=5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read(-1)
    writer.close()
    (verdict,) = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (verdict["stage"], verdict["passed"], verdict["workspace"]) == ("commit", False, str(repository.root))
    assert resource.PATIENCE < PATIENCE
