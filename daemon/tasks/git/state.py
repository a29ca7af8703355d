"""What a working tree looks like and what was committed in it. Looks only: it takes no lock and changes no file."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

import pygit2

from tasks.errors import GitError, GitUnavailable, NoCommits, NotARepository, RepositoryBusy
from tasks.git.command import Git
from tasks.git.patterns import matches
from tasks.git.place import Place, listed, locate, read_head, shown
from tasks.words import Dirt

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class WorkspaceState:
    """What `git status` says of the whole working tree that a folder is in.

    Paths are relative to `root`, as the file system has them (undecodable bytes as surrogates); `shown` in tasks.git
    makes one printable. A path with a conflict is both staged and unstaged. The four tuples are sorted by git.
    """

    #: the top of the working tree; None: a bare repository, which has no files to be dirty
    root: Path | None
    common_dir: Path
    #: None: detached
    branch: str | None
    #: None: no commit yet
    head: str | None
    staged: tuple[str, ...] = ()
    unstaged: tuple[str, ...] = ()
    #: every file, not only the folder that it is in
    untracked: tuple[str, ...] = ()
    #: submodules on another commit than the one recorded, or dirty themselves
    submodules: tuple[str, ...] = ()
    #: merge, rebase, am, cherry-pick, revert or bisect
    in_progress: str | None = None

    @property
    def bare(self) -> bool:
        return self.root is None

    def dirt(self, kinds: Iterable[Dirt | str] = tuple(Dirt), exempt: Iterable[str] = ()) -> tuple[str, ...]:
        """What is dirty, printable, each path once; empty: clean. A merge under way reads "merge in progress".

        `kinds` are what counts; paths that `exempt` names (patterns as in .gitignore, without negation) do not.
        """
        wanted, exempt = {Dirt(kind) for kind in kinds}, tuple(exempt)
        found: dict[str, None] = {}
        for kind, paths in self._paths():
            if kind in wanted:
                found |= dict.fromkeys(path for path in paths if not matches(path, exempt))
        said = tuple(map(shown, found))
        return (*said, f"{self.in_progress} in progress") if self.in_progress and Dirt.IN_PROGRESS in wanted else said

    def summary(self) -> str:
        """All that is dirty in one phrase: "1 staged, 2 untracked: a.py, b.py, c.py"; empty: clean."""
        counts = ", ".join(f"{len(paths)} {_NAMES[kind]}" for kind, paths in self._paths() if paths)
        names = listed(tuple(dict.fromkeys(path for _, paths in self._paths() for path in paths)))
        progress = f"{self.in_progress} in progress" if self.in_progress else ""
        return "; ".join(filter(None, (counts and f"{counts}: {names}", progress)))

    def _paths(self) -> Iterator[tuple[Dirt, tuple[str, ...]]]:
        yield Dirt.STAGED, self.staged
        yield Dirt.UNSTAGED, self.unstaged
        yield Dirt.UNTRACKED, self.untracked
        yield Dirt.SUBMODULES, self.submodules


@dataclass(frozen=True, slots=True)
class Commit:
    oid: str
    #: the first paragraph of the message in one line
    summary: str
    #: by the author's clock: epoch milliseconds UTC, whole seconds
    authored: int


class GitTracker:
    """What is dirty and what was committed, in any folder of a repository. Synchronous; safe to share between threads.

    Every method raises NotARepository for a folder outside a repository, GitUnavailable without git, RepositoryBusy and
    GitError for what git refuses (a repository of somebody else, more than `timeout` seconds).
    """

    def __init__(self, timeout: float = 60.0) -> None:
        self._git = Git(timeout=timeout)

    def is_repository(self, workspace: AnyPath) -> bool:
        """Whether the folder is in a repository, bare ones included; whether git would work there is not tried."""
        try:
            return pygit2.discover_repository(os.fspath(workspace)) is not None
        except (KeyError, pygit2.GitError):
            return False

    def repository(self, workspace: AnyPath) -> Path:
        """What all working trees of the repository share: its common git folder."""
        return locate(self._git, workspace).common_dir

    def state(self, workspace: AnyPath) -> WorkspaceState:
        """The whole working tree that `workspace` is in, also when that is only a folder of it."""
        return look(self._git, locate(self._git, workspace))

    def is_dirty(
        self, workspace: AnyPath, dirt: Iterable[Dirt | str] = tuple(Dirt), exempt: Iterable[str] = ()
    ) -> bool:
        return bool(self.state(workspace).dirt(dirt, exempt))

    def head(self, workspace: AnyPath) -> str | None:
        """The commit checked out; None: no commit yet."""
        try:
            with _opened(workspace) as repository:
                return None if repository.head_is_unborn else str(repository.head.peel(pygit2.Commit).id)
        except _UNSUITED:
            return self._head_and_branch(workspace)[0]

    def branch(self, workspace: AnyPath) -> str | None:
        """The branch checked out, also one without a commit yet; None: detached."""
        try:
            with _opened(workspace) as repository:
                target = repository.lookup_reference("HEAD").raw_target
                return _branch(os.fsdecode(target)) if isinstance(target, bytes) else None
        except _UNSUITED:
            return self._head_and_branch(workspace)[1]

    def tip(self, workspace: AnyPath, branch: str) -> str | None:
        """The last commit of a branch; None: there is no such branch."""
        try:
            with _opened(workspace) as repository:
                reference = repository.references.get(f"refs/heads/{branch}")
                return None if reference is None else str(reference.peel(pygit2.Commit).id)
        except _UNSUITED:
            found = ("rev-parse", "-q", "--verify", f"refs/heads/{branch}")
            return self._git.run(*found, cwd=Path(workspace), check=False).stdout.decode().strip() or None

    def commits(self, workspace: AnyPath, base: str, tip: str = "HEAD") -> list[Commit]:
        """The commits that `tip` has and `base` has not, in the order they were made (parents before children).

        Raises GitError when one of the two does not name a commit.
        """
        try:
            with _opened(workspace) as repository:
                return _walk(repository, base, tip)
        except _UNSUITED:
            return self._log(workspace, base, tip)

    def changed_files(self, workspace: AnyPath, base: str, tip: str = "HEAD") -> tuple[str, ...]:
        """The paths whose committed content differs between `base` and `tip`; both names of a renamed file."""
        place = locate(self._git, workspace)
        options = (
            "-r",
            "-z",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
        )
        listing = self._git.run("diff-tree", *options, "--end-of-options", base, tip, cwd=place.top).stdout
        return tuple(os.fsdecode(path) for path in listing.split(b"\0")[:-1])

    def _head_and_branch(self, workspace: AnyPath) -> tuple[str | None, str | None]:
        state = _ends(self._git, locate(self._git, workspace))
        return state.head, state.branch

    def _log(self, workspace: AnyPath, base: str, tip: str) -> list[Commit]:
        place = locate(self._git, workspace)
        options = ("--reverse", "--topo-order", "--no-show-signature", "--encoding=UTF-8", "-z", "--format=%H %at %s")
        log = self._git.run("log", *options, "--end-of-options", f"{base}..{tip}", "--", cwd=place.top).stdout
        lines = (line.decode("utf-8", "replace").split(" ", 2) for line in log.split(b"\0") if line)
        return [Commit(oid, summary, int(seconds) * 1000) for oid, seconds, summary in lines]


def look(git: Git, place: Place) -> WorkspaceState:
    """The state of the working tree at `place`."""
    if place.root is None:
        return _ends(git, place)
    try:
        status = _status(git, place.root, "all")
    except (NotARepository, GitUnavailable, RepositoryBusy):
        raise
    except GitError:  # a folder of so many untracked files that listing them takes too long: name the folder
        status = _status(git, place.root, "normal")
    return _parsed(status, place, _in_progress(git, place))


_NAMES = {kind: kind.value for kind in Dirt} | {Dirt.SUBMODULES: "in submodules"}
_UNSUITED = (pygit2.GitError, KeyError, ValueError, TypeError, OSError)


def _status(git: Git, root: Path, untracked: str) -> bytes:
    options = ("--porcelain=v2", "-z", "--branch", "--no-ahead-behind", "--no-renames")
    return git.run("status", *options, f"--untracked-files={untracked}", cwd=root).stdout


def _parsed(status: bytes, place: Place, in_progress: str | None) -> WorkspaceState:
    """By git-status(1), "Porcelain Format Version 2"."""
    head = branch = None
    staged: list[str] = []
    unstaged: list[str] = []
    untracked: list[str] = []
    submodules: list[str] = []
    for entry in status.split(b"\0")[:-1]:
        match entry[:2]:
            case b"# ":
                name, _, value = os.fsdecode(entry[2:]).partition(" ")
                if name == "branch.oid" and value != "(initial)":
                    head = value
                elif name == "branch.head" and value != "(detached)":
                    branch = value
            case b"1 ":
                _, changes, kind, *_, path = os.fsdecode(entry).split(" ", 8)
                if changes[0] != ".":
                    staged.append(path)
                if changes[1] != ".":
                    (submodules if kind[0] == "S" else unstaged).append(path)
            case b"u ":
                path = os.fsdecode(entry).split(" ", 10)[-1]
                staged.append(path)
                unstaged.append(path)
            case b"? ":
                untracked.append(os.fsdecode(entry[2:]))
            case _:
                raise GitError(f"`git status` in {place.root} answered with a line that is not known: {entry[:80]!r}")
    return WorkspaceState(
        root=place.root,
        common_dir=place.common_dir,
        branch=branch,
        head=head,
        staged=tuple(staged),
        unstaged=tuple(unstaged),
        untracked=tuple(untracked),
        submodules=tuple(submodules),
        in_progress=in_progress,
    )


def _ends(git: Git, place: Place) -> WorkspaceState:
    """Without any file: only the branch and its commit."""
    try:
        head = read_head(git, place)
    except NoCommits:
        name = git.run("symbolic-ref", "-q", "HEAD", cwd=place.top, check=False).stdout
        return WorkspaceState(place.root, place.common_dir, branch=_branch(os.fsdecode(name.strip())), head=None)
    return WorkspaceState(place.root, place.common_dir, branch=head.branch, head=head.commit)


def _branch(reference: str) -> str | None:
    return reference.removeprefix("refs/heads/") if reference.startswith("refs/heads/") else None


#: What says so in the folder of a working tree's own, the outermost first: a rebase makes cherry-picks.
_TRACES = (
    ("rebase-merge", "rebase"),
    ("rebase-apply/applying", "am"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick"),
    ("BISECT_LOG", "bisect"),
)


def _in_progress(git: Git, place: Place) -> str | None:
    for trace, name in _TRACES:
        if (place.git_dir / trace).exists():
            return name
    if (place.git_dir / "reftable").exists():  # there the two are no files
        for reference, name in (("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")):
            if git.run("rev-parse", "-q", "--verify", reference, cwd=place.top, check=False).code == 0:
                return name
    return None


@contextmanager
def _opened(workspace: AnyPath) -> Iterator[pygit2.Repository]:
    """libgit2's view, for short questions. Raises one of _UNSUITED for a repository that only git itself understands."""
    found = pygit2.discover_repository(os.fspath(workspace))
    if found is None:
        raise KeyError(workspace)
    repository = pygit2.Repository(found)
    try:
        yield repository
    finally:
        repository.free()


def _walk(repository: pygit2.Repository, base: str, tip: str) -> list[Commit]:
    walker = repository.walk(
        repository.revparse_single(tip).peel(pygit2.Commit).id,
        pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE,
    )
    walker.hide(repository.revparse_single(base).peel(pygit2.Commit).id)
    return [Commit(str(found.id), _summary(found), found.author.time * 1000) for found in walker]


def _summary(commit: pygit2.Commit) -> str:
    """What git's own %s is."""
    text = commit.raw_message.decode(commit.message_encoding or "utf-8", "replace")
    lines = [line.rstrip() for line in text.split("\n")]
    return " ".join(takewhile(bool, dropwhile(lambda line: not line, lines)))
