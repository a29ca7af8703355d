"""/v1/tasks/{id}/diff and /conflict: what a task changed, and what stands against merging it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks import config, history
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.tasks import TaskId
from tasks.database import Reader
from tasks.git import Git, Work, conflicted, difference
from tasks.redaction import Redactor
from tasks.words import MergeState, PrivacyLevel

router = APIRouter(tags=["tasks"])

#: Bytes of a patch: by default, and at most.
PATCH, LONGEST_PATCH = 256 << 10, 1 << 20
#: Bytes of each file in conflict.
CONFLICT = 64 << 10
#: Characters that are redacted at once.
_PIECE = 64 << 10

T = TypeVar("T")


class ChangedFile(BaseModel):
    #: relative to the repository; undecodable bytes as \\xNN
    path: str
    #: where it was, when it was renamed or copied
    old_path: str | None
    #: A added, M modified, D deleted, R renamed, C copied, T another kind of file
    status: str
    #: lines; null: not counted
    added: int | None
    deleted: int | None
    binary: bool


class UncommittedFile(BaseModel):
    path: str
    #: two letters as in `git status --short`; ?? untracked
    status: str


class Diff(BaseModel):
    #: what was compared: the branch; the HEAD of the worktree, when the branch is gone; the merge; nothing
    source: Literal["branch", "worktree", "merge", "none"]
    #: object names
    base: str | None
    head: str | None
    #: at most 2000
    files: list[ChangedFile]
    #: how many more files there are, at least
    more_files: int
    #: unified, without secrets, whole lines
    patch: str
    #: whether the patch goes on, or could not be made
    cut: bool
    #: in the task's worktree, while there is one
    uncommitted: list[UncommittedFile]
    more_uncommitted: int
    #: why something is missing, for a person; null: nothing is
    reason: str | None


class ConflictedFile(BaseModel):
    path: str
    #: with git's marks, without secrets; null: see `reason`
    text: str | None
    #: whether the text goes on
    cut: bool
    #: what git says of it
    message: str
    reason: str | None


class Conflict(BaseModel):
    branch: str | None
    base_branch: str | None
    #: tips of the branch to merge into, and of the task's
    ours: str | None
    theirs: str | None
    #: as it would be if it were merged now; at most 20
    files: list[ConflictedFile]
    more_files: int
    #: why there are no files, for a person
    reason: str | None


@router.get("/tasks/{task_id}/diff")
async def read_diff(
    ctx: Ctx,
    task_id: TaskId,
    limit_bytes: Annotated[int, Query(ge=0, le=LONGEST_PATCH, description="of the patch")] = PATCH,
) -> Diff:
    """What its branch changed since it began, also after it was merged. Whatever is wrong with the repository is told in
    `reason`.
    """
    work, _ = await _work(ctx, task_id)

    def look() -> dict[str, Any]:
        found = asdict(difference(Git(), work, limit=limit_bytes))
        clean = Redactor(config.secret_key(ctx.settings), PrivacyLevel.FULL).text
        for one in (*found["files"], *found["uncommitted"]):
            one |= {name: clean(one[name]) for name in ("path", "old_path") if one.get(name)}
        return found | {"patch": _redacted(clean, found["patch"]), "reason": clean(found["reason"]) or None}

    return Diff(**await _in_turn(ctx, look))


@router.get("/tasks/{task_id}/conflict")
async def read_conflict(ctx: Ctx, task_id: TaskId) -> Conflict:
    """The files that do not fit, of a task whose merge is in conflict, as git would leave them to a person."""
    work, state = await _work(ctx, task_id)
    found: dict[str, Any] = {"branch": work.branch, "base_branch": work.base_branch}
    if state != MergeState.CONFLICT:
        reason = f"its merge is not in conflict: {state}"
        return Conflict(**found, ours=None, theirs=None, files=[], more_files=0, reason=reason)

    def look() -> dict[str, Any]:
        found = asdict(conflicted(Git(), work, limit=CONFLICT))
        clean = Redactor(config.secret_key(ctx.settings), PrivacyLevel.FULL).text
        for one in found["files"]:
            text = None if one["text"] is None else _redacted(clean, one["text"])
            one |= {"path": clean(one["path"]), "text": text, "message": clean(one["message"])}
            one["reason"] = one["reason"] or None
        return found | {"reason": clean(found["reason"]) or None}

    return Conflict(**found, **await _in_turn(ctx, look))


async def _work(ctx: Context, task_id: str) -> tuple[Work, str]:
    """Where the work of a task is, and the state of its merge."""
    fields = ("workspace", "worktree", "branch", "base_branch", "base_commit", "merge_commit")

    def read(reader: Reader) -> tuple[Work, str]:
        whole = history.whole_task_id(reader.query, task_id)
        asked = f"SELECT merge_state, {', '.join(fields)} FROM tasks WHERE task_id = :task"
        ((state, *values),) = reader.query(asked, {"task": whole})
        return Work(*values), state

    return await ctx.database.read(read)


async def _in_turn(ctx: Context, look: Callable[[], T]) -> T:
    """Run `look` in a thread, when it is its turn."""
    async with ctx.git_turns:
        return await asyncio.to_thread(look)


def _redacted(clean: Callable[[str], str], text: str) -> str:
    """`text` without secrets. In pieces, because the time that one may take is limited."""
    return "".join(clean(piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Whole lines; a private key is never divided."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        begin = text.rfind("-----BEGIN ", start, end)
        if begin >= 0 and (close := text.find("-----END ", begin)) >= end:
            end = text.find("\n", close) + 1 or len(text)
        yield text[start:end]
        start = end
