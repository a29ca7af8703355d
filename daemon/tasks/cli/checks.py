"""What `tasksd doctor` looks at. Every finding that is not ok says what to do about it; looking changes nothing."""

import os
import platform
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tasks import __version__, config, history
from tasks.cli import asking, machine, offline
from tasks.cli.store import write_ahead_log
from tasks.config import Settings
from tasks.database import sqlite_version_note
from tasks.errors import DaemonNotRunning, InstallError, TasksError
from tasks.text import ago, count, size, span

#: Seconds for which an event may wait while a daemon runs.
LAG_NOTICE, LAG_PROBLEM = 10.0, 60.0
#: Milliseconds since the last event within which somebody must be recording.
RECENT = 3_600_000
#: Part of the calls in transcripts that hooks should have reported.
REPORTED = 0.99
#: Bytes left on the disk.
DISK_NOTICE, DISK_PROBLEM = 1 << 30, 100 << 20
#: Bytes of the write-ahead log that only a reader that stays explains.
LOG_NOTICE = 64 << 20
#: Bytes that a database file may keep without need.
FREE_NOTICE = 64 << 20
#: Tasks need the first; merges are git's own from the second on.
GIT_NEEDED, GIT_WANTED = (2, 30), (2, 38)

#: Locks, mmap and fsync cannot be relied on here, so neither can SQLite.
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "afs", "ceph", "glusterfs", "lustre", "ncp", "webdav")


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    verdict: Verdict
    message: str
    #: what to do; None when all is well
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the checks start from."""

    settings: Settings
    #: the answer of /v1/status, or the same from the files
    status: dict[str, Any]
    #: why no daemon answers
    silence: DaemonNotRunning | None


def findings(data_dir: str | None) -> list[Finding]:
    """Everything that was found, in the order in which it is best repaired."""
    try:
        settings = config.load(data_dir=data_dir)
    except TasksError as error:
        return [Finding("settings", Verdict.PROBLEM, str(error), "correct it; nothing else was checked")]
    found = [_fine("versions", f"tasksd {__version__}, Python {platform.python_version()}, {platform.platform()}")]
    silence: DaemonNotRunning | None = None
    try:
        status = asking.client_for(settings).get("/v1/status")
    except DaemonNotRunning as error:
        silence = error
        try:
            status = offline.status(settings, error)
        except TasksError as failure:
            return [*found, Finding("database", Verdict.PROBLEM, str(failure), "run `tasksd db check`")]
    situation = Situation(settings, status, silence)
    for check in _CHECKS:
        try:
            found += check(situation)
        except (TasksError, OSError) as error:
            name = check.__name__.strip("_").replace("_", " ")
            found.append(_warn(name, f"could not be checked: {error}", "see the message"))
    return found


def _daemon(now: Situation) -> Iterator[Finding]:
    if now.silence is not None:
        yield _bad(
            "daemon", "not running, or not answering", "run `tasksd service install`, or `tasksd up` in a terminal"
        )
        return
    daemon = now.status["daemon"]
    running = f"running for {span(daemon['uptime_s'])}, pid {daemon['pid']}, version {daemon['version']}"
    if daemon["version"] != __version__:
        yield _warn("daemon", f"{running}; this command is version {__version__}", "restart the daemon")
    else:
        yield _fine("daemon", running)
    if degraded := now.status["ingest"]["degraded"]:
        yield _bad("ingest", f"waiting: {degraded}", "free disk space or repair what it names; it goes on by itself")
    watcher = now.status["watcher"]
    if watcher not in ("watching", "starting"):
        yield _warn(
            "watcher", watcher, "events are found within 2 s all the same; raise the inotify limits to be faster"
        )


def _hooks(now: Situation) -> Iterator[Finding]:
    from tasks.cli.hooks import all_settings
    from tasks.install import hooks
    from tasks.install.hooks import RecorderState

    found = hooks.status(all_settings(), now.settings.hooks_dir)
    for problem in found.problems:
        yield _bad("hooks", problem, "repair the settings file")
    install = "run `tasksd hooks install`"
    files = sorted({str(place.file) for event in found.events for place in event.places})
    where = ", ".join(files + ["the plugin"] * any(event.plugin for event in found.events))
    if len(found.missing) == len(found.events):
        ingest = now.status["ingest"]
        last = ingest["last_event_at"] if ingest else None
        if last is not None and asking.now_ms() - last < RECENT:
            yield _warn(
                "hooks", "in no settings file, yet events come in: from a plugin given with --plugin-dir?", install
            )
        else:
            yield _bad("hooks", "not registered: nothing is recorded", install)
    elif found.missing:
        yield _warn("hooks", f"{where}; not registered: {', '.join(found.missing)}", install)
    elif any(event.twice for event in found.events):
        yield _warn("hooks", f"registered more than once ({where}): counted once, but it costs agents time",
                    "keep one: `tasksd hooks uninstall` with --scope or --settings, or disable the plugin")  # fmt: skip
    else:
        yield _fine("hooks", f"{count(len(found.events), 'event')} registered in {where}")
    if files and found.recorder is not RecorderState.CURRENT:
        verdict = _warn if found.recorder is RecorderState.OUTDATED else _bad
        yield verdict("recorder", f"{found.recorder_file} is {found.recorder.replace('_', ' ')}", install)
    elif files:
        yield _fine("recorder", f"{found.recorder_file} is current and executable")
    for command in sorted({place.command for event in found.events for place in event.places}):
        program = shlex.split(command)[1] if command.startswith("exec ") else command.removesuffix(" tasksd")
        if program != str(found.recorder_file):
            yield _warn("recorder", f"{program} is registered, which writes to another data directory than this one",
                        "choose one TASKSD_DATA_DIR, then " + install)  # fmt: skip


def _firing(now: Situation) -> Iterator[Finding]:
    ingest = now.status["ingest"]
    last = ingest["last_event_at"] if ingest else None
    if last is None and not now.status["spool"]["pending"]:
        yield _warn("events", "none was ever recorded", "start `claude` once; if this stays, look at the hooks above")
    elif last is not None:
        yield _fine("events", f"{count(ingest['events_total'], 'event')}, the last one {ago(last, asking.now_ms())}")


def _reporting(now: Situation) -> Iterator[Finding]:
    """Whether hooks reported the calls that transcripts tell of."""
    if not now.settings.database_file.exists():
        return
    with offline.reading(now.settings) as reader:
        found = history.unreported(reader.query, now=asking.now_ms())
    expected, seen = found["expected"], found["seen"]
    if not expected:
        yield _fine("reported", "no transcript of the last 7 days told of a call")
    elif seen < expected * REPORTED:
        missed = ", ".join(f"{number:,} that {event} reports" for event, number in found["missed"].items())
        yield _warn(
            "reported",
            f"hooks told of {seen / expected:.1%} of {count(expected, 'call')} in 7 days; the others are stored from"
            f" transcripts{': ' + missed if missed else ''}",
            "run `tasksd hooks install`, and see `tasksd hooks status` for what is not registered",
        )
    else:
        yield _fine("reported", f"hooks told of {seen:,} of {count(expected, 'call')} in 7 days")
    if found["silent"]:
        yield _warn(
            "reported", f"{count(found['silent'], 'session')} of the last 7 days without any event from a hook",
            "they ran before the hooks were installed, with hooks switched off, or with another settings file",
        )  # fmt: skip


def _spool(now: Situation) -> Iterator[Finding]:
    spool = now.status["spool"]
    oldest = spool["oldest_age_s"] or 0.0
    waiting = f"{count(spool['pending'], 'event')} waiting, the oldest for {span(oldest)}"
    if spool["full"]:
        yield _bad("spool", f"full: hooks drop events ({waiting})", "start the daemon, and look into its log")
    elif not spool["pending"]:
        yield _fine("spool", "nothing waiting")
    elif now.silence is not None:
        yield _warn("spool", waiting, "nothing is lost: they are read when the daemon starts")
    elif oldest > LAG_NOTICE:
        verdict = _bad if oldest > LAG_PROBLEM else _warn
        yield verdict("spool", waiting, "look into the daemon's log, or restart it")
    else:
        yield _fine("spool", waiting)
    if spool["dropped"]:
        yield _warn("dropped", f"{count(spool['dropped'], 'event')} dropped by hooks because the spool was full",
                    "keep the daemon running; the spool's bounds are in the config file")  # fmt: skip
    if spool["quarantined"]:
        yield _warn("quarantine", f"{count(spool['quarantined'], 'file')} could not become events",
                    "run `tasksd quarantine list`, then retry or drop them")  # fmt: skip


def _tasks(now: Situation) -> Iterator[Finding]:
    pool, tasks = now.status.get("pool"), now.status.get("tasks") or {}
    if pool is not None and pool["hold_reason"]:
        yield _warn("pool", f"starts nothing: {pool['hold_reason']}", "wait, or run `tasksd pool resume`")
    elif pool is not None and pool["paused"]:
        yield _warn("pool", f"paused, {count(pool['queued_tasks'], 'task')} waiting", "run `tasksd pool resume`")
    elif pool is not None:
        yield _fine("pool", f"{pool['active_workers']} of {pool['total_workers']} agents at work")
    for conflict in tasks.get("conflicts", ()):
        yield _warn("tasks", f"{conflict} does not fit into its branch", f"run `tasksd show {conflict}`")
    if waiting := tasks.get("merges", {}).get("waiting"):
        yield _warn(
            "tasks", f"{count(waiting, 'merge')} waiting for a checkout", "run `tasksd tasks`, it says for what"
        )


def _page(now: Situation) -> Iterator[Finding]:
    """The page, where it is wanted or served; that it is off is nobody's problem."""
    web = now.status.get("web", "off")
    if web.startswith("http") and not _accounts(now.settings):
        yield _warn("page", f"{web}, but nobody can log in: there is no account", "run `tasksd users add NAME`")
    elif web.startswith("http"):
        yield _fine("page", web)
    elif web != "off":
        yield _bad("page", web, "see the message, then restart the daemon")
    elif now.silence is None and now.settings.web.enabled:
        yield _warn("page", "off, although web.enabled is set: the daemon was started before", "restart the daemon")
    elif now.silence is None:
        yield _fine("page", "off")


