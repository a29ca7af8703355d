"""Whether an id is taken in a repository: a worktree goes on with the branch task/<id> if there is one."""

from pathlib import Path

from tasks.errors import GitError

#: Seconds for one look.
TIMEOUT = 10.0


def branch_exists(task_id: str, workspace: str) -> bool:
    """Whether the repository of `workspace` has the task's branch. False where that cannot be told: no folder, no repository,
    no git; such a task gets no branch either.
    """
    folder = Path(workspace)
    if not folder.is_dir():
        return False
    # Late, because pygit2 takes its time to load and most managers never look into a repository.
    from tasks.git import GitTracker, branch_of

    try:
        return GitTracker(TIMEOUT).tip(folder, branch_of(task_id)) is not None
    except (GitError, OSError):
        return False
