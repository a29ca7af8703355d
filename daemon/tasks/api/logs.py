"""/v1/tasks/{id}/logs and /activity: what an agent wrote, and what became of its task, at once or as it comes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

from tasks import config, history
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.events import HEARTBEAT
from tasks.api.tasks import Activity, TaskId, whole_id
from tasks.errors import NoSuchTask
from tasks.history import Output
from tasks.redaction import Redactor
from tasks.words import MergeState, PrivacyLevel, TaskStatus

router = APIRouter(tags=["tasks"])

#: Seconds between two looks at what grows without a bell.
LOOK = 0.5
#: Milliseconds after the end of a task in which its merge begins and its worktree goes.
SETTLING = 10_000
#: Bytes of the longest answer that is not a stream.
LONGEST_PART = 8 << 20

Stream = Literal["output", "errors"]
_ATTEMPTS = 1_000_000
#: run.offset
_PLACE = r"^[1-9]\d{0,6}\.\d{1,15}$"
_NO_STORE = {"Cache-Control": "no-store"}


@router.get("/tasks/{task_id}/activity", response_model=list[Activity])
async def read_activity(
    ctx: Ctx,
    task_id: TaskId,
    after: Annotated[
        str | None, Query(pattern=r"^\d{1,18}\.\d{1,9}$", description="what came after the entry of this id")
    ] = None,
    follow: Annotated[bool, Query(description="stream it as it comes, until the task is over")] = False,
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,18}\.\d{1,9}$")] = None,
) -> Any:
    """What became of the task, oldest first."""
    whole = await whole_id(ctx, task_id)
    if follow:
        return _events(_activity(ctx, whole, last_event_id or after))
    _, entries = await ctx.database.read(lambda reader: history.activity(reader.query, whole))
    return [Activity(**one) for one in history.news(entries, after)]


@router.get("/tasks/{task_id}/logs", response_class=Response)
async def read_logs(
    ctx: Ctx,
    task_id: TaskId,
    stream: Annotated[Stream, Query(description="standard output, or standard error")] = "output",
    attempt: Annotated[int | None, Query(ge=1, le=_ATTEMPTS, description="which run; the latest")] = None,
    offset: Annotated[int, Query(ge=0, le=1 << 50, description="the byte of the file to go on at")] = 0,
    limit: Annotated[
        int | None, Query(ge=1, le=LONGEST_PART, description="roughly so many bytes; X-Next-Offset is where to go on")
    ] = None,
    follow: Annotated[
        bool, Query(description="stream it as it comes, over all runs that follow, until the task is over")
    ] = False,
    after: Annotated[
        str | None, Query(pattern=_PLACE, description="the id of the event after which an interrupted stream goes on")
    ] = None,
    last_event_id: Annotated[str | None, Header(pattern=_PLACE)] = None,
) -> Response:
    """What the agent wrote: whole lines as they are, without secrets; of lines beyond 512 KiB the beginning."""
    whole = await whole_id(ctx, task_id)
    if follow:
        begin, offset = map(int, place.split(".")) if (place := last_event_id or after) else (attempt, offset)
        return _events(_growing(ctx, whole, stream, begin, offset, only=attempt is not None))
    _, latest, over = await ctx.database.read(lambda reader: history.run_state(reader.query, whole, attempt))
    path = _file(ctx, whole, attempt or latest, stream)
    if not await asyncio.to_thread(path.is_file):
        raise HTTPException(404, history.no_output(whole, attempt or latest))
    output = Output(path, _redact(ctx), offset)
    if limit is None:
        return StreamingResponse(_whole(output, over), media_type="text/plain; charset=utf-8", headers=_NO_STORE)
    text = await asyncio.to_thread(_part, output, over, limit)
    headers = _NO_STORE | {"X-Next-Offset": str(output.offset)}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


async def _activity(ctx: Context, task_id: str, after: str | None) -> AsyncIterator[str]:
    async for _ in _looks(ctx):
        state, entries = await ctx.database.read(lambda reader: history.activity(reader.query, task_id))
        for one in history.news(entries, after):
            after = one["id"]
            yield _event(one, after)
        if _is_settled(state):
            yield _event({"status": state["status"], "merge_state": state["merge_state"]}, None, "end")
            return
        yield ""


def _is_settled(state: history.Record) -> bool:
    """Whether the task is over and its branch dealt with, so that nothing more is to be expected for now."""
    if not TaskStatus(state["status"]).is_over or state["merge_state"] == MergeState.MERGING:
        return False
    for_a_person = state["merge_state"] in (MergeState.WAITING, MergeState.CONFLICT, MergeState.KEPT)
    long_ago = time.time_ns() // 1_000_000 - (state["finished_at"] or 0) > SETTLING
    return for_a_person or state["worktree"] is None or long_ago


async def _growing(
    ctx: Context, task_id: str, stream: Stream, attempt: int | None, offset: int, *, only: bool
) -> AsyncIterator[str]:
    """The output of a run (None: the latest) from `offset` on, and, unless it is the `only` one, of those after it."""
    output: Output | None = None
    async for _ in _looks(ctx):
        # Before reading: what is written after that is read in the next turn.
        status, latest, run_over = await ctx.database.read(
            lambda reader, attempt=attempt: history.run_state(reader.query, task_id, attempt)  # type: ignore[misc]
        )
        over = TaskStatus(status).is_over
        attempt = attempt or latest or None
        if attempt is not None:
            output = output or Output(_file(ctx, task_id, attempt, stream), _redact(ctx), offset)
            while (text := await asyncio.to_thread(output.piece, final=run_over or over)) is not None:
                yield _event({"attempt": attempt, "offset": output.offset, "text": text}, f"{attempt}.{output.offset}")
        if attempt is not None and attempt < latest and not only:
            attempt, offset, output = attempt + 1, 0, None
            continue
        if over or (only and run_over):
            yield _event({"status": status}, None, "end")
            return
        yield ""


async def _looks(ctx: Context) -> AsyncIterator[None]:
    """One turn at once, then one every now and then until the daemon stops."""
    while not ctx.stopping.is_set():
        rings = ctx.stored.rings
        yield
        await ctx.stored.wait(rings, LOOK)


def _events(pieces: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(_kept_alive(pieces), media_type="text/event-stream", headers=_NO_STORE)


async def _kept_alive(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Events as they come; after a silence a comment, so that a reader that is gone is noticed."""
    yield ": tasksd\n\n"
    sent = time.monotonic()
    try:
        async for piece in pieces:
            if piece or time.monotonic() - sent > HEARTBEAT:
                yield piece or ": still here\n\n"
                sent = time.monotonic()
    except NoSuchTask:
        return  # it was removed meanwhile


def _event(data: dict[str, Any], id_: str | None, name: str | None = None) -> str:
    head = f"id: {id_}\n" * bool(id_) + f"event: {name}\n" * bool(name)
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _whole(output: Output, final: bool) -> AsyncIterator[str]:
    while (text := await asyncio.to_thread(output.piece, final=final)) is not None:
        yield text


def _part(output: Output, final: bool, limit: int) -> str:
    pieces: list[str] = []
    begun = output.offset
    while output.offset - begun < limit and (text := output.piece(final=final)) is not None:
        pieces.append(text)
    return "".join(pieces)


def _file(ctx: Context, task_id: str, attempt: int, stream: Stream) -> Path:
    return ctx.settings.runs_dir / task_id / str(attempt) / stream


def _redact(ctx: Context) -> Callable[[str], str]:
    # Nothing is cut, at whatever level events are stored: it is the agent's own file that is shown.
    return Redactor(config.secret_key(ctx.settings), PrivacyLevel.FULL).text