def _accounts(settings: Settings) -> int:
    """How many are enabled."""
    with offline.reading(settings) as reader:
        return int(reader.query("SELECT count(*) FROM users WHERE NOT disabled")[0][0])


def _client(_: Situation) -> Iterator[Finding]:
    from tasks.install.service import find_client

    found = find_client(os.environ.get("PATH", "").split(os.pathsep), Path.home())
    if found is None:
        yield _warn("client", "no claude command was found", "install Claude Code, or add its folder to PATH")
    elif (version := machine.version(str(found))) is None:
        yield _warn("client", f"{found} does not say its version", f"run `{found} --version`")
    else:
        yield _fine("client", f"{found}, {version}")


def _service(now: Situation) -> Iterator[Finding]:
    from tasks.install import service

    try:
        wanted = service.plan(now.settings)
        found = service.status(wanted)
    except InstallError as error:
        yield _warn("service", str(error), "keep `tasksd up` running yourself")
        return
    # What the plan lacks is no news before there is a service; the client and git are looked at by themselves.
    known = () if found.installed else wanted.warnings
    for warning in (one for one in found.warnings if one not in known):
        message, _, remedy = warning.partition(": ")
        yield _warn("service", message, remedy or "run `tasksd service status`")
    if not found.warnings:
        yield _fine("service", f"{found.file} is installed and current, and the service runs")


