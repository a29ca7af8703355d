"""What the scripted model does, and what is known to come of it: every tool call with its outcome.

Which hooks fire for a call was measured with the real client and is asserted by `test_client.py`, so a client that
behaves differently is told apart from a daemon that stores wrongly.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.words import CallSource, ErrorCategory

from .answers import ApiError, Reply, Script, Text, ToolUse, Turn

#: Hooks that carry the id of a call, besides PostToolBatch, by how the call ended.
RAN = ("PreToolUse", "PostToolUse")
FAILED = ("PreToolUse", "PostToolUseFailure")
DENIED = ("PreToolUse",)
REFUSED: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call and what is to be stored of it."""

    id: str
    tool: str
    input: Mapping[str, Any] = field(default_factory=dict)
    #: None for a success
    category: ErrorCategory | None = None
    hooks: tuple[str, ...] = RAN
    #: the kind of subagent that makes it; None for the main agent
    agent_type: str | None = None
    #: "requested" or "automatic": it went on in the background
    background: str | None = None
    #: the input as unparsed text, in place of `input`
    raw: str | None = None
    #: PostToolBatch tells of it
    in_batch: bool = True

    @property
    def source(self) -> CallSource:
        """What the stored row rests on."""
        if self.hooks in (RAN, FAILED):
            return CallSource.HOOK
        return CallSource.BATCH if self.in_batch else CallSource.INFERRED

    @property
    def success(self) -> bool:
        return self.category is None

    def as_block(self) -> ToolUse:
        return ToolUse(self.id, self.tool, self.input, self.raw)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One prompt to the client. `scripts` go to the Messages API, `calls` are the tool calls they make."""

    prompt: str
    scripts: Mapping[str, Script]
    calls: Sequence[Call]
    args: Sequence[str] = ()
    #: how many messages with tool calls that makes
    messages: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def _turns(*messages: Call | Sequence[Call]) -> list[Turn]:
    """One assistant message for each call or group of calls."""
    groups = [[message] if isinstance(message, Call) else message for message in messages]
    return [Reply([Text("Next."), *(call.as_block() for call in group)]) for group in groups]


def everything(project: Path) -> Scenario:
    """Successes, each way of failing, parallel calls, a subagent, a command moved to the background."""
    (project / "there.txt").write_text("one\ntwo\n", encoding="utf-8")
    (project / "twice.txt").write_text("again\nagain\n", encoding="utf-8")
    new, there, twice, missing = (str(project / f"{name}.txt") for name in ("new", "there", "twice", "missing"))
    bash_ok = Call("toolu_bash_ok", "Bash", {"command": "echo fine", "description": "Say fine"})
    write_ok = Call("toolu_write_ok", "Write", {"file_path": new, "content": "first\nsecond\n"})
    read_ok = Call("toolu_read_ok", "Read", {"file_path": there})
    edit_ok = Call("toolu_edit_ok", "Edit", {"file_path": there, "old_string": "two", "new_string": "three"})
    parallel = [
        Call("toolu_parallel_1", "Read", {"file_path": new}),
        Call("toolu_parallel_2", "Bash", {"command": "echo beside", "description": "Say beside"}),
        Call("toolu_parallel_3", "Read", {"file_path": there}),
    ]
    exit_3 = Call(
        "toolu_exit_3",
        "Bash",
        {"command": "echo wrong >&2; exit 3", "description": "Fail"},
        ErrorCategory.COMMAND_FAILED,
        FAILED,
    )
    not_found = Call(
        "toolu_not_found",
        "Bash",
        {"command": "no-such-command-here --now", "description": "Fail"},
        ErrorCategory.COMMAND_FAILED,
        FAILED,
    )
    read_missing = Call("toolu_read_missing", "Read", {"file_path": missing}, ErrorCategory.FILE_NOT_FOUND, FAILED)
    edit_no_match = Call(
        "toolu_edit_no_match",
        "Edit",
        {"file_path": there, "old_string": "not in there", "new_string": "x"},
        ErrorCategory.STALE_EDIT,
        REFUSED,
    )
    edit_not_unique = Call(
        "toolu_edit_not_unique",
        "Edit",
        {"file_path": twice, "old_string": "again", "new_string": "x"},
        ErrorCategory.STALE_EDIT,
        REFUSED,
    )
    edit_missing = Call(
        "toolu_edit_missing",
        "Edit",
        {"file_path": missing, "old_string": "one", "new_string": "x"},
        ErrorCategory.FILE_NOT_FOUND,
        REFUSED,
    )
    unknown_tool = Call("toolu_unknown_tool", "NoSuchTool", {"x": 1}, ErrorCategory.INVALID_INPUT, REFUSED)
    bad_input = Call("toolu_bad_input", "Read", {"path": there}, ErrorCategory.INVALID_INPUT, REFUSED)
    broken_json = Call("toolu_broken_json", "Read", {}, ErrorCategory.INVALID_INPUT, REFUSED, raw='{"file_path": "/x')
    denied_mode = Call(
        "toolu_denied_mode",
        "Write",
        {"file_path": str(project.parent / "outside.txt"), "content": "x"},
        ErrorCategory.BLOCKED,
        DENIED,
    )
    denied_hook = Call(
        "toolu_denied_hook",
        "Bash",
        {"command": "echo forbidden-word", "description": "Ask for trouble"},
        ErrorCategory.BLOCKED,
        DENIED,
    )
    waits = "until [ -e released ]; do sleep 0.05; done; touch over"
    lets_go = "touch released; until [ -e over ]; do sleep 0.05; done"
    background = Call(
        "toolu_background", "Bash", {"command": waits, "description": "Wait", "timeout": 1000}, background="automatic"
    )
    release = Call("toolu_release", "Bash", {"command": lets_go, "description": "Release"})
    agent = Call(
        "toolu_agent",
        "Agent",
        {
            "description": "Look",
            "prompt": "Look around. [[sub]]",
            "subagent_type": "general-purpose",
            "run_in_background": False,
        },
    )
    sub_ok = Call(
        "toolu_sub_ok", "Bash", {"command": "echo inside", "description": "Say"}, agent_type="general-purpose"
    )
    sub_failed = Call(
        "toolu_sub_failed",
        "Read",
        {"file_path": missing},
        ErrorCategory.FILE_NOT_FOUND,
        FAILED,
        agent_type="general-purpose",
    )
    main: list[Call | Sequence[Call]] = [
        bash_ok, write_ok, read_ok, edit_ok, parallel, background, release, exit_3, not_found, read_missing,
        edit_no_match, edit_not_unique, edit_missing, unknown_tool, bad_input, broken_json, denied_mode, denied_hook,
        agent,
    ]  # fmt: skip
    calls = [call for message in main for call in ([message] if isinstance(message, Call) else message)]
    return Scenario(
        prompt="Try everything. [[everything]]",
        scripts={"everything": _turns(*main), "sub": _turns(sub_ok, sub_failed)},
        calls=[*calls, sub_ok, sub_failed],
        messages=len(main) + 2,
        settings=denying("forbidden-word"),
    )


def background_agent() -> Scenario:
    """A subagent in the background: its second call is made and answered after the turn of the main agent has ended.

    The gate `subagent` holds its second answer.
    """
    kind = "general-purpose"
    agent = Call(
        "toolu_background_agent",
        "Agent",
        {"description": "Look", "prompt": "Look. [[inner]]", "subagent_type": kind, "run_in_background": True},
        background="requested",
    )
    before, after = (
        Call(f"toolu_{name}_turn_end", "Bash", {"command": f"echo {name}", "description": "Say"}, agent_type=kind)
        for name in ("before", "after")
    )
    inner = [*_turns(before), Reply([after.as_block()], gate="subagent")]
    return Scenario("Delegate. [[outer]]", {"outer": _turns(agent), "inner": inner}, [agent, before, after])


def denying(word: str) -> dict[str, Any]:
    """Settings with a PreToolUse hook that denies each Bash call whose payload holds `word`."""
    answer = {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": f"{word} is not allowed here",
        }
    }
    command = f"grep -q {word} && printf '%s' '{json.dumps(answer)}'; exit 0"
    return {"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": command}]}]}}


def turn(name: str, *after: Turn) -> Scenario:
    """One successful call, and `after` what comes then; the script has the name given."""
    call = Call(f"toolu_{name}", "Bash", {"command": f"echo {name}", "description": "Say"})
    return calling(name, call, *after)


def calling(name: str, call: Call, *after: Turn) -> Scenario:
    """One call, and `after` what comes then; the script has the name given."""
    return Scenario(f"Go on. [[{name}]]", {name: [*_turns(call), *after]}, [call])


def api_error(status: int = 400, kind: str = "invalid_request_error") -> Scenario:
    """The API refuses to answer after one successful call, and the client does not try again: the run fails."""
    scenario = turn("api_error", ApiError(status, kind))
    return replace(scenario, env={"CLAUDE_CODE_MAX_RETRIES": "0"})


def max_turns() -> Scenario:
    """The client stops after the first turn, so right after its call."""
    first, never = turn("max_turns"), turn("never")
    scripts = {"max_turns": [*first.scripts["max_turns"], *never.scripts["never"]]}
    return Scenario(first.prompt, scripts, first.calls, args=("--max-turns", "1"))


def endless(name: str) -> Scenario:
    """A Bash call that says it runs by making the file `running`, and never ends by itself."""
    command = "touch running; while :; do sleep 0.1; done"
    call = Call(
        f"toolu_{name}",
        "Bash",
        {"command": command, "description": "Wait"},
        ErrorCategory.INTERRUPTED,
        DENIED,
        in_batch=False,
    )
    return Scenario(f"Wait. [[{name}]]", {name: _turns(call)}, [call])
