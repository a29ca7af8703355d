"""Says how a run ended."""

import signal
from dataclasses import dataclass
from typing import Final, Literal

from tasks.agent.quota import is_account_trouble
from tasks.agent.reader import OutputReader
from tasks.agent.result import AgentResult
from tasks.config import AgentSettings
from tasks.words import Failure

COMPLETED: Final = "completed"
LIMITED: Final = "limited"

#: Characters of stderr that are quoted, and lines.
_QUOTED, _QUOTED_LINES = 1000, 5
#: What the client's words for the end of a turn mean.
_REASONS = {
    "aborted_streaming": "the agent was interrupted",
    "aborted_tools": "the agent was interrupted",
    "stop_hook_prevented": "a Stop hook ended the agent",
    "hook_stopped": "a hook ended the agent",
    "prompt_too_long": "the conversation does not fit into the model's context",
    "blocking_limit": "the conversation does not fit into the model's context",
    "model_error": "the model failed",
    "turn_setup_failed": "the client could not begin a turn",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """`limited`: the same session can go on later (the reader's `limit` says when)."""

    outcome: Literal["completed", "limited"] | Failure
    #: completed: the agent's last words; else what happened, in a sentence
    text: str
    #: why the session that was asked for could not be used: it does not exist (yet), or it exists already
    session: Literal["unknown", "in_use"] | None = None
    #: an agent_error that the person's account is the reason of: every other task would meet it too
    account: bool = False


def judge(settings: AgentSettings, reader: OutputReader, exit_status: int | None, *, errors: str = "") -> Judgement:
    """How the run ended whose output `reader` has read; `errors` is the end of its stderr.

    `exit_status` is as the shell has it (128 + n: ended by signal n), None when it is not known. A client is judged by its
    last result, never by its exit status alone; a command whose output is text by its exit status. Ends the reading.
    """
    reader.finish()
    if settings.command and settings.output == "text":
        if exit_status == 0:
            return Judgement(COMPLETED, reader.last_lines)
        return _without_result(exit_status, errors or reader.last_lines, "ended")
    if reader.result is None:
        return _without_result(exit_status, errors or reader.last_lines, "ended without a result")
    return _by_result(reader.result, reader, errors)


def _by_result(result: AgentResult, reader: OutputReader, errors: str) -> Judgement:
    words = " ".join((result.text or _tail(errors)).split())
    if reader.limit is not None:
        return Judgement(LIMITED, words)
    if result.subtype == "error_max_turns" or result.terminal_reason == "max_turns":
        return Judgement(Failure.MAX_TURNS, words or "the agent took all the turns it may take")
    if result.subtype == "error_max_budget_usd" or result.terminal_reason == "budget_exhausted":
        return Judgement(Failure.BUDGET, words or "the agent spent all the money it may spend")
    if result.is_error or result.terminal_reason not in (None, "completed"):
        reason = _REASONS.get(result.terminal_reason or "")
        said = ": ".join(filter(None, (reason, words)))
        said = said or "the agent failed and did not say why"
        return Judgement(Failure.AGENT_ERROR, said, _session_trouble(words), is_account_trouble(result))
    if result.turns == 0:
        return Judgement(Failure.AGENT_ERROR, _no_turn(result, words))
    return Judgement(COMPLETED, result.text)


def _no_turn(result: AgentResult, words: str) -> str:
    if result.local_command:
        return (
            f"the client took the prompt for its own command /{result.local_command}, so no agent worked; "
            "begin the description with another character than a slash"
        )
    return f"the prompt never reached the agent: {words or 'a hook or a command of the client answered it'}"


def _without_result(exit_status: int | None, errors: str, ended: str) -> Judgement:
    quoted = _tail(errors)
    behind = f": {quoted}" if quoted else ""
    if exit_status is None:
        return Judgement(Failure.LOST, f"the agent {ended}, and how is not known{behind}")
    if exit_status > 128 and (name := _signal(exit_status - 128)):
        return Judgement(Failure.AGENT_ERROR, f"the agent {ended} (killed by {name}){behind}")
    how = f"the agent {ended}, exit status {exit_status}{behind}"
    return Judgement(Failure.AGENT_ERROR, how, _session_trouble(quoted))


def _session_trouble(words: str) -> Literal["unknown", "in_use"] | None:
    if "No conversation found with session ID" in words:
        return "unknown"
    return "in_use" if words.startswith("Error: Session ID ") and "is already in use" in words else None


def _signal(number: int) -> str | None:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return None


def _tail(words: str) -> str:
    """The last lines, for an error message."""
    lines = [line.strip() for line in words.replace("\r", "\n").split("\n") if line.strip()]
    return " / ".join(lines[-_QUOTED_LINES:])[-_QUOTED:]
