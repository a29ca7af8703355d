"""Questions about single things: sessions, events, failed calls, tasks. Answers are plain values, in the shape the API gives.

Times in epoch milliseconds.
"""

from tasks.history.accounting import accounting, spent_by, unreported
from tasks.history.calls import calls_of_session, calls_of_task
from tasks.history.output import Output
from tasks.history.records import DAY, Query, Record
from tasks.history.seen import seen
from tasks.history.sessions import (
    NoSuchSession,
    events,
    failures,
    known_sessions,
    session,
    session_counts,
    sessions,
    whole_session_id,
)
from tasks.history.touched import files_of_task
from tasks.history.tree import session_tree
from tasks.history.turns import session_turns
from tasks.history.work import (
    activity,
    ended,
    held,
    news,
    no_output,
    run_state,
    runs,
    task,
    task_counts,
    tasks,
    whole_task_id,
)

__all__ = [
    "DAY",
    "NoSuchSession",
    "Output",
    "Query",
    "Record",
    "accounting",
    "activity",
    "calls_of_session",
    "calls_of_task",
    "ended",
    "events",
    "failures",
    "files_of_task",
    "held",
    "known_sessions",
    "news",
    "no_output",
    "run_state",
    "runs",
    "seen",
    "session",
    "session_counts",
    "session_tree",
    "session_turns",
    "sessions",
    "spent_by",
    "task",
    "task_counts",
    "tasks",
    "unreported",
    "whole_session_id",
    "whole_task_id",
]
