"""From transcripts to the store: each message once, credited to one file, in every roll-up, whatever is read when."""

import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks.accounting import (
    Accounted,
    Context,
    Entry,
    account,
    change_messages,
    move_context,
    rank,
    settle_contexts,
    stored_position,
)
from tasks.config import load
from tasks.database import Connection, SyncDatabase
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.rollups import DAY, HOUR, MINUTE
from tasks.transcripts import TranscriptFile, find, read
from tasks.words import PrivacyLevel

from .service import Service
from .trees import BEGIN, CONFIG, File, Line, Tree

RECORDED = Path(__file__).parents[1] / "data/transcripts"

#: input, output, cache writes, cache reads; dollars
TOTALS = {
    "t_simple": (14, 153, 1200, 11000, 0.010137),
    "t_parallel": (17, 191, 1150, 11200, 0.0105885),
    "t_subagent": (30, 317, 2080, 11700, 0.016155),
    "t_failed": (11, 44, 900, 5100, 0.005598),
    "t_resume2": (21, 43, 1100, 1000, 0.005133),
}

_LONG, _SHORT = (15 * MINUTE, HOUR, 6 * HOUR, DAY), (15 * MINUTE, DAY)
_DIMENSIONS = {
    "all": ("''", _LONG), "project": ("project", _LONG), "agent_type": ("agent_type", _LONG),
    "workflow": ("workflow", _LONG), "session": ("session_uuid", _SHORT), "task": ("task_id", _SHORT),
}  # fmt: skip


class Desk:
    """A store, and one process that reads transcripts into it."""

    def __init__(self, folder: Path) -> None:
        (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
        settings = load(
            environ={"HOME": str(folder), "TASKSD_CONFIG": str(folder / "config.toml")}, data_dir=folder / "state"
        )
        self.projects = folder / "projects"
        self.book = PriceBook(settings.prices)
        self.redactor = Redactor(b"k" * 32, PrivacyLevel.DEFAULT)
        self.database = SyncDatabase(settings.database_file)

    def read(self, file: TranscriptFile, limit: int = 4 << 20, *, crash: bool = False, twice: bool = False) -> bool:
        """Account the next chunk of a file; whether its end was reached. `crash`: just before the commit."""
        expect = stored_position(self.database.query, file.path)
        chunk = read(file.path, expect, limit=limit)
        began_at = rank(file.path)

        def work(connection: Connection) -> Accounted:
            done = account(connection, file, chunk, began_at, self.book, expect=expect, redactor=self.redactor)
            if crash:
                raise KeyError("crash")
            return done

        if crash:
            with pytest.raises(KeyError, match="crash"):
                self.database.transaction(work)
            return False
        assert self.database.transaction(work).applied
        if twice and chunk.size:
            assert not self.database.transaction(work).applied
        return chunk.done

    def read_all(self, limit: int = 4 << 20) -> None:
        for file in find(self.projects):
            while not self.read(file, limit):
                pass

    def change(self, statement: str, *values: Any) -> None:
        self.database.transaction(lambda connection: connection.execute(statement, values))

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.database.query(statement, values)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path)
    yield one
    one.database.close()


def rolled_up(desk: Desk) -> set[tuple[Any, ...]]:
    return set(desk.rows("SELECT * FROM cost_rollup"))


def added_up(desk: Desk) -> set[tuple[Any, ...]]:
    """What cost_rollup has to hold, from the messages."""
    rows: set[tuple[Any, ...]] = set()
    for dimension, (value, grains) in _DIMENSIONS.items():
        for grain in grains:
            rows |= set(
                desk.rows(
                    f"SELECT '{dimension}', {grain}, timestamp / {grain}, {value}, model, count(*), sum(input_tokens), "
                    "sum(output_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), "
                    "sum(web_searches), coalesce(sum(cost), 0), sum(cost IS NULL) "
                    f"FROM messages JOIN transcripts USING (transcript_id) WHERE {value} IS NOT NULL GROUP BY 3, 4, 5"
                )
            )
    return rows


def totals(desk: Desk, dimension: str) -> dict[str, list[int]]:
    """Messages, output tokens, picodollars and unpriced messages, by value."""
    rows = desk.rows(
        "SELECT value, sum(messages), sum(output_tokens), sum(cost), sum(unpriced) FROM cost_rollup "
        "WHERE dimension = ? AND grain = 86400000 GROUP BY value",
        dimension,
    )
    return {value: numbers for value, *numbers in rows}


