"""`tasksd stats` as a person uses it, beside a real daemon and without one."""

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tasks.client import Client
from tasks.config import load
from tasks.database import Write
from tasks.rollups import DAY

from .recorded import NOW, SESSIONS, Recorded, some_calls, some_files
from .test_cli import Home

HOSTILE = "/srv/\x1b[31mred\x1b]0;owned\x07"

#: Every way to ask, and something that the page has to say.
PAGES = (
    ("tools", "mcp__demo__search"), ("tools --days 30", "█"), ("tools --workflow code-task", "success"),
    ("tools --agent-type Explore", "Bash"), ("tools --model opus", "Bash"), ("tools --task aaaaaa", "Bash"),
    (f"tools --session {SESSIONS[0][:8]}", "Bash"), ("tools --by model", "(not known)"),
    ("tools --by agent-type", "(main agent)"), ("tools --durations", "median"), ("workflows", "code-task"),
    ("models", "haiku"), ("sessions", SESSIONS[0]), ("files", "/srv/one/0.py"), ("files --rereads", "rereads"),
    ("files --contended", SESSIONS[0]), (f"files --session {SESSIONS[0]}", "sub"),
    ("files --project /srv/two", "/srv/two/"), ("agents", "waiting permission"), (f"agents --session {SESSIONS[1]}", "idle"),
    ("tools --hours 48", "calls"),
)  # fmt: skip

WRONG = (
    "tools --days 1 --hours 1", "tools --days 0", "tools --by session", "tools --workflow a --model b",
    "tools --durations --by model", "tools --session abc --days 3", "tools --json --csv", "files --rereads --contended",
    "files --session abc --days 3", "agents --session abc --hours 2", "files --limit 0", "workflows --days nan", "nothing",
)  # fmt: skip


def record(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    recorded = Recorded(home.data)
    shift = time.time_ns() // 1_000_000 - NOW
    calls, files = some_calls(1), some_files(1)
    for one in (*calls, *files):
        one["timestamp"] += shift
    files[0]["path"] = HOSTILE
    recorded.calls(calls, 0.5)
    recorded.files(files, 0.5)
    ended = NOW + shift - DAY
    session = """
INSERT INTO sessions (session_uuid, task_id, status, status_since, host, started_at, last_event_at)
VALUES (?, ?, 'ended', ?, 'h', ?, ?)
"""
    change = "INSERT INTO agent_status (timestamp, session_uuid, status, cause) VALUES (?, ?, ?, 'x')"
    recorded.database.apply([
        Write(session, [(one, None, ended, ended - DAY, ended) for one in SESSIONS]),
        Write(change, [(ended - DAY, SESSIONS[1], "idle"), (ended, SESSIONS[1], "ended")]),
        Write("INSERT INTO state_rollup VALUES (?, ?, 'idle', ?)", [
            (grain, slot, max(0, min(ended, (slot + 1) * grain) - max(ended - DAY, slot * grain)))
            for grain in (3_600_000, DAY) for slot in range((ended - DAY) // grain, ended // grain + 1)
        ]),
    ])  # fmt: skip
    recorded.database.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A daemon runs, and work was recorded."""
    made = Home(tmp_path_factory.mktemp("b"))
    record(made)
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Work was recorded, and no daemon runs."""
    made = Home(tmp_path_factory.mktemp("q"))
    record(made)
    return made


def without_floats(answer: Any) -> Any:
    """Averages are the same to the last digits, sums of calls exactly."""
    return json.loads(json.dumps(answer), parse_float=lambda text: round(float(text), 6))


@pytest.mark.parametrize(("command", "said"), PAGES, ids=[page[0] for page in PAGES])
def test_every_page_says_what_was_asked_for(busy: Home, command: str, said: str) -> None:
    done = busy.run("stats", *command.split())
    assert said in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("command", "said"), PAGES, ids=[page[0] for page in PAGES])
def test_without_a_daemon_the_file_answers_alike(quiet: Home, busy: Home, command: str, said: str) -> None:
    done = quiet.run("stats", *command.split(), "--json")
    assert "read from" in done.stderr
    offline = without_floats(json.loads(done.stdout))
    online = without_floats(busy.json("stats", *command.split()))
    if "--session" in command or "contended" in command:  # times of day differ between the two homes
        assert len(offline) == len(online)
    else:
        assert offline == online


@pytest.mark.parametrize("command", WRONG)
def test_wrong_usage_is_said_and_asks_nothing(home: Home, command: str) -> None:
    done = home.run("stats", *command.split(), code=2)
    assert done.stdout == ""
    assert "Error" in done.stderr


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("h"))


def test_csv_has_a_line_of_names_and_one_for_every_row(busy: Home) -> None:
    for command, first in (
        ("tools", "tool_name"), ("tools --by workflow", "value"), ("tools --durations", "tool_name"), ("workflows", "value"),
        ("sessions", "value"), ("files", "path"), ("files --contended", "path"), ("agents", "status"),
        (f"files --session {SESSIONS[0]}", "path"),
    ):  # fmt: skip
        rows = list(csv.DictReader(io.StringIO(busy.run("stats", *command.split(), "--csv").stdout, newline="")))
        assert rows, command
        assert next(iter(rows[0])) == first
        assert None not in rows[0], command
    durations = busy.run("stats", "tools", "--durations", "--csv").stdout
    assert "p50,p90,p95,p99" in durations.splitlines()[0]
    assert "\x1b" not in busy.run("stats", "files", "--csv", "--limit", "1000").stdout


def test_json_is_exactly_that_of_the_api(busy: Home) -> None:
    body = Client(str(load(data_dir=busy.data).socket_path)).fetch("/v1/stats/workflows?days=7")
    assert busy.run("stats", "workflows", "--json").stdout == body.decode() + "\n"


def test_a_limit_shortens_lists(busy: Home) -> None:
    assert len(busy.run("stats", "tools", "--limit", "2").stdout.splitlines()) == 3
    assert len(busy.json("stats", "files", "--limit", "3")) == 3
    assert len(busy.json("stats", "sessions", "--limit", "1")) == 1


def test_where_nothing_was_recorded_it_says_so(home: Home) -> None:
    assert home.run("stats", "tools", code=69).stdout == ""
    home.data.mkdir(mode=0o700)
    Recorded(home.data).database.close()
    for command, said in (
        ("tools", "no calls in the last 7 days"), ("tools --hours 1", "no calls in the last hour"),
        ("files", "no files accessed"), ("files --contended", "no file was changed by several agents"),
        ("agents", "no agents"), ("workflows", "no calls of a workflow"), ("tools --durations", "no timed calls"),
    ):  # fmt: skip
        assert said in home.run("stats", *command.split()).stdout
