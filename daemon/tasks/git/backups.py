"""References to the last commits of branches that were deleted, in refs/tasksd/backup/: written, listed, expired."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import GitError
from tasks.git.command import Git, short

PREFIX = "refs/tasksd/backup/"


@dataclass(frozen=True, slots=True)
class Backup:
    #: full name; `git branch NAME <ref>` brings the branch back
    ref: str
    task_id: str
    commit: str
    #: epoch milliseconds UTC, whole seconds
    made: int


def keep(git: Git, repository: Path, task_id: str, commit: str, what: str) -> str:
    """Write a backup of `commit` and return its name: refs/tasksd/backup/<task>, or <task>.2 … for another commit.

    Never overwrites one. It refers to a tag object, which has the time, and `what` for its message: a reference to a
    commit knows neither.
    """
    own = (PREFIX + task_id, f"{PREFIX}{task_id}.*")
    known = {backup.ref: backup.commit for backup, _ in _read(git, repository, *own)}
    number = 1
    while known.get(ref := PREFIX + task_id + ("" if number == 1 else f".{number}"), commit) != commit:
        number += 1
    if ref in known:
        return ref
    text = (
        f"object {commit}\ntype commit\ntag tasksd-{task_id}\n"
        f"tagger tasksd <tasksd@localhost> {int(time.time())} +0000\n\n{what}\n"
    )
    tag = git.run("mktag", cwd=repository, input=text.encode("utf-8", "backslashreplace")).stdout.decode().strip()
    git.run("update-ref", ref, tag, "0" * len(tag), cwd=repository)
    return ref


def list_backups(git: Git, repository: Path) -> list[Backup]:
    """The oldest first."""
    return [backup for backup, _ in _read(git, repository)]


def expire(git: Git, repository: Path, older_than: float) -> list[Backup]:
    """Delete the backups made more than `older_than` seconds ago, and no other reference; those that were deleted."""
    limit = (time.time() - older_than) * 1000
    gone = []
    for backup, value in _read(git, repository):
        if backup.made < limit:
            output = git.run("update-ref", "-d", backup.ref, value, cwd=repository, check=False)
            if output.code != 0:
                raise GitError(f"cannot delete {backup.ref} of {repository}: {short(output.stderr)}")
            gone.append(backup)
    return gone


def _read(git: Git, repository: Path, *patterns: str) -> list[tuple[Backup, str]]:
    form = "%(refname)%00%(objectname)%00%(*objectname)%00%(taggerdate:unix)"
    listing = git.run("for-each-ref", f"--format={form}", *(patterns or (PREFIX,)), cwd=repository).stdout
    found = []
    for line in os.fsdecode(listing).splitlines():
        ref, value, commit, made = line.split("\0")
        if commit and made:  # anything else there is not ours
            task_id = ref.removeprefix(PREFIX).partition(".")[0]
            found.append((Backup(ref, task_id, commit, int(made) * 1000), value))
    return sorted(found, key=lambda pair: (pair[0].made, pair[0].ref))