def _write_ahead_log(now: Situation) -> Iterator[Finding]:
    log = write_ahead_log(now.settings)
    length = log.stat().st_size if log.exists() else 0
    if length > LOG_NOTICE:
        yield _warn("log", f"{log} has {size(length)}: a program that reads the database holds it",
                    "close that program, then run `tasksd db vacuum`, which shrinks it")  # fmt: skip
    else:
        yield _fine("log", f"write-ahead log of {size(length)}")


def _retention(now: Situation) -> Iterator[Finding]:
    from tasks.retention import plan_file

    if plan_file(now.settings).exists():
        yield _bad("purge", "one was cut off half-way: what it was to remove may still be there", "run `tasksd purge`")
    if (kept := now.status.get("retention")) is None:
        return
    used, free = size(kept["database_bytes"] - kept["free_bytes"]), kept["free_bytes"]
    if kept["short_by"]:
        over = size(kept["short_by"])
        yield _warn("retention", f"{used} in the database, {over} more than retention.max_bytes, and nothing is left to prune: "
                    "roll-ups, money and tasks are kept", "raise it, or run `tasksd clean`")  # fmt: skip
    elif not kept["shrinks"] and free > FREE_NOTICE:
        yield _warn("retention", f"{size(free)} of the database are free, but a file of this age keeps them",
                    "run `tasksd db vacuum` once: from then on it shrinks by itself")  # fmt: skip
    else:
        yield _fine("retention", f"{used} in the database, {count(kept['pruned_rows'], 'row')} pruned so far")


