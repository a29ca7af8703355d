"""Sessions that only transcripts know of: rows like those of the hooks, so that lists show them."""

import socket

from tasks.accounting.rollup import Context
from tasks.database import Connection
from tasks.transcripts import Chunk, TranscriptFile, stored_name

# A session of which any event was recorded is the ingester's alone. Its next event continues the row that stands here.
_SESSION = """
INSERT INTO sessions (session_uuid, task_id, status, status_since, cwd, transcript_path, model, host, started_at,
                      last_event_at, ended_at)
VALUES (:session_uuid, :task_id, 'ended', :last_at, :cwd, :path, :model, :host, :began_at, :last_at, :last_at)
ON CONFLICT (session_uuid) DO UPDATE SET
    task_id = coalesce(task_id, excluded.task_id),
    status_since = max(status_since, excluded.status_since),
    cwd = coalesce(cwd, excluded.cwd),
    transcript_path = min(coalesce(transcript_path, excluded.transcript_path),
                          coalesce(excluded.transcript_path, transcript_path)),
    model = coalesce(excluded.model, model),
    started_at = min(started_at, excluded.started_at),
    last_event_at = max(last_event_at, excluded.last_event_at),
    ended_at = max(ended_at, excluded.ended_at)
WHERE events = 0 AND status = 'ended'
"""


def note_session(
    connection: Connection, file: TranscriptFile, chunk: Chunk, context: Context, began_at: int | None, now: int
) -> None:
    """Store the session of a file when no hook has told of it. It never is newer than `now`.

    `began_at`: the file's; None: no line has a time. Of subagents' files only the times count.
    """
    times = [message.timestamp for message in chunk.messages]
    last_at = chunk.last_at if chunk.last_at is not None else max(times, default=None)
    if last_at is None:
        return
    last_at = min(last_at, now)
    is_main = file.agent_id is None
    models = [message.model for message in chunk.messages if message.model]
    values = {
        "session_uuid": file.session_uuid,
        "task_id": context.task_id,
        "cwd": chunk.cwd if is_main else None,
        "path": stored_name(file.path) if is_main else None,
        "model": models[-1] if is_main and models else None,
        "host": socket.gethostname(),
        "began_at": min(last_at, *times[:1] if began_at is None else (began_at,)),
        "last_at": last_at,
    }
    connection.execute(_SESSION, values)
