"""The `git` command: how it is started, bounded, tried again and understood when it fails. Knows nothing of tasks."""

import os
import random
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.errors import GitError, GitUnavailable, NotARepository, RepositoryBusy

OLDEST = (2, 30)
OUTPUT_BYTES = 16 << 20
STDERR_BYTES = 64 << 10  # the rest of what is said about a failure is thrown away
LOCK_PATIENCE = 5.0  # seconds that other git processes get to let go of a lock file
TERM_GRACE = 5.0  # seconds between SIGTERM, at which git removes its lock files, and SIGKILL
LINGER = 0.5  # seconds that output is waited for once the program itself has ended

#: Running git in somebody's repository executes its configuration: everything that no answer needs is off. Filters and
#: merge drivers stay on, contents would be wrong without them.
_HARDENING = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)

#: safe.bareRepository=explicit guards against a bare repository among the files of another one, which no `.git` can be;
#: git before 2.45 refuses those too.
_INSIDE_GIT_DIR = ("-c", "safe.bareRepository=all")

_LOCKED = re.compile(
    r"(?:Unable to create '(?P<lock>.+?\.lock)'|could not lock config file (?P<config>.+?)): File exists"
)
_STRANGERS = re.compile(r"(?:detected dubious ownership in repository at|unsafe repository) \(?'(?P<path>.+?)'")


@dataclass(frozen=True, slots=True)
class Output:
    """What one git command left. `stderr` is cut to 64 KiB and never undecodable."""

    code: int
    stdout: bytes
    stderr: str


class Git:
    """Runs git, one process group per command, without prompts, hooks, background work or an environment of others.

    Safe to share between threads. `timeout` (seconds) holds for every command that names none of its own. `umask` is for
    the files that git writes into checkouts and repositories (None: that of this process, which may be a stricter one).
    """

    def __init__(self, *, timeout: float = 60.0, program: str = "git", umask: int | None = None) -> None:
        self._program = program
        self._timeout = timeout
        self._umask = umask

    @cached_property
    def version(self) -> tuple[int, ...]:
        """Such as (2, 39, 5). Raises GitUnavailable when there is no git or it is older than 2.30."""
        try:
            output = run_program([self._program, "--version"], environ=environment({}), timeout=self._timeout)
        except OSError as error:
            raise GitUnavailable(f"cannot run {self._program}: {error.strerror}; install git 2.30 or later") from error
        found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", output.stdout)
        if output.code != 0 or found is None:
            said = short(output.stderr) or output.stdout.decode("utf-8", "replace").strip()
            raise GitUnavailable(
                f"`{self._program} --version` does not name a version: {said}; install git 2.30 or later"
            )
        version = tuple(int(number) for number in found.groups(b"0"))
        if version < OLDEST:
            name = ".".join(map(str, version))
            raise GitUnavailable(f"git {name} is too old; install git 2.30 or later")
        return version

    def run(
        self,
        *args: str,
        cwd: Path,
        input: bytes | None = None,  # noqa: A002 - the word of subprocess for the same thing
        environ: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = True,
        patience: float = LOCK_PATIENCE,
        inherit: Sequence[int] = (),
        enough: int | None = None,
    ) -> Output:
        """The end of `git <args>` in `cwd`. `environ` is added to a cleaned environment, GIT_* included.

        A command that finds a lock file of another git is tried again for `patience` seconds; the file is never deleted.
        `inherit` are descriptors that the command keeps open, such as that of a lock which must outlive our own death.
        With `check=False` a failure of git's own is returned, but these are raised all the same: RepositoryBusy (naming
        the lock file), NotARepository, GitUnavailable, and GitError for a repository that belongs to somebody else,
        for more than 16 MiB of output, and for a command that was still running after `timeout` seconds.
        A command that prints `enough` bytes is ended there, and that is no failure: `stdout` has these bytes, or all.
        """
        _ = self.version
        if not cwd.is_dir():
            raise NotARepository(f"cannot run git in {cwd}: there is no such folder")
        command = describe(args, cwd)
        options = (*_HARDENING, *(_INSIDE_GIT_DIR if ".git" in cwd.parts else ()))
        end = time.monotonic() + patience
        while True:
            output = run_program(
                [self._program, *options, *args],
                cwd=cwd,
                input=input,
                environ=environment(environ or {}),
                timeout=self._timeout if timeout is None else timeout,
                umask=self._umask,
                inherit=inherit,
                what=command,
                enough=enough,
            )
            lock = _lock_named(output)
            if lock is None:
                break
            if time.monotonic() >= end:
                raise RepositoryBusy(
                    f"{command} found {lock} for {patience:.0f} s: another git works there, or died there; "
                    f"when none runs any more, delete that file"
                )
            time.sleep(random.uniform(0.02, 0.25))  # noqa: S311 - so that two who wait do not meet again
        _raise_for(command, output, check=check)
        return output


