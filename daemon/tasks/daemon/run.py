"""The life of the daemon: lock, store, spool, socket, READY, loops, stop."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import uvloop

from tasks import __version__, config, runner
from tasks.accounting import follower as transcripts
from tasks.accounting.follower import Follower
from tasks.api import ApiServer, Bell, Context, bind_unix_socket, create_app
from tasks.api.audited import Audited
from tasks.config import Settings
from tasks.daemon import chores, door, logs, place, signals
from tasks.daemon.lock import InstanceLock
from tasks.database import Database, keep_reserve, restore_if_damaged, sqlite_version_note
from tasks.enforcer import WorkflowEnforcer
from tasks.errors import EXIT_FAILED, EXIT_OK, TasksError
from tasks.git import Git, GitTracker, Merger, Worktrees
from tasks.ingest import Ingest
from tasks.install import hooks as recorder
from tasks.install.for_agents import missing_hooks
from tasks.install.programs import find_client
from tasks.manager import TaskManager
from tasks.notify import Notifier
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.retention import Pruner
from tasks.runner import Dispatcher, Parts
from tasks.spool import Doorbell, Quarantine, Spool
from tasks.supervisor import INTERVAL, Supervisor
from tasks.telemetry import Pusher
from tasks.users import owner

log = logging.getLogger(__name__)

#: Seconds between looks at the spool when the doorbell is silent.
POLL_INTERVAL = 2.0
#: Seconds without progress of a loop after which the watchdog is not fed any more.
STALE_AFTER = 20.0
#: Seconds that a last look at the spool may take, closing everything after it, and ending after a bug.
STOP_TIMEOUT, CLOSE_TIMEOUT, CRASH_TIMEOUT = 10.0, 10.0, 4.0

#: Set by the unit for the daemon's own safety; agents must not inherit it.
_OWN_VARIABLES = ("PYTHONSAFEPATH",)


def run(settings: Settings, *, stop_agents: bool = False) -> int:
    """Run the daemon until it is told to stop. Returns the exit code of a clean stop.

    Agents outlive it, unless `stop_agents` says that they end with it.

    Raises AlreadyRunning, ConfigError, SchemaTooNew, StoreUnavailable, StoreCorrupt; anything else is a bug, and the
    process must not outlive it.
    """
    logs.configure(settings.log)
    # What agents get: the files that they write are their user's, not ours.
    umask = os.umask(0o077)
    place.make_log_private()
    for name in _OWN_VARIABLES:
        os.environ.pop(name, None)
    place.raise_open_files()
    # Not closed: that would wait for threads, which may hang, and the process ends now anyway.
    loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        loop.run(Daemon(settings, Notifier.from_environment(), umask=umask, stop_agents=stop_agents).run())
    except BaseExceptionGroup as group:
        raise _first_of(group) from group
    return EXIT_OK


def _first_of(error: BaseException) -> BaseException:
    """One loop died and took the others along: what it died of is what there is to say."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _leave_within(seconds: float, code: int, message: str) -> None:
    """End the process in that time even if something hangs on the way out, so that a service manager can start it again."""

    def leave() -> None:
        log.critical("%s", message)
        os._exit(code)

    guard = threading.Timer(seconds, leave)
    guard.daemon = True
    guard.start()


