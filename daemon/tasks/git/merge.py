"""Brings the work of a task's branch into the branch it was started from, one merge at a time per repository.

The merge is made in the object store. A branch that nobody has checked out is then moved by compare-and-swap; one that is
checked out moves together with its working tree, and only when that is clean. Never stashes, pushes or runs hooks.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.config.sections import GitSettings
from tasks.errors import GitError, RepositoryBusy
from tasks.git.checkouts import Checkout, Obstacle, checkouts, head_ref, named, obstacle, root_of, used_elsewhere
from tasks.git.command import Git, short
from tasks.git.fit import Fit, fit
from tasks.git.follow import Follower, Intent
from tasks.git.lock import repository_lock
from tasks.words import MergeState

ATTEMPTS = 50  # times that a merge is made anew because its target moved
CHECKOUT_FACTOR = 10  # a command that writes a working tree may take so many times as long
FALLBACK_NAME, FALLBACK_EMAIL = "tasksd", "tasksd@localhost"


@dataclass(frozen=True, slots=True)
class Merge:
    """What became of a branch: MERGED, CONFLICT, WAITING, KEPT or NONE (it has no commits of its own)."""

    state: MergeState
    #: object name of what brought the branch into its target, when merged
    commit: str | None = None
    #: the files that do not fit, or that are in the way
    paths: tuple[str, ...] = ()
    #: why, and what to do, for a person; empty when merged
    reason: str = ""
    #: git's own words about each file of a conflict
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What a merge would find: `paths` and git's words; both are empty when it fits. `refusal`: it cannot be tried."""

    paths: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    repository: Path
    branch: str
    theirs: str  # full name of the branch
    target: str
    ref: str  # full name of the target
    message: str
    label: str
    base: str | None


def _nothing(_: str) -> None:
    pass


