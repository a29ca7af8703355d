"""Whether something would be lost with a worktree and its branch. Writes at most objects: no ref, no file.

Every function answers None when nothing would be, and otherwise what, in words for a person. A question that git cannot
answer is an answer of the second kind.
"""

import os
from pathlib import Path

from tasks.errors import GitError
from tasks.git.command import Git, short
from tasks.git.fit import fit
from tasks.git.occupants import occupants
from tasks.git.place import locate, shown
from tasks.git.state import look

_NOBODY = ("-c", "user.name=tasksd", "-c", "user.email=tasksd@localhost")


def at_work(path: Path) -> str | None:
    """Processes that have their current directory in the worktree; those of other users are seen only by root."""
    found = occupants(path)
    if not found:
        return None
    names = ", ".join(f"{occupant.name} ({occupant.pid})" for occupant in found[:5])
    return f"{len(found)} process{'es are' if len(found) > 1 else ' is'} at work in {shown(path)}: {names}"


def uncommitted(git: Git, path: Path) -> str | None:
    """Changes and untracked files in the worktree, and whatever is in progress in it. Ignored files may go."""
    state = look(git, locate(git, path))
    said = state.summary()
    return f"{shown(path)} is not clean: {said}" if said else None


def unpushed_submodules(git: Git, repository: Path, entry: Path, path: Path, base: str) -> str | None:
    """Commits in the worktree's own submodules: their repositories lie in its entry and go with it."""
    listing = git.run("ls-tree", "-r", base, cwd=repository).stdout.decode("utf-8", "replace")
    recorded = [line.split()[2] for line in listing.splitlines() if line.startswith("160000 ")]
    for folder, folders, files in os.walk(entry / "modules"):
        if "HEAD" not in files or "objects" not in folders:
            continue
        folders[:] = [name for name in folders if name == "modules"]
        theirs = ("rev-list", "--ignore-missing", "--max-count=1", "--all", "HEAD", "--not", "--remotes", *recorded)
        # GIT_WORK_TREE, for the one that its configuration names may be gone already.
        environ = {"GIT_DIR": folder, "GIT_WORK_TREE": str(path)}
        found = git.run(*theirs, cwd=path, environ=environ, check=False)
        if found.code != 0 or found.stdout.strip():
            name = shown(Path(folder).relative_to(entry / "modules"))
            return f"the submodule {name} in {shown(path)} has commits that were not pushed anywhere"
    return None


def unmerged(git: Git, repository: Path, commit: str, target: str | None, base: str, *, timeout: float) -> str | None:
    """Commits that are in no other branch's keeping: nothing of them is part of `target`, as they are or squashed.

    Safe are: no commits since `base`; all reachable from `target`; a merge that would change nothing; every patch, or
    all of them as one, in the history of `target`.
    """
    if commit == base or _is_ancestor(git, repository, commit, base):
        return None
    made = _count(git, repository, f"{base}..{commit}")
    if target is None:
        return f"{made} and there is no branch to merge them into"
    found = git.run(
        "rev-parse", "-q", "--verify", "--end-of-options", f"{target}^{{commit}}", cwd=repository, check=False
    )
    tip = found.stdout.decode().strip()
    if not tip:
        return f"{made} and the branch {target} does not exist"
    if _is_ancestor(git, repository, commit, tip):
        return None
    if _adds_nothing(git, repository, commit, tip, timeout) or _is_there_as_patches(git, repository, commit, tip):
        return None
    return f"{_count(git, repository, f'{tip}..{commit}')} that {target} has not"


def _is_ancestor(git: Git, repository: Path, older: str, newer: str) -> bool:
    output = git.run("merge-base", "--is-ancestor", older, newer, cwd=repository, check=False)
    if output.code not in (0, 1):
        raise GitError(f"cannot tell whether {older[:12]} is in {newer[:12]} of {repository}: {short(output.stderr)}")
    return output.code == 0


def _count(git: Git, repository: Path, revisions: str) -> str:
    number = int(git.run("rev-list", "--count", revisions, "--", cwd=repository).stdout)
    return f"{number} commit{'s' if number != 1 else ''}"


def _adds_nothing(git: Git, repository: Path, commit: str, tip: str, timeout: float) -> bool:
    """Merging would leave the target as it is: all content is there, however it got there."""
    tree = git.run("rev-parse", f"{tip}^{{tree}}", f"{commit}^{{tree}}", cwd=repository).stdout.decode().split()
    return tree[0] == tree[1] or fit(git, repository, tip, commit, timeout=timeout).tree == tree[0]


def _is_there_as_patches(git: Git, repository: Path, commit: str, tip: str) -> bool:
    """Each change, or all of them squashed into one, is in the target's history, even if it was changed again since."""
    merges = git.run("rev-list", "--merges", "--max-count=1", f"{tip}..{commit}", "--", cwd=repository).stdout
    # `git cherry` passes merges over, and with them what their conflicts were resolved to.
    if not merges and _all_known(git, repository, commit, tip):
        return True
    fork = git.run("merge-base", tip, commit, cwd=repository, check=False).stdout.decode().split()
    if not fork:
        return False
    squashed = git.run(
        *(*_NOBODY, "commit-tree", "-p", fork[0], "-m", "squashed", f"{commit}^{{tree}}"), cwd=repository
    ).stdout.decode()
    return _all_known(git, repository, squashed.strip(), tip)


def _all_known(git: Git, repository: Path, commit: str, tip: str) -> bool:
    lines = git.run("cherry", tip, commit, cwd=repository).stdout.splitlines()
    return bool(lines) and all(line.startswith(b"- ") for line in lines)
