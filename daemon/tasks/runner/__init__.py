"""Carrying tasks out: from the queue over a slot, a worktree and an agent to merged work. Only the daemon does this."""

from tasks.runner.dispatcher import ENDING, INTERVAL, Dispatcher, PoolState, WaitingTask
from tasks.runner.parts import Parts
from tasks.runner.settling import Cleaned

__all__ = ["ENDING", "INTERVAL", "Cleaned", "Dispatcher", "Parts", "PoolState", "WaitingTask"]
