"""What hooks/guard answers in a person's own sessions. Pure: from what the client asks and what was seen to a reply.

In doubt the agent goes on: a guard that is wrong about a block costs more than one commit that is missing.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from tasks.config import GuardSettings
from tasks.database import Write
from tasks.database.writes import Value
from tasks.enforcer.commits import Commit
from tasks.enforcer.snapshot import Snapshot
from tasks.enforcer.verdicts import Verdict, named
from tasks.words import RuleMode, Stage

#: The beginning of prompts that the client writes itself, when background work has finished.
NOTIFICATION = "<task-notification>"
#: Milliseconds after which a session is forgotten that has shown no sign of life.
FORGET_AFTER = 30 * 86_400_000
#: Characters of file names in a command that the agent is told to run; more, and it is told to look for itself.
SPELLED_OUT = 1500

MEMORY = "SELECT baseline, sent_back FROM guarded_sessions WHERE session_uuid = :session"
_KEEP = """
INSERT INTO guarded_sessions (session_uuid, baseline, sent_back, updated_at)
VALUES (:session, :baseline, :sent_back, :now)
ON CONFLICT (session_uuid) DO UPDATE SET
    baseline = excluded.baseline, sent_back = excluded.sent_back, updated_at = excluded.updated_at
"""
_FORGET = "DELETE FROM guarded_sessions WHERE updated_at < :before"


@dataclass(frozen=True, slots=True)
class Question:
    """What the client asks: the parts of a hook's payload that an answer needs."""

    event: str
    session: str
    #: the session's working directory
    directory: str
    #: its beginning
    prompt: str = ""
    permission_mode: str | None = None
    stop_hook_active: bool = False
    #: asked from inside a subagent
    agent_id: str | None = None
    #: the session belongs to one of our own tasks
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a session from one question to the next."""

    #: the working tree when the turn began, or when the last one was over
    seen: Snapshot
    #: a turn has begun, and its end was not seen yet
    in_turn: bool
    #: stops that were refused since the last prompt of a person
    sent_back: int = 0

    @classmethod
    def from_row(cls, baseline: str, sent_back: int) -> "Memory | None":
        """None for a row that cannot be read."""
        try:
            document = json.loads(baseline)
            seen = Snapshot.from_json(document)
        except (ValueError, AttributeError):
            return None
        return cls(seen, document[seen.root].get("in_turn") is True, sent_back)

    def writes(self, session: str, now: int) -> list[Write]:
        """`now` in epoch milliseconds."""
        document = self.seen.as_json()
        document[self.seen.root] |= {"in_turn": self.in_turn}
        row: dict[str, Value] = {
            "session": session,
            "baseline": json.dumps(document),
            "sent_back": self.sent_back,
            "now": now,
        }
        return [Write.one(_KEEP, row), Write.one(_FORGET, {"before": now - FORGET_AFTER})]


@dataclass(frozen=True, slots=True)
class Reply:
    #: what the hook prints; empty: nothing
    answer: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    #: to be remembered from now on; None: as before
    memory: Memory | None = None


def on_prompt(question: Question, mode: RuleMode, now: Snapshot, memory: Memory | None) -> Reply:
    """A prompt: what was changed outside of the session is reported once, or blocks until it is out of the way.

    The session's own changes never do, else a person could not even ask for a commit.
    """
    if question.prompt.startswith(NOTIFICATION):
        kept = replace(memory, in_turn=True) if memory is not None else Memory(now, in_turn=True)
        return Reply(memory=kept)
    begun = Memory(now, in_turn=True)
    foreign = () if question.task_id is not None else _foreign(now, memory)
    if not foreign or mode is RuleMode.OFF:
        return Reply(memory=begun)
    message = f"Uncommitted changes in {now.root}: {named(foreign)}"
    verdict = _verdict(question, Stage.PROMPT, mode, message, foreign, now.root)
    if mode is RuleMode.BLOCK:
        reason = f"{message}. Commit or stash them, then send the prompt again (tasksd, guard.prompt)."
        return Reply({"decision": "block", "reason": reason}, verdict)
    context = (
        f"{message}. They were there before this prompt and are not yours: leave them as they are, "
        "and do not commit them together with your own work."
    )
    return Reply(_context("UserPromptSubmit", context), verdict, begun)


def on_stop(question: Question, settings: GuardSettings, now: Snapshot, memory: Memory | None) -> Reply:
    """The end of a turn: changes without a commit are sent back, at most `stop_times` for one prompt, then let go."""
    if memory is None:
        return Reply(memory=Memory(now, in_turn=False))
    over = Memory(now, in_turn=False, sent_back=memory.sent_back)
    mode = settings.stop
    # Without a prompt that was seen, who changed what is not certain; in plan mode the agent may not commit.
    known = memory.in_turn or question.stop_hook_active
    if mode is RuleMode.OFF or question.agent_id or question.permission_mode == "plan" or not known:
        return Reply(memory=over)
    changed = now.changed_since(memory.seen)
    if not changed:
        return Reply(memory=over, verdict=_mended(question, mode, now, memory) if changed is not None else None)
    message = f"Agent made file changes without committing: {named(changed)} in {now.root}"
    if mode is RuleMode.BLOCK and memory.sent_back < settings.stop_times:
        again = replace(memory, in_turn=True, sent_back=memory.sent_back + 1)
        return Reply({"decision": "block", "reason": _how_to_commit(question, settings, now, changed)}, memory=again)
    if memory.sent_back:
        message += f"; it was sent back {_times(memory.sent_back)} and is let go"
    verdict = _verdict(question, Stage.STOP, mode, message, changed, now.root)
    return Reply({"systemMessage": f"tasksd: {message}"}, verdict, over)


def on_commit(question: Question, mode: RuleMode, commit: Commit, branch: str) -> Reply:
    """A command that would make `commit` on the protected `branch`."""
    message = f"{_A_COMMIT[commit.verb]} on the protected branch {branch} in {commit.directory}"
    verdict = _verdict(question, Stage.COMMIT, mode, message, (), commit.directory)
    if mode is RuleMode.BLOCK:
        instead = (
            f"{message} is not allowed here. Go to a branch of its own first, your changes come along: "
            f"`git switch -c {_branch_name(question)}`, then run the command again. A person merges it."
        )
        denied = {"permissionDecision": "deny", "permissionDecisionReason": instead}
        return Reply({"hookSpecificOutput": {"hookEventName": "PreToolUse", **denied}}, verdict)
    return Reply(_context("PreToolUse", f"{message}: a branch of its own would be better."), verdict)


def is_protected(branch: str | None, patterns: Sequence[str]) -> bool:
    """`patterns` are names of branches; `*` and `?` stand for any characters."""
    return branch is not None and any(fnmatchcase(branch, pattern) for pattern in patterns)


def follows_upstream(commit: Commit, branch: str) -> bool:
    """Whether it only brings what the remote's branch of the same name has: that is no work of the agent."""
    upstream = ("FETCH_HEAD", "@{u}", "@{upstream}")
    return commit.verb == "merge" and all(head in upstream or head.endswith(f"/{branch}") for head in commit.heads)


