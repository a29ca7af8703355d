"""`python -m tasks.git.fallback OURS THEIRS` in a repository: merges two commits in the object store, through libgit2.

For git before 2.38, which has no `merge-tree --write-tree`. A process of its own because libgit2 holds the interpreter.
Prints one line of JSON: {"tree": object name or null, "paths": the conflicting ones}. Merge drivers of the user's
configuration are not run: files that need one count as text. The working tree and all refs are left alone.
"""

import json
import os
import sys

import pygit2


def fit(directory: str, ours: str, theirs: str) -> dict[str, object]:
    """The tree of the merge, or the paths at which it does not fit. Raises ValueError for unrelated histories."""
    repository = pygit2.Repository(directory)
    if repository.merge_base(pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs)) is None:
        raise ValueError("refusing to merge unrelated histories")
    index = repository.merge_commits(pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs))
    if index.conflicts is None:
        return {"tree": str(index.write_tree(repository)), "paths": []}
    paths = {side.path: None for sides in index.conflicts for side in sides if side is not None}
    return {"tree": None, "paths": sorted(paths)}


def main() -> int:
    """0 with an answer; 1 with the reason on stderr."""
    try:
        answer = fit(os.curdir, *sys.argv[1:3])
    except (pygit2.GitError, ValueError, KeyError) as error:
        sys.stderr.write(f"fatal: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