@pytest.mark.parametrize("limit", [4 << 20, 300])
@pytest.mark.parametrize("name", TOTALS)
def test_recorded_transcripts_give_the_true_totals(name: str, limit: int, desk: Desk) -> None:
    desk.projects = RECORDED / name / "projects"
    desk.read_all(limit)
    ((*tokens, cost),) = desk.rows(
        "SELECT sum(input_tokens), sum(output_tokens), sum(cache_write_5m_tokens + cache_write_1h_tokens), "
        "sum(cache_read_tokens), sum(cost) FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000"
    )
    assert tuple(tokens) == TOTALS[name][:4]
    assert cost / 1e12 == pytest.approx(TOTALS[name][4], abs=1e-9)
    assert rolled_up(desk) == added_up(desk)


def test_recorded_transcripts_together_count_each_message_once(desk: Desk) -> None:
    for name in (*TOTALS, *TOTALS):
        desk.projects = RECORDED / name / "projects"
        desk.read_all()
    ids = {row[0] for row in desk.rows("SELECT message_id FROM messages")}
    assert totals(desk, "all")[""][0] == len(ids)
    assert rolled_up(desk) == added_up(desk)


class Work:
    """Runs of some sessions, which become known at some time."""

    def __init__(self, rng: random.Random, sessions: list[str]) -> None:
        self.of: dict[str, tuple[str, str | None, str | None, str | None]] = {}
        for number, session in enumerate(sessions):
            if rng.random() < 0.4:
                workflow, agent_type = rng.choice(["review", None]), rng.choice(["coder", None])
                self.of[session] = f"{number:06x}", workflow, agent_type, rng.choice(["/srv/space", None])
        self.to_come = sorted(self.of)
        rng.shuffle(self.to_come)

    def store(self, desk: Desk) -> None:
        session = self.to_come.pop()
        desk.change(
            "INSERT INTO tasks (task_id, workflow, agent_type, workspace, user_id, description, created_at) "
            "VALUES (?, ?, ?, ?, 1, 'x', 1)",
            *self.of[session],
        )
        desk.change(
            "INSERT INTO runs (task_id, attempt, session_uuid, host, started_at, started_monotonic) "
            "VALUES (?, 1, ?, 'h', 1, 0)",
            self.of[session][0], session,
        )  # fmt: skip

    def context(self, file: File, tree: Tree) -> Context:
        """By the model."""
        task_id, workflow, agent_type, workspace = self.of.get(file.session, (None, None, None, None))
        mains = sorted((one for one in tree.files if one.agent_id is None and one.session == file.session), key=_path)
        project = (mains[0] if file.agent_id is not None else file).cwd
        return Context(file.session, file.agent_type or agent_type or "", task_id, workflow, workspace or project)


def _path(file: File) -> str:
    return str(file.path)


def wander(desk: Desk, tree: Tree, work: Work, rng: random.Random) -> None:
    """Read all files, in any order and in chunks of any size, with crashes, repeats and rewritten files between."""
    left = {str(file.path): file for file in find(desk.projects)}
    rewritable = list(tree.files)
    while left:
        name = rng.choice(sorted(left))
        limit = rng.choice([1, 200, 1000, 5000, 1 << 20])
        if desk.read(left[name], limit, crash=rng.random() < 0.1, twice=rng.random() < 0.2):
            del left[name]
        if rng.random() < 0.05 and rewritable:
            file = rewritable.pop(rng.randrange(len(rewritable)))
            tree.rewrite(file)
            left = {str(one.path): one for one in find(desk.projects) if str(one.path) in {*left, str(file.path)}}
        if work.to_come and rng.random() < 0.1:
            work.store(desk)
    while work.to_come:
        work.store(desk)
    desk.database.transaction(settle_contexts)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**40))
def test_what_is_stored_is_what_the_files_say_in_whatever_order_they_are_read(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        try:
            tree = Tree(desk.projects, rng)
            work = Work(rng, sorted({file.session for file in tree.files}))
            wander(desk, tree, work, rng)
            check(desk, tree, work)
        finally:
            desk.database.close()


def check(desk: Desk, tree: Tree, work: Work) -> None:
    model = tree.model()
    stored = desk.rows(
        "SELECT message_id, path, timestamp, m.prompt_id, model, input_tokens, output_tokens, cache_read_tokens, "
        "cache_write_5m_tokens, cache_write_1h_tokens, web_searches, cost "
        "FROM messages AS m JOIN transcripts USING (transcript_id)"
    )
    wanted = {
        (key, str(one.file.path), one.timestamp, one.prompt_id, one.model, *one.usage, one.cost)
        for key, one in model.items()
    }
    assert set(stored) == wanted
    assert rolled_up(desk) == added_up(desk)
    sums: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))
    for one in model.values():
        context = work.context(one.file, tree)
        numbers = (1, one.usage[1], one.cost or 0, int(one.cost is None))
        places = {
            "all": "", "project": context.project, "agent_type": context.agent_type, "session": context.session_uuid,
            "workflow": context.workflow, "task": context.task_id,
        }  # fmt: skip
        for dimension, value in places.items():
            if value is not None:
                sums[dimension][value] = [a + b for a, b in zip(sums[dimension][value], numbers, strict=True)]
    for dimension in _DIMENSIONS:
        assert totals(desk, dimension) == sums[dimension], dimension
    expected = {(session, call) for session, call in desk.rows("SELECT session_uuid, tool_use_id FROM expected_calls")}
    assert tree.calls() <= expected
    known = {
        session for (session,) in desk.rows("SELECT session_uuid FROM sessions WHERE status = 'ended' AND events = 0")
    }
    assert known == {file.session for file in tree.files}


