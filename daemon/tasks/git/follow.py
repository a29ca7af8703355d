"""Moves a checked-out branch together with its clean working tree, and puts right what a move that was cut off left.

Before git starts, the intent is noted in our own data directory. A move that was killed leaves one of these, and
`settle`, called under the lock of the repository, comes to one of these ends:

- the branch has moved, or nothing has happened yet: the note is deleted;
- the index is that of the merge, the branch is not: the same move is made again, git then only moves the branch;
- files were written, index and branch are old: every file that differs is compared. When each is the old one, the new
  one, the beginning of the new one or not there, nothing of anybody else can be lost: the old files are put back;
- anything else, or a left-over index.lock: an `Obstacle` says which files and what to run; nothing is touched.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.errors import GitError, RepositoryBusy
from tasks.git.checkouts import (
    GITLINK,
    Change,
    Obstacle,
    changes_between,
    git_dir,
    head_ref,
    named,
    printable,
    uncommitted,
)
from tasks.git.command import OUTPUT_BYTES, Git, Output, short

#: Every option here overrides one of the user's configuration (merge.*, branch.<name>.mergeOptions, submodule.recurse).
_FAST_FORWARD = (
    *("-c", "submodule.recurse=false", "-c", "rerere.enabled=false"),
    *("merge", "--ff-only", "--no-autostash", "--no-squash", "--commit", "--no-overwrite-ignore"),
    *("--no-verify-signatures", "--no-stat", "--quiet"),
)


@dataclass(frozen=True, slots=True)
class Intent:
    """A working tree is to follow `ref` from `tip` to `commit`."""

    root: str
    ref: str
    tip: str
    commit: str


class Follower:
    """`timeout` is for the command that writes the files, in seconds; `step` is told what was just done."""

    def __init__(self, git: Git, notes_dir: Path, *, timeout: float, step: Callable[[str], None]) -> None:
        self._git = git
        self._notes_dir = notes_dir
        self._timeout = timeout
        self._step = step

    def follow(self, repository: Path, intent: Intent, *, label: str, lock: int) -> Obstacle | None:
        """Move branch and tree to `intent.commit`, a child of `intent.tip`; None when git did so.

        The tree was found clean; git looks again and refuses when it is not any more. `lock` is the descriptor of the
        repository's lock: git keeps it, so that nobody of ours starts while it still writes after our own death.
        """
        note = self._note(repository, intent.ref)
        _write(note, intent)
        self._step("intended")
        if head_ref(self._git, Path(intent.root)) != intent.ref:  # git would move whatever is checked out now
            note.unlink()
            return Obstacle(f"another branch was checked out in {printable(intent.root)} meanwhile")
        try:
            output = self._fast_forward(intent, label=label, lock=lock, check=False)
        except RepositoryBusy as error:
            return self.settle(repository, intent.ref, lock=lock) or Obstacle(str(error))
        except GitError:
            self.settle(repository, intent.ref, lock=lock)
            raise
        self._step("followed")
        if output.code != 0:
            return self.settle(repository, intent.ref, lock=lock) or _refused(Path(intent.root), output)
        note.unlink(missing_ok=True)
        self._step("cleared")
        return None

    def is_pending(self, repository: Path, ref: str) -> bool:
        """Whether a move of `ref` was begun and not ended."""
        return self._note(repository, ref).exists()

    def settle(self, repository: Path, ref: str, *, lock: int) -> Obstacle | None:
        """Put right what a move of `ref` that was cut off left; None when nothing of one is left (any more)."""
        note = self._note(repository, ref)
        intent = _read(note)
        if intent is None:
            return None
        if self._is_open(repository, intent):
            stands = self._resume(intent, lock=lock)
            if stands is not None:
                return stands
            self._step("settled")
        note.unlink(missing_ok=True)
        return None

    def _is_open(self, repository: Path, intent: Intent) -> bool:
        """Whether branch and tree still are where the intent found them; else a person or another move went on."""
        root = Path(intent.root)
        tip = self._git.run("rev-parse", "-q", "--verify", intent.ref, cwd=repository, check=False)
        if tip.stdout.decode("ascii").strip() != intent.tip or not root.is_dir():
            return False
        known = self._git.run("cat-file", "-e", intent.commit, cwd=repository, check=False).code == 0
        return known and head_ref(self._git, root) == intent.ref

    def _resume(self, intent: Intent, *, lock: int) -> Obstacle | None:
        root, git = Path(intent.root), self._git
        place, index_lock = printable(intent.root), git_dir(git, root) / "index.lock"
        if os.path.lexists(index_lock):
            return Obstacle(
                f"a merge was cut off in {place}; when no git runs there any more, delete {printable(str(index_lock))}: "
                f"it is then put right by itself"
            )
        if _index_is(git, root, intent.commit):
            output = self._fast_forward(intent, label="tasksd: go on with a merge", lock=lock, check=False)
            return None if output.code == 0 else _refused(root, output)
        changes = changes_between(git, root, intent.tip, intent.commit)
        dirty = uncommitted(git, root)
        strange = [printable(path) for path in self._strange(root, intent, changes, dirty)]
        if strange:
            return Obstacle(
                f"a merge was cut off in {place}, and these files are neither as before nor as after it: "
                f"{named(strange)}; keep what you need of them elsewhere, then run: "
                f"git -C {place} reset --hard {intent.tip[:12]}",
                tuple(strange),
            )
        _put_back(git, root, changes, dirty)
        return None

    def _strange(self, root: Path, intent: Intent, changes: list[Change], dirty: list[str]) -> list[str]:
        """Paths whose content could be somebody's work."""
        concerned = {change.path for change in changes}
        if not _index_is(self._git, root, intent.tip):
            return dirty
        added = {change.path for change in changes if change.status == "A"}
        strange = [path for path in dirty if path not in concerned]
        for change in changes:
            looked_at = change.status == "A" or change.path in dirty
            if looked_at and change.new_mode != GITLINK and not self._is_ours(root, change, added):
                strange.append(change.path)
        return strange

    def _is_ours(self, root: Path, change: Change, added: set[str]) -> bool:
        """Whether the old or the new commit holds everything that is at the path."""
        path = root / change.path
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return True
        if stat.S_ISDIR(mode):
            inside = [(Path(folder) / file).relative_to(root) for folder, _, files in os.walk(path) for file in files]
            return change.status != "A" and all(str(file) in added for file in inside)
        if stat.S_ISLNK(mode):
            content = os.fsencode(path.readlink())
            found = self._git.run("hash-object", "--stdin", "--no-filters", cwd=root, input=content).stdout
            return found.decode("ascii").strip() in (change.old, change.new)
        if not stat.S_ISREG(mode):
            return False
        found = self._git.run("hash-object", "--", change.path, cwd=root).stdout
        return found.decode("ascii").strip() in (change.old, change.new) or self._is_beginning(root, change)

    def _is_beginning(self, root: Path, change: Change) -> bool:
        """Whether the file is the new one, cut off while it was written."""
        path = root / change.path
        if change.status == "D" or path.stat().st_size > OUTPUT_BYTES:
            return False
        try:
            new = self._git.run("cat-file", "--filters", f"--path={change.path}", change.new, cwd=root).stdout
        except GitError:
            return False
        return new.startswith(path.read_bytes())

    def _fast_forward(self, intent: Intent, *, label: str, lock: int, check: bool) -> Output:
        return self._git.run(
            *_FAST_FORWARD,
            intent.commit,
            cwd=Path(intent.root),
            environ={"GIT_REFLOG_ACTION": label},
            timeout=self._timeout,
            inherit=(lock,),
            check=check,
        )

    def _note(self, repository: Path, ref: str) -> Path:
        key = os.fsencode(os.path.realpath(repository)) + b"\0" + os.fsencode(ref)
        return self._notes_dir / f"{hashlib.sha256(key).hexdigest()[:32]}.move"


