"""The start of an agent: under a shell that outlives the daemon, caps the output and notes the exit status."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.errors import SpawnError
from tasks.process.environment import RUN_VARIABLE, TASK_VARIABLE
from tasks.process.identity import ProcessIdentity, boot_id, identify_dead_or_alive
from tasks.process.runfiles import RunFiles

#: What a user's own programs make files with; the daemon's 077 would leave a repository of files only they can read.
USUAL_UMASK = 0o022

#: POSIX sh. Arguments: directory of the run, boot id, cap in blocks of 512 bytes, umask of the agent, markers
#: (NAME=value) up to `--`, the agent's program and arguments. Standard input is the agent's, output and error are
#: nobody's. Variables of the environment must not be overwritten by ours, hence the prefix.
#:
#: - `started` is made exclusively: two shims, or a shim and `RunFiles.forbid_start`, cannot both have it.
#: - Traps are set anew in each subshell that must outlive a signal to the whole group: subshells drop them. The agent
#:   must not inherit them, so they are handlers, not ignored signals, wherever it descends from.
#: - The markers reach the agent only: the processes of the shim are not to be found by them.
#: - `/proc/self` read by a builtin is the subshell itself, whose pid nothing else tells ($$ is that of the main shell).
#: - The place of the exit status is written at the start, so that it can be noted on a full disk.
#: - `ulimit -f` binds one cat alone; what it leaves, and what follows its death, is read by another, so that the agent
#:   neither blocks nor gets SIGPIPE.
SCRIPT = r"""
tasksd_dir=$1 tasksd_boot=$2 tasksd_blocks=$3 tasksd_umask=$4
shift 4
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2

tasksd_note() {
    if { IFS= read -r tasksd_stat </proc/self/stat; } 2>/dev/null; then
        tasksd_pid=${tasksd_stat%% *}
    else
        tasksd_stat= tasksd_pid=$(exec /bin/sh -c 'printf %s "$PPID"')
    fi
    printf '%s\n%s\n%s\n' "$tasksd_pid" "$tasksd_boot" "$tasksd_stat"
}

tasksd_keep() {
    trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2
    PATH=/usr/bin:/bin:$PATH
    (
        trap '' XFSZ
        ulimit -f "$tasksd_blocks"
        exec cat >>"$tasksd_dir/$1"
    ) && exit
    exec cat >/dev/null
}

set -C
tasksd_note >"$tasksd_dir/started" || exit 125
set +C
printf '000\n' >"$tasksd_dir/exit.draft" || exit 125

{
    trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2
    {
        trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2
        (
            tasksd_note >"$tasksd_dir/pid" || exit 125
            umask "$tasksd_umask"
            while [ "$1" != -- ]; do
                export "$1"
                shift
            done
            shift
            exec "$@"
        ) 2>&3 3>&-
        tasksd_status=$?
        trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2
        exec >/dev/null 3>&-
        printf '%03d\n' "$tasksd_status" 1<>"$tasksd_dir/exit.draft"
        PATH=/usr/bin:/bin:$PATH
        exec mv -f -- "$tasksd_dir/exit.draft" "$tasksd_dir/exit"
    } | tasksd_keep output >/dev/null 3>&-
} 3>&1 | tasksd_keep errors
"""

#: A shell can neither trap nor reset what was ignored when it started. Rarely needed, and ten times the cost of a shell.
_RESET = """
import os, signal, sys
for number in signal.valid_signals():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv(sys.argv[1], sys.argv[1:])
"""
#: `subprocess` resets these by itself.
_RESET_ANYWAY = {signal.SIGPIPE, signal.SIGXFSZ}

SHELL = "/bin/sh"
_MARKERS = (TASK_VARIABLE, RUN_VARIABLE)
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")
#: bash takes its own options from these when it is the shell.
_OF_THE_SHELL = frozenset({"BASHOPTS", "SHELLOPTS"})


def spawn(
    files: RunFiles,
    argv: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stdin: Path | None,
    output_bytes: int,
    umask: int = USUAL_UMASK,
) -> ProcessIdentity:
    """Start `argv` in `cwd` with `environ` and nothing else, in a session of its own; return who the shim is.

    The agent has stdin (`stdin`, else /dev/null), stdout and stderr and no other file descriptor, every signal at its
    default and none blocked. `output` and `errors` hold the first `output_bytes` each (to the block of 512 bytes; twice
    that with shells that count in 1024); the rest is read and dropped, so that it is never held up.
    All this works without us: the shim ends by itself when the agent has ended and nobody holds its output any more.

    Names in `environ` that are not identifiers do not get through a shell and are left out. The shim is our child: `Watch` or
    `reap` takes it from the process table. Takes some milliseconds: call it in a thread.
    Raises SpawnError, and nothing runs, when a run was started in `files`, when there is no such program, directory or
    `stdin`, and when the system refuses another process. What only turns out later, such as a program that the system
    cannot execute, is exit status 126 or 127 with a line in `errors`.
    """
    files.prepare()
    program = _find(argv[0], cwd, environ)
    environment = {
        name: value
        for name, value in environ.items()
        if _IDENTIFIER.fullmatch(name) and name not in _OF_THE_SHELL and name not in _MARKERS
    }
    environment["PWD"] = str(cwd)
    markers = [f"{name}={environ[name]}" for name in _MARKERS if name in environ]
    shell = [SHELL, "-c", SCRIPT, "tasksd-shim"]
    settings = [str(files.directory.absolute()), boot_id(), str(max(1, output_bytes // 512)), f"{umask:03o}"]
    command = [*_prefix(), *shell, *settings, *markers, "--", program, *argv[1:]]
    try:
        with Path(stdin or os.devnull).open("rb") as source:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=source,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                umask=0o077,
            )
    except (OSError, ValueError) as error:
        raise SpawnError(f"cannot start {argv[0]} in {cwd}: {error}; {_advice(error)}") from error
    # Never waited for by `subprocess`: it would take the pid of whoever has it later.
    process.returncode = 0
    identity = identify_dead_or_alive(process.pid)
    if identity is None:
        raise SpawnError(
            f"cannot tell the start of {argv[0]} in {cwd}: somebody else reaps the children of this process"
        )
    return identity


def _find(program: str, cwd: Path, environ: Mapping[str, str]) -> str:
    """The absolute path of `program` as seen from `cwd`."""
    search = environ.get("PATH", os.defpath).split(os.pathsep)
    if os.sep in program:
        found = shutil.which(cwd.absolute() / program)
    else:
        found = shutil.which(program, path=os.pathsep.join(str(cwd.absolute() / entry) for entry in search))
    if found is None:
        where = (
            "it is not an executable file" if os.sep in program else f"it is not on PATH ({os.pathsep.join(search)})"
        )
        raise SpawnError(f"cannot start {program} in {cwd}: {where}; install it or name it by its full path")
    return str(found)


def _prefix() -> list[str]:
    """What must run before the shell, so that signals ignored or blocked here are not so in the agent."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    if ignored <= _RESET_ANYWAY and not signal.pthread_sigmask(signal.SIG_BLOCK, []):
        return []
    return [sys.executable, "-I", "-S", "-c", _RESET]


def _advice(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "take the NUL character out"
    return "check that it exists and that the system allows another process"
