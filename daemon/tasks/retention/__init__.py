"""What is pruned when, and what is purged without a trace."""

from tasks.retention.pruner import Pruned, Pruner
from tasks.retention.space import State, state

__all__ = ["Pruned", "Pruner", "State", "state"]
