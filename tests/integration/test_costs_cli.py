"""`tasksd costs` as a person uses it, beside a real daemon and without one."""

import csv
import io
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tasks.rollups import DAY

from .money import Run, Spent, fill
from .test_cli import THROUGH_CLICK, Home

#: Questions with an answer that stays the same while nothing is spent.
LASTING = (
    ["--by", "model"], ["--by", "project", "--days", "7"], ["--by", "session"], ["--by", "task"], ["--by", "agent"],
    ["--by", "workflow"], ["--by", "day", "--zone", "Asia/Kathmandu"], ["--by", "model", "--limit", "1"],
    ["--since", "2026-03-28", "--until", "2026-03-30", "--by", "day", "--zone", "Europe/Paris"],
)  # fmt: skip


def spend(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    now = time.time_ns() // 1_000_000
    messages = [
        Spent(now - 60_000, task_id="a1b2c3", workflow="fix", output_tokens=100_000),
        Spent(now - DAY, agent_type="Explore", session_uuid="s2", project="/srv/=cmd|calc"),
        Spent(now - 2 * DAY, model="=odd", priced=False),
    ]
    fill(home.data, messages, [Run("a1b2c3", now, 1, 1.0)], {"a1b2c3": "mend the \x1b[31mroof"})


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A daemon runs, and money was spent."""
    made = Home(tmp_path_factory.mktemp("b"))
    spend(made)
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Money was spent, and no daemon runs."""
    made = Home(tmp_path_factory.mktemp("q"))
    spend(made)
    return made


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def lasting(answer: Any) -> Any:
    """Without what changes while time passes."""
    return {name: value for name, value in answer.items() if name not in ("burn_rate", "projection")}


def lasting_lines(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if not line.startswith(("burn rate", "projection"))]


def test_the_first_look_tells_days_months_models_and_what_is_missing(busy: Home) -> None:
    shown = busy.run("costs").stdout
    for label in (
        "today",
        "yesterday",
        "this month",
        "projection",
        "burn rate",
        "total",
        "client's own",
        "unpriced",
        "cache read",
    ):
        assert label in shown
    assert "█" in shown
    assert "% sure" in shown
    assert "a1b2c3 +" in shown
    assert '1 message (model =odd): add [prices.models."=odd"] to config.toml' in shown
    assert "≥ $" in shown
    assert "a subscription is not billed" in shown
    (odd,) = [line for line in shown.splitlines() if line.startswith("=odd")]
    assert "unpriced" in odd
    assert "$0" not in odd


def test_output_without_blocks_gets_plain_bars(busy: Home) -> None:
    shown = busy.run("costs", PYTHONIOENCODING="ascii").stdout
    assert shown.isascii()
    assert "\\u2" not in shown
    assert "####" in shown
    assert ">= $" in shown


@pytest.mark.parametrize("arguments", [[], ["--days", "7"], ["--days=3", "--json"]], ids=" ".join)
def test_the_quick_way_answers_as_the_ordinary_way(busy: Home, arguments: list[str]) -> None:
    ordinary, quick = busy.run("costs", *arguments, by=THROUGH_CLICK), busy.run("costs", *arguments)
    if "--json" in arguments:
        assert lasting(json.loads(quick.stdout)) == lasting(json.loads(ordinary.stdout))
    else:
        assert lasting_lines(quick.stdout) == lasting_lines(ordinary.stdout)
    assert quick.stderr == ordinary.stderr == ""


def test_the_quick_way_imports_nothing_slow(busy: Home) -> None:
    program = "import sys; from tasks.cli import main; sys.exit(main())"
    seen = busy.run("costs", by=[sys.executable, "-X", "importtime", "-c", program]).stderr
    imported = {line.rpartition("|")[2].strip() for line in seen.splitlines()}
    assert "tasks.cli.costviews" in imported
    assert not imported & {"click", "rich", "json", "socket", "re", "typing", "pathlib", "datetime", "tasks.config"}


def test_the_ordinary_way_imports_neither_the_store_nor_the_api(busy: Home) -> None:
    program = "import sys; from tasks.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = busy.run("costs", "--by", "model", by=[sys.executable, "-X", "importtime", "-c", program])
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"pydantic", "fastapi", "sqlite3", "tasks.database", "tasks.analytics", "genai_prices"}


