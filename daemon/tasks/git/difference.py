"""What a branch changed, for people to look at. Reads objects and, for what is not committed, one working tree.

Whatever a repository holds, an answer takes bounded time and memory: names are counted, texts are cut, large files are not
compared. What cannot be told is said in words.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tasks.errors import TasksError
from tasks.git.command import Git, Output
from tasks.git.place import BRANCH_PREFIX, locate, shown

TIMEOUT = 20.0  # seconds for one of the commands
#: Files, and uncommitted paths, that are named.
MOST_FILES = 2000
#: Bytes of git's lists of names.
LIST_BYTES = 4 << 20

#: Plumbing, so that nobody's settings change what is printed; no program of the repository's configuration is run.
_COMPARE = (
    *("-c", "core.quotePath=false"),
    *("-c", "core.bigFileThreshold=8m"),  # larger files are compared as binary ones
    *("-c", "diff.renameLimit=400"),
    *("diff-tree", "-r", "-M", "--no-commit-id", "--no-ext-diff", "--no-textconv", "--no-color"),
)
#: Looking at something fetches nothing, also where a clone lacks objects.
OFFLINE = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}

Source = Literal["branch", "worktree", "merge", "none"]


@dataclass(frozen=True, slots=True)
class Change:
    """One file. `status` is git's letter: A added, M modified, D deleted, R renamed, C copied, T another kind of file."""

    path: str
    status: str
    #: where it was, when renamed or copied
    old_path: str | None = None
    #: lines; None: not counted (binary, or too much to compare)
    added: int | None = None
    deleted: int | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Uncommitted:
    path: str
    #: as `git status --short` says it: two letters, `??` untracked
    status: str


@dataclass(frozen=True, slots=True)
class Work:
    """Where the work of a task may be found: names and paths as they were stored when it began or ended."""

    workspace: str | None
    worktree: str | None = None
    branch: str | None = None
    base_branch: str | None = None
    base_commit: str | None = None
    merge_commit: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """`source` tells what was compared; "none": nothing could be, and `reason` says why."""

    source: Source = "none"
    base: str | None = None
    head: str | None = None
    #: the first MOST_FILES; paths are printable, undecodable bytes as \\xNN
    files: tuple[Change, ...] = ()
    #: files beyond these (at least)
    more_files: int = 0
    #: unified, whole lines; undecodable bytes are U+FFFD
    patch: str = ""
    #: whether the patch goes on
    cut: bool = False
    uncommitted: tuple[Uncommitted, ...] = ()
    more_uncommitted: int = 0
    #: why something is missing; empty: nothing is
    reason: str = ""


def difference(git: Git, work: Work, *, limit: int) -> Difference:
    """What the task's branch changed, with at most `limit` bytes of patch. Raises nothing of ours."""
    try:
        top, tree = _places(git, work)
        found = _sides(git, top, tree, work)
    except (TasksError, OSError, ValueError) as error:
        return Difference(reason=shown(str(error)))
    if found.source != "none":
        found = _compared(git, top, found, limit)
    if tree is not None:
        found = _with_uncommitted(git, tree, found)
    return found


def _places(git: Git, work: Work) -> tuple[Path, Path | None]:
    """Where to run git, and the task's own working tree while it is there."""
    with contextlib.suppress(TasksError, OSError, ValueError):
        # What is left of a broken worktree may lie in a repository that is none of its business.
        if work.worktree and (place := locate(git, work.worktree)).root and place.root.samefile(work.worktree):
            return place.top, place.root
    if not work.workspace:
        raise ValueError("it is not known where the task worked")
    return locate(git, work.workspace).top, None


def _sides(git: Git, top: Path, tree: Path | None, work: Work) -> Difference:
    if not work.branch:
        return Difference(reason="the task worked in the workspace itself, without a branch of its own")
    source: Source = "branch"
    head = commit_of(git, top, f"{BRANCH_PREFIX}{work.branch}")
    if head is None and tree is not None:
        source, head = "worktree", commit_of(git, tree, "HEAD")
    if head is not None:
        base = _base(git, top, work, head)
        if base is None:
            return Difference(reason=f"the commit that {shown(work.branch)} began at is not in {shown(top)} any more")
        return Difference(source, base, head)
    if work.merge_commit:
        merged = commit_of(git, top, work.merge_commit)
        if merged is None:
            return Difference(reason=f"the commit {work.merge_commit[:12]} is not in {shown(top)} any more")
        return Difference("merge", _before(git, top, work, merged), merged)
    return Difference(reason=f"there is no branch {shown(work.branch)} in {shown(top)}, and nothing of it was merged")


def ask(git: Git, *args: str, cwd: Path, check: bool = True, enough: int | None = None) -> Output:
    return git.run(*args, cwd=cwd, environ=OFFLINE, timeout=TIMEOUT, check=check, enough=enough)