class Daemon:
    """Everything that runs, built in one place."""

    def __init__(
        self, settings: Settings, notifier: Notifier, *, umask: int = 0o022, stop_agents: bool = False
    ) -> None:
        self._settings = settings
        self._notifier = notifier
        self._umask = umask
        self._stop_agents = stop_agents
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._wake_dispatcher = asyncio.Event()
        self._wake_follower = asyncio.Event()
        #: loop name → monotonic seconds of its last turn
        self._turns: dict[str, float] = {}

    async def run(self) -> None:
        settings = self._settings
        place.prepare_data_dir(settings.data_dir)
        async with contextlib.AsyncExitStack() as stack:
            lock = InstanceLock(settings.lock_file)
            stack.callback(lock.close)
            with place.running_marker(settings.data_dir / "running") as was_unclean:
                if was_unclean:
                    await asyncio.to_thread(restore_if_damaged, settings.database_file, settings.backup_dir)
                await self._serve(stack)

    async def _serve(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        database = await stack.enter_async_context(Database(settings.database_file, backup_dir=settings.backup_dir))
        await asyncio.to_thread(keep_reserve, settings.database_file)
        spool = Spool(settings.spool_dir, settings.spool)
        quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, __version__)
        self._redactor = Redactor(config.secret_key(settings), settings.privacy.level)
        stored = Bell()
        follower = self._follower(database, stored)
        stack.callback(follower.close)

        def on_stored(_: object) -> None:
            stored.ring()
            follower.stir()

        ingest = Ingest(settings, database, spool, quarantine, self._redactor, on_stored=on_stored)
        await ingest.start()
        stack.callback(ingest.close)
        doorbell = Doorbell(spool, self._wake.set)

        def on_task() -> None:
            stored.ring()
            follower.stir_tasks()

        dispatcher = self._dispatcher(database, on_task)
        pusher = self._pusher(database, stack)
        context = Context(
            settings,
            await stack.enter_async_context(database.for_people()),
            ingest,
            spool,
            quarantine,
            __version__,
            lambda: doorbell.state,
            self._wake.set,
            stored,
            follower=follower,
            dispatcher=dispatcher,
        )
        supervisor = Supervisor(database, empty_scans=lambda: ingest.health.empty_scans, lose=ingest.lose)
        if settings.web.enabled:  # before the socket: whoever gets an answer there is told where the page is
            await door.open_web(context, database, stack)
        me = owner("socket")
        app = Audited(create_app(context, me), context, me)
        await stack.enter_async_context(ApiServer(app, bind_unix_socket(settings.socket_path)))
        stack.callback(settings.socket_path.unlink, missing_ok=True)
        stack.enter_context(
            signals.handled(stop=self._stop, reload=self._reload, dump=lambda: log.info("state %s", ingest.health))
        )
        if note := sqlite_version_note():
            log.debug("%s", note)  # `tasksd doctor` says it where it can be read in peace
        await dispatcher.start()
        stack.push_async_callback(dispatcher.stop)
        log.info("ready pid=%d data_dir=%s version=%s", os.getpid(), settings.data_dir, __version__)
        self._notifier.ready("ready")
        await self._turn(
            {
                **({"traces": chores.push_traces(pusher, settings.otlp.interval)} if pusher else {}),
                "doorbell": doorbell.run(),
                "ingest": self._every("ingest", POLL_INTERVAL, ingest.step, self._wake),
                "supervisor": self._every("supervisor", INTERVAL, supervisor.step),
                "tasks": self._every("tasks", runner.INTERVAL, dispatcher.step, self._wake_dispatcher),
                "transcripts": self._every("transcripts", transcripts.INTERVAL, follower.step, self._wake_follower),
                "merges": chores.retry_merges(dispatcher, settings.git.retry),
                "housekeeping": chores.housekeeping(settings, database, quarantine),
                "retention": chores.prune(Pruner(settings, database)),
                "watchdog": self._feed_watchdog(database, ingest),
                "stop": self._wait_for_stop(),
            }
        )
        await self._wind_down(context, dispatcher, ingest)

    async def _turn(self, loops: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """All loops at once, by name, until the daemon is told to stop. One that fails ends the others, and the daemon."""
        try:
            async with asyncio.TaskGroup() as group:
                for name, loop in loops.items():
                    group.create_task(loop, name=name)
        except* _Stopped:
            log.info("stopping")
        except* BaseException as group:
            message = f"the daemon ended by a bug and hung: {_first_of(group)!r}"
            _leave_within(CRASH_TIMEOUT, EXIT_FAILED, message)
            raise

    async def _wind_down(self, context: Context, dispatcher: Dispatcher, ingest: Ingest) -> None:
        """What has to be done between being told to stop and closing everything."""
        self._notifier.stopping()
        _leave_within(
            STOP_TIMEOUT + CLOSE_TIMEOUT + (runner.ENDING if self._stop_agents else 0),
            EXIT_FAILED,
            "stopping took too long, the next start reads what is left",
        )
        context.stopping.set()
        context.stored.ring()
        if self._stop_agents:
            await dispatcher.stop_agents()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await ingest.step()
        except TimeoutError:
            log.warning("stopping with events left in the spool; the next start reads them")
        else:
            log.info("stopped, the spool is read")

    def _follower(self, database: Database, stored: Bell) -> Follower:
        return Follower(
            self._settings,
            database,
            self._redactor,
            PriceBook.of(self._settings),
            environ=dict(os.environ),
            wake=self._wake_follower.set,
            changed=stored.ring,
        )

    def _dispatcher(self, database: Database, changed: Callable[[], None]) -> Dispatcher:
        settings = self._settings
        recorder.place_recorder(settings.hooks_dir)
        environ, home = dict(os.environ), Path.home()
        tracker = GitTracker(timeout=settings.git.timeout)
        git = Git(timeout=settings.git.timeout, umask=self._umask)
        parts = Parts(
            settings=settings,
            database=database,
            manager=TaskManager(database=database, settings=settings),
            tracker=tracker,
            worktrees=Worktrees(settings.worktrees_dir, settings.repository_locks_dir, settings.git, umask=self._umask),
            merger=Merger(settings.repository_locks_dir, settings.git, git=git),
            enforcer=WorkflowEnforcer(tracker, rules=settings.enforcement),
            find_program=lambda: _text(find_client(environ.get("PATH", "").split(":"), home)),
            missing_hooks=lambda workdir: missing_hooks(workdir, settings.hooks_dir, environ),
            environ=environ,
            umask=self._umask,
            redact=self._redactor.text,
            changed=changed,
        )
        return Dispatcher(parts, wake=self._wake_dispatcher.set)

    def _pusher(self, database: Database, stack: contextlib.AsyncExitStack) -> Pusher | None:
        """What pushes traces, when a collector is configured. Raises ConfigError when the extra for it is missing."""
        if not self._settings.otlp.endpoint:
            return None
        pusher = Pusher(self._settings.otlp, database)
        stack.callback(pusher.close)
        return pusher

    async def _every(
        self,
        name: str,
        seconds: float,
        step: Callable[[], Awaitable[object]],
        wake: asyncio.Event | None = None,
    ) -> None:
        """Step for ever: after every wake, and at the latest after `seconds`. A step that raises ends the daemon."""
        wake = wake or asyncio.Event()
        self._turns[name] = time.monotonic()
        while True:
            wake.clear()
            await step()
            self._turns[name] = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wake.wait()

    async def _feed_watchdog(self, database: Database, ingest: Ingest) -> None:
        """Feed it only while every loop turns, the store answers and the spool is being looked at."""
        interval = self._notifier.watchdog_interval or 10.0
        while True:
            stale = []
            try:
                async with asyncio.timeout(STALE_AFTER):
                    await database.tick()
            except TimeoutError:
                stale.append("database")
            now = time.monotonic()
            turns = self._turns | {"ingest": max(self._turns.get("ingest", 0.0), ingest.health.last_progress)}
            stale += [name for name, turned in turns.items() if now - turned > STALE_AFTER]
            if stale:
                log.error("loops make no progress, the watchdog is not fed loops=%s", ",".join(stale))
            else:
                self._notifier.watchdog()
                self._notifier.status(_summary(ingest))
            await asyncio.sleep(interval)

    async def _wait_for_stop(self) -> None:
        await self._stop.wait()
        raise _Stopped

    def _reload(self) -> None:
        """Take over what can change while running: logging and the privacy level. A wrong file changes nothing."""
        self._notifier.reloading()
        try:
            fresh = config.load(data_dir=self._settings.data_dir)
            logs.configure(fresh.log)
            self._redactor.level = fresh.privacy.level
            log.info("reloaded the configuration file=%s", fresh.config_file)
            self._notifier.ready("reloaded")
        except TasksError as error:
            log.error("kept the old configuration error=%s", error)
            self._notifier.ready(f"kept the old configuration: {error}")


class _Stopped(Exception):
    """Ends the group of loops."""


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _summary(ingest: Ingest) -> str:
    health = ingest.health
    state = f"waiting: {health.degraded}" if health.degraded else "ok"
    return f"{state}, {health.events_total} events, backlog {health.usage.files}"
