"""The error tree. Every error says what was attempted, on what, and what to do; only `cli` turns one into an exit code."""

#: Exit codes of every command (sysexits.h where one fits).
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69  # the daemon is not running
EXIT_TEMPORARY = 75  # another daemon holds the lock
EXIT_CONFIG = 78  # wrong configuration or a newer schema: restarting does not help


class TasksError(Exception):
    """Something that tasksd was asked to do could not be done."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class ConfigError(TasksError):
    """A setting is missing or wrong."""

    exit_code = EXIT_CONFIG


class DaemonNotRunning(TasksError):
    """The daemon is not running; start it with `tasksd up` or `tasksd service install`."""

    exit_code = EXIT_UNAVAILABLE


class AlreadyRunning(TasksError):
    """Another daemon holds the lock of this data directory."""

    exit_code = EXIT_TEMPORARY


class ApiError(TasksError):
    """The daemon refused a request."""


class StoreError(TasksError):
    """The database could not do what was asked."""


class StoreBusy(StoreError):
    """Another process held the write lock of the database for too long."""


class StoreUnavailable(StoreError):
    """The environment failed, not the data: disk full, I/O error, no file descriptors. Trying again later may work."""


class StoreCorrupt(StoreError):
    """The database file is damaged."""


class SchemaTooNew(StoreError):
    """The database was written by a newer tasksd; upgrade tasksd, nothing was touched."""

    exit_code = EXIT_CONFIG


class InstallError(TasksError):
    """A hook or service could not be installed; nothing was changed."""


class ProbeError(TasksError):
    """The state of a process could not be determined; that is not proof that it is gone."""


class NoSuchTask(TasksError):
    """There is no task of that id; `tasksd tasks` lists them."""


class ImpossibleTransition(TasksError):
    """A task cannot go from the status it has to the one that was asked for."""


class PoolFull(TasksError):
    """The pool has as many waiting tasks as it may; wait for some to start, or raise its bound."""


class PoolClosed(TasksError):
    """The pool is shut down and takes no more tasks."""


class SpawnError(TasksError):
    """A process could not be started."""


class GitError(TasksError):
    """Git could not do what was asked; nothing was changed unless the message says so."""


class NotARepository(GitError):
    """The folder is not in a git repository."""


class NoCommits(GitError):
    """The repository has no commit yet: commit something first, or submit with --no-isolation."""


class GitUnavailable(GitError):
    """There is no git that can be used."""


class RepositoryBusy(GitError):
    """Another git process holds a lock of the repository; trying again later works."""
