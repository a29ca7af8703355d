"""A demo from its beginning to its end: history, daemon, page, life, and nothing left of it afterwards."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from tasks import process
from tasks.client import Client
from tasks.config import Settings
from tasks.database import Connection, SyncDatabase
from tasks.demo import ground
from tasks.demo.driver import Driver
from tasks.demo.history import SEED, make_history
from tasks.demo.place import MARKER, Place
from tasks.errors import ApiError, DaemonNotRunning, TasksError
from tasks.process import Liveness
from tasks.text import count
from tasks.users import accounts, load_pepper, passwords
from tasks.words import Role

#: Who looks, and who else has an account.
USER = "demo"
_ACCOUNTS = ((USER, Role.ADMIN), ("maria", Role.OPERATOR), ("tomas", Role.OPERATOR), ("yuki", Role.VIEWER))
#: Seconds for the daemon to be there, and to end with its agents.
_STARTING, _ENDING = 60.0, 60.0
#: Of the daemon's log, in an error: characters.
_QUOTED = 2000
#: It is loaded while the history is made, begins when it is told to, and ends with us, however we end.
_DAEMON = """
import os, signal, sys, threading
import tasks.daemon, tasks.web
from tasks.cli import main

def leave():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

os.read(0, 1) or sys.exit(1)
threading.Thread(target=leave, daemon=True).start()
sys.exit(main())
"""


def show(
    *,
    port: int,
    keep: Path | None,
    say: Callable[[str], None],
    open_page: Callable[[str], object] | None = None,
    pace: float = 1.0,
) -> None:
    """Run a demo until Ctrl-C, SIGTERM or SIGHUP. Everything is in a temporary folder, or in `keep`, which stays.

    `open_page` gets an address that logs in once. `pace`: how many times as long as usual everything takes. Raises TasksError
    when `keep` is not empty, and when the daemon does not start or ends by itself.
    """
    with _interruptible(), contextlib.ExitStack() as stack:
        place = Place(stack.enter_context(_folder(keep)), pace)
        settings = ground.prepare(place, port=port)
        daemon = stack.enter_context(_daemon(place))
        say("Making up a week of work …")
        with ground.entered(place):
            made = make_history(place, settings)
            password = _make_accounts(settings)
        _tell(daemon)
        client = Client(str(settings.socket_path), 30.0)
        _wait_until_ready(daemon, client, place)
        url = _login(client)
        say(
            f"{count(made.sessions, 'session')} and {count(made.tasks, 'task')} of last week, and three agents at work."
        )
        say("")
        say(f"  page     {url.partition('/login')[0]}/")
        say(f"  login    {USER}, password {password}")
        say(f"  shell    TASKSD_DATA_DIR={settings.data_dir} tasksd status")
        say("")
        say("Ctrl-C ends it" + (f"; {keep} stays." if keep else " and removes everything."))
        driver = Driver(place, client, seed=SEED)
        stack.callback(driver.stop)
        driver.start()
        if open_page is not None:
            open_page(url)
        code = daemon.wait()
        raise TasksError(f"the demo's daemon ended with status {code}: {_tail(place.log)}")


def _tell(daemon: "subprocess.Popen[bytes]") -> None:
    """Let the loaded daemon begin."""
    if daemon.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # one that is gone says why in its log
            daemon.stdin.write(b".")
            daemon.stdin.flush()


def _login(client: Client) -> str:
    return str(client.post("/v1/dashboard", {"username": USER})["url"])


def _make_accounts(settings: Settings) -> str:
    """Returns the password of the first one; nobody knows those of the others."""
    pepper = load_pepper(settings.auth_dir)
    now = time.time_ns() // 1_000_000
    found = {name: secrets.token_urlsafe(9) for name, _ in _ACCOUNTS}
    cost = settings.web.password_cost
    hashes = {name: passwords.hash_password(pepper, password, cost) for name, password in found.items()}

    def create(connection: Connection) -> None:
        for name, role in _ACCOUNTS:
            accounts.create(connection, name, password_hash=hashes[name], role=role, now=now)

    store = SyncDatabase(settings.database_file)
    try:
        store.transaction(create)
    finally:
        store.close()
    return found[USER]


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        folder = Path(os.path.realpath(keep))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise TasksError(f"the folder {keep} is not empty: name one that is, or a new one")
        yield folder
        return
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="tasksd-demo-")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _daemon(place: Place) -> Iterator["subprocess.Popen[bytes]"]:
    """The daemon, for as long as that lasts. No process of the demo lives when this is left."""
    with place.log.open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-c", _DAEMON, "up", "--stop-agents"],
            env=ground.environment(place), cwd=place.folder, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C is for us: who ends first is not left to chance
        )  # fmt: skip
    try:
        yield daemon
    finally:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_ENDING)
        _sweep(place)
        daemon.wait()
        if daemon.stdin is not None:
            daemon.stdin.close()


def _sweep(place: Place) -> None:
    """End what still lives of the demo."""
    for _ in range(50):
        left = process.marked(MARKER, str(place.folder))
        for one in left:
            process.signal_process(one, signal.SIGKILL)
        if not [one for one in left if process.probe(one) is not Liveness.GONE]:
            return
        time.sleep(0.05)


def _wait_until_ready(daemon: "subprocess.Popen[bytes]", client: Client, place: Place) -> None:
    deadline = time.monotonic() + _STARTING
    while True:
        try:
            client.fetch("/v1/status")
            return
        except (DaemonNotRunning, ApiError) as error:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise TasksError(f"the demo's daemon does not start ({error}): {_tail(place.log)}") from error
        time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_QUOTED:].decode("utf-8", "replace").strip()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does; once it ends, further ones are not heard."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in heard:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, interrupt) for one in heard}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
