"""/v1/tasks: work handed over, where it stands, and what to do with it."""

import os
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks import history
from tasks.api.access import Ctx, Who
from tasks.api.audited import made_known
from tasks.api.context import Context
from tasks.api.sessions import Spent
from tasks.database import Reader
from tasks.manager.task import COLUMNS
from tasks.manager.task import Task as StoredTask
from tasks.runner import Dispatcher
from tasks.words import TaskPriority, TaskStatus

router = APIRouter(tags=["tasks"])

#: Bytes of UTF-8 of one description.
LONGEST_DESCRIPTION = 1 << 20
#: SQLite's largest integer.
_MAX = (1 << 63) - 1
_YEARS = 100 * 366 * history.DAY

TaskId = Annotated[str, Path(max_length=64, description="the id, or a unique beginning of it")]


def _described(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("must not be empty, and hold no NUL")
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST_DESCRIPTION:
        raise ValueError(f"must not be longer than {LONGEST_DESCRIPTION >> 20} MiB")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must be an absolute path")
    return path


def _named(text: str) -> str:
    if not re.fullmatch(r"[^\s\x00-\x1f-][^\x00-\x1f]*", text):
        raise ValueError("must be one line that begins with neither a space nor a -, and not empty")
    return text


#: Ends up as an argument of a command, and so cannot look like an option.
Word = Annotated[str, Field(max_length=128), AfterValidator(_named)]
PriorityWord = Literal["high", "normal", "low"]


class Submission(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: what to do: the prompt, at most 1 MiB
    description: Annotated[str, AfterValidator(_described)]
    #: the folder to work for, absolute
    workspace: Annotated[str, AfterValidator(_absolute)]
    #: whose task it is; null: of whoever hands it over: on the Unix socket the user that the daemon runs as, on the page
    #: the number of the account
    user_id: Annotated[int | None, Field(ge=0, le=_MAX)] = None
    priority: PriorityWord = "normal"
    model: Word | None = None
    agent_type: Word | None = None
    workflow: Word | None = None
    #: false: works in the workspace itself, without a worktree of its own
    isolate: bool = True
    #: dollars; null: as configured
    budget_usd: Annotated[float | None, Field(gt=0, le=1e6, allow_inf_nan=False)] = None
    max_turns: Annotated[int | None, Field(ge=1, le=1_000_000)] = None


class MergeOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: the branch to merge into; null: the one it came from
    into: Word | None = None


class CleanOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: milliseconds since the end of a task
    older_than_ms: Annotated[int, Field(ge=0, le=_YEARS)]
    dry_run: bool = False


class Activity(BaseModel):
    #: ask for activity `after` this to go on
    id: str
    #: epoch milliseconds
    at: int
    message: str


class LastActivity(BaseModel):
    at: int
    message: str


class Task(BaseModel):
    """Times in epoch milliseconds."""

    task_id: str
    user_id: int
    #: redacted; in lists the first 500 characters
    description: str
    status: str
    priority: PriorityWord
    agent_type: str | None
    workflow: str | None
    model: str | None
    workspace: str | None
    isolate: bool
    #: why it is not started although there is a slot, and when that is looked at again
    hold_reason: str | None
    hold_until: int | None
    #: runs begun
    attempt: int
    session_uuid: str | None
    pid: int | None
    worktree: str | None
    branch: str | None
    base_branch: str | None
    commits: int
    merge_state: str
    merge_detail: str | None
    merge_commit: str | None
    failure: str | None
    error: str | None
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None
    created_at: int
    started_at: int | None
    finished_at: int | None


class ListedTask(Task):
    #: null: over, or nothing yet
    last_activity: LastActivity | None


class Run(BaseModel):
    attempt: int
    session_uuid: str | None
    #: went on with an earlier run's session
    resumed: bool
    started_at: int
    finished_at: int | None
    #: as the shell says it: 128 + signal
    exit_status: int | None
    outcome: str | None
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None


class Verdict(BaseModel):
    timestamp: int
    stage: str
    mode: str
    passed: bool
    message: str
    workspace: str


class CallInFlight(BaseModel):
    tool_use_id: str
    tool_name: str
    started_at: int
    agent_id: str | None
    parameters: str | None


class TaskDetails(Task):
    budget_usd: float | None
    max_turns: int | None
    host: str | None
    base_commit: str | None
    #: the files in conflict, relative to the repository
    merge_paths: list[str]
    result: str | None
    activity: list[Activity]
    runs: list[Run]
    verdicts: list[Verdict]
    #: its agent's calls by tool: [all, failed]
    calls: dict[str, tuple[int, int]]
    #: calls that its permissions or a hook refused
    denied: int
    running: list[CallInFlight]
    #: by our own account; cost_usd is what the client says
    spent: Spent
    #: how many files its agent touched, by action
    files: dict[str, int]
    #: why it waits, is blocked or is kept; null: there is nothing to explain
    why: str | None


class SubmittedTask(TaskDetails):
    #: what keeps it from starting at once, and what else there is to know
    warnings: list[str]


class CleanedThing(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    task_id: str
    what: str
    removed: bool
    #: why it is kept
    reason: str | None


def dispatcher(ctx: Context) -> Dispatcher:
    if ctx.dispatcher is None:
        raise HTTPException(503, "this daemon runs no tasks")
    return ctx.dispatcher


@router.post("/tasks", status_code=201)
async def submit_task(ctx: Ctx, who: Who, order: Submission, request: Request) -> SubmittedTask:
    """Hand over work. It is stored when this answers."""
    own = os.getuid() if who.user_id is None else who.user_id
    if order.user_id not in (None, own) and not who.is_owner:
        raise HTTPException(403, f"user_id: tasks of {who.username} are those of user {own}")
    wanted = order.model_dump() | {
        "user_id": own if order.user_id is None else order.user_id,
        "priority": TaskPriority[order.priority.upper()],
    }
    try:
        accepted, warnings = await dispatcher(ctx).submit(**wanted)
    except ValueError as error:  # what the manager's own look at it finds
        raise HTTPException(422, str(error)) from error
    made_known(request, accepted.task_id)
    warnings = [*warnings, *_doubts(ctx, order)]
    return SubmittedTask(**await _details(ctx, accepted.task_id), warnings=warnings)


def _doubts(ctx: Context, order: Submission) -> list[str]:
    """A type that is misspelt would have none of the limits and rules that were meant for it."""
    known = sorted({*ctx.settings.agent.types, *ctx.settings.enforcement.types})
    if order.agent_type is None or not known or order.agent_type in known:
        return []
    return [f"agent type {order.agent_type} has no settings of its own; those that have: {', '.join(known)}"]


@router.get("/tasks")
async def list_tasks(
    ctx: Ctx,
    status: Annotated[list[TaskStatus] | None, Query(description="only these statuses")] = None,
    live: Annotated[bool, Query(description="only tasks that are not over")] = False,
    workflow: Annotated[str | None, Query(max_length=128)] = None,
    user: Annotated[int | None, Query(ge=0, le=_MAX)] = None,
    agent_type: Annotated[str | None, Query(max_length=128)] = None,
    workspace: Annotated[str | None, Query(max_length=4096)] = None,
    since: Annotated[int | None, Query(ge=0, le=_MAX, description="created at this epoch millisecond or later")] = None,
    before: Annotated[str | None, Query(max_length=64, description="what comes after the task of this id")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[ListedTask]:
    """The latest created first."""
    statuses = status or []
    if live:
        statuses = [one for one in status or TaskStatus if not one.is_over]
        if not statuses:
            return []
    found = await ctx.database.read(
        lambda reader: history.tasks(
            reader.query, statuses=statuses, workflow=workflow, user=user, agent_type=agent_type, workspace=workspace,
            since=since, before=before, limit=limit,
        )
    )  # fmt: skip
    return [ListedTask(**one) for one in found]


@router.get("/tasks/{task_id}")
async def read_task(ctx: Ctx, task_id: TaskId) -> TaskDetails:
    """One task with all that is known of it."""
    return TaskDetails(**await _details(ctx, task_id))


@router.post("/tasks/{task_id}/cancel")
async def cancel_task(ctx: Ctx, task_id: TaskId) -> TaskDetails:
    """Stop it: a waiting one is not started, the agent of a running one is ended."""
    await dispatcher(ctx).cancel(await whole_id(ctx, task_id))
    return TaskDetails(**await _details(ctx, task_id))


@router.post("/tasks/{task_id}/retry")
async def retry_task(ctx: Ctx, task_id: TaskId) -> TaskDetails:
    """Queue a failed or stopped one again."""
    await dispatcher(ctx).retry(await whole_id(ctx, task_id))
    return TaskDetails(**await _details(ctx, task_id))


@router.post("/tasks/{task_id}/merge")
async def merge_task(ctx: Ctx, task_id: TaskId, order: MergeOrder | None = None) -> TaskDetails:
    """Try to merge its branch now; `merge_state` says how that went."""
    await dispatcher(ctx).merge(await whole_id(ctx, task_id), None if order is None else order.into)
    return TaskDetails(**await _details(ctx, task_id))


@router.post("/tasks/clean")
async def clean_tasks(ctx: Ctx, order: CleanOrder) -> list[CleanedThing]:
    """Remove what finished tasks left behind, where that is proven to be safe; what is kept is listed with the reason."""
    done = await dispatcher(ctx).clean(older_than_ms=order.older_than_ms, dry_run=order.dry_run)
    return [CleanedThing.model_validate(one) for one in done]


async def whole_id(ctx: Context, task_id: str) -> str:
    return await ctx.database.read(lambda reader: history.whole_task_id(reader.query, task_id))


async def _details(ctx: Context, task_id: str) -> dict[str, Any]:
    def read(reader: Reader) -> tuple[dict[str, Any], StoredTask]:
        found = history.task(reader.query, task_id)
        rows = reader.query(f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE task_id = ?", [found["task_id"]])
        return found, StoredTask.from_row(rows[0])

    found, row = await ctx.database.read(read)
    why = None if ctx.dispatcher is None else await ctx.dispatcher.explain(row)
    return found | {"why": why or None}
