"""Repricing: what is stored equals what a fresh reading at the new prices would have stored, to the picodollar."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.accounting import Context, Entry, change_messages, results
from tasks.accounting.reprice import Repriced, compare, reprice
from tasks.config import PriceSettings
from tasks.database import Connection, Reader, SyncDatabase
from tasks.prices import PriceBook, cost

COMMAND = str(Path(sys.executable).parent / "tasksd")
BEGIN = 1_788_000_000_000
MODELS = ("claude-opus-5", "claude-sonnet-4-5", "claude-haiku-4-5", "mine-1", "mine-2", "<odd> \x1b[31m")
OLD = PriceBook(PriceSettings(models={"mine-1": {"input": 1, "output": 2}}))
NEW_MODELS: dict[str, dict[str, float]] = {
    "mine-2": {"input": 7, "output": 0.123457},
    "claude-opus-*": {"input": 2, "output": 9, "cache_write_1h": 3},
}
NEW = PriceBook(PriceSettings(models=NEW_MODELS))
KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
CONTEXTS = (
    Context("session-a", "", "aaaaaa", "feature", "/srv/one"),
    Context("session-b", "Explore", None, None, "/srv/one"),
    Context("session-c", "", None, None, ""),
)


def numbers(usage: dict[str, int]) -> tuple[int, int, int, int, int, int]:
    first, second, third, fourth, fifth = (usage[kind] for kind in KINDS)
    return first, second, third, fourth, fifth, usage["web_searches"]


def fill(store: SyncDatabase, book: PriceBook, number: int, seed: int = 1) -> None:
    """So many messages of several models, sessions and days at the prices of `book`."""
    random_ = random.Random(seed)

    def work(connection: Connection) -> None:
        for index, context in enumerate(CONTEXTS, 1):
            connection.execute(
                "INSERT INTO transcripts (transcript_id, path, session_uuid, agent_type, task_id, workflow, project, began_at, "
                "last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    index, f"/transcripts/{index}", context.session_uuid, context.agent_type, context.task_id,
                    context.workflow, context.project, BEGIN, BEGIN,
                ),
            )  # fmt: skip
        changes: list[tuple[Entry | None, Entry | None]] = []
        for index in range(number):
            at, model = BEGIN + random_.randrange(30 * 86_400_000), random_.choice(MODELS)
            modifiers = random_.choice(("", "", "", "fast", "batch geo_us", "warp"))
            usage = {kind: random_.choice((0, random_.randrange(5000), random_.randrange(300_000))) for kind in KINDS}
            usage["web_searches"] = random_.choice((0, 0, 3))
            rate = book.rate(model, at, modifiers, sum(usage[kind] for kind in KINDS if kind != "output_tokens"))
            price_id = picodollars = None
            if rate is not None:
                values = [getattr(rate, name) for name in rate.__slots__]
                names = ", ".join(rate.__slots__)
                connection.execute(
                    f"INSERT OR IGNORE INTO prices ({names}) VALUES ({', '.join('?' * len(values))})", values
                )
                where = " AND ".join(f"{name} = ?" for name in rate.__slots__)
                (price_id,) = connection.execute(f"SELECT price_id FROM prices WHERE {where}", values).fetchone()
                picodollars = cost(rate, **usage)
            holder = random_.randrange(len(CONTEXTS))
            connection.execute(
                f"INSERT INTO messages (message_id, transcript_id, timestamp, model, {', '.join(usage)}, modifiers, price_id, "
                "cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (f"msg_{index:06}", holder + 1, at, model, *usage.values(), modifiers, price_id, picodollars),
            )
            changes.append((None, Entry(CONTEXTS[holder], at, model, *numbers(usage), picodollars)))
        change_messages(connection, changes)

    store.transaction(work)


def money(store: SyncDatabase | Reader) -> list[Any]:
    return store.query("SELECT message_id, cost FROM messages ORDER BY message_id")


def rollup(store: SyncDatabase | Reader) -> list[Any]:
    return store.query("SELECT * FROM cost_rollup ORDER BY dimension, grain, slot, value, model")


def rollup_of_the_messages(store: SyncDatabase | Reader) -> list[Any]:
    """What cost_rollup must hold, asked of the messages themselves."""
    short, long = (900_000, 86_400_000), (900_000, 3_600_000, 21_600_000, 86_400_000)
    parts = [
        f"""SELECT '{dimension}' AS dimension, {grain} AS grain, timestamp / {grain} AS slot, {value} AS value, model,
            count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens),
            sum(cache_write_1h_tokens), sum(web_searches), coalesce(sum(cost), 0), sum(cost IS NULL)
        FROM messages JOIN transcripts USING (transcript_id) WHERE {value} IS NOT NULL GROUP BY 3, 4, 5"""
        for dimension, value, grains in (
            ("all", "''", long), ("project", "project", long), ("agent_type", "agent_type", long),
            ("workflow", "workflow", long), ("session", "session_uuid", short), ("task", "task_id", short),
        )
        for grain in grains
    ]  # fmt: skip
    rows = [tuple(row) for part in parts for row in store.query(part)]
    return sorted(rows, key=lambda row: row[:5])


def consistent(store: SyncDatabase | Reader) -> None:
    columns = [row[1] for row in store.query("PRAGMA table_info (cost_rollup)")]
    order = (
        "dimension", "grain", "slot", "value", "model", "messages", "input_tokens", "output_tokens", "cache_read_tokens",
        "cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches", "cost", "unpriced",
    )  # fmt: skip
    assert set(columns) == set(order)
    stored = sorted(tuple(row) for row in store.query(f"SELECT {', '.join(order)} FROM cost_rollup"))
    assert stored == rollup_of_the_messages(store)
    at_their_price = (
        "SELECT count(*) FROM messages JOIN prices USING (price_id) WHERE cost <> "
        + " + ".join(f"{kind} * {kind.removesuffix('_tokens')}" for kind in KINDS)
        + " + web_searches * web_search"
    )
    assert store.query(at_their_price) == [(0,)]


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tasks.db"


@pytest.fixture
def store(database_file: Path) -> Iterator[SyncDatabase]:
    opened = SyncDatabase(database_file)
    yield opened
    opened.close()


def test_after_it_the_store_is_as_if_the_new_prices_had_always_held(store: SyncDatabase, tmp_path: Path) -> None:
    fill(store, OLD, 1700)
    fresh = SyncDatabase(tmp_path / "fresh.db")
    try:
        fill(fresh, NEW, 1700)
        consistent(store)
        assert rollup(store) != rollup(fresh)
        reprice(store, NEW)
        assert money(store) == money(fresh)
        assert rollup(store) == rollup(fresh)
        consistent(store)
    finally:
        fresh.close()


def test_it_tells_what_it_changed_by_model(store: SyncDatabase) -> None:
    fill(store, OLD, 900)
    before = {
        model: (number, picodollars, priced)
        for model, number, picodollars, priced in store.query(
            "SELECT model, count(*), coalesce(sum(cost), 0), count(cost) FROM messages GROUP BY 1"
        )
    }
    found = {one.model: one for one in reprice(store, NEW)}
    after: dict[str, int] = dict(store.query("SELECT model, coalesce(sum(cost), 0) FROM messages GROUP BY 1"))
    assert set(found) == set(MODELS) == set(before)
    for model, one in found.items():
        assert (one.messages, one.before, one.after) == (*before[model][:2], after[model])
    assert found["mine-2"].newly_priced > 0 == found["mine-2"].newly_unpriced == found["mine-2"].before
    assert found["mine-1"].newly_unpriced == before["mine-1"][2] > 0 == found["mine-1"].after
    assert found["claude-haiku-4-5"].changed == 0 < found["claude-haiku-4-5"].before
    assert found["<odd> \x1b[31m"].unpriced == found["<odd> \x1b[31m"].messages > 0


def test_a_dry_run_says_the_same_and_writes_nothing(store: SyncDatabase, database_file: Path) -> None:
    fill(store, OLD, 900)
    state = money(store), rollup(store), store.query("SELECT * FROM prices")
    reader = Reader(database_file)
    try:
        foretold = compare(reader, NEW)
    finally:
        reader.close()
    assert (money(store), rollup(store), store.query("SELECT * FROM prices")) == state
    assert reprice(store, NEW) == foretold
    assert money(store) != state[0]


def test_a_second_run_changes_nothing(store: SyncDatabase) -> None:
    fill(store, OLD, 700)
    reprice(store, NEW)
    state = store.query("SELECT * FROM messages"), rollup(store)
    again = reprice(store, NEW)
    assert [one.changed for one in again] == [0] * len(again)
    assert (store.query("SELECT * FROM messages"), rollup(store)) == state


def test_a_sum_of_requests_is_no_long_request(store: SyncDatabase) -> None:
    """What only a run's result told: the context of each request is not known, so the price is that of short ones."""
    book = PriceBook(PriceSettings())

    def change(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO transcripts (transcript_id, path, session_uuid, began_at, last_at) VALUES (1, 'run:a/1', 's', 0, 0)"
        )
        run = results.EndedRun("a", 1, "s", BEGIN, BEGIN, Path())
        results.settle(connection, run, {"claude-haiku-5-5": (500_000, 10, 400_000, 0, 0, 0)}, book)

    store.transaction(change)
    short = book.rate("claude-haiku-5-5", BEGIN)
    assert short is not None
    assert book.rate("claude-haiku-5-5", BEGIN, "", 900_000) != short
    wanted = 500_000 * short.input + 10 * short.output + 400_000 * short.cache_read
    assert store.query("SELECT cost FROM messages") == [(wanted,)]
    assert reprice(store, book)[0].changed == 0


