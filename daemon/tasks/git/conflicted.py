"""What a merge that does not fit looks like: the files in conflict with git's marks in them. Writes objects only."""

import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tasks.errors import TasksError
from tasks.git.command import Git, short
from tasks.git.difference import OFFLINE, TIMEOUT, Work, ask, commit_of
from tasks.git.fit import MERGE_TREE
from tasks.git.place import BRANCH_PREFIX, locate, shown

#: Files whose text is given.
MOST_FILES = 20


@dataclass(frozen=True, slots=True)
class ConflictedFile:
    #: printable, undecodable bytes as \\xNN
    path: str
    #: with the marks <<<<<<<, ======= and >>>>>>>; None: see `reason`
    text: str | None = None
    #: whether the text goes on
    cut: bool = False
    #: what git says of it
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Conflicted:
    """Nothing in `files`: `reason` says why."""

    ours: str | None = None
    theirs: str | None = None
    files: tuple[ConflictedFile, ...] = ()
    #: files in conflict beyond these
    more_files: int = 0
    reason: str = ""


def conflicted(git: Git, work: Work, *, limit: int) -> Conflicted:
    """What merging the task's branch into the one it came from would leave to a person, as it is now; of each file at most
    `limit` bytes. Raises nothing of ours.
    """
    try:
        return _merged(git, work, limit)
    except (TasksError, OSError, ValueError) as error:
        return Conflicted(reason=shown(str(error)))


def _merged(git: Git, work: Work, limit: int) -> Conflicted:
    if git.version < MERGE_TREE:
        return Conflicted(reason="showing a conflict needs git 2.38 or later")
    if not work.workspace or not work.branch or not work.base_branch:
        return Conflicted(reason="the task has no branch, or none to merge it into")
    top = locate(git, work.workspace).top
    ours, theirs = (commit_of(git, top, f"{BRANCH_PREFIX}{name}") for name in (work.base_branch, work.branch))
    if ours is None or theirs is None:
        missing = shown(work.base_branch if ours is None else work.branch)
        return Conflicted(ours, theirs, reason=f"there is no branch {missing} in {shown(top)} any more")
    output = git.run(
        *("merge-tree", "--write-tree", "-z", "--messages", ours, theirs),
        cwd=top,
        environ={**OFFLINE, "GIT_ATTR_SOURCE": ours},
        check=False,
        timeout=TIMEOUT,
    )
    found = Conflicted(ours, theirs)
    if output.code == 0:
        return replace(found, reason="it fits by now: merge it again")
    tree, _, rest = output.stdout.partition(b"\0")
    if output.code != 1 or not tree:
        return replace(found, reason=short(output.stderr) or "git cannot merge the two")
    paths, messages = _parsed(rest)
    files = [_file(git, top, tree.decode("ascii"), path, messages.get(path, ""), limit) for path in paths[:MOST_FILES]]
    return replace(found, files=tuple(files), more_files=max(0, len(paths) - MOST_FILES))


def _parsed(rest: bytes) -> tuple[list[bytes], dict[bytes, str]]:
    """The paths in conflict, and what is said of each; git-merge-tree(1), "Output" with -z."""
    fields = iter(rest.split(b"\0"))
    paths: dict[bytes, None] = {}
    for entry in fields:
        if not entry:
            break
        paths[entry.partition(b"\t")[2]] = None
    messages: dict[bytes, str] = {}
    for count in fields:
        if not count.strip().isdigit():
            break
        about = list(islice(fields, int(count)))
        kind, text = next(fields, b""), next(fields, b"")
        if kind.startswith(b"CONFLICT"):
            said = text.decode("utf-8", "backslashreplace").strip()
            messages |= {path: said for path in about if path not in messages}
            paths |= dict.fromkeys(about if not paths else ())
    return list(paths), messages


def _file(git: Git, top: Path, tree: str, path: bytes, message: str, limit: int) -> ConflictedFile:
    found = ConflictedFile(path.decode("utf-8", "backslashreplace"), message=message)
    name = f"{tree}:{os.fsdecode(path)}"
    output = ask(git, "cat-file", "blob", name, cwd=top, check=False, enough=limit + 1)
    if output.code != 0:
        return replace(found, reason="it is not a file in the merge")
    if b"\0" in output.stdout[:8000]:
        return replace(found, reason="it is binary")
    text = output.stdout[:limit].decode("utf-8", "replace")
    return replace(found, text=text, cut=len(output.stdout) > limit)
