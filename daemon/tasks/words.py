"""The vocabulary: every closed set of words that is stored, printed or sent, in one place."""

from enum import StrEnum


class ErrorCategory(StrEnum):
    """Why a tool call failed. The first five are the standard ones, the rest refine what they leave open."""

    FILE_NOT_FOUND = "file_not_found"
    PERMISSION_DENIED = "permission_denied"
    TIMEOUT = "timeout"
    COMMAND_FAILED = "command_failed"
    SYNTAX_ERROR = "syntax_error"
    #: a hook, a permission rule or the permission mode refused the call
    BLOCKED = "blocked"
    #: the person said no, or stopped the call
    USER_REJECTED = "user_rejected"
    #: the client refused the call before it ran: bad parameters, unknown tool, a path of the wrong kind
    INVALID_INPUT = "invalid_input"
    #: an edit that does not fit the file as it is (not read yet, modified since, text not found or not unique)
    STALE_EDIT = "stale_edit"
    NETWORK_ERROR = "network_error"
    #: disk, memory, file descriptors, quota
    RESOURCE_EXHAUSTED = "resource_exhausted"
    #: the tool itself failed, with nothing more to say (MCP servers)
    TOOL_ERROR = "tool_error"
    #: the call was open when its turn or its process ended; given when calls are closed, never by `categorize`
    INTERRUPTED = "interrupted"


class SessionStatus(StrEnum):
    """What the agent of a session is doing. One at a time."""

    STARTING = "starting"
    WORKING = "working"
    WAITING_PERMISSION = "waiting_permission"
    WAITING_INPUT = "waiting_input"
    IDLE = "idle"
    ENDED = "ended"
    #: its last turn ended in an error of the API
    FAILED = "failed"
    #: its process is gone and no SessionEnd came
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        return self in (SessionStatus.ENDED, SessionStatus.FAILED, SessionStatus.LOST)


class PrivacyLevel(StrEnum):
    """How much of what an agent reads and writes is stored."""

    #: no tool input, no tool output, no prompt text
    MINIMAL = "minimal"
    #: redacted previews: at most 8 KiB a string and 64 KiB an event
    DEFAULT = "default"
    #: redacted, but not cut
    FULL = "full"


class QuarantineReason(StrEnum):
    """Why a spool entry could not become an event."""

    BAD_NAME = "bad_name"
    NOT_REGULAR = "not_regular"
    FOREIGN_OWNER = "foreign_owner"
    HARDLINK = "hardlink"
    WRITABLE_BY_OTHERS = "writable_by_others"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    TORN = "torn"
    BAD_UTF8 = "bad_utf8"
    BAD_JSON = "bad_json"
    NUL = "nul"
    TOO_DEEP = "too_deep"
    SCHEMA = "schema"
    INT_RANGE = "int_range"
    CRASH_SUSPECT = "crash_suspect"
    INTERNAL = "internal"


class FileAction(StrEnum):
    """How a tool touched a file."""

    READ = "read"
    WRITE = "write"
    EDIT = "edit"


class CallSource(StrEnum):
    """What a stored tool call rests on, weakest first; a stronger source replaces a weaker one, never the reverse."""

    #: closed by us because its turn, session or process ended
    INFERRED = "inferred"
    #: known from PostToolBatch alone: refused or denied, so that no hook of its own fired
    BATCH = "batch"
    #: PostToolUse or PostToolUseFailure
    HOOK = "hook"
    #: recorded through the Python API
    API = "api"
