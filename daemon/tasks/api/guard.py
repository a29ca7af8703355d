"""/v1/guard: answers hooks/guard. Late, broken or in doubt, the answer is to say nothing, and the agent goes on."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.config import GuardSettings
from tasks.enforcer import guard, verdict_write
from tasks.enforcer.commits import Commit, commits
from tasks.enforcer.guard import Memory, Question, Reply
from tasks.enforcer.snapshot import Snapshot, snapshot
from tasks.errors import TasksError
from tasks.git import GitTracker
from tasks.words import RuleMode

log = logging.getLogger(__name__)

router = APIRouter(tags=["guard"])

T = TypeVar("T")

#: Seconds for an answer; the hook waits for 2 s in all.
PATIENCE = 1.5
#: Seconds for one git command.
GIT_TIMEOUT = 1.2
#: Places of one command line that are looked at.
MOST_COMMITS = 8

_TASK_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

#: Threads of their own: a file system that hangs takes these and no others.
_threads = ThreadPoolExecutor(4, thread_name_prefix="guard")
_tracker = GitTracker(timeout=GIT_TIMEOUT)


class GuardQuestion(BaseModel):
    """The parts of a hook's payload that an answer needs."""

    hook_event_name: str
    session_id: str = Field(max_length=256)
    cwd: str = Field(max_length=4096)
    #: its beginning
    prompt: str = ""
    tool_name: str = ""
    command: str = ""
    #: the end of the command is missing
    cut: bool = False
    permission_mode: str | None = None
    stop_hook_active: bool = False
    agent_id: str | None = None
    #: the hook's TASKS_TASK_ID, whatever it holds
    task_id: str | None = None


@router.post("/guard", response_class=JSONResponse)
async def ask_guard(ctx: Ctx, asked: GuardQuestion) -> Response:
    """The JSON object that the hook has to print; empty: it prints nothing."""
    question = Question(
        asked.hook_event_name, asked.session_id, asked.cwd, asked.prompt, asked.permission_mode,
        asked.stop_hook_active, asked.agent_id or None,
        asked.task_id if _TASK_ID.fullmatch(asked.task_id or "") else None,
    )  # fmt: skip
    reply = await _in_time(ctx, question, asked)
    # Escaped, since paths may hold bytes that are no text.
    return Response(json.dumps(reply.answer), media_type="application/json")


async def _in_time(ctx: Context, question: Question, asked: GuardQuestion) -> Reply:
    try:
        async with asyncio.timeout(PATIENCE):
            reply = await _reply(ctx, question, asked)
            await _keep(ctx, question, reply)
    except TimeoutError:
        log.warning("the guard took too long and let go event=%s cwd=%s", question.event, question.directory)
        return Reply()
    except (TasksError, OSError) as error:
        log.debug("the guard let go event=%s cwd=%s error=%s", question.event, question.directory, error)
        return Reply()
    return reply


async def _reply(ctx: Context, question: Question, asked: GuardQuestion) -> Reply:
    settings = ctx.settings.guard
    if not question.directory.startswith("/") or "\0" in question.directory:
        return Reply()  # no folder of the session
    match question.event:
        case "UserPromptSubmit" | "Stop":
            if settings.prompt is RuleMode.OFF and settings.stop is RuleMode.OFF:
                return Reply()
            memory = await _remembered(ctx, question.session)
            now = await _in_thread(lambda: _look(ctx, question.directory))
            if question.event == "Stop":
                return guard.on_stop(question, settings, now, memory)
            return guard.on_prompt(question, settings.prompt, now, memory)
        case "PreToolUse" if asked.tool_name == "Bash" and settings.commit is not RuleMode.OFF:
            found = await _in_thread(lambda: _on_protected_branch(asked, settings))
            return guard.on_commit(question, settings.commit, *found) if found is not None else Reply()
        case _:
            return Reply()


def _look(ctx: Context, directory: str) -> Snapshot:
    rules = ctx.settings.enforcement
    return snapshot(_tracker.state(directory), rules.dirty, rules.exempt)


def _on_protected_branch(asked: GuardQuestion, settings: GuardSettings) -> tuple[Commit, str] | None:
    """The first commit of the command that would land on a protected branch, and that branch."""
    for commit in commits(asked.command, asked.cwd, home=str(Path.home()), cut=asked.cut)[:MOST_COMMITS]:
        if not Path(commit.directory).is_dir():
            continue  # made by the command itself
        branch = commit.branch or _tracker.branch(commit.directory)
        if branch is None or not guard.is_protected(branch, settings.protected_branches):
            continue
        # The first commit of a repository cannot be anywhere else.
        if not guard.follows_upstream(commit, branch) and _tracker.head(commit.directory) is not None:
            return commit, branch
    return None


async def _remembered(ctx: Context, session: str) -> Memory | None:
    rows = await ctx.database.query(guard.MEMORY, {"session": session})
    return Memory.from_row(*rows[0]) if rows else None


async def _keep(ctx: Context, question: Question, reply: Reply) -> None:
    """Before the answer is given: a stop that is not counted must not be sent back."""
    now = time.time_ns() // 1_000_000
    writes = reply.memory.writes(question.session, now) if reply.memory is not None else []
    if reply.verdict is not None:
        writes.append(verdict_write(reply.verdict, timestamp=now))
    if writes:
        await ctx.database.apply(writes)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
