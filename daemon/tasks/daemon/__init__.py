"""The composition root: builds everything, runs the loops, stops in reverse order."""

from tasks.daemon.run import run

__all__ = ["run"]
