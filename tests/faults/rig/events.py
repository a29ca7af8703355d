"""Event files written without the recorder, as it would have written them: fast enough for thousands."""

import json
import os
from pathlib import Path
from typing import Any

#: Recorder pids above what a kernel gives out, so that nobody can be taken for a recorder that still writes.
NOBODY = 5_000_000


class Dropper:
    """Drops events into one spool directory, in time order."""

    def __init__(self, spool: Path, *, session: str = "s-1", client: int = 0) -> None:
        self.spool = spool
        self.session = session
        self.client = client
        self._count = 0

    def raw(self, payload: bytes, *, mtime_ns: int | None = None, recorder: int = NOBODY) -> Path:
        """One file with these bytes; 0600, whatever the umask is."""
        self._count += 1
        path = self.spool / f"-.{self.client}.{recorder + self._count // 1000}.{self._count % 1000}.json"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(fd, payload)
            if mtime_ns is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)
        return path

    def event(self, kind: str, *, mtime_ns: int | None = None, **fields: Any) -> Path:
        return self.raw(event(kind, self.session, **fields), mtime_ns=mtime_ns)

    def calls(self, numbers: range) -> None:
        """The result of one tool call per number; the numbers are the ids of the calls."""
        for number in numbers:
            self.raw(result(self.session, number))


def event(kind: str, session: str, **fields: Any) -> bytes:
    common = {"session_id": session, "transcript_path": "/t.jsonl", "cwd": "/home/dev", "hook_event_name": kind}
    return json.dumps(common | fields).encode()


def result(session: str, number: int, *, padding: int = 0) -> bytes:
    """The result of call `number`: a tool_use_id of its own, every seventh one a failure."""
    call: dict[str, Any] = {
        "tool_name": ("Bash", "Read", "Edit")[number % 3],
        "tool_use_id": f"call-{number}",
        "tool_input": {"command": "make", "file_path": f"/home/dev/{number % 50}", "padding": "x" * padding},
        "duration_ms": number % 900,
    }
    if number % 7 == 0:
        return event("PostToolUseFailure", session, **call, error="Exit code 2\nmake: *** [all] Error 2")
    return event("PostToolUse", session, **call, tool_response={"stdout": "fine"})
