"""What was dirty in a working tree at one moment, so that a later look can tell what has changed since."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.git import WorkspaceState, shown

#: A file up to this size is known by its content, a larger one by its size and time of change.
HASHED_BYTES = 1 << 20
#: Bytes that are read for one snapshot, and files that are looked at; the others are known by name alone.
READ_BYTES = 32 << 20
LOOKED_AT = 5_000
#: With more dirty paths than this the names are not kept either.
MOST_PATHS = 20_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One working tree at one moment."""

    #: the top of the working tree; of a bare repository, its folder
    root: str
    #: None: no commit yet
    head: str | None
    #: dirty path (printable, from `root`) → what was there; empty: not known
    prints: Mapping[str, str] = field(default_factory=dict)
    #: False: there were too many dirty paths to keep them
    complete: bool = True
    #: not kept in a store
    branch: str | None = None
    #: such as "merge in progress", which stands among the dirty paths; not kept in a store
    in_progress: str | None = None

    def changed_since(self, earlier: "Snapshot | None") -> tuple[str, ...] | None:
        """The paths that are dirty now and were not so, or not as they are now, in `earlier` (None: all was clean).

        Of a snapshot that is not complete one entry says how many there are. None: cannot be told.
        """
        if earlier is not None and (earlier.root != self.root or not earlier.complete):
            return None
        if not self.complete:
            return (f"more than {MOST_PATHS:,} files",)
        before = earlier.prints if earlier is not None else {}
        return tuple(path for path, now in self.prints.items() if path not in before or _differ(before[path], now))

    def as_json(self) -> dict[str, Any]:
        """Absolute path → what was there; of `root` itself: what else there is to know."""
        own = {"head": self.head, "complete": self.complete}
        return {self.root: own} | {f"{self.root}/{path}": one for path, one in self.prints.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Snapshot":
        """Raises ValueError for what `as_json` did not make."""
        for root, own in document.items():
            if not isinstance(own, dict):
                continue
            prints = {
                path.removeprefix(f"{root}/"): one
                for path, one in document.items()
                if isinstance(one, str) and path != root
            }
            return cls(root, own.get("head"), prints, own.get("complete") is True)
        raise ValueError("no snapshot")


def snapshot(state: WorkspaceState, kinds: Iterable[str], exempt: Iterable[str]) -> Snapshot:
    """Look at what is dirty now. `kinds` and `exempt` are those of WorkspaceState.dirt."""
    root = state.root or state.common_dir
    paths = state.dirt(kinds, exempt)
    if len(paths) > MOST_PATHS:
        return Snapshot(str(root), state.head, complete=False, branch=state.branch)
    files = {shown(path): path for path in (*state.staged, *state.unstaged, *state.untracked, *state.submodules)}
    look = _Look()
    prints = {path: look.at(root / files[path]) if path in files else "" for path in paths}
    in_progress = f"{state.in_progress} in progress" if state.in_progress else None
    return Snapshot(str(root), state.head, prints, branch=state.branch, in_progress=in_progress)


def _differ(before: str, now: str) -> bool:
    """Whether two prints are of different contents, as far as they tell."""
    if not before or not now:
        return False
    (kind, time, content), (kind_now, time_now, content_now) = before.split(" ", 2), now.split(" ", 2)
    if kind != kind_now:
        return True
    return content != content_now if content and content_now else time != time_now


class _Look:
    """Takes the prints of one snapshot: "<kind, permission to run, size> <time of change> <hash or nothing>"."""

    def __init__(self) -> None:
        self._files = LOOKED_AT
        self._bytes = READ_BYTES

    def at(self, path: Path) -> str:
        if self._files <= 0:
            return ""
        self._files -= 1
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                return f"link 0 {_hash(os.fsencode(path.readlink()))}"
            if stat.S_ISDIR(found.st_mode):
                return self._folder(path)
            kind = f"{stat.S_IFMT(found.st_mode):o}.{found.st_mode & 0o100:o}.{found.st_size}"
            content = self._content(path, found.st_size) if stat.S_ISREG(found.st_mode) else ""
            return f"{kind} {found.st_mtime_ns} {content}"
        except FileNotFoundError:
            return "gone 0 0"
        except OSError:
            return ""

    def _content(self, path: Path, size: int) -> str:
        if size > min(HASHED_BYTES, self._bytes):
            return ""
        self._bytes -= size
        with path.open("rb") as file:
            return _hash(file.read(HASHED_BYTES + 1))

    def _folder(self, path: Path) -> str:
        """Of a submodule, or a repository inside this one: everything in it but git's own files."""
        prints: list[str] = []
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(files):
                if self._files <= 0:
                    return ""
                prints.append(f"{folder}/{name} {self.at(Path(folder, name))}")
        return f"folder 0 {_hash(os.fsencode(chr(10).join(prints)))}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
