"""Whether an id is taken in a repository: a worktree goes on with the branch task/<id> if there is one."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import GitError

if TYPE_CHECKING:
    from tasks.git import Git

#: Seconds for one look.
TIMEOUT = 10.0


def branch_exists(task_id: str, workspace: str) -> bool:
    """Whether the repository of `workspace` has the task's branch. False where that cannot be told: no folder, no repository,
    no git; such a task gets no branch either.
    """
    folder = Path(workspace)
    if not folder.is_dir():
        return False
    from tasks.git import branch_of

    reference = f"refs/heads/{branch_of(task_id)}"
    try:
        return _git().run("rev-parse", "-q", "--verify", reference, cwd=folder, check=False).code == 0
    except (GitError, OSError):
        return False


@lru_cache(maxsize=1)
def _git() -> "Git":
    # Late, because pygit2 takes its time to load and most managers never look into a repository.
    from tasks.git import Git

    return Git(timeout=TIMEOUT)
