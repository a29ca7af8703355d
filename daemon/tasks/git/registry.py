"""The entries that git keeps of linked worktrees (`worktrees/` in a repository's common folder), read and taken away.

By hand, because git has no way to take away one of them that a crash left half-made, and `git worktree prune` would look
at those of others.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: What an entry of ours holds once its worktree is complete: what it was made from.
_RECORD = "tasksd.json"
_KEPT_TO_THE_LAST = ("gitdir", "locked")


@dataclass(frozen=True, slots=True)
class Worktree:
    """The working tree of one task. All paths are absolute."""

    task_id: str
    path: Path
    #: where the agent works: the folder in `path` that the workspace is in its own repository
    workdir: Path
    #: such as "task/3fa9c1"
    branch: str
    #: what the workspace had checked out; None: detached
    base_branch: str | None
    #: where the branch begins
    base_commit: str
    #: the common folder of the repository
    repository: Path
    #: sentences for a person: what is not as in the workspace
    notes: tuple[str, ...] = ()


def branch_of(task_id: str) -> str:
    return f"task/{task_id}"


def reason(task_id: str) -> str:
    """Why our worktrees are locked, for whoever reads `git worktree list`."""
    return f"tasksd task {task_id}"


def entries_of(common_dir: Path, path: Path) -> list[Path]:
    """The entries whose worktree is at `path`, whether or not it exists."""
    wanted = os.path.realpath(path / ".git")
    return [entry for entry in _entries(common_dir) if _leads_to(entry) == wanted]


def half_made(common_dir: Path, task_id: str) -> list[Path]:
    """Entries for the task that no worktree was ever attached to: git was killed while it made them."""
    return [
        entry
        for entry in _entries(common_dir)
        if entry.name.rstrip("0123456789") == task_id.rstrip("0123456789")
        and not (entry / "gitdir").exists()
        and locked_by(entry) in (None, reason(task_id))
    ]


def locked_by(entry: Path) -> str | None:
    """The reason given when the worktree was locked; None: it is not."""
    try:
        return (entry / "locked").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def is_ours(entry: Path, task_id: str) -> bool:
    """Whether nobody but us locked it. Git before 2.33 could not be given a reason and wrote one of its own."""
    return locked_by(entry) in (None, reason(task_id), "added with --lock")


def find(common_dir: Path, path: Path) -> Worktree | None:
    """The complete worktree at `path`, as it was made; None: nothing is there, or what a crash left half-made."""
    for entry in entries_of(common_dir, path):
        try:
            record = json.loads((entry / _RECORD).read_bytes())
        except FileNotFoundError:
            continue
        if path.is_dir():
            return Worktree(
                task_id=path.name,
                path=path,
                workdir=path / record["prefix"],
                branch=branch_of(path.name),
                base_branch=record["base_branch"],
                base_commit=record["base_commit"],
                repository=common_dir,
                notes=tuple(record["notes"]),
            )
    return None


def record(entry: Path, worktree: Worktree) -> None:
    """Note that nothing is missing of the worktree any more. Appears whole or not at all."""
    prefix = worktree.workdir.relative_to(worktree.path)
    content = {
        "base_commit": worktree.base_commit,
        "base_branch": worktree.base_branch,
        "prefix": str(prefix),
        "notes": worktree.notes,
    }
    draft = entry / f"{_RECORD}.draft"
    draft.write_text(json.dumps(content) + "\n")
    draft.replace(entry / _RECORD)


def is_attached(path: Path, entry: Path) -> bool:
    """Whether the folder says itself that it belongs to the entry; git follows nothing else."""
    return _belongs_to(path) == os.path.realpath(entry)


def belongs_elsewhere(path: Path) -> bool:
    """Whether the folder is a worktree that its repository, whichever it is, knows."""
    entry = _belongs_to(path)
    return entry is not None and bool(entries_of(Path(entry).parent.parent, path))


def take_away(entry: Path) -> None:
    """Delete an entry. What says whose it is goes last, so that a crash leaves one that is found again."""
    for child in entry.iterdir():
        if child.name not in _KEPT_TO_THE_LAST:
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    for name in reversed(_KEPT_TO_THE_LAST):
        (entry / name).unlink(missing_ok=True)
    entry.rmdir()
    with suppress(OSError):  # not empty: other worktrees
        entry.parent.rmdir()


def _entries(common_dir: Path) -> list[Path]:
    try:
        return sorted((common_dir / "worktrees").iterdir())
    except FileNotFoundError:
        return []


def _leads_to(entry: Path) -> str | None:
    try:
        text = (entry / "gitdir").read_bytes().removesuffix(b"\n")
    except OSError:
        return None
    return os.path.realpath(entry / os.fsdecode(text))


def _belongs_to(path: Path) -> str | None:
    try:
        text = (path / ".git").read_bytes()
    except OSError:
        return None
    return os.path.realpath(path / os.fsdecode(text.removeprefix(b"gitdir: ").removesuffix(b"\n")))
