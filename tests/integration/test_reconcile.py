"""What transcripts tell of tool calls, against what hooks reported of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks import history
from tasks.accounting.backfill import backfill
from tasks.accounting.reconcile import ABANDONED, OVER
from tasks.database import Write
from tasks.words import PrivacyLevel

from .transcripts import RECORDED, Books, Transcript

SESSION = "11111111-2222-4333-8444-555555555555"
FORK = "99999999-2222-4333-8444-555555555555"
NAMES = sorted(path.name for path in RECORDED.iterdir())


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    made = await Books(tmp_path, config="[transcripts]\ngrace = 3600").open()
    yield made
    await made.close()


async def began(books: Books, session: str = SESSION) -> Transcript:
    transcript = books.transcript(session)
    transcript.prompt()
    await books.event(transcript, "SessionStart", source="startup")
    return transcript


async def hook(books: Books, transcript: Transcript, kind: str, tool: str, id_: str, **more: Any) -> None:
    fields: dict[str, Any] = {"tool_name": tool, "tool_use_id": id_, "tool_input": {"command": f"run {id_}"}}
    await books.event(transcript, kind, **(fields | more))


async def post(books: Books, transcript: Transcript, id_: str, tool: str = "Bash") -> None:
    await hook(books, transcript, "PostToolUse", tool, id_, tool_response={"stdout": "x"}, duration_ms=5)


@pytest.mark.parametrize("name", NAMES)
async def test_transcripts_and_hooks_agree_on_every_recorded_call(name: str, tmp_path: Path) -> None:
    sides = []
    for hooked in (True, False):
        books = await Books(tmp_path / str(hooked)).open()
        payloads = books.recorded(name)
        if not hooked:  # nothing but that there is a session
            payloads = [one | {"hook_event_name": "SessionStart", "source": "startup"} for one in payloads[:1]]
        await books.hooks(*payloads)
        await books.read()
        await books.reconcile()
        columns = "tool_use_id, tool_name, success, error, error_category, fingerprint, agent_id, agent_type, parameters, model"
        rows = await books.rows(f"SELECT {columns} FROM tool_usage ORDER BY tool_use_id")
        touched = await books.rows("SELECT tool_use_id, path, action FROM files ORDER BY tool_use_id")
        sides.append(([(*row[:8], json.loads(row[8]), row[9]) for row in rows], touched))
        expected, seen, added = await books.counts()
        assert (expected, seen, added) == (len(rows), len(rows) * hooked, len(rows) * (not hooked))
        await books.close()
    assert sides[0] == sides[1]


@pytest.mark.parametrize("name", ["t_simple", "perm_default", "t_failed"])
async def test_events_that_waited_tell_after_a_backfill_what_they_would_have_told_before(
    name: str, tmp_path: Path
) -> None:
    sides = []
    for first in ("hooks", "backfill"):
        books = await Books(tmp_path / first).open()
        payloads = books.recorded(name)
        if first == "hooks":
            await books.hooks(*payloads)
        await asyncio.to_thread(backfill, books.settings, environ=books.environ)
        if first == "backfill":
            await books.hooks(*payloads)
        await books.reconcile()
        calls = "tool_use_id, tool_name, success, error, error_category, source, agent_id, agent_type, model"
        sides.append(
            [
                await books.rows(f"SELECT {calls} FROM tool_usage ORDER BY tool_use_id"),
                await books.rows("SELECT agent_id, status, previous, cause FROM agent_status ORDER BY id"),
                await books.rows("SELECT status, origin, end_reason, cwd, prompts FROM sessions"),
                await books.rows("SELECT * FROM tool_running"),
                await books.counts(),
            ]
        )
        await books.close()
    assert sides[0] == sides[1]


async def test_call_that_hooks_reported_gets_its_model_and_nothing_else(books: Books) -> None:
    transcript = await began(books)
    await post(books, transcript, "toolu_1")
    transcript.call("Bash", "toolu_1")
    before = await books.rows("SELECT timestamp, success, duration_ms, source, parameters FROM tool_usage")
    await books.read()
    await books.reconcile(grace=3600)
    assert await books.rows("SELECT timestamp, success, duration_ms, source, parameters FROM tool_usage") == before
    assert (await books.calls())["toolu_1"][-1] == "claude-sonnet-5"
    assert await books.counts() == (1, 1, 0)
    assert await books.rows("SELECT * FROM expected_calls") == []


async def test_a_call_that_hooks_reported_is_not_counted_again_when_its_row_was_pruned(books: Books) -> None:
    transcript = await began(books)
    await post(books, transcript, "toolu_1")
    await books.database.apply(
        [
            Write.one("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage"),
            Write.one("DELETE FROM tool_usage"),
            Write.one(
                "INSERT INTO daemon_state (name, value) VALUES ('retention', ?)",
                (json.dumps({"rows_since": transcript.now + 3_600_000}),),
            ),
        ]
    )
    transcript.call("Bash", "toolu_1")
    await books.read()
    await books.reconcile()
    assert await books.rows("SELECT * FROM expected_calls") == []
    rolled = "SELECT coalesce(sum(calls), 0) FROM tool_rollup WHERE grain = 86400000"
    ((before,),), ((rows,),) = await books.rows(rolled), await books.rows("SELECT count(*) FROM tool_usage")
    assert (before, rows) == (1, 0)


async def test_call_that_no_hook_reported_is_added_after_the_grace(books: Books) -> None:
    transcript = await began(books)
    transcript.call("Bash", "toolu_1", "Exit code 3\nwrong", failed=True)
    await books.read()
    early = await books.reconcile(grace=60)
    assert (early.added, await books.calls()) == (0, {})
    late = await books.reconcile(grace=60, now=time.time_ns() // 1_000_000 + 61_000)
    assert late.added == 1
    assert await books.calls() == {"toolu_1": ("Bash", 0, "command_failed", "transcript", "claude-sonnet-5")}
    ((at, error),) = await books.rows("SELECT timestamp, error FROM tool_usage")
    assert (at, error) == (transcript.now, "Exit code 3\nwrong")
    assert await books.counts() == (1, 0, 1)


async def test_added_calls_touch_files_as_reported_ones_do(books: Books) -> None:
    transcript = await began(books)
    transcript.call("Read", "toolu_r", input={"file_path": "/home/dev/project/a"})
    transcript.call("Write", "toolu_w", input={"file_path": "b/../c", "content": "x"})
    transcript.call("Edit", "toolu_e", "not found", failed=True, input={"file_path": "/home/dev/project/d"})
    await books.read()
    await books.reconcile()
    assert await books.rows("SELECT tool_use_id, action, path FROM files ORDER BY id") == [
        ("toolu_r", "read", "/home/dev/project/a"),
        ("toolu_w", "write", "/home/dev/project/c"),
    ]


async def test_call_without_an_answer_is_not_expected_until_its_transcript_is_left_alone(books: Books) -> None:
    transcript = await began(books)
    transcript.calls("msg_1", "Bash", "toolu_1")
    await books.read()
    assert (await books.reconcile()).done
    assert await books.counts() == (0, 0, 0)
    assert await books.calls() == {}
    settled = await books.reconcile(now=transcript.now + ABANDONED + 1)
    assert settled.unanswered == 1
    assert await books.calls() == {"toolu_1": ("Bash", 0, "interrupted", "inferred", "claude-sonnet-5")}
    assert await books.counts() == (0, 0, 0)


async def test_calls_without_an_answer_are_settled_when_their_session_is_over(books: Books) -> None:
    """A client that was killed wrote no result, whether hooks told of one or not."""
    transcript = await began(books)
    transcript.calls("msg_1", "Bash", "toolu_1")
    transcript.calls("msg_2", "Bash", "toolu_2")
    await post(books, transcript, "toolu_2")
    await books.read()
    late = time.time_ns() // 1_000_000 + OVER + 5000
    assert (await books.reconcile(now=late)).unanswered == 0
    await books.event(transcript, "SessionEnd", reason="other")
    assert (await books.reconcile()).unanswered == 0
    assert (await books.reconcile(now=late)).unanswered == 2
    assert await books.calls() == {
        "toolu_1": ("Bash", 0, "interrupted", "inferred", "claude-sonnet-5"),
        "toolu_2": ("Bash", 1, None, "hook", "claude-sonnet-5"),
    }
    assert await books.counts() == (0, 0, 0)
    assert await books.rows("SELECT * FROM expected_calls") == []


async def test_answer_may_come_in_a_later_chunk_than_its_call(books: Books) -> None:
    transcript = await began(books)
    transcript.calls("msg_1", "Bash", "toolu_1")
    await books.read()
    transcript.answers("toolu_1", "<tool_use_error>File has not been read yet.</tool_use_error>", failed=True)
    await books.read()
    await books.reconcile()
    assert await books.calls() == {"toolu_1": ("Bash", 0, "stale_edit", "transcript", "claude-sonnet-5")}


async def test_hook_that_comes_late_takes_the_call_over_again(books: Books) -> None:
    transcript = await began(books)
    await hook(books, transcript, "PreToolUse", "Bash", "toolu_1")
    transcript.call("Bash", "toolu_1")
    await books.read()
    await books.reconcile()
    assert (await books.calls())["toolu_1"][3] == "transcript"
    assert await books.rows("SELECT * FROM tool_running") == []
    for _ in range(2):
        await post(books, transcript, "toolu_1")
        assert (await books.calls())["toolu_1"][3:] == ("hook", "claude-sonnet-5")
        assert await books.counts() == (1, 1, 0)


async def test_call_taken_over_is_neither_reported_twice_nor_left_running_when_its_turn_ends(books: Books) -> None:
    transcript = await began(books)
    await hook(books, transcript, "PreToolUse", "Bash", "toolu_1")
    assert len(await books.rows("SELECT * FROM tool_running")) == 1
    transcript.call("Bash", "toolu_1")
    await books.read()
    await books.reconcile()
    await books.event(transcript, "Stop")
    await books.event(transcript, "SessionEnd", reason="other")
    assert await books.calls() == {"toolu_1": ("Bash", 1, None, "transcript", "claude-sonnet-5")}
    assert await books.rows("SELECT * FROM tool_running") == []
    assert await books.counts() == (1, 0, 1)


async def test_concluded_end_of_a_call_gives_way_to_the_answer(books: Books) -> None:
    transcript = await began(books)
    await hook(books, transcript, "PreToolUse", "Bash", "toolu_1")
    await books.event(transcript, "Stop")
    assert (await books.calls())["toolu_1"][1:4] == (0, "interrupted", "inferred")
    transcript.call("Bash", "toolu_1")
    await books.read()
    await books.reconcile()
    assert await books.calls() == {"toolu_1": ("Bash", 1, None, "transcript", "claude-sonnet-5")}
    assert await books.counts() == (1, 0, 1)


async def test_calls_of_a_subagent_are_its_own(books: Books) -> None:
    await began(books)
    agent = books.subagent(SESSION, "a1", "Explore")
    agent.call("Bash", "toolu_s", model="claude-haiku-4-5")
    await books.read()
    await books.reconcile()
    rows = await books.rows("SELECT session_uuid, agent_id, agent_type, model FROM tool_usage")
    assert rows == [(SESSION, "a1", "Explore", "claude-haiku-4-5")]


async def test_fork_that_repeats_messages_expects_none_of_their_calls(books: Books) -> None:
    transcript = await began(books)
    transcript.call("Bash", "toolu_1")
    fork = books.transcript(FORK)
    fork.raw(transcript.path.read_text().replace(SESSION, FORK))
    fork.call("Bash", "toolu_2")
    await books.event(fork, "SessionStart", source="startup")
    await books.read()
    await books.reconcile()
    rows = await books.rows("SELECT tool_use_id, session_uuid FROM tool_usage ORDER BY tool_use_id")
    assert [id_ for id_, _ in rows] == ["toolu_1", "toolu_2"]
    assert await books.counts() == (2, 0, 2)


async def test_reading_a_file_again_expects_nothing_twice(books: Books) -> None:
    transcript = await began(books)
    transcript.call("Bash", "toolu_1")
    await post(books, transcript, "toolu_1")
    transcript.call("Bash", "toolu_2")
    await books.read()
    await books.reconcile()
    text = transcript.path.read_text()
    transcript.path.write_text('{"type":"summary"}\n' + text)
    await books.event(transcript, "Stop")
    assert await books.read() > len(text)
    await books.reconcile()
    assert await books.counts() == (2, 1, 1)
    assert len(await books.calls()) == 2


async def test_roll_ups_equal_the_rows_whatever_was_added_or_replaced(books: Books) -> None:
    transcript = await began(books)
    for n in range(60):
        await hook(books, transcript, "PreToolUse", "Bash", f"toolu_{n}") if n % 5 == 0 else None
        transcript.call("Bash", f"toolu_{n}", "no", failed=n % 7 == 0)
    await books.event(transcript, "Stop")  # a fifth is concluded to be interrupted
    roll = "INSERT INTO rolling_calls (upto) SELECT max(id) FROM tool_usage"
    await books.database.transaction(lambda connection: connection.execute(roll))
    await books.read()
    await books.reconcile(limit=17)
    for n in range(0, 60, 9):
        await post(books, transcript, f"toolu_{n}")
    await books.database.transaction(lambda connection: connection.execute(roll))
    rolled = await books.rows("SELECT sum(calls), sum(successes) FROM tool_rollup WHERE grain = 86400000")
    assert rolled == await books.rows("SELECT count(*), sum(success) FROM tool_usage") == [(60, rolled[0][1])]
    models = await books.rows(
        "SELECT value, sum(calls) FROM use_rollup WHERE dimension = 'model' AND grain = 86400000 GROUP BY value"
    )
    assert models == [("claude-sonnet-5", 60)]
    kinds = "SELECT sum(calls) FROM use_rollup WHERE dimension = 'fingerprint' AND grain = 86400000"
    assert await books.rows(kinds) == await books.rows("SELECT sum(success = 0) FROM tool_usage")


async def test_history_tells_what_hooks_missed_and_which_event_would_have_told_it(books: Books) -> None:
    transcript = await began(books)
    await post(books, transcript, "toolu_1")
    for n, (text, failed) in enumerate(
        [("fine", False), ("Exit code 3\nwrong", True), ("<tool_use_error>No such tool</tool_use_error>", True)] * 2
    ):
        transcript.call("Bash", f"toolu_{n}", text, failed=failed)
    silent = books.transcript(FORK)
    silent.call("Bash", "toolu_silent")
    task = "INSERT INTO tasks (task_id, user_id, description, status, session_uuid, created_at, attempt) "
    run = "INSERT INTO runs (task_id, attempt, session_uuid, host, started_at, started_monotonic) "
    await books.database.apply(
        [
            Write.one(f"{task} VALUES ('abcdef', 1, 'x', 'running', '{FORK}', 1, 1)"),
            Write.one(f"{run} VALUES ('abcdef', 1, '{FORK}', 'h', 1, 1)"),
        ]
    )
    await books.read()
    await books.reconcile()
    now = time.time_ns() // 1_000_000
    found = await books.database.read(lambda reader: history.unreported(reader.query, now=now))
    missed = {"PostToolUse": 2, "PostToolBatch": 2, "PostToolUseFailure": 1}
    assert found == {"expected": 6, "seen": 1, "missed": missed, "silent": 1}
    sums = await books.database.read(lambda reader: history.accounting(reader.query, now=now))
    assert sums == {"expected": 7, "seen": 1, "added": 6, "messages": 7, "unpriced": 0}
    one = await books.database.read(lambda reader: history.session(reader.query, SESSION))
    assert (one["expected"], one["seen"], one["added"]) == (6, 1, 5)


@pytest.mark.parametrize("level", list(PrivacyLevel))
async def test_secrets_are_kept_at_no_level_and_texts_not_at_the_lowest(level: PrivacyLevel, tmp_path: Path) -> None:
    books = await Books(tmp_path, level=level).open()
    transcript = await began(books)
    secret = "sk-ant-api03-" + "Ab3" * 31 + "AA"
    transcript.call("Bash", "toolu_1", f"Exit code 1\n{secret}", failed=True, input={"command": f"echo {secret}"})
    transcript.call("Read", "toolu_2", input={"file_path": "/home/dev/project/words"})
    await books.read()
    waiting = await books.rows("SELECT parameters, error FROM expected_calls WHERE tool_use_id = 'toolu_1'")
    await books.reconcile()
    stored = await books.rows("SELECT parameters, error FROM tool_usage ORDER BY tool_use_id")
    assert secret not in json.dumps([waiting, stored, await books.rows("SELECT message FROM error_kinds")])
    if level is PrivacyLevel.MINIMAL:
        assert waiting == [(None, None)]
        assert stored == [(None, None), (None, None)]
    else:
        assert "REDACTED" in stored[0][0]
        assert "REDACTED" in stored[0][1]
    assert await books.rows("SELECT path FROM files") == [("/home/dev/project/words",)]
    await books.close()


async def test_input_that_no_parser_takes_hinders_nothing(books: Books) -> None:
    transcript = await began(books)
    for depth in (900, 1500):
        transcript.call("Read", f"toolu_{depth}", input={"file_path": "DEEP"})
        deep = "[" * depth + "]" * depth
        transcript.path.write_text(transcript.path.read_text().replace('"DEEP"', deep))
    transcript.call("Read", "toolu_2", input={"file_path": "/home/dev/\ud83d\u0000x"})
    transcript.call("Bash", "toolu_3")
    await books.read()
    await books.reconcile()
    assert set(await books.calls()) >= {"toolu_900", "toolu_2", "toolu_3"}
    assert await books.rows("SELECT * FROM expected_calls") == []
