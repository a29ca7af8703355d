"""Whether two commits fit together, and the tree when they do. Writes objects only: no ref, index or working tree."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import GitError
from tasks.git.checkouts import printable
from tasks.git.command import Git, environment, run_program, short

MERGE_TREE = (2, 38)  # the first git with `merge-tree --write-tree`


@dataclass(frozen=True, slots=True)
class Fit:
    """Either `tree`; or `paths` that conflict, with git's `messages`; or `refusal`, why it cannot be tried at all."""

    tree: str | None
    paths: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    refusal: str = ""


def fit(git: Git, cwd: Path, ours: str, theirs: str, *, timeout: float) -> Fit:
    """Merge `theirs` into `ours`, two commits. `cwd` is where git looks for attributes. Raises GitError."""
    if git.version < MERGE_TREE:
        return _fit_in_child(cwd, ours, theirs, timeout)
    output = git.run(
        *("merge-tree", "--write-tree", "-z", "--messages", ours, theirs),
        cwd=cwd,
        environ={"GIT_ATTR_SOURCE": ours},  # git 2.41; before, those of the working tree at `cwd` count
        check=False,
    )
    tree, _, rest = output.stdout.partition(b"\0")
    if output.code == 0:
        return Fit(tree.decode("ascii"))
    if output.code != 1 or not tree:
        return _refusal(cwd, output.stderr)
    return _parse_conflict(rest)


def _fit_in_child(cwd: Path, ours: str, theirs: str, timeout: float) -> Fit:
    output = run_program(
        [sys.executable, "-P", "-m", "tasks.git.fallback", ours, theirs],
        cwd=cwd,
        environ=environment({}),
        timeout=timeout,
        what=f"the merge in {cwd}",
    )
    if output.code != 0:
        return _refusal(cwd, output.stderr)
    answer = json.loads(output.stdout)
    paths = tuple(printable(path) for path in answer["paths"])
    return Fit(answer["tree"], paths, tuple(f"CONFLICT: {path}" for path in paths))


def _parse_conflict(rest: bytes) -> Fit:
    """The rest of `merge-tree -z` after the tree: `<mode> <oid> <stage>\\t<path>` entries, an empty one, messages.

    A message is: number of paths, the paths, its kind, its text (git-merge-tree(1), "Informational messages").
    """
    listed, _, told = (b"", b"", rest[1:]) if rest.startswith(b"\0") else rest.partition(b"\0\0")
    paths = dict.fromkeys(entry.partition(b"\t")[2] for entry in listed.split(b"\0") if b"\t" in entry)
    only_told = not paths
    fields = iter(told.split(b"\0"))
    messages = []
    for count in fields:
        if not count.strip().isdigit():
            break
        about = [next(fields, b"") for _ in range(int(count))]
        kind, text = next(fields, b""), next(fields, b"")
        if kind.startswith(b"CONFLICT"):
            messages.append(text.decode("utf-8", "backslashreplace").strip())
            paths.update(dict.fromkeys(about if only_told else ()))
    return Fit(None, tuple(path.decode("utf-8", "backslashreplace") for path in paths), tuple(messages))


def _refusal(cwd: Path, stderr: str) -> Fit:
    if "unrelated histories" in stderr:
        return Fit(None, refusal="the two branches have no commit in common (a shallow clone may lack it)")
    raise GitError(f"cannot merge in {cwd}: {short(stderr)}; nothing was changed")
