"""A bounded pool: what runs, what waits, and in which order. In memory alone; it never touches the database or a process."""

from tasks.pool.agents import AgentPool
from tasks.pool.jobs import Handle
from tasks.pool.snapshots import PoolSnapshot, PoolStatus, TaskView
from tasks.words import TaskPriority

__all__ = ["AgentPool", "Handle", "PoolSnapshot", "PoolStatus", "TaskPriority", "TaskView"]