class Merger:
    """`locks_dir` is of our own and holds locks and notes of moves. Blocking; safe in threads and several processes.

    `step` is told the name of each step right after it was done.
    """

    def __init__(
        self,
        locks_dir: Path,
        settings: GitSettings,
        *,
        git: Git | None = None,
        step: Callable[[str], None] = _nothing,
    ) -> None:
        self._locks_dir = locks_dir
        self._git = git or Git(timeout=settings.timeout)
        self._timeout = settings.timeout
        self._step = step
        self._follower = Follower(self._git, locks_dir, timeout=settings.timeout * CHECKOUT_FACTOR, step=step)

    def merge(
        self,
        repository: Path,
        branch: str,
        target_branch: str | None,
        *,
        message: str,
        task_id: str,
        base: str | None = None,
    ) -> Merge:
        """Merge `branch` into `target_branch` (short names) by a commit with two parents and `message`.

        `repository` is the common git directory; `base` the commit at which the branch began, by which a branch without
        commits (NONE) is told from one that was merged before (MERGED). May be called again after any end of an earlier
        call, kill -9 included. CONFLICT, KEPT, NONE: nothing was changed. WAITING: nothing was changed, and the same call
        works once what `reason` names is out of the way. Raises GitError for any other failure; nothing was merged then.
        """
        if target_branch is None:
            reason = f"there is no branch to merge {branch} into: the task began at a detached HEAD; merge it by hand"
            return Merge(MergeState.KEPT, reason=reason)
        job = _Job(
            repository=repository,
            branch=branch,
            theirs=f"refs/heads/{branch}",
            target=target_branch,
            ref=f"refs/heads/{target_branch}",
            message=message.replace("\0", "").strip() or f"Merge branch '{branch}'",
            label=f"tasksd: merge task {task_id}",
            base=base,
        )
        try:
            with repository_lock(self._locks_dir, repository) as lock:
                self._step("locked")
                for _ in range(ATTEMPTS):
                    outcome = self._attempt(job, lock)
                    if outcome is not None:
                        return outcome
        except RepositoryBusy as error:
            return Merge(MergeState.WAITING, reason=str(error))
        return Merge(MergeState.WAITING, reason=f"{target_branch} moved {ATTEMPTS} times during the merge")

    def conflicts(self, repository: Path, branch: str, target_branch: str) -> Conflicts:
        """Whether the branch would fit now. Changes nothing but the object store. Raises GitError."""
        full = {f"refs/heads/{name}": name for name in (branch, target_branch)}
        refs = self._refs(repository, *full)
        if missing := [name for ref, name in full.items() if ref not in refs]:
            return Conflicts(refusal=f"there is no branch {' and no '.join(missing)}")
        (theirs, _), (ours, ref) = refs[f"refs/heads/{branch}"], refs[f"refs/heads/{target_branch}"]
        cwd = self._place(repository, checkouts(self._git, repository), ref)
        found = fit(self._git, cwd, ours, theirs, timeout=self._timeout)
        return Conflicts(found.paths, found.messages, found.refusal)

    def _attempt(self, job: _Job, lock: int) -> Merge | None:
        """One try; None when the target moved meanwhile."""
        git, repository = self._git, job.repository
        refs = self._refs(repository, job.theirs, job.ref)
        for name, ref in ((job.branch, job.theirs), (job.target, job.ref)):
            if ref not in refs:
                return _kept(job, f"there is no branch {name} any more")
        (theirs, _), (tip, ref) = refs[job.theirs], refs[job.ref]
        if self._follower.is_pending(repository, ref):
            stands = self._follower.settle(repository, ref, lock=lock)
            return None if stands is None else _waiting(stands)
        if theirs == job.base:
            return Merge(MergeState.NONE, reason=f"{job.branch} has no commits")
        if self._is_ancestor(repository, theirs, ref):
            return Merge(MergeState.MERGED, self._brought(repository, theirs, ref))
        self._step("read")

        places = checkouts(git, repository)
        found = fit(git, self._place(repository, places, ref), tip, theirs, timeout=self._timeout)
        self._step("fitted")
        if found.refusal:
            return _kept(job, found.refusal)
        if found.tree is None:
            return _conflict(job, found)

        holding = [place for place in places if place.ref == ref]
        stands = used_elsewhere(repository, ref)
        if stands is None and holding:
            stands = obstacle(git, repository, holding, ref, tip, found.tree)
        self._step("looked")
        if stands is not None:
            return _waiting(stands)
        commit = self._commit(job, found.tree, tip, theirs)
        self._step("committed")
        if holding:
            return self._follow(job, ref, holding[0], tip, commit, lock)
        return self._swap(job, ref, tip, commit)

    def _swap(self, job: _Job, ref: str, tip: str, commit: str) -> Merge | None:
        """Move a branch that nobody has checked out; None when it moved or was checked out in the meantime."""
        if any(place.ref == ref for place in checkouts(self._git, job.repository)):
            return None
        moved = self._git.run("update-ref", "-m", job.label, ref, commit, tip, cwd=job.repository, check=False)
        self._step("moved")
        if moved.code == 0:
            return Merge(MergeState.MERGED, commit)
        if self._tip(job.repository, ref) != tip:
            return None
        raise GitError(f"cannot move {job.target} of {job.repository}: {short(moved.stderr)}; {job.branch} is kept")

    def _follow(self, job: _Job, ref: str, place: Checkout, tip: str, commit: str, lock: int) -> Merge | None:
        """Move a branch and its clean working tree; None when the branch moved, or another was checked out, in the meantime."""
        root = root_of(self._git, place)
        if root is None:
            return None
        stands = self._follower.follow(job.repository, Intent(str(root), ref, tip, commit), label=job.label, lock=lock)
        now = self._tip(job.repository, ref)
        if stands is None and now is not None and self._is_ancestor(job.repository, commit, ref):
            return Merge(MergeState.MERGED, commit)
        if stands is None or now != tip or head_ref(self._git, root) != ref:
            return None
        return _waiting(stands)

    def _refs(self, repository: Path, *names: str) -> dict[str, tuple[str, str]]:
        """Object name, and the full name behind a symbolic one, of those branches that exist."""
        form = "--format=%(refname) %(objectname) %(symref)"
        listed = self._git.run("for-each-ref", form, "--", *names, cwd=repository).stdout
        found = {}
        for line in os.fsdecode(listed).splitlines():
            name, oid, symbolic = line.split(" ")
            if name in names:
                found[name] = (oid, symbolic or name)
        return found

    def _tip(self, repository: Path, ref: str) -> str | None:
        found = self._refs(repository, ref).get(ref)
        return None if found is None else found[0]

    def _is_ancestor(self, repository: Path, older: str, newer: str) -> bool:
        output = self._git.run("merge-base", "--is-ancestor", older, newer, cwd=repository, check=False)
        if output.code not in (0, 1):
            raise GitError(f"cannot tell whether {older[:12]} is in {newer} of {repository}: {short(output.stderr)}")
        return output.code == 0

    def _brought(self, repository: Path, theirs: str, ref: str) -> str:
        """The merge that has the branch as a later parent; the branch's own tip when it came in another way."""
        options = ("--merges", "--parents", "--ancestry-path", f"{theirs}..{ref}")
        listed = self._git.run("rev-list", *options, "--", cwd=repository).stdout.decode("ascii")
        merges = [line.split() for line in listed.splitlines()]
        return next((oid for oid, _, *later in reversed(merges) if theirs in later), theirs)

    def _place(self, repository: Path, places: list[Checkout], ref: str) -> Path:
        """Where to merge, for attributes and the paths of merge drivers: in the target's tree, else in the main one."""
        for place in sorted(places, key=lambda place: place.ref != ref):
            if not place.bare and (place.ref == ref or place is places[0]) and (root := root_of(self._git, place)):
                return root
        return repository

    def _commit(self, job: _Job, tree: str, tip: str, theirs: str) -> str:
        """A merge commit by the user, or by tasksd where git knows no name. Not signed, `commit-tree` never does."""
        identity: dict[str, str] = {}
        for kind in ("AUTHOR", "COMMITTER"):
            known = ("-c", "user.useConfigOnly=true", "var", f"GIT_{kind}_IDENT")
            if self._git.run(*known, cwd=job.repository, check=False).code != 0:
                identity |= {f"GIT_{kind}_NAME": FALLBACK_NAME, f"GIT_{kind}_EMAIL": FALLBACK_EMAIL}
        output = self._git.run(
            *("-c", "i18n.commitEncoding=utf-8", "commit-tree", "-p", tip, "-p", theirs, tree),
            cwd=job.repository,
            input=job.message.encode("utf-8", "backslashreplace") + b"\n",
            environ=identity,
        )
        return output.stdout.decode("ascii").strip()


def _conflict(job: _Job, found: Fit) -> Merge:
    reason = f"{job.branch} does not fit into {job.target}: {named(found.paths)}; merge it by hand, it is kept"
    return Merge(MergeState.CONFLICT, paths=found.paths, reason=reason, messages=found.messages)


def _kept(job: _Job, why: str) -> Merge:
    return Merge(MergeState.KEPT, reason=f"{job.branch} was not merged into {job.target}: {why}; merge it by hand")


def _waiting(stands: Obstacle) -> Merge:
    return Merge(MergeState.WAITING, paths=stands.paths, reason=stands.reason)