def _write(note: Path, intent: Intent) -> None:
    """On the disk before git starts: a power failure must not keep the half-written tree and lose the note."""
    draft = note.with_suffix(".draft")
    with draft.open("w", encoding="ascii") as file:
        json.dump(asdict(intent), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(note)
    directory = os.open(note.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(note: Path) -> Intent | None:
    try:
        return Intent(**json.loads(note.read_text(encoding="ascii")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise GitError(f"cannot read {note}: {error}; delete it after looking at the working tree") from error


def _index_is(git: Git, root: Path, commit: str) -> bool:
    return git.run("diff-index", "--cached", "--quiet", commit, "--", cwd=root, check=False).code == 0


def _put_back(git: Git, root: Path, changes: list[Change], dirty: list[str]) -> None:
    """The files of the index, for paths that `_strange` cleared. Folders that hold anything are left alone."""
    for change in changes:
        if change.status == "A" and change.new_mode != GITLINK:
            with suppress(FileNotFoundError, NotADirectoryError):
                (root / change.path).unlink()
    wanted = {change.path for change in changes if change.status != "A" and change.old_mode != GITLINK} & set(dirty)
    for path in wanted:
        if (root / path).is_dir() and not (root / path).is_symlink():
            for folder, _, _ in os.walk(root / path, topdown=False):
                Path(folder).rmdir()
    if wanted:
        names = b"".join(os.fsencode(path) + b"\0" for path in sorted(wanted))
        git.run("checkout-index", "-f", "-u", "-z", "--stdin", cwd=root, input=names)


def _refused(root: Path, output: Output) -> Obstacle:
    """Git's own refusal: it lists the files on lines that begin with a tab."""
    paths = tuple(line.strip() for line in output.stderr.splitlines() if line.startswith("\t"))
    files = f": {named(paths)}" if paths else ""
    said = short(output.stderr).removesuffix(":") or f"it ended with {output.code}"
    return Obstacle(f"git would not update {printable(str(root))}: {said}{files}", paths)
