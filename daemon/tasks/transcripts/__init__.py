"""Reading the client's transcript files: new bytes in, answers of the API and tool calls out. Stores nothing.

A transcript is append-only JSON lines. One answer of the API stands there once per content block, growing, and once more
in every file that a fork copied it to: `Message.message_id` is the key over all files together.
"""

from tasks.transcripts.places import agent_of, find, of_session, projects_dir, stored_name
from tasks.transcripts.reader import peek, read
from tasks.transcripts.records import Answer, Call, Chunk, Message, Position, TranscriptFile

__all__ = [
    "Answer",
    "Call",
    "Chunk",
    "Message",
    "Position",
    "TranscriptFile",
    "agent_of",
    "find",
    "of_session",
    "peek",
    "projects_dir",
    "read",
    "stored_name",
]
