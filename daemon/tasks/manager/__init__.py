"""Tasks: what is wanted, where it stands, what became of it. The row is the truth; agents are somebody else's."""

from tasks.manager.activity import Activity
from tasks.manager.manager import TaskManager
from tasks.manager.task import Run, Task, Usage
from tasks.manager.transitions import TRANSITIONS
from tasks.words import Failure, MergeState, TaskPriority, TaskStatus

__all__ = [
    "TRANSITIONS",
    "Activity",
    "Failure",
    "MergeState",
    "Run",
    "Task",
    "TaskManager",
    "TaskPriority",
    "TaskStatus",
    "Usage",
]
