"""Programs of their own for tests of what happens between processes, and repositories as users have them."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

DEADLINE = 15.0  # seconds


class Eventually(Protocol):
    def __call__(self, condition: Callable[[], object], *, seconds: float = DEADLINE) -> None: ...


class EventuallyAsync(Protocol):
    async def __call__(self, condition: Callable[[], Awaitable[object]], *, seconds: float = DEADLINE) -> None: ...


class Programs:
    """Runs Python source in other processes, with the import path of this one; ends them with the test."""

    def __init__(self, tmp_path: Path) -> None:
        self._cwd = tmp_path
        self._started: list[subprocess.Popen[str]] = []

    def start(self, source: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """`arguments` are in `args`, as text; `say(text)` prints a line at once; `hear()` reads one from the test."""
        preamble = (
            f"import sys; sys.path[:] = {sys.path!r}; args = sys.argv[1:]\n"
            "def say(*words): print(*words, flush=True)\n"
            "def hear(): return sys.stdin.readline().strip()\n"
        )
        program = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", preamble + source, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._cwd,
        )
        self._started.append(program)
        return program

    def run(
        self, source: str, *arguments: object, prefix: tuple[str, ...] = (), seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Its end, whatever the exit code. A program that prints SKIP and a reason skips the test."""
        program = self.start(source, *arguments, prefix=prefix)
        out, err = program.communicate(timeout=seconds)
        for line in out.splitlines():
            if line.startswith("SKIP"):
                pytest.skip(line)
        return subprocess.CompletedProcess(program.args, program.returncode, out, err)

    def unshared(self, *options: str) -> tuple[str, ...]:
        """The prefix that runs a program in namespaces of its own; skips the test where that is not permitted."""
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not here")
        user = () if os.geteuid() == 0 else ("--map-root-user",)
        prefix = ("unshare", *user, *options)
        trial = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if trial.returncode != 0:
            pytest.skip(f"unshare is not permitted: {trial.stderr.decode().strip()}")
        return prefix

    def close(self) -> None:
        for program in self._started:
            if program.poll() is None:
                program.kill()
            program.communicate()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.close()


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds, and fails when it does not in time."""

    def wait(condition: Callable[[], object], *, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition was not met in time"
            time.sleep(0.005)

    return wait


@pytest.fixture
def eventually_async() -> EventuallyAsync:
    import asyncio

    async def wait(condition: Callable[[], Awaitable[object]], *, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < end, "the condition was not met in time"
            await asyncio.sleep(0.005)

    return wait


class Repository:
    """A repository of a user, by the plain `git` command. `root` is its working tree, or the bare repository."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str | bytes, cwd: Path | None = None, check: bool = True) -> str:
        """What it prints, undecodable bytes as surrogates, without the last line break."""
        command = subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        assert not check or command.returncode == 0, (arguments, command.stderr)
        return os.fsdecode(command.stdout).removesuffix("\n")

    def write(self, **files: str) -> None:
        """Files by name; "__" stands for "." and "_in_" for a folder: `src_in_a__py="…"` is src/a.py."""
        for name, content in files.items():
            self.put(name.replace("_in_", "/").replace("__", "."), content)

    def put(self, name: str, content: str | bytes, *, at: Path | None = None) -> Path:
        path = (at or self.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def commit(self, message: str = "more", *, at: Path | None = None) -> str:
        """Everything that is there, ignored files excepted; the name of the commit."""
        self.git("add", "-A", cwd=at)
        self.git("commit", "-q", "--allow-empty", "-m", message, cwd=at)
        return self.git("rev-parse", "HEAD", cwd=at)

    def snapshot(self) -> dict[str, str]:
        """Content, mode and mtime of everything in the working tree and of git's own files: index, HEAD, stash, config.

        Without objects and what belongs to tasks: their branches, backups and worktrees.
        """
        ours = (".git/objects", ".git/worktrees", ".git/refs", ".git/logs/refs/heads", ".git/logs/refs")
        theirs = (".git/refs/heads/main", ".git/refs/stash", ".git/logs/refs/stash", ".git/logs/refs/heads/main")
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                inside = path.relative_to(self.root).as_posix()
                if inside.startswith(ours) and not inside.startswith(theirs):
                    continue
                status = path.lstat()
                content = b""
                if path.is_symlink():
                    content = os.readlink(os.fsencode(path))
                elif path.is_file():
                    content = path.read_bytes()
                # A draft that git renames changes the time of the folder; whoever reads a shared index renews its time.
                stamp = 0 if inside == ".git" or inside.startswith(".git/sharedindex") else status.st_mtime_ns
                found[inside] = f"{hashlib.sha256(content).hexdigest()} {status.st_mode:o} {stamp}"
        return found


class MakeRepository(Protocol):
    def __call__(self, name: str | bytes = "repository", *init: str, commit: bool = True) -> Repository: ...


@pytest.fixture
def git_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose git knows a name and nothing else; nothing of the machine's own settings counts."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return home


@pytest.fixture
def make_repository(tmp_path: Path, git_home: Path) -> MakeRepository:
    """Makes repositories on branch main, each with one commit of a few files when it has a working tree."""

    def make(name: str | bytes = "repository", *init: str, commit: bool = True) -> Repository:
        root = tmp_path / os.fsdecode(name)
        root.mkdir(parents=True)
        made = Repository(root)
        made.git("init", "-q", "-b", "main", *init)
        if commit and "--bare" not in init:
            made.write(
                a__txt="one\n", b__txt="two\n", src_in_app_in_main__py="print()\n", __gitignore="*.log\n/build/\n"
            )
            made.commit("first")
        return made

    return make


@pytest.fixture
def repository(make_repository: MakeRepository) -> Repository:
    return make_repository()