def line(
    message_id: str, session: str, at: int, *, output: int = 100, model: str = "claude-sonnet-5", **more: Any
) -> Line:
    """An assistant line, `at` minutes after the beginning."""
    usage = {"input_tokens": 10, "output_tokens": output}
    message = {"id": message_id, "role": "assistant", "model": model, "usage": usage, "content": []}
    moment = datetime.fromtimestamp(BEGIN / 1000 + 60 * at, UTC).isoformat()
    return {"type": "assistant", "timestamp": moment, "sessionId": session, "cwd": "/p", "message": message, **more}


def put(desk: Desk, name: str, *lines: Line) -> TranscriptFile:
    path = desk.projects / "-p" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    draft.rename(path)
    (found,) = [file for file in find(desk.projects) if file.path == path]
    return found


def sessions_of(desk: Desk) -> dict[str, str]:
    return dict(desk.rows("SELECT message_id, session_uuid FROM messages JOIN transcripts USING (transcript_id)"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["copy first", "original first"])
def test_a_marked_copy_is_never_credited_while_the_original_is_there(order: tuple[int, int], desk: Desk) -> None:
    # The clock stepped back between the two.
    copy = put(desk, "fork", line("m1", "fork", 5, requestSessionId="old"), line("m2", "fork", -60))
    files = copy, put(desk, "old", line("m1", "old", 5))
    assert rank(copy.path) < rank(files[1].path)
    for number in order:
        assert desk.read(files[number])
    assert sessions_of(desk) == {"m1": "old", "m2": "fork"}
    assert rolled_up(desk) == added_up(desk)


def test_a_copy_is_credited_while_the_original_is_not_there(desk: Desk) -> None:
    desk.read(put(desk, "fork", line("m1", "fork", 5, requestSessionId="gone"), line("m2", "fork", 9)))
    assert sessions_of(desk) == {"m1": "fork", "m2": "fork"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older first", "newer first"])
def test_usage_comes_from_the_file_with_more_output_and_time_from_the_oldest(
    order: tuple[int, int], desk: Desk
) -> None:
    files = (
        put(desk, "zz", line("m", "zz", 0, output=1)),
        put(desk, "aa", line("x", "aa", 1), line("m", "aa", 2, output=500)),
    )
    for number in order:
        desk.read(files[number])
    select = "SELECT output_tokens, timestamp, session_uuid FROM messages JOIN transcripts USING (transcript_id)"
    assert desk.rows(f"{select} WHERE message_id = 'm'") == [(500, BEGIN, "zz")]
    assert rolled_up(desk) == added_up(desk)


def test_a_rewritten_file_keeps_what_it_was_credited_with(desk: Desk) -> None:
    desk.read(put(desk, "b", line("m1", "b", 0), line("m2", "b", 20)))
    desk.read(put(desk, "c", line("x", "c", 10), line("m1", "c", 0)))
    assert desk.read(put(desk, "b", line("m2", "b", 20), line("m1", "b", 0), line("m3", "b", 30)))
    assert desk.read(put(desk, "c", line("x", "c", 10), line("m2", "c", 20), line("m1", "c", 0)))
    assert sessions_of(desk) == {"m1": "b", "m2": "b", "m3": "b", "x": "c"}
    assert rolled_up(desk) == added_up(desk)


def test_a_cost_beyond_reason_is_unpriced_and_does_no_harm(desk: Desk) -> None:
    absurd = line("m1", "a", 0)
    absurd["message"]["usage"]["server_tool_use"] = {"web_search_requests": 10**9}
    desk.read(put(desk, "a", absurd, line("m2", "a", 1)))
    assert totals(desk, "all")[""] == [2, 200, 100 * 15_000_000 + 10 * 3_000_000, 1]


def test_an_unknown_model_is_unpriced_not_free(desk: Desk) -> None:
    desk.read(put(desk, "a", line("m1", "a", 0, model="mystery-1")))
    assert desk.rows("SELECT price_id, cost FROM messages") == [(None, None)]
    assert totals(desk, "all")[""] == [1, 100, 0, 1]


def test_equal_prices_are_stored_once(desk: Desk) -> None:
    desk.read(put(desk, "a", line("m1", "a", 0), line("m2", "a", 3 * 24 * 60)))
    desk.read(put(desk, "b", line("m3", "b", 0), line("m4", "b", 0, model="claude-opus-9")))
    assert desk.rows("SELECT count(*), count(DISTINCT model) FROM prices") == [(2, 2)]


def test_sums_move_when_it_becomes_known_whose_work_it_was(desk: Desk) -> None:
    desk.read(put(desk, "s", line("m1", "s", 0), line("m2", "s", 2000)))
    before = totals(desk, "all")
    context = Context("s", "coder", "00000a", "review", "/srv/space")
    ((transcript_id,),) = desk.rows("SELECT transcript_id FROM transcripts")
    assert desk.database.transaction(lambda connection: move_context(connection, transcript_id, context))
    assert not desk.database.transaction(lambda connection: move_context(connection, transcript_id, context))
    assert totals(desk, "all") == before
    assert totals(desk, "task") == {"00000a": before[""]}
    assert totals(desk, "project") == {"/srv/space": before[""]}
    assert rolled_up(desk) == added_up(desk)


def test_changes_that_cancel_out_leave_nothing(desk: Desk) -> None:
    entry = Entry(Context("s"), BEGIN, "m", 1, 2, 3, 4, 5, 6, None)
    desk.database.transaction(lambda connection: change_messages(connection, [(None, entry), (None, entry)]))
    assert totals(desk, "all") == {"": [2, 4, 0, 2]}
    desk.database.transaction(lambda connection: change_messages(connection, [(entry, None), (entry, None)]))
    assert desk.rows("SELECT * FROM cost_rollup") == []


def test_a_session_of_the_hooks_is_left_alone(desk: Desk) -> None:
    desk.change(
        "INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at, events) "
        "VALUES ('s', 'working', 5, 'h', 5, 5, 3)"
    )
    before = desk.rows("SELECT * FROM sessions")
    desk.read(put(desk, "s", line("m1", "s", 0)))
    assert desk.rows("SELECT * FROM sessions") == before


def test_a_session_of_the_future_is_not_newer_than_now(desk: Desk) -> None:
    # The ingester looks for second copies of all events up to the newest session.
    desk.read(put(desk, "s", line("m1", "s", 60 * 24 * 365 * 50)))
    ((last, started, status),) = desk.rows("SELECT last_event_at, started_at, status FROM sessions")
    assert started <= last <= time.time() * 1000
    assert status == "ended"


def test_a_subagent_belongs_to_the_project_its_session_began_in(desk: Desk) -> None:
    agent = desk.projects / "-p" / "s" / "subagents" / "agent-1.jsonl"
    agent.parent.mkdir(parents=True)
    agent.write_text(json.dumps(line("m1", "s", 1) | {"cwd": "/p/worktree"}) + "\n", encoding="utf-8")
    desk.read_all()
    assert set(totals(desk, "project")) == {"/p/worktree"}
    put(desk, "s", line("m2", "s", 0))
    desk.read_all()
    assert set(totals(desk, "project")) == {"/p"}
    assert rolled_up(desk) == added_up(desk)


async def test_the_hooks_go_on_with_a_session_that_only_its_transcript_told_of(desk: Desk, tmp_path: Path) -> None:
    desk.read(put(desk, "s", line("m1", "s", -500_000), line("m2", "s", -499_000)))
    service = Service(tmp_path / "state")
    await service.start()
    try:
        await service.happen("UserPromptSubmit", session="s", prompt="go on")
    finally:
        await service.stop()
    ((status, started_at, ended_at, events, path),) = desk.rows(
        "SELECT status, started_at, ended_at, events, transcript_path FROM sessions"
    )
    assert (status, started_at, ended_at, events) == ("working", BEGIN - 500_000 * MINUTE, None, 1)
    assert path == str(desk.projects / "-p" / "s.jsonl")
    # From now on the row is the ingester's.
    before = desk.rows("SELECT * FROM sessions")
    desk.read(put(desk, "s", line("m1", "s", -500_000), line("m2", "s", -499_000), line("m3", "s", -498_000)))
    assert desk.rows("SELECT * FROM sessions") == before
    assert len(sessions_of(desk)) == 3