def commit_of(git: Git, cwd: Path, name: str) -> str | None:
    """The object name of the commit that a full reference or object name means; None: there is none."""
    if not name or name.startswith("-") or "\0" in name:
        return None
    output = ask(git, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=cwd, check=False)
    return output.stdout.decode("ascii").strip() if output.code == 0 else None


def _base(git: Git, top: Path, work: Work, head: str) -> str | None:
    starts = (work.base_commit, f"{BRANCH_PREFIX}{work.base_branch}" if work.base_branch else None)
    for start in starts:
        if start is not None and (known := commit_of(git, top, start)):
            output = ask(git, "merge-base", known, head, cwd=top, check=False)
            return output.stdout.decode("ascii").strip() if output.code == 0 else known
    return None


def _before(git: Git, top: Path, work: Work, merged: str) -> str:
    """What to compare a merge with: its first parent; of a commit that is no merge, where the branch began."""
    listed = ask(git, "rev-list", "--parents", "--max-count=1", merged, "--", cwd=top).stdout
    _, *parents = listed.decode("ascii").split()
    if len(parents) < 2 and work.base_commit and (base := commit_of(git, top, work.base_commit)):
        inside = ask(git, "merge-base", "--is-ancestor", base, merged, cwd=top, check=False)
        if inside.code == 0:
            return base
    if parents:
        return parents[0]
    return ask(git, "hash-object", "-t", "tree", "--stdin", cwd=top).stdout.decode("ascii").strip()  # of no entries


def _compared(git: Git, top: Path, found: Difference, limit: int) -> Difference:
    """Names first, then counts, then texts: each of them may be too much, and then the ones before are there."""
    sides = (found.base or "", found.head or "")
    try:
        raw = ask(git, *_COMPARE, "--raw", "-z", *sides, "--", cwd=top, enough=LIST_BYTES).stdout
        files = list(_files(raw))
        shown_files = files[:MOST_FILES]
        found = replace(found, files=tuple(shown_files), more_files=len(files) - len(shown_files))
        if len(raw) >= LIST_BYTES:
            return replace(found, cut=True, reason="there are too many files to compare their texts")
        counted = ask(git, *_COMPARE, "--numstat", "-z", *sides, "--", cwd=top).stdout
        counts = _counts(counted)
        found = replace(found, files=tuple(_with_counts(one, counts.get(one.path)) for one in shown_files))
        asked = ("-p", "--src-prefix=a/", "--dst-prefix=b/", *sides, "--")
        patch = ask(git, *_COMPARE, *asked, cwd=top, enough=limit + 1).stdout
    except (TasksError, OSError, ValueError) as error:
        return replace(found, cut=True, reason=shown(str(error)))
    whole = patch if len(patch) <= limit else patch[: patch.rfind(b"\n", 0, limit) + 1]
    return replace(found, patch=whole.decode("utf-8", "replace"), cut=len(patch) > limit)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _files(raw: bytes) -> Iterator[Change]:
    """By git-diff-tree(1), "Raw output format" with -z; an entry that was cut is left out."""
    fields = iter(raw.split(b"\0")[:-1])
    for head in fields:
        letter = head.rpartition(b" ")[2][:1].decode("ascii", "replace")
        paths = [next(fields, None) for _ in range(2 if letter in "RC" else 1)]
        if None in paths:
            return
        *old, path = [_text(one) for one in paths if one is not None]
        yield Change(path, letter, old[0] if old else None)


def _counts(raw: bytes) -> dict[str, tuple[int, int] | None]:
    """Added and deleted lines by path, None for a binary file; git-diff(1), "Other diff formats" with -z."""
    found: dict[str, tuple[int, int] | None] = {}
    fields = iter(raw.split(b"\0")[:-1])
    for head in fields:
        added, deleted, path = head.split(b"\t", 2)
        if not path:
            _, path = next(fields), next(fields)
        found[_text(path)] = None if added == b"-" else (int(added), int(deleted))
    return found


def _with_counts(change: Change, counts: tuple[int, int] | None) -> Change:
    if counts is None:
        return replace(change, binary=True)
    return replace(change, added=counts[0], deleted=counts[1])


def _with_uncommitted(git: Git, tree: Path, found: Difference) -> Difference:
    asked = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")
    try:
        listed = ask(git, *asked, cwd=tree, enough=LIST_BYTES).stdout
    except (TasksError, OSError, ValueError) as error:
        return replace(found, reason="; ".join(filter(None, (found.reason, shown(str(error))))))
    entries = listed.split(b"\0")[:-1]
    paths = tuple(Uncommitted(_text(one[3:]), os.fsdecode(one[:2])) for one in entries[:MOST_FILES])
    return replace(found, uncommitted=paths, more_uncommitted=len(entries) - len(paths))