def describe(args: Sequence[str], cwd: Path) -> str:
    """A command for messages: `git merge-tree` in <folder>."""
    verb = next(
        (word for word, before in zip(args, ("", *args), strict=False) if word[:1] != "-" and before != "-c"), ""
    )
    return f"`git {verb}` in {cwd}"


def short(stderr: str) -> str:
    """Git's own words in one line: what is fatal or an error when anything is, without hints."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("hint:")]
    worst = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    return "; ".join(worst[:4])[:600]


def run_program(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    input: bytes | None = None,  # noqa: A002 - as above
    environ: Mapping[str, str],
    timeout: float,
    inherit: Sequence[int] = (),
    umask: int | None = None,
    what: str = "",
    enough: int | None = None,
) -> Output:
    """The end of any program, run in a process group (and session) of its own; `enough`: as for Git.run.

    Raises GitError when it takes longer than `timeout` seconds or prints more than 16 MiB (its whole group gets SIGTERM,
    and SIGKILL when the program does not end by that), OSError when it cannot be started.
    """
    what = what or f"`{argv[0]}`"
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(inherit),
        umask=-1 if umask is None else umask,
        start_new_session=True,  # no terminal to ask on, and one group to kill
    )
    with process:
        try:
            return _exchange(process, input or b"", time.monotonic() + timeout, enough)
        except TimeoutError:
            raise GitError(f"{what} was stopped after {timeout:g} s; raise git.timeout when it needs longer") from None
        except OverflowError:
            raise GitError(f"{what} was stopped after {OUTPUT_BYTES >> 20} MiB of output; that is too much") from None
        finally:
            _end(process)


def _exchange(process: subprocess.Popen[bytes], rest: bytes, deadline: float, enough: int | None) -> Output:
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_WRITE if stream is process.stdin else selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(min(LINGER, max(0.0, deadline - time.monotonic())))
            # A process that git left behind may hold the pipes open for ever; git itself has said all by then.
            if not ready and process.poll() is not None:
                break
            if time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    rest = _write(key.fd, rest)
                    done = not rest
                else:
                    content = os.read(key.fd, 1 << 16)
                    (stdout if key.fileobj is process.stdout else stderr).extend(content)
                    done = not content
                if done:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
            if enough is not None and len(stdout) >= enough:
                return Output(0, bytes(stdout[:enough]), "")
            if len(stdout) > OUTPUT_BYTES:
                raise OverflowError
            del stderr[STDERR_BYTES:]
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return Output(code, bytes(stdout), stderr.decode("utf-8", "replace"))


def _write(fd: int, content: bytes) -> bytes:
    """What is left to write; nothing when the reader is gone."""
    try:
        return content[os.write(fd, content[: 1 << 16]) :]
    except BrokenPipeError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)  # not reaped yet, so the number is still that of our group
            process.wait(TERM_GRACE)
        except (ProcessLookupError, PermissionError):  # macOS: a group of zombies only
            process.wait()
        except subprocess.TimeoutExpired:
            continue
        return


def environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would point git at another repository, plus `additions`. HOME and XDG_* stay: user's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") and name != "LANGUAGE"}
    return {
        **environ,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        **additions,
    }


def _lock_named(output: Output) -> str | None:
    found = _LOCKED.search(output.stderr) if output.code != 0 else None
    if found is None:
        return None
    return found["lock"] or f"{found['config']}.lock"


def _raise_for(command: str, output: Output, *, check: bool) -> None:
    if output.code == 0:
        return
    said = short(output.stderr)
    strangers = _STRANGERS.search(output.stderr)
    if strangers is not None:
        path = strangers["path"]
        raise GitError(
            f"{command} was refused by git: {path} belongs to another user; "
            f"when you trust it, run: git config --global --add safe.directory {shlex.quote(path)}"
        )
    if "fatal: not a git repository" in output.stderr:
        raise NotARepository(f"{command} failed: {said}; name a folder inside a repository, or run `git init` there")
    if check:
        ended = f"ended with {output.code}" if output.code >= 0 else f"was killed by signal {-output.code}"
        raise GitError(f"{command} {ended}: {said or 'git said nothing'}; run it by hand there to see more")