def test_there_and_back_leaves_no_trace_in_the_sums(store: SyncDatabase) -> None:
    fill(store, OLD, 700)
    state = money(store), rollup(store)
    reprice(store, NEW)
    reprice(store, OLD)
    assert (money(store), rollup(store)) == state


def test_earlier_messages_stay_as_they_are(store: SyncDatabase) -> None:
    fill(store, OLD, 900)
    since = BEGIN + 15 * 86_400_000
    before = dict(money(store))
    reprice(store, NEW, since)
    changed = {message for message, picodollars in money(store) if before[message] != picodollars}
    times: dict[str, int] = dict(store.query("SELECT message_id, timestamp FROM messages"))
    assert changed
    assert min(times[message] for message in changed) >= since
    reprice(store, NEW)
    assert {message for message, picodollars in money(store) if before[message] != picodollars} > changed
    consistent(store)


def test_ended_half_way_it_is_whole_and_goes_on_the_next_time(store: SyncDatabase, tmp_path: Path) -> None:
    fill(store, OLD, 2400)

    class Enough(Exception):
        pass

    seen = 0

    def stop(looked_at: int) -> None:
        nonlocal seen
        seen += looked_at
        if seen >= 1000:
            raise Enough

    before = money(store)
    with pytest.raises(Enough):
        reprice(store, NEW, progress=stop)
    half = money(store)
    assert half[:1000] != before[:1000]
    assert half[1000:] == before[1000:]
    consistent(store)
    reprice(store, NEW)
    consistent(store)
    assert [one.changed for one in compare(store, NEW)] == [0] * len(compare(store, NEW))


