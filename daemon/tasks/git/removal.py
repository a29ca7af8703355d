"""Deletes a task's worktree and branch once it is proven that nothing is lost, in steps that a crash may fall between.

First the backup of the branch, then the worktree (moved away in one step), git's entry of it, the branch by
compare-and-swap, and the moved files last. Called again after any of them, it goes on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import GitError
from tasks.git import backups, proof, registry
from tasks.git.checkouts import checkouts, used_elsewhere
from tasks.git.command import Git, short
from tasks.git.discard import Bin
from tasks.git.lock import repository_lock
from tasks.git.place import listed, shown
from tasks.git.registry import Worktree


@dataclass(frozen=True, slots=True)
class Removal:
    """Whether worktree and branch are gone, or else why they were kept; `reason` is for a person."""

    removed: bool
    #: empty when there is nothing to say
    reason: str = ""
    #: full names of the references that keep what was deleted
    backups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there of a worktree; nothing of it needs to be."""

    #: git's entries of it
    entries: tuple[Path, ...]
    #: its files are there, and git takes them for the worktree
    attached: bool
    #: the last commit of the branch
    tip: str | None
    #: the commit that a detached worktree is at
    detached: str | None


def remove(
    git: Git,
    worktree: Worktree,
    target: str | None,
    *,
    force: bool,
    dry_run: bool,
    discarded: Bin,
    locks: Path,
    timeout: float,
) -> Removal:
    """As Worktrees.remove has it; the caller holds the worktree's own lock. Raises GitError and OSError."""
    if not worktree.repository.is_dir():
        return _remove_orphan(worktree, force=force, dry_run=dry_run, discarded=discarded)
    found = _look(git, worktree)
    stands = next(_obstacles(git, worktree, found, target, force=force, timeout=timeout), None)
    if stands is not None:
        return Removal(False, f"kept: {stands}")
    if dry_run:
        return Removal(True)
    kept = [
        backups.keep(git, worktree.repository, worktree.task_id, commit, f"{worktree.branch}, deleted by tasksd")
        for commit in dict.fromkeys((found.tip, found.detached))
        if commit is not None
    ]
    with repository_lock(locks, worktree.repository):
        taken = discarded.take(worktree.path, worktree.task_id) if os.path.lexists(worktree.path) else None
        for entry in found.entries:
            registry.take_away(entry)
        reason = _delete_branch(git, worktree, found.tip)
    left = discarded.empty(taken)
    return Removal(reason is None, reason or left or "", tuple(kept))


def _remove_orphan(worktree: Worktree, *, force: bool, dry_run: bool, discarded: Bin) -> Removal:
    if not os.path.lexists(worktree.path):
        return Removal(True)
    if not force:
        return Removal(False, f"kept: the repository {shown(worktree.repository)} is gone, so nothing can be proven")
    stands = proof.at_work(worktree.path)
    if stands is not None:
        return Removal(False, f"kept: {stands}")
    if dry_run:
        return Removal(True)
    return Removal(True, discarded.empty(discarded.take(worktree.path, worktree.task_id)) or "")


def _look(git: Git, worktree: Worktree) -> _Found:
    entries = tuple(registry.entries_of(worktree.repository, worktree.path))
    attached = bool(entries) and registry.is_attached(worktree.path, entries[0])
    detached = None
    if attached:
        head = git.run("rev-parse", "HEAD", "--symbolic-full-name", "HEAD", cwd=worktree.path, check=False)
        commit, _, name = head.stdout.decode("utf-8", "replace").partition("\n")
        detached = commit if head.code == 0 and name.strip() == "HEAD" else None
    ref = ("rev-parse", "-q", "--verify", f"refs/heads/{worktree.branch}")
    tip = git.run(*ref, cwd=worktree.repository, check=False).stdout.decode().strip()
    return _Found(entries, attached, tip or None, detached if detached != tip else None)


def _obstacles(
    git: Git, worktree: Worktree, found: _Found, target: str | None, *, force: bool, timeout: float
) -> Iterator[str]:
    """What stands against it, the cheapest to find out first. `force` is told only of processes."""
    path, repository, base = worktree.path, worktree.repository, worktree.base_commit
    if os.path.lexists(path):
        yield from _said(proof.at_work(path))
    if force:
        return
    for entry in found.entries:
        if not registry.is_ours(entry, worktree.task_id):
            yield f"{shown(path)} is locked ({registry.locked_by(entry)})"
    if os.path.lexists(path) and not found.attached:
        yield f"git does not take {shown(path)} for a worktree of {shown(repository)}, so nothing can be proven"
    for commit, name in ((found.tip, worktree.branch), (found.detached, f"the detached HEAD of {shown(path)}")):
        if commit is not None:
            lost = proof.unmerged(git, repository, commit, target, base, timeout=timeout)
            yield from _said(lost and f"{name}: {lost}")
    if found.attached:
        yield from _said(proof.uncommitted(git, path))
        yield from _said(proof.unpushed_submodules(git, repository, found.entries[0], path, base))
    yield from _said(_in_use(git, worktree))


def _said(words: str | None) -> tuple[str, ...]:
    return (words,) if words else ()


def _in_use(git: Git, worktree: Worktree) -> str | None:
    """Other working trees that have the branch checked out, or a rebase or bisect that will return to it."""
    ref, ours = f"refs/heads/{worktree.branch}", os.path.realpath(worktree.path)
    users = [place.path for place in checkouts(git, worktree.repository) if place.ref == ref]
    others = tuple(str(path) for path in users if os.path.realpath(path) != ours)
    if others:
        return f"{worktree.branch} is checked out in {listed(others)}"
    obstacle = used_elsewhere(worktree.repository, ref)
    return None if obstacle is None else obstacle.reason


def _delete_branch(git: Git, worktree: Worktree, tip: str | None) -> str | None:
    """Only from where it was proven to be; None, or why it is still there."""
    if tip is None:
        return None
    stands = _in_use(git, worktree)
    if stands is not None:
        return f"the worktree is removed, the branch is kept: {stands}"
    ref, repository = f"refs/heads/{worktree.branch}", worktree.repository
    output = git.run("update-ref", "-d", ref, tip, cwd=repository, check=False)
    if output.code != 0:
        return f"the worktree is removed, the branch is kept: {short(output.stderr)}"
    return None


def check_deletable(worktree: Worktree, directory: Path) -> None:
    """Raises GitError for what was not made by us: another place, another branch."""
    if worktree.path != directory / worktree.task_id or worktree.branch != registry.branch_of(worktree.task_id):
        raise GitError(
            f"{shown(worktree.path)} on {worktree.branch} is not the worktree of task {worktree.task_id}; "
            f"it was not made by tasksd and is not removed"
        )
