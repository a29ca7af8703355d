"""/v1/audit: who did what."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from tasks.api.access import Ctx
from tasks.users import audit

router = APIRouter(tags=["users"])

DAY = 86_400_000  # milliseconds


class AuditEntry(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    #: epoch milliseconds
    timestamp: int
    #: null: the user that the daemon runs as, or nobody who is known
    user_id: int | None
    username: str
    via: Literal["web", "socket", "cli"]
    action: str
    target: str | None
    #: HTTP status
    outcome: int
    address: str | None
    detail: str | None


@router.get("/audit")
async def read_audit(
    ctx: Ctx,
    user: Annotated[str | None, Query(max_length=256)] = None,
    action: Annotated[str | None, Query(max_length=256)] = None,
    days: Annotated[float | None, Query(gt=0, le=36_500)] = None,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[AuditEntry]:
    """The newest first; `before` goes on after the lowest `id` so far."""
    since = None if days is None else time.time_ns() // 1_000_000 - round(days * DAY)
    found = await ctx.database.read(
        lambda reader: audit.listed(reader.query, user=user, action=action, since=since, before=before, limit=limit)
    )
    return [AuditEntry.model_validate(deed) for deed in found]
