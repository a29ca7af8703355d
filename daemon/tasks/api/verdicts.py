"""/v1/verdicts: what the rules for commits said."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks.api.access import Ctx
from tasks.enforcer import verdicts
from tasks.rollups import DAY
from tasks.words import RuleMode, Stage

router = APIRouter(tags=["verdicts"])


class RecordedVerdict(BaseModel):
    id: int
    #: epoch milliseconds
    timestamp: int
    stage: Stage
    mode: RuleMode
    #: whether the rule was met; one that was not met stopped something only in mode `block`
    passed: bool
    message: str
    workspace: str
    agent_type: str | None
    task_id: str | None
    session_uuid: str | None


@router.get("/verdicts")
async def list_verdicts(
    ctx: Ctx,
    task: Annotated[str | None, Query(max_length=256, description="of this task")] = None,
    days: Annotated[float | None, Query(gt=0, le=3660, description="only those of the last days")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[RecordedVerdict]:
    """Newest first."""
    since = None if days is None else time.time_ns() // 1_000_000 - round(days * DAY)
    found = await ctx.database.read(lambda reader: verdicts(reader.query, task_id=task, since=since, limit=limit))
    return [RecordedVerdict(**one) for one in found]