def test_what_another_process_changes_between_look_and_write_is_not_overwritten(
    store: SyncDatabase, database_file: Path
) -> None:
    fill(store, OLD, 400)

    class Meddled:
        """A store beside which another process takes a message away just before each transaction."""

        def query(self, statement: str, parameters: Any = ()) -> list[Any]:
            return store.query(statement, parameters)

        def transaction(self, work: Any) -> Any:
            def take(connection: Connection) -> None:
                (row,) = connection.execute(
                    "SELECT timestamp, model, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, "
                    "cache_write_1h_tokens, web_searches, cost, transcript_id FROM messages WHERE message_id = 'msg_000007'"
                ).fetchall()
                connection.execute("DELETE FROM messages WHERE message_id = 'msg_000007'")
                change_messages(connection, [(Entry(CONTEXTS[row[-1] - 1], *row[:-1]), None)])

            store.transaction(take)
            return store.transaction(work)

    reprice(Meddled(), NEW)
    assert store.query("SELECT count(*) FROM messages") == [(399,)]
    consistent(store)


def run(data_dir: Path, *arguments: str, code: int = 0) -> str:
    environ = {
        "HOME": str(data_dir.parent), "PATH": os.defpath, "TASKSD_DATA_DIR": str(data_dir), "LANG": "C.UTF-8",
        "TASKSD_CONFIG": str(data_dir.parent / "config.toml"),
    }  # fmt: skip
    done = subprocess.run(
        [COMMAND, "costs", "reprice", *arguments], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


class TestCommand:
    @pytest.fixture
    def data_dir(self, store: SyncDatabase, database_file: Path, tmp_path: Path) -> Path:
        fill(store, OLD, 600)
        lines = []
        for model, prices in NEW_MODELS.items():
            lines += [f'[prices.models."{model}"]', *(f"{key} = {value}" for key, value in prices.items())]
        (tmp_path / "config.toml").write_text("\n".join(lines))
        return database_file.parent

    def test_dry_run_shows_what_the_run_then_does(self, data_dir: Path, store: SyncDatabase) -> None:
        expected = compare(store, NEW)
        foretold = json.loads(run(data_dir, "--dry-run", "--json"))
        assert foretold["dry_run"] is True
        assert {one["model"]: one["changed"] for one in foretold["models"]} == {
            one.model: one.changed for one in expected
        }
        assert foretold["total"]["changed"] == sum(one.changed for one in expected) > 0
        done = json.loads(run(data_dir, "--json"))
        assert done == foretold | {"dry_run": False}
        assert json.loads(run(data_dir, "--json"))["total"]["changed"] == 0
        total = store.query("SELECT sum(cost) FROM messages")[0][0]
        assert done["total"]["cost_after"] == pytest.approx(total / 1e12)
        consistent(store)

    def test_people_see_the_models_that_change_and_those_without_a_price(self, data_dir: Path) -> None:
        text = run(data_dir, "--dry-run")
        lines = text.splitlines()
        assert lines[0].split()[:3] == ["model", "messages", "changed"]
        assert any(line.startswith("claude-opus-5 ") for line in lines)
        assert not any(line.startswith("claude-haiku-4-5 ") for line in lines)
        assert "would change: $" in text
        assert "messages without a price, not in these sums: " in lines[-1]
        assert "\x1b" not in text

    def test_since_takes_a_day(self, data_dir: Path, store: SyncDatabase) -> None:
        told = json.loads(run(data_dir, "--dry-run", "--json", "--since", "2026-09-10T00:00Z"))
        assert told["since"] == 1_788_998_400_000
        assert (
            told["total"]["messages"]
            == store.query("SELECT count(*) FROM messages WHERE timestamp >= ?", (told["since"],))[0][0]
        )
        assert "is no date" in run(data_dir, "--since", "yesterday", code=2)

    def test_a_wrong_price_is_told_with_file_and_key(self, data_dir: Path, store: SyncDatabase, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text('[prices.models."mine-2"]\ninput = 1\n')
        before = money(store)
        said = run(data_dir, code=78)
        assert "config.toml" in said
        assert "prices.models.mine-2: output is missing" in said
        assert money(store) == before

    def test_without_a_store_it_says_what_to_do(self, tmp_path: Path) -> None:
        assert "does not exist yet" in run(tmp_path / "nothing", code=1)
        assert not (tmp_path / "nothing").exists()


def test_the_largest_change_comes_first(store: SyncDatabase) -> None:
    fill(store, OLD, 600)

    def change(one: Repriced) -> int:
        return abs(one.after - one.before)

    found = compare(store, NEW)
    assert found == sorted(found, key=change, reverse=True)
    assert change(found[0]) > change(found[-1])
