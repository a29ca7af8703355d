"""/v1/status: how the daemon, the spool, ingestion and the sessions are, so that silence is never ambiguous."""

import asyncio
import contextlib
import dataclasses
import os
import time

from fastapi import APIRouter
from pydantic import BaseModel

from tasks import history, retention
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.pool import PoolSummary
from tasks.errors import StoreError, StoreUnavailable
from tasks.words import TaskStatus

router = APIRouter(tags=["status"])

#: Seconds that counting sessions and tasks may take before the last known numbers are served.
COUNT_TIMEOUT = 0.08

_NO_TASKS = {
    "statuses": dict.fromkeys(map(str, TaskStatus), 0),
    "held": 0,
    "merges": dict.fromkeys(("waiting", "merging", "conflict", "kept"), 0),
    "conflicts": [],
}


_NOTHING_ACCOUNTED = dict.fromkeys(("expected", "seen", "added", "messages", "unpriced"), 0)


class DaemonStatus(BaseModel):
    pid: int
    uptime_s: float
    version: str
    data_dir: str
    privacy: str


class SpoolStatus(BaseModel):
    pending: int
    #: age of the oldest file that waits, seconds; null: none waits
    oldest_age_s: float | None
    bytes: int
    full: bool
    #: events that hooks dropped because the spool was full, ever
    dropped: int
    quarantined: int


class IngestStatus(BaseModel):
    events_total: int
    #: epoch milliseconds; null: none yet
    last_event_at: int | None
    duplicates: int
    #: why ingestion waits (disk full, …); null: it does not
    degraded: str | None


class TaskCounts(BaseModel):
    #: tasks by status; completed, failed and stopped ones of the last 24 hours
    statuses: dict[str, int]
    #: of the queued ones: held for a reason of their own, such as a dirty workspace
    held: int
    #: merges that are not done, by state
    merges: dict[str, int]
    #: the ids of the oldest conflicts, at most 5
    conflicts: list[str]


class RetentionStatus(BaseModel):
    #: epoch milliseconds of the oldest event or call that has, or may have, its body, and of the oldest one at all
    oldest_body: int | None
    oldest_row: int | None
    #: statistics of times before this come from roll-ups alone; 0: no row was pruned yet
    rows_since: int
    database_bytes: int
    #: of these, not in use
    free_bytes: int
    #: whether space that is not in use goes back to the disk by itself
    shrinks: bool
    #: bytes by which the database is larger than retention.max_bytes although nothing is left to prune
    short_by: int
    #: ever
    pruned_rows: int
    pruned_bodies: int


class AccountingStatus(BaseModel):
    """What transcripts told."""

    #: files that are followed now, and bytes of them that are not read yet
    transcripts: int
    behind_bytes: int
    #: why reading waits; null: it does not
    degraded: str | None
    #: tool calls of the sessions of the last 7 days: with a result in a transcript; reported by hooks; added from transcripts
    expected: int
    seen: int
    added: int
    #: answers of the API, ever; of these, without a price
    messages: int
    unpriced: int


class Status(BaseModel):
    daemon: DaemonStatus
    spool: SpoolStatus
    ingest: IngestStatus
    #: sessions by status; ended, failed and lost ones of the last 24 hours
    sessions: dict[str, int]
    tasks: TaskCounts
    #: null: this daemon runs no tasks
    pool: PoolSummary | None
    #: null: the database has not answered yet
    retention: RetentionStatus | None
    accounting: AccountingStatus
    watcher: str
    #: the address of the page; off; or why it is not served
    web: str


@router.get("/status")
async def read_status(ctx: Ctx) -> Status:
    health = ctx.ingest.health
    waiting, degraded = health.usage, health.degraded
    try:
        waiting = ctx.spool.usage(await asyncio.to_thread(ctx.spool.scan))
    except (OSError, StoreUnavailable) as error:
        degraded = degraded or f"the spool cannot be read: {error}"
    await _count(ctx)
    return Status(
        daemon=DaemonStatus(
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - ctx.started, 3),
            version=ctx.version,
            data_dir=str(ctx.settings.data_dir),
            privacy=ctx.settings.privacy.level,
        ),
        spool=SpoolStatus(
            pending=waiting.files,
            oldest_age_s=_age(waiting.oldest_mtime_ns),
            bytes=waiting.bytes,
            full=health.full,
            dropped=ctx.spool.dropped(),
            quarantined=await asyncio.to_thread(ctx.quarantine.count),
        ),
        ingest=IngestStatus(
            events_total=health.events_total,
            last_event_at=health.last_event_at,
            duplicates=health.duplicates,
            degraded=degraded,
        ),
        sessions=ctx.session_counts,
        tasks=TaskCounts(**ctx.task_counts or _NO_TASKS),
        pool=None if ctx.dispatcher is None else PoolSummary.model_validate(ctx.dispatcher.pool()),
        retention=None if ctx.retention is None else RetentionStatus(**dataclasses.asdict(ctx.retention)),
        accounting=_accounting(ctx),
        watcher=ctx.watcher(),
        web=ctx.web,
    )


def _accounting(ctx: Context) -> AccountingStatus:
    health = None if ctx.follower is None else ctx.follower.health
    return AccountingStatus(
        transcripts=health.transcripts if health else 0,
        behind_bytes=health.behind_bytes if health else 0,
        degraded=health.degraded if health else None,
        **ctx.accounting or _NOTHING_ACCOUNTED,
    )


async def _count(ctx: Context) -> None:
    now = time.time_ns() // 1_000_000
    # The last known numbers are better than a late answer.
    with contextlib.suppress(TimeoutError, StoreError):
        async with asyncio.timeout(COUNT_TIMEOUT):
            ctx.session_counts, ctx.task_counts, ctx.retention, ctx.accounting = await ctx.database.read(
                lambda reader: (
                    history.session_counts(reader.query, now=now),
                    history.task_counts(reader.query, now=now),
                    retention.state(reader.query),
                    history.accounting(reader.query, now=now),
                )
            )


def _age(mtime_ns: int | None) -> float | None:
    return None if mtime_ns is None else round(max(0.0, (time.time_ns() - mtime_ns) / 1e9), 3)
