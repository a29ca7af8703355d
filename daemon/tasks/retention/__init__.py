"""What is pruned when, and what is purged without a trace."""

from tasks.retention.plan import Plan, StillLive, for_before, for_session, plan_file, unfinished
from tasks.retention.pruner import Pruned, Pruner
from tasks.retention.purge import Purged, purge, transcripts_left
from tasks.retention.space import State, state

__all__ = [
    "Plan",
    "Pruned",
    "Pruner",
    "Purged",
    "State",
    "StillLive",
    "for_before",
    "for_session",
    "plan_file",
    "purge",
    "state",
    "transcripts_left",
    "unfinished",
]
