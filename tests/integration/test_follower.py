"""Transcripts accounted as they grow: real files, a real store, a clock that the test moves."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks import accounting, transcripts
from tasks.accounting import follower as module
from tasks.accounting.watched import LINGER
from tasks.errors import StoreUnavailable
from tasks.manager import TaskManager

from .transcripts import RECORDED, Books, Transcript

SESSION = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    made = await Books(tmp_path).open()
    yield made
    await made.close()


async def began(books: Books, session: str = SESSION) -> Transcript:
    transcript = books.transcript(session)
    await books.event(transcript, "SessionStart", source="startup")
    return transcript


#: From the client's own numbers: input, output, cache writes, cache reads, dollars.
TOTALS: dict[str, tuple[int, int, int, int, float]] = {
    "t_simple": (14, 153, 1200, 11000, 0.010137),
    "t_parallel": (17, 191, 1150, 11200, 0.0105885),
    "t_subagent": (30, 317, 2080, 11700, 0.016155),
    "t_failed": (11, 44, 900, 5100, 0.005598),
    "t_resume2": (21, 43, 1100, 1000, 0.005133),
}


@pytest.mark.parametrize("name", list(TOTALS))
async def test_recorded_run_costs_what_it_cost(name: str, books: Books) -> None:
    await books.hooks(*books.recorded(name))
    await books.read()
    sums = await books.rows(
        "SELECT sum(input_tokens), sum(output_tokens), sum(cache_write_5m_tokens + cache_write_1h_tokens),"
        " sum(cache_read_tokens) FROM cost_rollup WHERE dimension = 'session' AND grain = 86400000"
    )
    assert sums == [TOTALS[name][:4]]
    assert await books.dollars() == pytest.approx(TOTALS[name][4], abs=1e-9)


async def test_only_sessions_with_events_are_read(books: Books) -> None:
    books.transcript(OTHER).says("msg_old")
    transcript = await began(books)
    transcript.says("msg_1")
    await books.read()
    assert await books.rows("SELECT message_id FROM messages") == [("msg_1",)]
    assert books.follower.health.transcripts == 1


async def test_only_new_bytes_are_read(books: Books) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    assert await books.read() == transcript.path.stat().st_size
    before = transcript.path.stat().st_size
    transcript.says("msg_2")
    assert await books.read() == transcript.path.stat().st_size - before
    assert await books.read() == 0
    assert await books.messages() == 2


async def test_restarted_follower_goes_on_where_it_was(books: Books) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    await books.read()
    before = transcript.path.stat().st_size
    transcript.says("msg_2")
    books.follower.close()
    await books.restart()
    assert await books.read() == transcript.path.stat().st_size - before
    assert await books.messages() == 2


async def test_lines_that_come_after_the_end_are_read_and_the_last_without_its_newline(books: Books) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    await books.event(transcript, "SessionEnd", reason="other")
    await books.read()
    transcript.says("msg_2")
    await books.read()
    transcript.says("msg_3")
    whole = transcript.path.read_text()
    transcript.path.write_text(whole[:-1])
    await books.read()
    assert await books.messages() == 2
    await books.pass_(4 * LINGER)
    assert await books.messages() == 3
    assert books.follower.health.transcripts == 0


async def test_half_a_line_waits_for_its_other_half(books: Books) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    whole = transcript.path.read_text()
    transcript.path.write_text(whole[:-30])
    await books.read()
    assert (await books.messages(), books.follower.health.behind_bytes) == (0, len(whole) - 30)
    transcript.path.write_text(whole)
    await books.read()
    assert (await books.messages(), books.follower.health.behind_bytes) == (1, 0)


async def test_subagents_files_are_read_as_they_appear(books: Books) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    await books.read()
    books.subagent(SESSION, "a1", "Explore").says("msg_2", model="claude-haiku-4-5")
    await books.read()
    rows = await books.rows("SELECT agent_id, agent_type FROM messages JOIN transcripts USING (transcript_id)")
    assert rows == [(None, ""), ("a1", "Explore")]


async def test_deleted_transcripts_keep_their_money_and_hinder_nothing(books: Books) -> None:
    transcript, other = await began(books), await began(books, OTHER)
    transcript.says("msg_1")
    await books.read()
    transcript.path.unlink()
    other.says("msg_2")
    await books.event(transcript, "Stop")
    await books.read()
    assert await books.messages() == 2


async def test_unreadable_transcript_hinders_no_other(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    transcript, other = await began(books), await began(books, OTHER)
    transcript.says("msg_1")
    other.says("msg_2")
    reading = transcripts.read

    def read(path: Path, *more: Any, **options: Any) -> Any:
        if path == transcript.path:
            raise PermissionError(13, "no")
        return reading(path, *more, **options)

    monkeypatch.setattr(module, "read", read)
    await books.read()
    assert await books.rows("SELECT message_id FROM messages") == [("msg_2",)]


async def test_transcript_that_cannot_be_stored_hinders_no_other(
    books: Books, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transcript, other = await began(books), await began(books, OTHER)
    storing = accounting.account

    def account(connection: Any, file: Any, *more: Any, **options: Any) -> Any:
        if file.path == transcript.path:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return storing(connection, file, *more, **options)

    monkeypatch.setattr(module, "account", account)
    for n in range(3):
        transcript.says(f"msg_bad{n}")
        other.says(f"msg_{n}")
        await books.pass_(10.0)
    assert await books.messages() == 3
    assert len([one for one in caplog.records if one.exc_info]) == 1


async def test_what_a_killed_follower_had_not_read_is_read_by_the_next(books: Books) -> None:
    """Whatever it had not read, and the session is long over: nobody tells of it again."""
    transcript = await began(books)
    transcript.says("msg_1")
    await books.event(transcript, "SessionEnd", reason="other")
    books.follower.close()  # before its first step
    transcript.says("msg_2")
    await books.restart()
    await books.pass_(10.0)
    assert await books.messages() == 2


@pytest.mark.parametrize("path", ["relative.jsonl", "/dev/zero", "/etc/passwd", ""])
async def test_path_that_is_no_transcript_is_left_alone(path: str, books: Books) -> None:
    fields = {"session_id": SESSION, "transcript_path": path, "cwd": "/", "hook_event_name": "SessionStart"}
    await books.hooks(fields | {"source": "startup"})
    assert await books.read() == 0
    assert books.follower.health.transcripts == 0


async def test_store_that_fails_is_tried_again_and_nothing_is_lost(
    books: Books, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = await began(books)
    transcript.says("msg_1")

    async def full(work: object) -> object:
        raise StoreUnavailable("cannot write: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(books.database, "transaction", full)
        await books.pass_(60.0)
        assert books.follower.health.degraded is not None
        assert len([one for one in caplog.records if "accounted now" in one.message]) == 1
    transcript.says("msg_2")
    await books.pass_(60.0)
    assert books.follower.health.degraded is None
    assert await books.messages() == 2


async def test_following_can_be_switched_off(tmp_path: Path) -> None:
    books = await Books(tmp_path, config="[transcripts]\nfollow = false").open()
    transcript = await began(books)
    transcript.says("msg_1")
    await books.pass_(60.0)
    assert await books.messages() == 0
    await books.close()


async def test_idle_follower_asks_the_store_for_nothing_but_tasks(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await began(books)
    await books.pass_(4 * 3600.0)  # forgotten by now
    asked: list[str] = []
    query = books.database.query

    async def noted(statement: str, parameters: Any = ()) -> Any:
        asked.append(statement)
        return await query(statement, parameters)

    monkeypatch.setattr(books.database, "query", noted)
    await books.pass_(60.0)
    assert {" ".join(one.split())[:14] for one in asked} <= {"SELECT r.sessi"}


async def test_long_transcript_is_read_in_turns_while_the_loop_goes_on(books: Books) -> None:
    transcript = await began(books)
    line = {"type": "user", "message": {"content": "x" * 900}}
    with transcript.path.open("w") as file:
        for n in range(20_000):
            stamp = f"2026-01-01T00:{n // 60 % 60:02}:{n % 60:02}.000Z"
            usage = {"input_tokens": 1, "output_tokens": n % 50}
            message = {"id": f"m{n // 3}", "model": "claude-sonnet-5", "usage": usage, "content": []}
            file.write(json.dumps(line) + "\n")
            file.write(json.dumps({"type": "assistant", "timestamp": stamp, "message": message}) + "\n")
    longest, last = 0.0, time.monotonic()
    reading = asyncio.ensure_future(books.read())
    while not reading.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert await reading == transcript.path.stat().st_size > 20 * module.CHUNK
    assert await books.messages() == 6667
    assert longest < 1.0  # tens of milliseconds on a free machine


async def test_two_readers_of_one_file_count_it_once(books: Books, tmp_path: Path) -> None:
    transcript = await began(books)
    transcript.says("msg_1")
    rival = Books(tmp_path)
    await rival.open()
    rival.follower.stir()
    await asyncio.gather(books.read(), rival.read())
    transcript.says("msg_2")
    for one in (books, rival):
        await one.event(transcript, "Stop")
    await asyncio.gather(books.read(), rival.read())
    await asyncio.gather(books.read(), rival.read())
    assert await books.messages() == 2
    sums = await books.rows("SELECT messages FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000")
    assert sums == [(2,)]
    await rival.close()


async def test_calls_are_reconciled_while_it_follows(tmp_path: Path) -> None:
    books = await Books(tmp_path, config="[transcripts]\ngrace = 1").open()
    transcript = await began(books)
    transcript.call("Bash", "toolu_1")
    deadline = time.monotonic() + 20.0
    while await books.counts() != (1, 0, 1):
        assert time.monotonic() < deadline
        await books.pass_(5.0)
        await asyncio.sleep(0.05)
    await books.close()


# Tasks of the pool, and what only their results tell.


def result(path: Path, *usages: dict[str, tuple[int, int, int, int]], since: bool = False) -> None:
    """An output of a client with one result line per usage: model → input, output, cache reads, cache writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['{"type":"system","subtype":"init"}', "no JSON"]
    for usage in usages:
        said = {
            model: {"inputTokens": n[0], "outputTokens": n[1], "cacheReadInputTokens": n[2],
                    "cacheCreationInputTokens": n[3], "webSearchRequests": 0, "costUSD": 1.0}
            for model, n in usage.items()
        }  # fmt: skip
        whole = {"claude-sonnet-5": {"inputTokens": 10**6}} if since else said
        line = {"type": "result", "subtype": "success", "total_cost_usd": 1.0, "modelUsage": whole}
        lines.append(json.dumps(line | ({"model_usage_since_last_result": said} if since else {})))
    path.write_text("\n".join(lines) + "\n")


