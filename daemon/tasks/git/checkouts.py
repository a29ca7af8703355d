"""Where a branch is checked out, and whether that working tree may follow its branch to a merge. Changes nothing."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import GitError
from tasks.git.command import Git

NAMED = 10  # files that a reason names
GITLINK = "160000"

_IN_PROGRESS = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or revert of several commits",
    "BISECT_LOG": "a bisect",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a branch must not move for now, for a person to read; `paths` are the files that it is about, if any."""

    reason: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkout:
    """One entry of `git worktree list`."""

    path: Path
    #: full name of the branch, None when detached or bare
    ref: str | None
    bare: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees: `status` A, M, D or T; modes and object names of both sides."""

    path: str
    status: str
    old_mode: str
    new_mode: str
    old: str
    new: str


def checkouts(git: Git, repository: Path) -> list[Checkout]:
    """All working trees of the repository, the main one first, also those whose folder is gone."""
    nul = git.version >= (2, 36)  # since then `worktree list` knows -z
    listed = git.run("worktree", "list", "--porcelain", *(["-z"] if nul else []), cwd=repository).stdout
    found = []
    for entry in listed.split(b"\0\0" if nul else b"\n\n"):
        fields = dict(_pair(line) for line in entry.split(b"\0" if nul else b"\n") if line)
        if b"worktree" in fields:
            ref = fields.get(b"branch")
            path = Path(os.fsdecode(fields[b"worktree"]))
            found.append(Checkout(path, None if ref is None else os.fsdecode(ref), b"bare" in fields))
    return found


def _pair(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b" ")
    return name, value


def root_of(git: Git, checkout: Checkout) -> Path | None:
    """Its top folder; None when that is gone or unknown (a git directory apart from its tree does not name the tree)."""
    if not checkout.path.is_dir():
        return None
    # For a submodule git lists the git directory, which knows the tree by core.worktree.
    output = git.run("rev-parse", "--show-toplevel", cwd=checkout.path, check=False)
    return Path(os.fsdecode(output.stdout.removesuffix(b"\n"))) if output.code == 0 else None


def head_ref(git: Git, root: Path) -> str | None:
    """Full name of the branch that is checked out there; None when detached."""
    output = git.run("symbolic-ref", "-q", "HEAD", cwd=root, check=False)
    return os.fsdecode(output.stdout.removesuffix(b"\n")) if output.code == 0 else None


def git_dir(git: Git, root: Path) -> Path:
    """The directory with the index and the state of that one working tree."""
    return Path(os.fsdecode(git.run("rev-parse", "--absolute-git-dir", cwd=root).stdout.removesuffix(b"\n")))


def changes_between(git: Git, cwd: Path, old: str, new: str) -> list[Change]:
    """What differs between two trees or commits, renames as deletion and addition."""
    fields = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", old, new, "--", cwd=cwd).stdout.split(b"\0")
    found = []
    for head, path in zip(fields[0::2], fields[1::2], strict=False):
        old_mode, new_mode, before, after, status = head.decode("ascii").removeprefix(":").split()
        found.append(Change(os.fsdecode(path), status, old_mode, new_mode, before, after))
    return found


def uncommitted(git: Git, root: Path) -> list[str]:
    """Tracked paths that are staged, changed, unmerged or, for submodules, at another commit or changed inside.

    Untracked files do not count, those inside submodules neither. The index is not refreshed, nothing is written.
    """
    options = ("--porcelain=v2", "-z", "--untracked-files=no", "--ignore-submodules=untracked", "--no-renames")
    output = git.run("status", *options, cwd=root)
    return [os.fsdecode(_status_path(entry)) for entry in output.stdout.split(b"\0") if entry[:2] in (b"1 ", b"u ")]


def _status_path(entry: bytes) -> bytes:
    return entry.split(b" ", 8)[8] if entry.startswith(b"1 ") else entry.split(b" ", 10)[10]


def obstacle(git: Git, repository: Path, found: list[Checkout], ref: str, tip: str, tree: str) -> Obstacle | None:
    """What stands against moving the checked-out branch `ref` from `tip` to a commit of `tree`, None when nothing does.

    `found` are the checkouts of `ref`. A checkout whose folder is gone stands against it too: it may be on a disk that
    is not mounted, or was moved by hand, and would show the reverse of the merge as staged when it comes back.
    """
    if len(found) > 1:
        places = " and ".join(printable(str(checkout.path)) for checkout in found)
        return Obstacle(f"{_short(ref)} is checked out in {places}; leave it in one of them only")
    checkout, name = found[0], printable(str(found[0].path))
    if not checkout.path.is_dir():
        return Obstacle(
            f"{_short(ref)} is checked out in {name}, which is not there; bring it back, or forget it with: "
            f"git -C {printable(str(repository))} worktree prune (after `git worktree unlock` when it is locked)"
        )
    root = root_of(git, checkout)
    if root is None:
        return Obstacle(
            f"{_short(ref)} is checked out in a working tree that {name} does not name; check out another branch there"
        )
    state = git_dir(git, root)
    if head_ref(git, root) != ref:
        return Obstacle(f"another branch is being checked out in {printable(str(root))}")
    for file, what in _IN_PROGRESS.items():
        if os.path.lexists(state / file):
            return Obstacle(f"{what} is in progress in {printable(str(root))}; finish or abort it there")
    for lock in (state / "index.lock", state / "HEAD.lock", repository / f"{ref}.lock"):
        if os.path.lexists(lock):
            where, file = printable(str(root)), printable(str(lock))
            return Obstacle(f"git is at work in {where}; when none runs there any more, delete {file}")
    if dirty := uncommitted(git, root):
        return _about(f"uncommitted changes in {printable(str(root))}", dirty, "commit them or put them aside")
    if lying := collisions(root, changes_between(git, root, tip, tree)):
        return _about(f"files of {printable(str(root))} lie where the merge would write", lying, "move them away")
    return None


def used_elsewhere(repository: Path, ref: str) -> Obstacle | None:
    """A rebase or bisect, in any working tree, that began on `ref` and will write it or return to it; they are detached.

    `repository` is the common git directory.
    """
    for state in (repository, *sorted((repository / "worktrees").glob("*"))):
        for file in ("rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs", "BISECT_START"):
            try:
                lines = (state / file).read_bytes().splitlines()
            except OSError:
                continue
            # BISECT_START has the short name.
            if os.fsencode(ref) in lines or (file == "BISECT_START" and os.fsencode(_short(ref)) in lines):
                what = "bisect" if file == "BISECT_START" else "rebase"
                return Obstacle(
                    f"a {what} of {_short(ref)} is in progress ({printable(str(state))}); finish or abort it"
                )
    return None


def collisions(root: Path, changes: Iterable[Change]) -> list[str]:
    """Untracked and ignored files, or folders of them, where `changes` add something; `root` is otherwise clean.

    Git itself overwrites ignored files without a word. Nothing but lstat is used, links are not followed.
    """
    changes = list(changes)
    gone = {change.path for change in changes if change.status == "D"}
    identities = {(found.st_dev, found.st_ino) for path in gone if (found := _lstat(root / path)) is not None}
    lying: dict[str, None] = {}
    for change in changes:
        if change.status == "A":
            lying.update(dict.fromkeys(_in_the_way(root, change.path, gone, identities)))
    return list(lying)


def _in_the_way(root: Path, path: str, gone: set[str], identities: set[tuple[int, int]]) -> Iterator[str]:
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        part = "/".join(parts[:depth])
        found = _lstat(root / part)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            # By identity: where case does not count, README is there because Readme, which goes, is.
            if part not in gone and (found.st_dev, found.st_ino) not in identities:
                yield part
            return
    for folder, _, files in os.walk(root / path):
        for file in files:
            inside = str((Path(folder) / file).relative_to(root))
            if inside not in gone:
                yield inside


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise GitError(f"cannot look at {path}: {error.strerror}; the merge was not tried") from error


def _about(what: str, paths: list[str], remedy: str) -> Obstacle:
    shown = tuple(printable(path) for path in paths)
    return Obstacle(f"{what}: {named(shown)}; {remedy}", shown)


def named(paths: Iterable[str]) -> str:
    """The first ten paths, and how many more there are."""
    paths = list(paths)
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + more


def printable(path: str) -> str:
    """A path of any bytes as text that can be printed, stored and sent: what is not UTF-8 becomes \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _short(ref: str) -> str:
    return printable(ref.removeprefix("refs/heads/"))
