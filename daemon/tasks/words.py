"""The vocabulary: every closed set of words that is stored, printed or sent, in one place."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum


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


#: The tools that touch a file: how, and the parameter that names it.
FILE_TOOLS: Mapping[str, tuple[FileAction, str]] = {
    "Read": (FileAction.READ, "file_path"),
    "NotebookRead": (FileAction.READ, "notebook_path"),
    "Write": (FileAction.WRITE, "file_path"),
    "Edit": (FileAction.EDIT, "file_path"),
    "MultiEdit": (FileAction.EDIT, "file_path"),
    "NotebookEdit": (FileAction.EDIT, "notebook_path"),
}


class CallSource(StrEnum):
    """What a stored tool call rests on, weakest first; a stronger source replaces a weaker one, never the reverse."""

    #: closed by us because its turn, session or process ended
    INFERRED = "inferred"
    #: known from the transcript alone: no hook reported it
    TRANSCRIPT = "transcript"
    #: known from PostToolBatch alone: refused or denied, so that no hook of its own fired
    BATCH = "batch"
    #: PostToolUse or PostToolUseFailure
    HOOK = "hook"
    #: recorded through the Python API
    API = "api"


class TaskStatus(StrEnum):
    """Where a task stands. One at a time; `tasks.manager` has the graph."""

    #: stored, not yet given to the pool
    PENDING = "pending"
    #: waits for a slot, or for what `hold_reason` says
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    #: by a person
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        return self in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED)


class TaskPriority(IntEnum):
    """How urgent a task is; lower numbers go first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Failure(StrEnum):
    """Why a task failed; `error` says it in a sentence."""

    #: the agent said so: its last result is an error, or it ended without one
    AGENT_ERROR = "agent_error"
    #: the command could not be started
    NOT_STARTED = "not_started"
    #: no worktree could be made
    NO_WORKTREE = "no_worktree"
    #: ran longer than the wall clock allows
    TIMEOUT = "timeout"
    #: neither output nor CPU time for too long
    NO_PROGRESS = "no_progress"
    #: wrote more output than allowed
    OUTPUT_LIMIT = "output_limit"
    #: spent its money, or its turns
    BUDGET = "budget"
    MAX_TURNS = "max_turns"
    #: its process vanished (reboot, SIGKILL from outside) and left no exit status
    LOST = "lost"
    #: the rules of the enforcer
    POLICY = "policy"


class MergeState(StrEnum):
    """What became of a task's branch, beside its status."""

    #: no branch, or nothing to merge yet
    NONE = "none"
    #: to be merged as soon as what `merge_detail` names is out of the way
    WAITING = "waiting"
    MERGING = "merging"
    MERGED = "merged"
    #: does not fit; `merge_paths` names the files, branch and worktree are kept
    CONFLICT = "conflict"
    #: branch and worktree are kept for a person; `merge_detail` says why
    KEPT = "kept"


class RuleMode(StrEnum):
    """What happens when a rule is not met."""

    OFF = "off"
    WARN = "warn"
    BLOCK = "block"


class Stage(StrEnum):
    """Where a rule was checked."""

    #: before a task's agent starts, and after it ended
    PRE_TASK = "pre_task"
    POST_TASK = "post_task"
    #: in a person's own session, by hooks/guard
    PROMPT = "prompt"
    STOP = "stop"
    COMMIT = "commit"


class Dirt(StrEnum):
    """What can make a workspace dirty."""

    STAGED = "staged"
    UNSTAGED = "unstaged"
    UNTRACKED = "untracked"
    SUBMODULES = "submodules"
    #: a merge, rebase, cherry-pick, revert or bisect under way
    IN_PROGRESS = "in_progress"


class CostDimension(StrEnum):
    """What costs can be divided by."""

    MODEL = "model"
    PROJECT = "project"
    SESSION = "session"
    TASK = "task"
    #: '' the main agent
    AGENT_TYPE = "agent_type"
    WORKFLOW = "workflow"
    DAY = "day"


class Role(StrEnum):
    """What an account may do; each covers those before it."""

    #: looks
    VIEWER = "viewer"
    #: hands over and steers work: whoever may do that lets agents run on this machine
    OPERATOR = "operator"
    #: manages accounts, and sees what is not redacted
    ADMIN = "admin"

    def covers(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)