_A_COMMIT = {
    "commit": "A commit",
    "merge": "A merge",
    "cherry-pick": "A cherry-pick",
    "revert": "A revert",
    "am": "Applying patches",
}


def _foreign(now: Snapshot, memory: Memory | None) -> tuple[str, ...]:
    """What is dirty and was made neither by this session nor known to it."""
    if memory is not None and memory.seen.root == now.root:
        # A turn whose end was not seen was interrupted: what has changed since it began may well be its own.
        return () if memory.in_turn else now.changed_since(memory.seen) or ()
    return now.changed_since(None) or ()


def _how_to_commit(question: Question, settings: GuardSettings, now: Snapshot, changed: Sequence[str]) -> str:
    files = [path for path in changed if path in now.prints and path != now.in_progress]
    said = [f"You changed files and did not commit them: {named(changed)} in {now.root}."]
    if now.in_progress in changed:
        said.append(f"Finish the {(now.in_progress or '').removesuffix(' in progress')} that you began, or abort it.")
    git = "git" if question.directory == now.root else f"git -C {shlex.quote(now.root)}"
    steps = []
    if settings.commit is RuleMode.BLOCK and is_protected(now.branch, settings.protected_branches):
        steps.append(f"{git} switch -c {_branch_name(question)}")
    names = " ".join(map(shlex.quote, files))
    if files and len(names) <= SPELLED_OUT:
        # Named again, so that what somebody else has staged stays out of it; git refuses that in the middle of a merge.
        only = "" if now.in_progress else f" -- {names}"
        steps += [f"{git} add -- {names}", f'{git} commit -m "what was changed and why"{only}']
        said.append(f"Commit your work before you finish: `{' && '.join(steps)}`.")
    elif files or not now.complete:
        said.append(
            f"Commit your work before you finish: `{' && '.join([*steps, f'{git} status --short'])}` shows all of it, "
            f"`{git} add -- FILE…` takes what is yours, and `{git} commit` commits it."
        )
    said.append(
        "Leave out what is not yours. If you may not run git, or the changes are meant to stay uncommitted, say so and "
        "finish: you will be let go."
    )
    return " ".join(said)


def _mended(question: Question, mode: RuleMode, now: Snapshot, memory: Memory) -> Verdict | None:
    """Worth a record only after a reminder."""
    if not memory.sent_back or not memory.in_turn:
        return None
    message = f"Nothing is left uncommitted in {now.root} after the agent was sent back {_times(memory.sent_back)}"
    return replace(_verdict(question, Stage.STOP, mode, message, (), now.root), passed=True)


def _verdict(
    question: Question, stage: Stage, mode: RuleMode, message: str, paths: tuple[str, ...], workspace: str
) -> Verdict:
    return Verdict(
        stage, mode, False, message, paths, workspace, task_id=question.task_id, session_uuid=question.session
    )


def _context(event: str, text: str) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": f"tasksd: {text}"}}


def _branch_name(question: Question) -> str:
    """A branch for this session; its id is not ours, so only what is safe in a command is taken from it."""
    own = "".join(char for char in question.session[:8] if char.isascii() and char.isalnum())
    return f"agent/{own or 'work'}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
