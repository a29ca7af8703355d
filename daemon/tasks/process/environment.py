"""What an agent's environment holds: the marker it is found by, and nothing that belongs to whoever started it."""

from collections.abc import Mapping

#: Holds the id of the task; every hook and every program of an agent inherits it.
TASK_VARIABLE = "TASKS_TASK_ID"
#: Holds `<task id>.<attempt>`: the marker that processes of one run are found by.
RUN_VARIABLE = "TASKS_RUN"

#: Session of the client that the daemon was started in; an agent is never part of it. Settings of the user
#: (CLAUDE_CONFIG_DIR, CLAUDE_CODE_USE_BEDROCK, CLAUDE_CODE_OAUTH_TOKEN, …) stay.
_OF_A_CLIENT = frozenset(
    {
        "AI_AGENT",
        "CLAUDECODE",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_EXECPATH",
        "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_CODE_TASK_LIST_ID",
        "CLAUDE_EFFORT",
        "CLAUDE_ENV_FILE",
        "CLAUDE_JOB_DIR",
        "CLAUDE_PID",
        "CLAUDE_PROJECT_DIR",
    }
)
_OF_A_CLIENT_PREFIXES = (
    "CLAUDE_AGENT_SDK_",
    "CLAUDE_BG_",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SESSION_",
    "CLAUDE_CODE_TMUX_",
    "CLAUDE_PLUGIN_",
)
#: Service manager's talk with the daemon (systemd.exec(5), sd_notify(3), sd_listen_fds(3)).
_OF_A_SERVICE = frozenset(
    {"INVOCATION_ID", "JOURNAL_STREAM", "MANAGERPID", "MANAGERPIDFDID", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"}
)
_OF_A_SERVICE_PREFIXES = ("FDSTORE", "LISTEN_", "MEMORY_PRESSURE_", "WATCHDOG_")
#: Set for the daemon's own interpreter, or true only for the process that had it.
_OF_A_PROCESS = frozenset({"OLDPWD", "PWD", "PYTHONSAFEPATH", "SHLVL", "_"})
#: Who commits and how a remote is reached: not about one repository, so it stays. All other GIT_* goes: GIT_DIR and
#: its like would turn the agent's git to another repository than the one it works in.
_GIT_KEPT = frozenset(
    {
        "GIT_AUTHOR_EMAIL",
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    }
)
_OURS = "TASKS_"


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """What an agent may inherit of `environ`, as a new dictionary.

    Left out: the session of a client that this process runs in, the service manager's variables, GIT_* but for who
    commits and how remotes are reached, TASKS_*. TASKSD_* stays: the caller sets TASKSD_DATA_DIR to the directory in use.
    """
    return {name: value for name, value in environ.items() if not _is_private(name)}


def _is_private(name: str) -> bool:
    if name.startswith("GIT_"):
        return name not in _GIT_KEPT
    return (
        name in _OF_A_CLIENT
        or name in _OF_A_SERVICE
        or name in _OF_A_PROCESS
        or name.startswith((_OURS, *_OF_A_CLIENT_PREFIXES, *_OF_A_SERVICE_PREFIXES))
    )
