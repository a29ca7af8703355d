"""One conversation with a client that is only played: the hook events, transcript lines and output that it would write."""

import json
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

Json = dict[str, Any]
#: Input, output, cache reads, cache writes for five minutes, for an hour.
Tokens = tuple[int, int, int, int, int]

#: The version that is played: payloads and lines have its form.
VERSION = "2.1.330"
#: Tokens of a system prompt with its tools, and where a conversation would be compacted.
_BEGINNING, _LONGEST_CONTEXT = 17_000, 150_000

Outcome = Literal["ok", "failed", "refused", "denied", "rejected", "open", "unreported"]
#: What the client's hooks report of themselves, beside what PostToolBatch says.
_BEGUN = frozenset(("ok", "failed", "denied", "rejected", "open"))


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call and what comes of it.

    refused: before it ran; denied: by a rule; rejected: by a person; open: never answered; unreported: its hooks are lost.
    """

    tool: str
    arguments: Json
    #: what the model is told
    text: str
    outcome: Outcome = "ok"
    #: of PostToolUse; None: the text
    response: Any = None
    #: milliseconds
    duration: int = 20
    #: what it really does, when its time is over
    effect: Callable[[], None] | None = None


class Stage(Protocol):
    """Where a conversation is heard: in the past, or now."""

    def now(self) -> int:
        """Epoch milliseconds."""
        ...

    def wait(self, milliseconds: float) -> None: ...
    def hook(self, payload: Json) -> None: ...
    def line(self, transcript: Path, line: Json) -> None: ...
    def output(self, line: Json) -> None: ...


@dataclass(frozen=True, slots=True)
class Side:
    """Which subagent speaks."""

    agent_id: str
    agent_type: str


@dataclass(slots=True)
class Conversation:
    """Says on its stage what the client says of a session. Its methods take the time that they would take."""

    stage: Stage
    rng: random.Random
    session: str
    cwd: Path
    #: the client's folder of projects
    projects: Path
    model: str
    mode: str = "acceptEdits"
    branch: str = "main"
    #: the logarithm of the milliseconds that the API usually takes
    thinking: float = 8.2
    #: None: the main agent
    side: Side | None = None
    #: model → tokens so far, those of subagents included
    spent: dict[str, Tokens] = field(default_factory=dict)
    #: answers of the API so far
    turns: int = 0
    #: lines of the transcript with a uuid, for forks
    said: list[Json] = field(default_factory=list)
    #: the main agent's file, and the one of who speaks
    transcript: Path = field(init=False)
    file: Path = field(init=False)
    _prompt_id: str | None = None
    _context: int = _BEGINNING

    def __post_init__(self) -> None:
        self.transcript = self.file = self.projects / str(self.cwd).replace("/", "-") / f"{self.session}.jsonl"
        if self.side is not None:
            self.file = self.transcript.with_suffix("") / "subagents" / f"agent-{self.side.agent_id}.jsonl"

    def start(self, source: str = "startup") -> None:
        self._hook("SessionStart", source=source, model=self.model)
        self.stage.output(
            {"type": "system", "subtype": "init", "cwd": str(self.cwd), "session_id": self.session, "model": self.model,
             "tools": ["Bash", "Edit", "Glob", "Grep", "Read", "Task", "Write"], "permissionMode": self.mode,
             "claude_code_version": VERSION, "uuid": self.unique()}
        )  # fmt: skip

    def prompt(self, text: str) -> None:
        self._prompt_id = self.unique()
        if self.side is None:
            self._hook("UserPromptSubmit", permission_mode=self.mode, prompt=text)
        self._line("user", promptId=self._prompt_id, message={"role": "user", "content": text})

    def answer(self, text: str, calls: Sequence[Call] = ()) -> None:
        """One answer of the API, and its calls, at once."""
        self.stage.wait(self.rng.lognormvariate(self.thinking, 0.5))
        made = [(f"toolu_{self.rng.getrandbits(96):024x}", call) for call in calls]
        blocks: list[Json] = [{"type": "text", "text": text}] if text else []
        blocks += [{"type": "tool_use", "id": one, "name": call.tool, "input": call.arguments} for one, call in made]
        self._message(blocks, calls=bool(calls))
        if not made:
            return
        for one, call in made:
            if call.outcome in _BEGUN:
                self._tool_hook("PreToolUse", one, call)
            if call.outcome == "rejected":
                self._request_permission(call)
        for one, call in made:
            self._carry_out(one, call)
        answered = [(one, call) for one, call in made if call.outcome != "open"]
        if answered and any(call.outcome != "unreported" for _, call in answered):
            told = [
                {"tool_name": call.tool, "tool_input": call.arguments, "tool_use_id": one, "tool_response": call.text}
                for one, call in answered
            ]
            self._hook("PostToolBatch", permission_mode=self.mode, tool_calls=told)

    def ask_permission(self, call: Call, milliseconds: float) -> None:
        """A call that a person has to allow, and does after so long."""
        one = f"toolu_{self.rng.getrandbits(96):024x}"
        self._message([{"type": "tool_use", "id": one, "name": call.tool, "input": call.arguments}], calls=True)
        self._tool_hook("PreToolUse", one, call)
        self._request_permission(call)
        self.stage.wait(min(milliseconds, 6000))
        self._hook("Notification", message="Claude needs your permission", notification_type="permission_prompt")
        self.stage.wait(max(milliseconds - 6000, 0))
        self._carry_out(one, call)

    def delegate(self, agent_type: str, task: str, model: str, work: "Callable[[Conversation], None]") -> None:
        """Let a subagent do something: `work` plays it."""
        side = Side(f"a{self.rng.getrandbits(64):016x}", agent_type)
        sub = Conversation(
            self.stage,
            self.rng,
            self.session,
            self.cwd,
            self.projects,
            model,
            self.mode,
            self.branch,
            self.thinking,
            side,
            self.spent,
        )
        one = f"toolu_{self.rng.getrandbits(96):024x}"
        arguments = {"description": task[:40], "prompt": task, "subagent_type": agent_type}
        call = Call("Agent", arguments, "Done.")
        self._message([{"type": "tool_use", "id": one, "name": "Agent", "input": arguments}], calls=True)
        self._tool_hook("PreToolUse", one, call)
        began = self.stage.now()
        sub._hook("SubagentStart")
        meta = {"agentType": agent_type, "description": arguments["description"], "toolUseId": one, "spawnDepth": 1}
        self.stage.line(sub.file.with_suffix(".meta.json"), meta)
        sub.prompt(task)
        work(sub)
        sub._hook(
            "SubagentStop", permission_mode=self.mode, stop_hook_active=False, agent_transcript_path=str(sub.file),
            last_assistant_message="Done.", background_tasks=[], session_crons=[],
        )  # fmt: skip
        took = self.stage.now() - began
        response = {"status": "completed", "agentId": side.agent_id, "agentType": agent_type, "totalDurationMs": took,
                    "content": [{"type": "text", "text": "Done."}], "totalToolUseCount": sub.turns}  # fmt: skip
        self._hook("PostToolUse", permission_mode=self.mode, tool_name="Agent", tool_input=arguments,
                   tool_response=response, tool_use_id=one, duration_ms=took)  # fmt: skip
        self._result(one, "Done.", is_error=False)

    def stop(self, text: str) -> None:
        """The turn is over: the agent says its last words."""
        self.answer(text)
        self._hook("Stop", permission_mode=self.mode, stop_hook_active=False, last_assistant_message=text,
                   background_tasks=[], session_crons=[])  # fmt: skip

    def fail(self, error: str, text: str) -> None:
        """The API ends the turn with `error`, the client's word for it."""
        self._hook("StopFailure", error=error, last_assistant_message=text)

    def end(self, reason: str = "other") -> None:
        self._hook("SessionEnd", reason=reason)

    def notify_idle(self) -> None:
        self._hook("Notification", message="Claude is waiting for your input", notification_type="idle_prompt")

    def result(self, text: str, cost_usd: float, *, is_error: bool = False, terminal_reason: str = "completed") -> None:
        """The last line of a client's output."""
        names = ("inputTokens", "outputTokens", "cacheReadInputTokens")
        usage = {
            model: dict(zip(names, tokens, strict=False))
            | {"cacheCreationInputTokens": tokens[3] + tokens[4], "cacheCreationEphemeral1hInputTokens": tokens[4]}
            for model, tokens in self.spent.items()
        }
        self.stage.output(
            {"type": "result", "subtype": "success", "is_error": is_error, "num_turns": max(self.turns, 1), "result": text,
             "session_id": self.session, "total_cost_usd": cost_usd, "modelUsage": usage,
             "terminal_reason": terminal_reason, "uuid": self.unique()}
        )  # fmt: skip

    def unique(self) -> str:
        return unique(self.rng)

    def _request_permission(self, call: Call) -> None:
        self._hook("PermissionRequest", permission_mode=self.mode, tool_name=call.tool, tool_input=call.arguments,
                   permission_suggestions=[])  # fmt: skip

    def _carry_out(self, one: str, call: Call) -> None:
        self.stage.wait(call.duration)
        if call.effect is not None:
            call.effect()
        match call.outcome:
            case "ok":
                response = call.text if call.response is None else call.response
                self._tool_hook("PostToolUse", one, call, tool_response=response, duration_ms=call.duration)
            case "failed":
                self._tool_hook(
                    "PostToolUseFailure", one, call, error=call.text, is_interrupt=False, duration_ms=call.duration
                )
            case "open":
                return
        self._result(one, call.text, is_error=call.outcome not in ("ok", "unreported"))

    def _message(self, blocks: list[Json], *, calls: bool) -> None:
        usage, tokens = self._usage()
        before = self.spent.get(self.model, (0, 0, 0, 0, 0))
        one, two, three, four, five = (a + b for a, b in zip(before, tokens, strict=True))
        self.spent[self.model] = (one, two, three, four, five)
        self.turns += 1
        message: Json = {"id": f"msg_{self.rng.getrandbits(96):024x}", "type": "message", "role": "assistant",
                         "model": self.model, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
                         "usage": usage}  # fmt: skip
        for block in blocks:
            self._line("assistant", requestId=f"req_{message['id'][4:]}", message={**message, "content": [block]})
            # The client prints what the API said at the beginning of the message.
            usage_then = {**usage, "output_tokens": 1}
            self.stage.output(
                {"type": "assistant", "message": {**message, "content": [block], "usage": usage_then},
                 "parent_tool_use_id": None if self.side is None else "toolu_side", "session_id": self.session,
                 **({"subagent_type": self.side.agent_type} if self.side else {}), "uuid": self.unique()}
            )  # fmt: skip

    def _usage(self) -> tuple[Json, Tokens]:
        rng = self.rng
        written = min(int(rng.lognormvariate(6.6, 0.9)), 12_000)
        hour = written if self.side is None and rng.random() < 0.6 else 0
        output = min(int(rng.lognormvariate(5.4, 0.8)) + 20, 6_000)
        first = self._context == _BEGINNING
        read = 0 if first and rng.random() < 0.4 else self._context
        if not read:
            written, hour = written + self._context, hour and written + self._context
        tokens = (rng.randint(2, 30), output, read, written - hour, hour)
        self._context = min(self._context + output + (written if read else 0), _LONGEST_CONTEXT)
        usage = {
            "input_tokens": tokens[0], "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
            "output_tokens": output, "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            "service_tier": "standard", "speed": "standard", "inference_geo": "",
            "cache_creation": {"ephemeral_1h_input_tokens": hour, "ephemeral_5m_input_tokens": written - hour},
        }  # fmt: skip
        return usage, tokens

    def _result(self, one: str, text: str, *, is_error: bool) -> None:
        block: Json = {"tool_use_id": one, "type": "tool_result", "content": text, "is_error": is_error}
        self._line("user", promptId=self._prompt_id, message={"role": "user", "content": [block]})
        self.stage.output(
            {"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": None,
             "session_id": self.session, "uuid": self.unique()}
        )  # fmt: skip

    def _tool_hook(self, event: str, one: str, call: Call, **fields: Any) -> None:
        if call.outcome == "unreported":
            return
        self._hook(event, permission_mode=self.mode, effort={"level": "high"}, tool_name=call.tool,
                   tool_input=call.arguments, **fields, tool_use_id=one)  # fmt: skip

    def _hook(self, event: str, **fields: Any) -> None:
        side = {"agent_id": self.side.agent_id, "agent_type": self.side.agent_type} if self.side else {}
        prompt = {"prompt_id": self._prompt_id} if self._prompt_id else {}
        self.stage.hook(
            {"session_id": self.session, "transcript_path": str(self.transcript), "cwd": str(self.cwd), **prompt, **side,
             "hook_event_name": event, **fields}
        )  # fmt: skip

    def _line(self, kind: str, **fields: Any) -> None:
        line = {
            "parentUuid": self.said[-1]["uuid"] if self.said else None, "isSidechain": self.side is not None,
            **({"agentId": self.side.agent_id} if self.side else {}), **fields, "type": kind, "uuid": self.unique(),
            "timestamp": stamp(self.stage.now()), "userType": "external", "entrypoint": "cli", "cwd": str(self.cwd),
            "sessionId": self.session, "version": VERSION, "gitBranch": self.branch,
        }  # fmt: skip
        self.said.append(line)
        self.stage.line(self.file, line)


#: Compact, as the client writes it.
spelled = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def unique(rng: random.Random) -> str:
    """A UUID, the same for the same seed."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def stamp(milliseconds: int) -> str:
    """As the client writes times."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
