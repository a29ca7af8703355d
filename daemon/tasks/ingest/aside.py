"""Digests a payload of very many small values in a process of its own, because parsing it would hold the interpreter
lock, and with it the event loop, for longer than anybody should wait for an answer.
"""

import pickle
import subprocess
import sys

from tasks.events import Rejected
from tasks.events.models import Event, PostToolBatch, PostToolUse, ToolEvent
from tasks.ingest.digest import Digest, digest
from tasks.redaction import Redactor
from tasks.spool import SpoolFile
from tasks.words import QuarantineReason

#: What is smaller is parsed in milliseconds, whatever it holds.
LARGE = 256 << 10
#: String delimiters, and values, that take about 30 ms to parse.
MANY_STRINGS, MANY_VALUES = 60_000, 600_000
#: Seconds for one payload.
PATIENCE = 120.0


def is_heavy(raw: bytes) -> bool:
    """Whether parsing takes long enough to be noticed. Long texts do not, many small values do."""
    if len(raw) < LARGE:
        return False
    return raw.count(b'"') - raw.count(b'\\"') > MANY_STRINGS or raw.count(b",") > MANY_VALUES


def digest_aside(file: SpoolFile, redactor: Redactor) -> Digest | Rejected:
    """As `digest`, in a child. A child that dies of it says that nobody should try again."""
    request = pickle.dumps((file, redactor))
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", "from tasks.ingest.aside import main; main()"],
            input=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Rejected(QuarantineReason.CRASH_SUSPECT, f"not digested within {PATIENCE:g} s")
    if child.returncode != 0:
        return Rejected(QuarantineReason.CRASH_SUSPECT, f"the process that read it ended with {child.returncode}")
    made: Digest | Rejected = pickle.loads(child.stdout)  # noqa: S301  (our own child's answer)
    if isinstance(made, Digest):
        made.file = file
    return made


def main() -> None:
    file, redactor = pickle.load(sys.stdin.buffer)  # noqa: S301  (our own parent's request)
    made = digest(file, redactor)
    if isinstance(made, Digest):
        made.file = file._replace(raw=b"")
        _lighten(made.event)
    pickle.dump(made, sys.stdout.buffer)


def _lighten(event: Event) -> None:
    """Take out what the digest has already made texts of."""
    event.__pydantic_extra__ = {}
    if isinstance(event, ToolEvent):
        event.tool_input = None
    if isinstance(event, PostToolUse):
        event.tool_response = None
    if isinstance(event, PostToolBatch):
        event.tool_calls = []
