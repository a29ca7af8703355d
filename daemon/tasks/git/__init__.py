"""Everything that tasksd knows of git: what a workspace looks like, a worktree for every task, the way back.

The only importer of pygit2. Working trees and merges go through the `git` command; nothing here stashes, pushes, runs
hooks or touches a checkout that is not its own, but for one that a merge takes along.
"""

from tasks.git.backups import Backup
from tasks.git.command import Git, Output
from tasks.git.conflicted import Conflicted, conflicted
from tasks.git.difference import Difference, Work, difference
from tasks.git.lock import repository_lock
from tasks.git.merge import Conflicts, Merge, Merger
from tasks.git.place import shown
from tasks.git.registry import Worktree, branch_of
from tasks.git.removal import Removal
from tasks.git.state import Commit, GitTracker, WorkspaceState
from tasks.git.worktrees import Worktrees

__all__ = [
    "Backup",
    "Commit",
    "Conflicted",
    "Conflicts",
    "Difference",
    "Git",
    "GitTracker",
    "Merge",
    "Merger",
    "Output",
    "Removal",
    "Work",
    "WorkspaceState",
    "Worktree",
    "Worktrees",
    "branch_of",
    "conflicted",
    "difference",
    "repository_lock",
    "shown",
]