@pytest.mark.parametrize("arguments", LASTING, ids=" ".join)
def test_without_a_daemon_the_file_gives_the_same_answer(busy: Home, quiet: Home, arguments: list[str]) -> None:
    done = quiet.run("costs", *arguments, "--json")
    assert json.loads(done.stdout) == busy.json("costs", *arguments)
    assert f"read from {quiet.data / 'tasks.db'}" in done.stderr


def test_without_a_daemon_the_first_look_is_the_same(busy: Home, quiet: Home) -> None:
    assert lasting(quiet.json("costs")) == lasting(busy.json("costs"))


def test_without_a_daemon_the_config_says_whose_days_are_meant(quiet: Home) -> None:
    config = quiet.folder / "config.toml"
    config.write_text('[costs]\nzone = "Asia/Kathmandu"\n')
    assert json.loads(quiet.run("costs", "--json", TASKSD_CONFIG=str(config)).stdout)["zone"] == "Asia/Kathmandu"
    assert json.loads(quiet.run("costs", "--json", "--zone", "UTC", TASKSD_CONFIG=str(config)).stdout)["zone"] == "UTC"
    config.write_text('[costs]\nzone = "Mars/Base"\n')
    assert "costs.zone: 'Mars/Base' is no time zone" in quiet.run("costs", code=78, TASKSD_CONFIG=str(config)).stderr


@pytest.mark.parametrize("which", ["busy", "quiet"])
def test_what_is_asked_wrongly_is_told(which: str, request: pytest.FixtureRequest) -> None:
    home: Home = request.getfixturevalue(which)
    for arguments, code, reason in (
        (["--days", "3", "--since", "2026-01-01"], 2, "give one of them"),
        (["--limit", "3"], 2, "--limit is for --by"),
        (["--json", "--csv"], 2, "give one of them"),
        (["--since", "yesterday"], 2, "write one as 2025-10-22"),
        (["--days", "0"], 2, "1<=x<=3660"),
        (["--by", "colour"], 2, "'agent'"),
        (["yesterday"], 2, "No such command"),
        (["--zone", "Mars/Base"], 1, "'Mars/Base' is no time zone"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], 1, "is later than"),
    ):
        done = home.run("costs", *arguments, code=code)
        assert reason in done.stderr
        assert done.stdout == ""


def test_csv_has_the_days_or_the_rows_that_were_asked_for(busy: Home) -> None:
    daily = rows(busy.run("costs", "--csv", "--days", "3").stdout)
    today = datetime.now(UTC).date()
    assert [one["date"] for one in daily][-1] in (today.isoformat(), (today - timedelta(days=1)).isoformat())
    assert [one["messages"] for one in daily][-1] == "1"
    assert float(daily[-1]["cost"]) > 1.5
    (task,) = rows(busy.run("costs", "--csv", "--by", "task").stdout)
    assert (task["task"], task["label"], task["output_tokens"]) == ("a1b2c3", "mend the \\x1b[31mroof", "100000")
    models = rows(busy.run("costs", "--csv", "--by", "model").stdout)
    assert [one["model"] for one in models] == ["claude-sonnet-5", "'=odd"]
    assert [one["unpriced"] for one in models] == ["0", "1"]


def test_division_names_what_has_no_name(busy: Home) -> None:
    shown = busy.run("costs", "--by", "agent").stdout
    assert "(main agent)" in shown
    assert "Explore" in shown
    assert "unpriced" in shown
    assert "1 of 2 shown" in busy.run("costs", "--by", "agent", "--limit", "1").stdout


