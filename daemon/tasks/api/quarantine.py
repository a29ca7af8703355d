"""/v1/quarantine: what could not become an event, and what to do with it."""

import asyncio

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from tasks.api.access import Ctx
from tasks.spool import QuarantinedFile
from tasks.spool.quarantine import NoSuchQuarantinedFile

router = APIRouter(tags=["quarantine"])

PREVIEW = 16 << 10


class QuarantineEntry(BaseModel):
    id: str
    #: of the file in the spool, made printable
    name: str
    reason: str
    detail: str
    size: int
    #: epoch milliseconds
    quarantined_at: int
    sha256: str | None
    version: str


class QuarantineContent(QuarantineEntry):
    #: the beginning of the file, as text; raw, so it may hold secrets
    content: str


@router.get("/quarantine")
async def list_quarantine(ctx: Ctx) -> list[QuarantineEntry]:
    """Oldest first."""
    return [_entry(one) for one in await asyncio.to_thread(ctx.quarantine.list)]


@router.get("/quarantine/{id_}")
async def read_quarantined(ctx: Ctx, id_: str) -> QuarantineContent:
    try:
        entry = await asyncio.to_thread(ctx.quarantine.get, id_)
        content = await asyncio.to_thread(ctx.quarantine.content, id_, PREVIEW)
    except NoSuchQuarantinedFile as error:
        raise HTTPException(404, str(error)) from error
    return QuarantineContent(**_entry(entry).model_dump(), content=content.decode("utf-8", "replace"))


@router.post("/quarantine/{id_}/retry", status_code=204)
async def retry_quarantined(ctx: Ctx, id_: str) -> None:
    """Put the file back into the spool."""
    try:
        await asyncio.to_thread(ctx.quarantine.retry, id_)
    except NoSuchQuarantinedFile as error:
        raise HTTPException(404, str(error)) from error
    ctx.poke()


@router.delete("/quarantine/{id_}", status_code=204)
async def drop_quarantined(ctx: Ctx, id_: str) -> None:
    """Delete the file for good."""
    try:
        await asyncio.to_thread(ctx.quarantine.drop, id_)
    except NoSuchQuarantinedFile as error:
        raise HTTPException(404, str(error)) from error


def _entry(one: QuarantinedFile) -> QuarantineEntry:
    name = one.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return QuarantineEntry(
        id=one.id, name=name, reason=one.reason, detail=one.detail, size=one.size,
        quarantined_at=one.quarantined_at, sha256=one.sha256, version=one.version,
    )  # fmt: skip
