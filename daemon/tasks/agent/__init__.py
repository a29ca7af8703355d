"""How an agent is called, what its output means and how its end is judged. Pure: no processes, no files."""

from tasks.agent.command import Launch, launch, resumable
from tasks.agent.judge import COMPLETED, LIMITED, Judgement, judge
from tasks.agent.lines import LONGEST_LINE
from tasks.agent.notes import Note, NoteKind
from tasks.agent.quota import Limit, parse_reset
from tasks.agent.reader import OutputReader
from tasks.agent.result import AgentResult

__all__ = [
    "COMPLETED",
    "LIMITED",
    "LONGEST_LINE",
    "AgentResult",
    "Judgement",
    "Launch",
    "Limit",
    "Note",
    "NoteKind",
    "OutputReader",
    "judge",
    "launch",
    "parse_reset",
    "resumable",
]
