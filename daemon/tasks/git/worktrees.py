"""A working tree of its own for every task, outside the repository: made, found again, and removed with proof."""

import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tasks.config.sections import GitSettings
from tasks.errors import GitError
from tasks.git import registry
from tasks.git.backups import Backup, expire, list_backups
from tasks.git.bootstrap import copy_included
from tasks.git.command import Git
from tasks.git.discard import Bin
from tasks.git.lock import repository_lock
from tasks.git.place import Head, Place, locate, read_head, shown
from tasks.git.registry import Worktree, branch_of
from tasks.git.removal import Removal, check_deletable, remove
from tasks.git.state import GitTracker

logger = logging.getLogger(__name__)

CHECKOUT = 10  # times the timeout of an ordinary command: it writes every file
LOCKS = 256  # that keep two makers of one worktree apart; two tasks that share one only wait for each other
_TASK_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Worktrees:
    """Makes and finds the worktrees in `directory`. Synchronous; safe to use from threads and processes at once.

    `locks_dir` holds the locks of repositories, of which everything here that changes one holds its own. `umask` is for the
    files of worktrees (None: that of this process).
    """

    def __init__(self, directory: Path, locks_dir: Path, settings: GitSettings, *, umask: int | None = None) -> None:
        self._directory = Path(os.path.realpath(directory))
        self._locks = locks_dir
        self._settings = settings
        self._git = Git(timeout=settings.timeout, umask=umask)
        self._tracker = GitTracker(timeout=settings.timeout)
        self._bin = Bin(self._directory)

    def create(self, task_id: str, workspace: str | os.PathLike[str]) -> Worktree:
        """Branch task/<id> from the workspace's HEAD, checked out in <directory>/<id>, locked, with its bootstrap done.

        The workspace is not touched. Called again for the same task it takes up what is there: a complete worktree as
        it is, whatever a crash left half-made from the start, a branch with commits of its own from these on.
        Raises NotARepository, NoCommits, RepositoryBusy and GitError. Then whatever this call made is gone again, and
        what was there before is as it was; there is no other place for the task to run.
        """
        path = self._path(task_id)
        place = locate(self._git, workspace)
        self._check_outside(place, path)
        with self._own_lock(task_id) as lock:
            try:
                found = self.find(task_id, place.common_dir)
                if found is not None:
                    self._verify(found)
                    return found
                notes = self._clear(place, path, task_id)
                return self._make(place, path, task_id, notes, lock)
            except OSError as error:
                raise GitError(
                    f"cannot make the worktree {shown(path)}: {error.strerror or error}"
                    + (f" ({shown(error.filename)})" if error.filename else "")
                ) from error

    def find(self, task_id: str, repository: Path) -> Worktree | None:
        """The complete worktree of a task in the repository with that common folder; None: there is none."""
        return registry.find(repository, self._path(task_id))

    def remove(self, worktree: Worktree, *, target: str | None, force: bool = False, dry_run: bool = False) -> Removal:
        """Delete worktree and branch when nothing is lost with them; otherwise keep both and say why. `dry_run`: say only.

        Nothing is lost when all commits are in `target` (as they are, as patches or squashed; None: there are none), the
        worktree has no changes, no untracked files and nothing in progress, the branch is used nowhere else and no
        process is at work in it. `force` deletes it with all its files in spite of that, but not under a process, and
        not a branch that another working tree uses. The branch's last commit stays in refs/tasksd/backup/ either way.
        May be called again after any end of an earlier call. Raises GitError for a worktree that was not made here.
        """
        check_deletable(worktree, self._directory)
        with self._own_lock(worktree.task_id):
            try:
                return remove(
                    *(self._git, worktree, target),
                    force=force,
                    dry_run=dry_run,
                    discarded=self._bin,
                    locks=self._locks,
                    timeout=self._settings.timeout,
                )
            except (GitError, OSError) as error:
                return Removal(False, f"kept: {error}")

    def sweep(self) -> int:
        """Delete the files of removed worktrees that earlier processes had no time to delete; how many worktrees."""
        return self._bin.sweep()

    def backups(self, repository: Path) -> list[Backup]:
        """What is left of the branches that were deleted, the oldest first."""
        return list_backups(self._git, repository)

    def expire(self, repository: Path, older_than: float) -> list[Backup]:
        """Delete the backups made more than `older_than` seconds ago; those that were deleted. No other reference."""
        return expire(self._git, repository, older_than)

    def _path(self, task_id: str) -> Path:
        if not _TASK_ID.fullmatch(task_id):
            raise GitError(f"{task_id!r} cannot name a worktree: an id is 1 to 40 of a-z, 0-9 and -")
        return self._directory / task_id

    @contextmanager
    def _own_lock(self, task_id: str) -> Iterator[int]:
        """Against others that make or remove the same worktree, and against what a killed maker's git still does."""
        number = zlib.crc32(task_id.encode()) % LOCKS
        patience = self._settings.timeout * (CHECKOUT + 1)
        with repository_lock(self._locks, self._directory / f".{number}", timeout=patience) as descriptor:
            yield descriptor

    def _check_outside(self, place: Place, path: Path) -> None:
        """Git must not see the worktree as content of the repository that it belongs to."""
        if path.is_relative_to(os.path.realpath(place.common_dir)):
            raise GitError(
                f"the worktree {shown(path)} would be inside the repository's own {shown(place.common_dir)}; "
                f"set TASKSD_DATA_DIR to a folder outside"
            )
        around = next((parent for parent in path.parents if (parent / ".git").exists()), None)
        if around is None:
            return
        try:
            outer = locate(self._git, around)
        except GitError:  # not a repository after all, or one that git does not enter: it will not look at this either
            return
        if outer.common_dir != place.common_dir or outer.root is None:
            return
        ignored = self._git.run("check-ignore", "-q", "--", str(path), cwd=outer.root, check=False).code == 0
        if not ignored:
            raise GitError(
                f"the worktree {shown(path)} would show as untracked files in {shown(outer.root)}; "
                f"set TASKSD_DATA_DIR to a folder outside, or name {shown(self._directory)} in .gitignore"
            )

    def _clear(self, place: Place, path: Path, task_id: str) -> list[str]:
        """Take away what a killed maker left at the place of the worktree; nothing of anybody else. Notes for a person.

        No agent has ever worked in what has no record, so that nothing in it can be missed.
        """
        entries = registry.entries_of(place.common_dir, path)
        for entry in entries:
            if not registry.is_ours(entry, task_id):
                raise GitError(
                    f"{shown(path)} is locked ({registry.locked_by(entry)}); unlock it with `git worktree unlock`"
                )
        notes = []
        if path.exists() and not entries and any(path.iterdir()):
            if registry.belongs_elsewhere(path):
                raise GitError(f"{shown(path)} is a worktree of another repository; remove it there first")
            notes.append(f"{shown(path)} held files that belong to no repository; they are in {self._bin.aside(path)}")
        elif path.exists():
            self._bin.empty(self._bin.take(path, task_id))
        with repository_lock(self._locks, place.common_dir):
            for entry in (*entries, *registry.half_made(place.common_dir, task_id)):
                registry.take_away(entry)
        return notes

    def _make(self, place: Place, path: Path, task_id: str, notes: list[str], lock: int) -> Worktree:
        head = read_head(self._git, place)
        self._check_subfolder(place, head)
        branch = branch_of(task_id)
        old = self._tracker.tip(place.top, branch)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            base = self._add(place, path, branch, head, old, lock)
            self._check_out(path, lock)
            workdir = path / place.prefix
            worktree = Worktree(task_id, path, workdir, branch, head.branch, base, place.common_dir)
            workdir.mkdir(parents=True, exist_ok=True)  # left out of a sparse checkout
            self._verify(worktree)
            worktree = replace(worktree, notes=(*notes, *self._bootstrap(place, path, task_id)))
            [entry] = registry.entries_of(place.common_dir, path)
            registry.record(entry, worktree)
        except BaseException:
            self._undo(place, path, task_id, new_branch=None if old else head.commit)
            raise
        return worktree

    def _check_subfolder(self, place: Place, head: Head) -> None:
        if not place.prefix:
            return
        tree = self._git.run("ls-tree", "-d", "--full-tree", head.commit, "--", place.prefix, cwd=place.top).stdout
        if b" tree " not in tree:
            raise GitError(
                f"{shown(place.workspace)} is in the repository {shown(place.top)}, but nothing in it is committed, so a "
                f"worktree would not have it; commit it first, or submit with --no-isolation"
            )

    def _add(self, place: Place, path: Path, branch: str, head: Head, old: str | None, own: int) -> str:
        """Branch and entry, without files, in milliseconds; where the branch begins."""
        base = head.commit
        checkout: tuple[str, ...] = ("-b", branch, str(path), head.commit)
        if old is not None:
            # What an earlier run committed is gone on with; a branch without any starts from what is there now.
            merged = self._git.run("merge-base", head.commit, old, cwd=place.top, check=False).stdout.decode().strip()
            if merged == old:
                checkout = ("-B", branch, str(path), head.commit)
            else:
                base, checkout = merged or head.commit, (str(path), branch)
        options = ["--no-checkout", "--lock"]
        if self._git.version >= (2, 33):
            options += ["--reason", registry.reason(path.name)]
        options += ["--no-track"] if checkout[0] in ("-b", "-B") else []
        with repository_lock(self._locks, place.common_dir) as lock:
            self._git.run("worktree", "add", *options, *checkout, cwd=place.top, inherit=(lock, own))
        return base

    def _check_out(self, path: Path, lock: int) -> None:
        # Outside the repository's lock: this writes nothing but the new worktree, and for a large one that takes long.
        self._git.run(
            *("reset", "--hard", "-q", "--no-recurse-submodules"),
            cwd=path,
            timeout=self._settings.timeout * CHECKOUT,
            inherit=(lock,),
        )

    def _verify(self, worktree: Worktree) -> None:
        """Git, run where the agent will run it, must see this worktree and this branch and nothing around them."""
        output = self._git.run("rev-parse", "--symbolic-full-name", "HEAD", "--show-toplevel", cwd=worktree.workdir)
        reference, _, top = output.stdout.removesuffix(b"\n").partition(b"\n")
        if os.path.realpath(os.fsdecode(top)) != os.path.realpath(worktree.path):
            raise GitError(f"{shown(worktree.path)} is no working tree of its own: git sees {shown(os.fsdecode(top))}")
        if os.fsdecode(reference) != f"refs/heads/{worktree.branch}":
            on = os.fsdecode(reference).removeprefix("refs/heads/")
            raise GitError(
                f"{shown(worktree.path)} is {'detached' if on == 'HEAD' else f'on {on}'} instead of on {worktree.branch}; "
                f"run `git switch {worktree.branch}` there"
            )

    def _bootstrap(self, place: Place, path: Path, task_id: str) -> list[str]:
        notes = []
        if (path / ".gitmodules").exists():
            notes.append("submodules are not checked out in the worktree; `git submodule update --init` does that")
        if place.root is not None:
            copied = copy_included(
                *(self._git, place.root, path, self._settings.include_file),
                draft=self._bin.draft(task_id),
                timeout=self._settings.timeout,
            )
            notes += copied.notes
            if copied.files:
                notes.append(f"{copied.files} ignored files were copied, as {self._settings.include_file} says")
        return notes

    def _undo(self, place: Place, path: Path, task_id: str, *, new_branch: str | None) -> None:
        """Take away what this call made; the error that it ends with is the one to be told."""
        try:
            taken = self._bin.take(path, task_id) if path.exists() else None
            with repository_lock(self._locks, place.common_dir):
                for entry in (
                    *registry.entries_of(place.common_dir, path),
                    *registry.half_made(place.common_dir, task_id),
                ):
                    registry.take_away(entry)
                if new_branch is not None:
                    reference = f"refs/heads/{branch_of(task_id)}"
                    self._git.run("update-ref", "-d", reference, new_branch, cwd=place.top, check=False)
            self._bin.empty(taken)
        except (OSError, GitError) as error:
            logger.warning("a worktree that could not be made was left behind: %s path=%s", error, path)