class Work:
    """A task that runs, with its transcript."""

    def __init__(self, books: Books, task_id: str, manager: TaskManager) -> None:
        self.books, self.task_id, self.manager = books, task_id, manager
        self.attempt = 0

    async def run(self, session: str = SESSION) -> Transcript:
        self.attempt = await self.manager.begin_run(self.task_id, session_uuid=session)
        return self.books.transcript(session, start=time.time_ns() // 1_000_000)

    @property
    def output(self) -> Path:
        return self.books.settings.runs_dir / self.task_id / str(self.attempt) / "output"

    async def end(self) -> None:
        await self.manager.end_run(self.task_id, self.attempt, exit_status=0, outcome="completed")
        await self.manager.complete_task(self.task_id, "done")

    async def extra(self) -> list[tuple[Any, ...]]:
        """What only results told: (message, input, output)."""
        return await self.books.rows(
            "SELECT message_id, input_tokens, output_tokens FROM messages WHERE message_id LIKE 'result:%'"
        )


@pytest.fixture
async def work(books: Books, tmp_path: Path) -> Work:
    manager = TaskManager(database=books.database, settings=books.settings)
    folder = tmp_path / "workspace"
    folder.mkdir()
    task = await manager.create_task(1, "Work", workspace=folder, workflow="nightly", agent_type="builder")
    return Work(books, task.task_id, manager)


async def test_run_without_hooks_is_accounted_to_its_task(work: Work) -> None:
    books = work.books
    transcript = await work.run()
    transcript.says("msg_1")
    await books.pass_(10.0)
    rows = await books.rows("SELECT task_id, workflow, agent_type FROM transcripts")
    assert rows == [(work.task_id, "nightly", "builder")]
    assert await books.messages() == 1
    await work.end()


async def test_money_that_only_the_result_tells_is_added_once(work: Work) -> None:
    books = work.books
    transcript = await work.run()
    transcript.says("msg_1")  # 10 input, 100 output, 1000 read, 50 written
    result(work.output, {"claude-sonnet-5": (99, 999, 0, 0)}, {"claude-sonnet-5": (13, 124, 1200, 120)})
    await books.pass_(10.0)
    await work.end()
    await books.pass_(10.0)
    assert await work.extra() == [(f"result:{work.task_id}/1:claude-sonnet-5", 3, 24)]
    compaction = (3 * 3 + 24 * 15 + 200 * 0.3 + 70 * 3.75) / 1e6
    message = (10 * 3 + 100 * 15 + 1000 * 0.3 + 50 * 3.75) / 1e6
    assert await books.dollars() == pytest.approx(message + compaction, abs=1e-12)
    await books.pass_(60.0)
    books.follower.close()
    await books.restart()
    await books.pass_(60.0)
    assert len(await work.extra()) == 1
    task = await books.rows("SELECT sum(messages) FROM cost_rollup WHERE dimension = 'task' AND grain = 86400000")
    assert task == [(2,)]


async def test_lines_that_come_after_the_result_take_its_extra_back(work: Work) -> None:
    books = work.books
    transcript = await work.run()
    result(work.output, {"claude-sonnet-5[1m]": (10, 100, 1000, 50)})
    await work.end()
    await books.pass_(10.0)
    assert len(await work.extra()) == 1
    transcript.now = int((await books.rows("SELECT started_at FROM runs"))[0][0])
    transcript.says("msg_1")
    await books.event(transcript, "Stop")
    await books.pass_(10.0)
    assert await work.extra() == []
    sums = await books.rows(
        "SELECT sum(messages), sum(output_tokens) FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000"
    )
    assert sums == [(1, 100)]


async def test_run_that_resumed_a_session_counts_its_own_part(work: Work) -> None:
    books = work.books
    transcript = await work.run()
    result(work.output, {"claude-sonnet-5": (1, 2, 3, 4)}, {"claude-sonnet-5": (1, 2, 3, 4)}, since=True)
    await books.event(transcript, "SessionStart", source="startup")
    await work.end()
    await books.pass_(10.0)
    assert await work.extra() == [(f"result:{work.task_id}/1:claude-sonnet-5", 2, 4)]


async def test_models_that_do_not_match_are_not_counted_twice(work: Work) -> None:
    books = work.books
    transcript = await work.run()
    transcript.says("msg_1", model="eu.claude-sonnet-5-v1")
    result(work.output, {"claude-sonnet-5": (10, 100, 1000, 50)})
    await books.pass_(10.0)
    await work.end()
    await books.pass_(10.0)
    assert await work.extra() == []


@pytest.mark.parametrize("output", ["", "plain text\n", '{"type":"result","modelUsage":[1]}\n', '{"type":"result"'])
async def test_output_without_usage_adds_nothing(output: str, work: Work) -> None:
    books = work.books
    await work.run()
    work.output.parent.mkdir(parents=True)
    work.output.write_text(output)
    await work.end()
    await books.pass_(10.0)
    assert await work.extra() == []


async def test_compaction_of_the_recorded_run_is_accounted(work: Work) -> None:
    books = work.books
    await work.run("22222222-2222-4333-8444-555555555555")
    work.output.parent.mkdir(parents=True)
    work.output.write_text((RECORDED / "t_compact/stream.jsonl").read_text())
    await work.end()
    await books.pass_(10.0)
    assert await books.dollars() == pytest.approx(0.001209, abs=1e-9)
