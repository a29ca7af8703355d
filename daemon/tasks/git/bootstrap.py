"""What a new worktree needs and git does not bring: copies of chosen ignored files. Never a file from elsewhere."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.errors import GitError
from tasks.git.command import Git
from tasks.git.place import shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Copied:
    files: int
    #: sentences for a person, one for each thing that was left out
    notes: tuple[str, ...]


def copy_included(git: Git, root: Path, worktree: Path, include_file: str, *, draft: Path, timeout: float) -> Copied:
    """Copy into `worktree` the ignored files of the working tree at `root` that its `include_file` selects.

    Selected is what that file's patterns name (in the form of .gitignore) and git ignores; a tracked file never is.
    Symlinks are copied as they are and none is followed, in `root` and in `worktree` alike. A file that is already in
    the worktree is left as it is, and each copy appears whole or not at all: it is made as `draft`, a path on the file
    system of the worktree, and renamed. Modes and mtimes are kept; file systems that can share the blocks do.
    Raises GitError when a file cannot be copied.
    """
    listing = root / include_file
    try:
        if not stat.S_ISREG(os.lstat(listing).st_mode):
            return Copied(0, (f"{shown(listing)} is not a regular file and was not used",))
    except (FileNotFoundError, NotADirectoryError):
        return Copied(0, ())
    files, notes = 0, []
    with _folder(os.open(root, _FOLDER)) as source, _folder(os.open(worktree, _FOLDER)) as target:
        for name in _selected(git, root, listing, timeout):
            try:
                reason = _copy(source, target, name, draft)
            except OSError as error:
                raise GitError(
                    f"cannot copy {shown(os.fsdecode(name))} from {shown(root)} into {shown(worktree)}: {error.strerror}; "
                    f"{include_file} names it"
                ) from error
            finally:
                draft.unlink(missing_ok=True)
            files += reason is None
            notes += [f"{shown(os.fsdecode(name))} was not copied: {reason}"] if reason else []
    return Copied(files, tuple(notes))


def _selected(git: Git, root: Path, listing: Path, timeout: float) -> list[bytes]:
    """Relative to `root`. Two steps, so that nothing but the selected is compared with what git ignores."""
    options = ("--others", "--ignored", "-z", f"--exclude-from={listing}")
    named = git.run("ls-files", *options, cwd=root, timeout=timeout).stdout
    if not named:
        return []
    ignored = git.run("check-ignore", "-z", "--stdin", cwd=root, input=named, timeout=timeout, check=False)
    if ignored.code not in (0, 1):  # 1: none of them
        raise GitError(f"`git check-ignore` in {root} ended with {ignored.code}: {ignored.stderr.strip()}")
    # A name that ends in "/" is a repository of its own.
    return [name for name in ignored.stdout.split(b"\0") if name and not name.endswith(b"/")]


def _copy(source: int, target: int, name: bytes, draft: Path) -> str | None:
    """Copy one file between the two open folders; None, or why it was left out."""
    *parents, last = name.split(b"/")
    try:
        with _folder(_descend(source, parents)) as there, _folder(_descend(target, parents, make=True)) as here:
            if _exists(here, last):
                return "the worktree has it"
            mode = os.stat(last, dir_fd=there, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink(last, dir_fd=there), last, dir_fd=here)
            elif stat.S_ISREG(mode):
                _copy_file(there, here, last, draft)
            else:
                return "it is neither a file nor a link"
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return "a folder of its path is a link or a file"
        if error.errno == errno.ENOENT:
            return "it is gone"
        raise
    return None


def _copy_file(there: int, here: int, name: bytes, draft: Path) -> None:
    draft.unlink(missing_ok=True)
    # Non-blocking: what was a file a moment ago may be a pipe without a writer.
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=there), "rb") as original:
        facts = os.fstat(original.fileno())
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            _copy_content(original, copy)
            os.fchmod(copy.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)
        os.utime(draft, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.rename(draft, name, dst_dir_fd=here)


def _copy_content(original: BinaryIO, copy: BinaryIO) -> None:
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(original.fileno(), copy.fileno(), 1 << 30):
                pass
        except OSError as error:  # file systems that do not share, or not with one another
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
    # Whatever is not there yet: all of it, or nothing.
    shutil.copyfileobj(original, copy, 1 << 20)


def _descend(folder: int, parts: list[bytes], *, make: bool = False) -> int:
    """The folder `parts` below, opened; none of them may be a link."""
    current = os.dup(folder)
    for part in parts:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=current)
            below = os.open(part, _FOLDER, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _folder(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
