"""One model for every kind of event that the client is known to send (2.1.330).

Only what decides how an event is understood is typed; everything else is kept as it comes, unknown fields included, so
that a client which changes a detail never gets its events refused. Source: payloads recorded from the client.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Ids and names: printable, of sane length, so that they can be stored, compared and shown as they are.
Word = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
#: A name that may be empty, which says as much as its absence.
MaybeWord = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Event(BaseModel):
    """What every event carries. `agent_id` marks events of a subagent, which run under its parent's session."""

    model_config = ConfigDict(extra="allow")

    session_id: Word
    hook_event_name: Word
    transcript_path: str | None = None
    cwd: str | None = None
    prompt_id: MaybeWord | None = None
    permission_mode: Any = None
    effort: Any = None
    agent_id: MaybeWord | None = None
    agent_type: str | None = None


class UnknownEvent(Event):
    """A kind that this version does not know. It is stored like the others."""


class ToolEvent(Event):
    tool_name: Word
    tool_input: Any = None


class PreToolUse(ToolEvent):
    hook_event_name: Literal["PreToolUse"]
    tool_use_id: Word


class PostToolUse(ToolEvent):
    hook_event_name: Literal["PostToolUse"]
    tool_use_id: Word
    tool_response: Any = None
    #: milliseconds; what is none (a clock was set back) is not worth losing an event for
    duration_ms: Any = None


class PostToolUseFailure(ToolEvent):
    """A call that ran and failed. Calls that were refused or denied only show up in PostToolBatch."""

    hook_event_name: Literal["PostToolUseFailure"]
    tool_use_id: Word
    error: str = ""
    is_interrupt: bool = False
    #: milliseconds; what is none (a clock was set back) is not worth losing an event for
    duration_ms: Any = None


class BatchCall(BaseModel):
    model_config = ConfigDict(extra="allow")

    tool_name: Word
    tool_use_id: Word
    tool_input: Any = None
    #: what the model is told: text, or content blocks
    tool_response: Any = None


class PostToolBatch(Event):
    """All calls of one assistant message, once all are finished, refused and denied ones included."""

    hook_event_name: Literal["PostToolBatch"]
    tool_calls: list[BatchCall] = []


class PermissionRequest(ToolEvent):
    hook_event_name: Literal["PermissionRequest"]


class PermissionDenied(ToolEvent):
    hook_event_name: Literal["PermissionDenied"]
    tool_use_id: Word | None = None
    reason: Any = None


class UserPromptSubmit(Event):
    hook_event_name: Literal["UserPromptSubmit"]
    prompt: Any = None


class UserPromptExpansion(Event):
    hook_event_name: Literal["UserPromptExpansion"]


class SessionStart(Event):
    hook_event_name: Literal["SessionStart"]
    source: Word = "startup"
    model: Any = None


class SessionEnd(Event):
    hook_event_name: Literal["SessionEnd"]
    reason: Any = None


class Setup(Event):
    hook_event_name: Literal["Setup"]


class Stop(Event):
    hook_event_name: Literal["Stop"]
    stop_hook_active: Any = None


class StopFailure(Event):
    """A turn that an API error ended; with `agent_id`, a subagent's, which then sends no SubagentStop."""

    hook_event_name: Literal["StopFailure"]
    error: Any = None
    error_details: Any = None


class SubagentStart(Event):
    hook_event_name: Literal["SubagentStart"]


class SubagentStop(Event):
    """Compaction sends one without a start, with an empty agent_type."""

    hook_event_name: Literal["SubagentStop"]


class Notification(Event):
    hook_event_name: Literal["Notification"]
    message: Any = None
    notification_type: Any = None


class Elicitation(Event):
    hook_event_name: Literal["Elicitation"]
    message: Any = None


class ElicitationResult(Event):
    hook_event_name: Literal["ElicitationResult"]


class PreCompact(Event):
    hook_event_name: Literal["PreCompact"]
    trigger: Any = None


class PostCompact(Event):
    hook_event_name: Literal["PostCompact"]
    trigger: Any = None


class PreModelSwitch(Event):
    hook_event_name: Literal["PreModelSwitch"]


class PostModelSwitch(Event):
    hook_event_name: Literal["PostModelSwitch"]


class TaskCreated(Event):
    hook_event_name: Literal["TaskCreated"]


class TaskCompleted(Event):
    hook_event_name: Literal["TaskCompleted"]


class TeammateIdle(Event):
    hook_event_name: Literal["TeammateIdle"]


class CwdChanged(Event):
    hook_event_name: Literal["CwdChanged"]
    old_cwd: Any = None
    new_cwd: Any = None


class FileChanged(Event):
    hook_event_name: Literal["FileChanged"]


class ConfigChange(Event):
    hook_event_name: Literal["ConfigChange"]


class DirectoryAdded(Event):
    hook_event_name: Literal["DirectoryAdded"]


class InstructionsLoaded(Event):
    hook_event_name: Literal["InstructionsLoaded"]


class WorktreeCreate(Event):
    """Never registered: a hook of this kind replaces `git worktree add`. Known in case someone else records it."""

    hook_event_name: Literal["WorktreeCreate"]


class WorktreeRemove(Event):
    hook_event_name: Literal["WorktreeRemove"]


class MessageDisplay(Event):
    """Never registered: it fires for every streamed piece of text."""

    hook_event_name: Literal["MessageDisplay"]


KnownEvent = Annotated[
    PreToolUse
    | PostToolUse
    | PostToolUseFailure
    | PostToolBatch
    | PermissionRequest
    | PermissionDenied
    | UserPromptSubmit
    | UserPromptExpansion
    | SessionStart
    | SessionEnd
    | Setup
    | Stop
    | StopFailure
    | SubagentStart
    | SubagentStop
    | Notification
    | Elicitation
    | ElicitationResult
    | PreCompact
    | PostCompact
    | PreModelSwitch
    | PostModelSwitch
    | TaskCreated
    | TaskCompleted
    | TeammateIdle
    | CwdChanged
    | FileChanged
    | ConfigChange
    | DirectoryAdded
    | InstructionsLoaded
    | WorktreeCreate
    | WorktreeRemove
    | MessageDisplay,
    Field(discriminator="hook_event_name"),
]
