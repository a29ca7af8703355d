"""The command line as a person uses it: the installed command, a real daemon, a data directory of its own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks import assets

COMMAND = [str(Path(sys.executable).parent / "tasksd")]
#: The ordinary way, without the quick one before it.
THROUGH_CLICK = [sys.executable, "-c", "import sys; from tasks.cli.app import run; sys.exit(run(sys.argv[1:]))"]
#: SIGINT as in a terminal, whatever the test runner inherited.
INTERRUPTIBLE = [
    sys.executable, "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from tasks.cli import main; sys.exit(main())",
]  # fmt: skip
TIMEOUT = 30.0
SESSION = "11111111-1111-4111-8111-111111111111"
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]markup[/]"

READERS = (
    ["status"], ["status", "--json"], ["sessions"], ["sessions", "--live", "--json"], ["sessions", "--limit=1"],
    ["tools"], ["tools", "--json"], ["tools", "--hours", "48", "--json"], ["errors"], ["errors", "--days", "30", "--json"],
    ["events"], ["events", "--limit", "3", "--json"],
)  # fmt: skip
OFFLINE = (
    ["sessions", "--json"], ["sessions", "--live", "--json"], ["session", SESSION[:6], "--json"], ["tools", "--json"],
    ["errors", "--json"], ["errors", "--recent", "--json"], ["errors", "--category", "timeout", "--json"],
    ["events", "--json"], ["events", "--session", SESSION[:6], "--kind", "PostToolUse", "--json"],
)  # fmt: skip

Result = subprocess.CompletedProcess[str]


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return found


class Home:
    """A person's home folder with a data directory, and the commands given there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TASKSD_DATA_DIR": str(self.data), "LANG": "C.UTF-8",
            "TZ": "UTC", "COLUMNS": "100",
        }  # fmt: skip
        self.daemon: subprocess.Popen[str] | None = None

    def run(self, *arguments: str, by: list[str] | None = None, code: int | None = 0, **environ: str) -> Result:
        done = subprocess.run(
            [*(by or COMMAND), *arguments], env=self.environ | environ, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert code is None or done.returncode == code, (done.returncode, done.stderr)
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def popen(self, *arguments: str, by: list[str] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*(by or COMMAND), *arguments], env=self.environ, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(self) -> None:
        log = (self.folder / "daemon.log").open("a")
        with log:
            self.daemon = subprocess.Popen(
                [*COMMAND, "up"], env=self.environ, cwd=self.folder, stdin=subprocess.DEVNULL, stderr=log, text=True
            )
        until(lambda: self.run("status", code=None).returncode == 0, "the daemon answers")

    def stop(self) -> int:
        assert self.daemon is not None
        self.daemon.terminate()
        code = self.daemon.wait(TIMEOUT)
        self.daemon = None
        return code

    def record(self, **payload: Any) -> None:
        (self.data / "spool").mkdir(parents=True, exist_ok=True, mode=0o700)
        event = {"session_id": SESSION, "cwd": "/srv/project", **payload}
        subprocess.run(
            [assets.path("hooks/record")],
            input=json.dumps(event).encode(),
            env=self.environ,
            check=True,
            timeout=TIMEOUT,
        )

    def fill(self) -> None:
        self.record(hook_event_name="SessionStart", source="startup")
        self.record(hook_event_name="UserPromptSubmit", prompt=HOSTILE)
        call = {"tool_name": "Bash", "tool_input": {"command": f"echo {HOSTILE}"}}
        self.record(
            hook_event_name="PostToolUse", tool_use_id="t1", duration_ms=12, tool_response={"stdout": ""}, **call
        )
        self.record(
            hook_event_name="PostToolUseFailure",
            tool_use_id="t2",
            duration_ms=30,
            error="Exit code 1\n" + HOSTILE,
            **call,
        )
        self.record(
            hook_event_name="PreToolUse", tool_use_id="t3", tool_name="Read", tool_input={"file_path": "/srv/x"}
        )
        until(lambda: self.json("status")["ingest"]["events_total"] == 5, "five events are stored")


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """No daemon runs."""
    made = Home(tmp_path_factory.mktemp("h"))
    yield made
    if made.daemon is not None:
        made.stop()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A daemon runs and has stored five events."""
    made = Home(tmp_path_factory.mktemp("b"))
    made.start()
    made.fill()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, dict[str, Any]]]:
    """A daemon ran, stored five events and was stopped; and what it answered before."""
    made = Home(tmp_path_factory.mktemp("q"))
    made.start()
    made.fill()
    answers = {" ".join(one): json.loads(made.run(*one).stdout) for one in OFFLINE}
    assert made.stop() == 0
    made.record(hook_event_name="Stop")
    yield made, answers


def _timeless(text: str) -> str:
    text = re.sub(r'"uptime_s":[0-9.]+', "", text)
    return re.sub(r"up [0-9a-z ]+$|\([^()]*ago\)|\(just now\)", "", text, flags=re.MULTILINE)


# Reading


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_the_quick_way_answers_as_the_ordinary_way(busy: Home, arguments: list[str]) -> None:
    ordinary = busy.run(*arguments, by=THROUGH_CLICK)
    quick = busy.run(*arguments)
    assert _timeless(quick.stdout) == _timeless(ordinary.stdout)
    assert quick.stdout
    cut = "1 session shown, --limit or --all shows more\n" if "--limit=1" in arguments else ""
    assert quick.stderr == ordinary.stderr == cut


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_plain_readers_import_nothing_slow(busy: Home, arguments: list[str]) -> None:
    # Not through the script: those that older pips write import re.
    program = "import sys; from tasks.cli import main; sys.exit(main())"
    seen = busy.run(*arguments, by=[sys.executable, "-X", "importtime", "-c", program]).stderr
    imported = {line.rpartition("|")[2].strip() for line in seen.splitlines()}
    assert "tasks.cli.quick" in imported
    assert not imported & {"click", "rich", "json", "socket", "re", "typing", "pathlib", "tasks.config"}


def test_status_has_every_field(busy: Home) -> None:
    status = busy.json("status")
    assert busy.daemon is not None
    assert status["daemon"]["pid"] == busy.daemon.pid
    assert status["spool"] == {
        "pending": 0, "oldest_age_s": None, "bytes": 0, "full": False, "dropped": 0, "quarantined": 0,
    }  # fmt: skip
    assert status["ingest"]["degraded"] is None
    assert status["sessions"]["working"] == 1


def test_tools_and_errors_have_the_promised_shape(busy: Home) -> None:
    tools = busy.json("tools")
    assert tools["Bash"]["count"] == 2
    assert tools["Bash"]["success_rate"] == 0.5
    assert busy.json("errors") == tools["Bash"]["errors"]
    assert sum(busy.json("errors").values()) == 1


def test_a_session_is_found_by_the_beginning_of_its_id(busy: Home) -> None:
    found = busy.json("session", SESSION[:4])
    assert found["session_uuid"] == SESSION
    assert [call["tool_name"] for call in found["running"]] == ["Read"]
    text = busy.run("session", SESSION[:4]).stdout
    assert text.startswith(f"session     {SESSION}\n")
    assert "\x1b" not in text


def test_a_session_that_is_not_there_is_an_error(busy: Home) -> None:
    assert busy.run("session", "ffff", code=1).stderr == "tasksd: no session has the id ffff\n"


def test_events_can_be_chosen(busy: Home) -> None:
    events = busy.json("events", "--session", SESSION[:5], "--kind", "PreToolUse")
    assert [(one["kind"], one["tool_name"]) for one in events] == [("PreToolUse", "Read")]
    last = busy.json("events")[-1]["seq"]
    assert busy.json("events", "--after", str(last)) == []


def test_recent_errors_can_be_chosen(busy: Home) -> None:
    category = next(iter(busy.json("errors")))
    (failed,) = busy.json("errors", "--category", category, "--days", "1")
    assert failed["tool_name"] == "Bash"
    assert busy.json("errors", "--recent", "--tool", "Read") == []


@pytest.mark.parametrize(
    "arguments", [["events"], ["errors", "--recent"], ["session", SESSION], ["sessions"]], ids=" ".join
)
def test_what_agents_write_cannot_steer_a_terminal(busy: Home, arguments: list[str]) -> None:
    plain = busy.run(*arguments).stdout
    shown = _on_a_terminal(busy, *arguments)
    assert "\x1b" not in plain
    assert "\x1b]0;" not in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown


def test_a_terminal_gets_a_table_in_colour_unless_it_wants_none(busy: Home) -> None:
    assert "\x1b[" in _on_a_terminal(busy, "tools")
    assert "─" in _on_a_terminal(busy, "tools")
    assert "\x1b[3" not in _on_a_terminal(busy, "tools", NO_COLOR="1")


def test_a_list_that_was_cut_says_so(busy: Home, quiet: tuple[Home, dict[str, Any]]) -> None:
    assert "1 session shown, --limit or --all shows more" in _on_a_terminal(busy, "sessions", "--limit", "1")
    assert "shows more" in quiet[0].run("sessions", "--limit", "1").stderr
    for arguments in (["sessions"], ["sessions", "--all"], ["sessions", "--limit", "1", "--json"]):
        assert busy.run(*arguments).stderr == ""


def _on_a_terminal(home: Home, *arguments: str, **environ: str) -> str:
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [*COMMAND, *arguments], env=home.environ | {"TERM": "xterm-256color"} | environ, stdin=theirs, stdout=theirs,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], TIMEOUT)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # its end, on Linux
                break
            if not piece:
                break
            shown += piece
    finally:
        os.close(ours)
    assert started.wait(TIMEOUT) == 0
    return shown.decode()


# Without a daemon


@pytest.mark.parametrize("arguments", OFFLINE, ids=" ".join)
def test_without_a_daemon_the_file_gives_the_same_answer(
    quiet: tuple[Home, dict[str, Any]], arguments: list[str]
) -> None:
    home, answers = quiet
    done = home.run(*arguments)
    assert json.loads(done.stdout) == answers[" ".join(arguments)]
    assert f"read from {home.data / 'tasks.db'}" in done.stderr
    assert "tasksd up" in done.stderr


def test_without_a_daemon_status_fails_and_tells_what_waits(quiet: tuple[Home, dict[str, Any]]) -> None:
    home, _ = quiet
    status = home.json("status", code=69)
    assert status["daemon"] is None
    assert status["watcher"] == "not running"
    assert status["spool"]["pending"] == 1
    assert status["spool"]["oldest_age_s"] > 0
    assert status["ingest"]["events_total"] == 5
    done = home.run("status", code=69)
    assert "1 event waiting" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "tasksd up" in done.stderr


def test_without_a_database_readers_say_what_to_do_and_make_nothing(home: Home) -> None:
    for reader in ("sessions", "tools", "errors", "events"):
        done = home.run(reader, code=69)
        assert done.stdout == ""
        assert "tasksd up" in done.stderr
    assert home.json("status", code=69)["ingest"] is None
    assert not home.data.exists()


def test_the_data_directory_of_the_config_file_counts(busy: Home, home: Home) -> None:
    config = home.folder / ".config/tasksd/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'data_dir = "{busy.data}"\n')
    del home.environ["TASKSD_DATA_DIR"]
    assert home.json("status")["daemon"]["data_dir"] == str(busy.data)
    assert busy.json("--data-dir", str(busy.data), "status")["daemon"]["data_dir"] == str(busy.data)


def test_a_socket_in_a_long_directory_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.data = tmp_path / ("long" * 30)
    home.environ |= {"TASKSD_DATA_DIR": str(home.data), "XDG_RUNTIME_DIR": "/nonexistent"}
    done = home.run("status", code=69)
    assert re.search(r"/nonexistent/tasksd/[0-9a-f]{16}\.sock", done.stderr)


STRANGER = """
import os, sys
from tasks.cli import app, asking, doctor, offline, readers
if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(app.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["status", "sessions"])
def test_a_data_directory_that_cannot_be_read_says_what_to_do(home: Home, command: str) -> None:
    home.data.mkdir(mode=0o700)
    home.data.chmod(0o000)
    done = home.run(command, by=[sys.executable, "-c", STRANGER], code=1)
    home.data.chmod(0o700)
    assert str(home.data) in done.stderr
    assert ("TASKSD_DATA_DIR" if os.geteuid() == 0 else "chmod 700") in done.stderr
    assert done.stderr.count("\n") == 1


# Exit codes and output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["tools", "--hours", "0"],
        ["tools", "--hours", "nan"],
        ["errors", "--days", "nan"],
        ["sessions", "--all", "--live"],
        ["errors", "--limit", "3"],
        ["quarantine", "drop"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(busy: Home, arguments: list[str]) -> None:
    assert "Error: " in busy.run(*arguments, code=2).stderr


def test_a_wrong_configuration_ends_with_78(home: Home) -> None:
    done = home.run("up", code=78, TASKSD_SPOOL_MAX_FILES="many")
    assert done.stderr.count("\n") == 1
    assert "TASKSD_SPOOL_MAX_FILES" in done.stderr


def test_a_second_daemon_ends_with_75_and_names_the_first(busy: Home) -> None:
    done = busy.run("up", code=75)
    assert busy.daemon is not None
    assert f"pid {busy.daemon.pid}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_a_stop_while_the_daemon_starts_is_a_clean_one(home: Home) -> None:
    starting = home.popen("up")

    def handles_sigterm() -> int:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{starting.pid}/status").read_text(), re.MULTILINE)
        return int(caught[1], 16) >> (signal.SIGTERM - 1) & 1 if caught else 0

    until(handles_sigterm, "SIGTERM is handled")
    starting.terminate()
    starting.communicate(timeout=TIMEOUT)
    assert starting.returncode == 0


def test_a_bug_ends_the_daemon_with_its_trace(home: Home) -> None:
    broken = "import sys, tasks.daemon as d\nd.run = lambda settings, **_: 1 // 0\nfrom tasks.cli import main\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", broken, "up"],
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_thread_that_hangs_does_not_keep_a_stopped_daemon(home: Home) -> None:
    hung = (
        "import sys, threading, tasks.daemon as d\n"
        "d.run = lambda settings, **_: threading.Thread(target=threading.Event().wait).start() or 0\n"
        "from tasks.cli import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", hung, "up"], env=home.environ, timeout=TIMEOUT, check=False)
    assert done.returncode == 0


