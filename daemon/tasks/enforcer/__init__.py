"""The rules for commits: before and after a task, and in a person's own sessions (hooks/guard). Changes no workspace."""

from tasks.enforcer.verdicts import Verdict, verdict_write, verdicts
from tasks.enforcer.workflow import WorkflowEnforcer

__all__ = ["Verdict", "WorkflowEnforcer", "verdict_write", "verdicts"]