def _files(now: Situation) -> Iterator[Finding]:
    folder = now.settings.data_dir
    if not folder.exists():
        yield _warn("data", f"{folder} does not exist yet", "start the daemon: it makes it")
        return
    loose = list(_loose_files(now.settings))
    for path, wanted in loose:
        mode = stat.S_IMODE(path.stat().st_mode)
        yield _bad(
            "data", f"{path} has mode {mode:04o}: others may read what agents did", f"run `chmod {wanted:o} {path}`"
        )
    if not loose:
        yield _fine("data", f"{folder} is private")
    free = shutil.disk_usage(folder).free
    verdict = _bad if free < DISK_PROBLEM else _warn
    if free < DISK_NOTICE:
        yield verdict(
            "disk", f"{size(free)} free for {folder}", "free some space; on a full disk events wait in the spool"
        )
    else:
        yield _fine("disk", f"{size(free)} free")
    kind = machine.file_system(folder)
    if kind is not None and kind.lower().startswith(NETWORK_FILE_SYSTEMS):
        yield _bad("file system", f"{folder} lies on {kind}, where locks and syncs cannot be relied on",
                   "set TASKSD_DATA_DIR to a folder on a local disk")  # fmt: skip
    else:
        yield _fine("file system", kind or "not known")


def _loose_files(settings: Settings) -> Iterator[tuple[Path, int]]:
    """What others than its owner have rights on, and the mode it should have."""
    folders = (
        settings.data_dir, settings.spool_dir, settings.quarantine_dir, settings.backup_dir, settings.auth_dir,
    )  # fmt: skip
    files = (settings.database_file, settings.secret_file, settings.socket_path)
    for wanted, paths in ((0o700, folders), (0o600, files)):
        for path in paths:
            if path.exists() and path.stat().st_mode & 0o077:
                yield path, wanted


def _sqlite(_: Situation) -> Iterator[Finding]:
    note = sqlite_version_note()
    if note and "older than" in note:
        yield _bad("sqlite", note, "use a Python with a newer SQLite")
    else:
        yield _fine("sqlite", note or "new enough, without known races")


def _git(_: Situation) -> Iterator[Finding]:
    from tasks.install.registration import parse_version

    said = machine.version("git")
    if said is None:
        yield _warn("git", "no git command was found", "install git")
        return
    version = parse_version(said) or parse_version(said + ".0")
    wanted = ".".join(map(str, GIT_WANTED))
    if version is None or version[:2] < GIT_NEEDED:
        yield _bad("git", said, f"install git {wanted} or newer: tasks cannot have worktrees with this one")
    elif version[:2] < GIT_WANTED:
        yield _warn("git", said, f"install git {wanted} or newer; until then merges are computed by libgit2")
    else:
        yield _fine("git", said)


_CHECKS: tuple[Callable[[Situation], Iterator[Finding]], ...] = (
    _daemon, _hooks, _firing, _reporting, _spool, _tasks, _page, _client, _service, _files, _write_ahead_log, _retention,
    _sqlite, _git,
)  # fmt: skip


def _fine(check: str, message: str) -> Finding:
    return Finding(check, Verdict.OK, message)


def _warn(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, message, remedy)


def _bad(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, message, remedy)