def test_a_reader_that_leaves_early_is_no_error(busy: Home) -> None:
    for by in (COMMAND, THROUGH_CLICK):
        read, write = os.pipe()
        os.close(read)
        started = subprocess.Popen([*by, "events"], env=busy.environ, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert started.communicate(timeout=TIMEOUT)[1] == ""
        assert started.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line_and_1(busy: Home) -> None:
    for by in (COMMAND, THROUGH_CLICK):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*by, "tools"],
                env=busy.environ,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1


def test_the_version_is_told(home: Home) -> None:
    assert re.fullmatch(r"tasksd \d+\.\d+\.\d+\S*\n", home.run("--version").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(home: Home, shell: str) -> None:
    script = home.run("completion", shell).stdout
    assert "_TASKSD_COMPLETE" in script
    assert "tasksd" in script


def test_commands_and_session_ids_are_completed(busy: Home) -> None:
    def completed(words: str) -> list[str]:
        done = busy.run(_TASKSD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
        return [line.partition(",")[2] for line in done.stdout.split()]

    assert completed("tasksd quar") == ["quarantine"]
    assert completed("tasksd session 11") == [SESSION]


# Live


def test_following_goes_on_over_a_restart_and_ends_quietly(home: Home) -> None:
    home.start()
    home.fill()
    follower = home.popen("events", "--follow", "--limit", "1", "--json", by=INTERRUPTIBLE)
    assert follower.stdout is not None
    assert json.loads(follower.stdout.readline())["kind"] == "PreToolUse"
    home.record(hook_event_name="Stop")
    assert json.loads(follower.stdout.readline())["kind"] == "Stop"
    assert home.stop() == 0
    home.record(hook_event_name="Notification", message="while it was down")
    home.start()
    assert json.loads(follower.stdout.readline())["kind"] == "Notification"
    follower.send_signal(signal.SIGINT)
    rest, said = follower.communicate(timeout=TIMEOUT)
    assert follower.returncode == 130
    assert rest == ""
    assert "Traceback" not in said


def test_following_needs_a_daemon_to_begin_with(home: Home) -> None:
    assert "tasksd up" in home.run("events", "--follow", code=69).stderr


def test_watching_shows_the_status_again_and_again(busy: Home) -> None:
    watcher = busy.popen("status", "--watch", "--json", by=INTERRUPTIBLE)
    assert watcher.stdout is not None
    first, second = (json.loads(watcher.stdout.readline()) for _ in range(2))
    assert second["daemon"]["uptime_s"] > first["daemon"]["uptime_s"]
    watcher.send_signal(signal.SIGINT)
    assert watcher.communicate(timeout=TIMEOUT)[1] == ""
    assert watcher.returncode == 130


# Quarantine and database


@pytest.mark.parametrize("running", [True, False], ids=["daemon", "no daemon"])
def test_quarantined_files_are_listed_shown_retried_and_dropped(busy: Home, home: Home, running: bool) -> None:
    where = busy if running else home
    broken = where.data / "spool" / "-.1.1.0.json"
    if not running:
        where.start()
    broken.write_bytes('{"not": "an event", "raw": "\x7f\x9b2J"}'.encode())
    broken.chmod(0o600)
    until(lambda: where.json("quarantine", "list"), "the file is quarantined")
    if not running:
        where.stop()
    (entry,) = where.json("quarantine", "list")
    assert entry["name"] == broken.name
    assert entry["reason"] in where.run("quarantine", "list").stdout
    shown = where.run("quarantine", "show", entry["id"]).stdout
    assert '{"not": "an event"' in shown
    assert "\\x7f\\x9b2J" in shown
    assert where.json("quarantine", "show", entry["id"])["content"].startswith('{"not"')
    assert "1 file put back" in where.run("quarantine", "retry", entry["id"]).stderr
    if running:
        until(lambda: where.json("quarantine", "list") not in ([], [entry]), "it comes back under another id")
        assert "1 file deleted" in where.run("quarantine", "drop", "--all").stderr
    else:
        assert len(list((where.data / "spool").glob("*.json"))) == 1
    assert where.json("quarantine", "list") == []
    assert "no quarantined file has the id" in where.run("quarantine", "drop", entry["id"], code=1).stderr


def test_the_database_is_checked_backed_up_and_compacted_beside_the_daemon(busy: Home) -> None:
    assert "is sound" in busy.run("db", "check").stderr
    copy = Path(busy.run("db", "backup").stdout.strip())
    assert copy.parent == busy.data / "backups"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert "before" in (said := busy.run("db", "vacuum").stderr)
    assert "the write-ahead log included" in said
    assert busy.json("status")["ingest"]["events_total"] == 5


def test_a_damaged_database_fails_the_check(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    (home.data / "tasks.db").write_bytes(b"no database at all, whatever its name says" * 100)
    assert "db check" in home.run("db", "check", code=1).stderr


def test_there_is_nothing_to_back_up_before_the_first_start(home: Home) -> None:
    for command in ("check", "backup", "vacuum"):
        assert "does not exist yet" in home.run("db", command, code=1).stderr
    assert not home.data.exists()


# Installing


def test_hooks_are_registered_seen_and_removed(home: Home) -> None:
    settings = home.folder / "settings.json"
    settings.write_text('{"model": "opus"}')
    before = settings.read_bytes()
    assert "+++ " in home.run("hooks", "install", "--settings", str(settings), "--dry-run").stdout
    assert settings.read_bytes() == before
    assert home.run("hooks", "status", "--settings", str(settings), code=1).stdout.startswith("no event is registered")
    assert "registered in" in home.run("hooks", "install", "--settings", str(settings)).stderr
    assert os.access(home.data / "hooks/record", os.X_OK)
    status = home.json("hooks", "status", "--settings", str(settings))
    assert status["missing"] == []
    assert status["recorder"]["state"] == "current"
    assert "nothing to change" in home.run("hooks", "install", "--settings", str(settings)).stderr
    home.run("hooks", "uninstall", "--settings", str(settings))
    assert settings.read_bytes() == before


def test_settings_that_cannot_be_read_are_left_alone(home: Home) -> None:
    settings = home.folder / "settings.json"
    settings.write_text("{ broken")
    assert str(settings) in home.run("hooks", "install", "--settings", str(settings), code=1).stderr
    assert settings.read_text() == "{ broken"


def test_a_dry_run_of_the_service_shows_the_definition_and_writes_nothing(home: Home) -> None:
    shown = home.run("service", "install", "--dry-run").stdout
    assert COMMAND[0] in shown
    assert str(home.data) in shown
    assert sorted(path.name for path in home.folder.iterdir()) == []
    assert "run `tasksd service install`" in home.run("service", "status", code=1).stderr
    assert home.json("service", "status", code=1)["installed"] is False


# Doctor


def _findings(home: Home, code: int) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in home.json("doctor", code=code)}


def test_the_doctor_names_a_remedy_for_everything_that_is_wrong(home: Home) -> None:
    home.record(hook_event_name="Stop")
    home.data.chmod(0o755)
    found = _findings(home, 1)
    assert found["daemon"]["verdict"] == found["hooks"]["verdict"] == found["data"]["verdict"] == "problem"
    assert found["spool"]["verdict"] == "warning"
    assert all(one["remedy"] for one in found.values() if one["verdict"] != "ok")
    assert f"chmod 700 {home.data}" in found["data"]["remedy"]
    done = home.run("doctor", code=1)
    assert "tasksd hooks install" in done.stdout
    assert "problems found" in done.stderr


def test_without_a_client_the_doctor_asks_for_no_second_installation_of_a_service(home: Home) -> None:
    home.environ["PATH"] = str(home.folder)
    found = home.json("doctor", code=1)
    messages = [f"{one['message']}: {one['remedy']}" for one in found if one["check"] == "service"]
    assert not [one for one in messages if "command was found" in one]
    assert any("not installed: run `tasksd service install`" in one for one in messages)
    assert any(one["check"] == "client" and one["verdict"] == "warning" for one in found)


def test_the_doctor_sees_a_write_ahead_log_that_does_not_shrink(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    log = home.data / "tasks.db-wal"
    for length, verdict in ((64 << 20, "ok"), ((64 << 20) + 1, "warning")):
        with log.open("wb") as file:
            file.truncate(length)
        assert _findings(home, 1)["log"]["verdict"] == verdict
    assert "tasksd db vacuum" in _findings(home, 1)["log"]["remedy"]


def test_the_doctor_is_content_with_a_good_installation(home: Home) -> None:
    home.run("hooks", "install")
    home.start()
    home.fill()
    found = _findings(home, 0)
    for check in ("daemon", "hooks", "recorder", "events", "spool", "data", "file system", "sqlite", "git"):
        assert found[check]["verdict"] == "ok", found[check]
    assert "problem" not in {one["verdict"] for one in found.values()}


def test_the_doctor_sees_hooks_that_are_registered_twice_or_damaged(home: Home) -> None:
    home.run("hooks", "install")
    other = home.folder / "other"
    home.run("--data-dir", str(other), "hooks", "install", "--scope", "local")
    (home.data / "hooks/record").write_text("#!/bin/sh\nexit 0\n")
    found = {(one["check"], one["message"].partition(" is ")[0]): one for one in home.json("doctor", code=1)}
    assert any(check == "hooks" and "more than once" in one["message"] for (check, _), one in found.items())
    assert found["recorder", str(home.data / "hooks/record")]["verdict"] == "warning"
    assert found["recorder", str(other / "hooks/record")]["verdict"] == "warning"