def test_an_empty_store_says_how_to_fill_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("e"))
    home.data.mkdir(mode=0o700)
    fill(home.data, [])
    assert "tasksd backfill" in home.run("costs").stdout
    assert "nothing was spent" in home.run("costs", "--by", "model").stdout


def _answer(name: str, model: str, **usage: str) -> str:
    message = {"id": name, "model": model, "usage": {"input_tokens": 1000, "output_tokens": 1000} | usage}
    line = {"type": "assistant", "sessionId": "s", "cwd": "/p", "timestamp": datetime.now(UTC).isoformat()}
    return json.dumps(line | {"message": message}) + "\n"


def test_what_is_missing_for_a_price_is_named_until_nothing_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("m"))
    folder = home.folder / ".claude/projects/-p"
    folder.mkdir(parents=True)
    folder.joinpath("s.jsonl").write_text(
        _answer("1", "claude-sonnet-5")
        + _answer("2", "claude-sonnet-5", speed="fast")
        + _answer("3", "claude-opus-5", service_tier="batch", inference_geo="mars")
        + _answer("4", "claude-opus-5")
        + _answer("5", "acme")
        + _answer("6", "bolt", speed="fast")
        + _answer("7", "")
    )
    config = home.folder / ".config/tasksd/config.toml"
    config.parent.mkdir(parents=True)
    home.run("backfill")
    said = (
        'add [prices.models."acme"], [prices.models."bolt"], fast, geo_mars under [prices.multipliers] to config.toml'
    )
    for arguments in ([], ["--by", "model"], ["--by", "day"]):
        (line,) = [line for line in home.run("costs", *arguments).stdout.splitlines() if line.startswith("unpriced ")]
        assert "5 messages" in line
        assert said in line
    config.write_text('[prices.models."acme"]\ninput = 1\noutput = 2\n[prices.models."bolt"]\ninput = 1\noutput = 2\n')
    shown = home.run("costs", "reprice").stdout
    assert [line.split()[3:5] for line in shown.splitlines() if line.startswith("acme ")] == [["unpriced", "$0.0030"]]
    assert "$0.0000" not in shown
    assert "fast, geo_mars under [prices.multipliers] to config.toml" in home.run("costs").stdout
    config.write_text(
        '[prices.models."acme"]\ninput = 1\noutput = 2\n[prices.models."bolt"]\ninput = 1\noutput = 2\n'
        "[prices.multipliers]\nfast = 2\ngeo_mars = 1.5\n"
    )
    home.run("costs", "reprice")
    (line,) = [line for line in home.run("costs").stdout.splitlines() if line.startswith("unpriced ")]
    assert line.endswith("1 message (model (no name))")


def test_whoever_puts_history_at_new_prices_is_told_that_the_daemon_has_the_old_ones(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = Home(tmp_path_factory.mktemp("r"))
    spend(home)
    config = home.folder / ".config/tasksd/config.toml"
    config.parent.mkdir(parents=True)
    home.start()
    for price, again in ((1, False), (2, True)):
        config.write_text(f'[prices.models."=odd"]\ninput = {price}\noutput = 2\n')
        assert "restart it" not in home.run("costs", "reprice", "--dry-run").stderr
        if again:
            assert home.stop() == 0
        said = home.run("costs", "reprice").stderr
        assert ("restart it" in said) is not again, "nothing has old prices where no daemon runs"
        assert "restart it" not in home.run("costs", "reprice").stderr, "nothing changed"


def test_the_environment_of_the_command_chooses_the_zone(busy: Home) -> None:
    for arguments, zone in (([], "Asia/Kathmandu"), (["--by", "model"], "Asia/Kathmandu"), (["--zone", "UTC"], "UTC")):
        done = busy.run("costs", "--json", *arguments, TASKSD_COSTS_ZONE="Asia/Kathmandu")
        assert json.loads(done.stdout)["zone"] == zone
