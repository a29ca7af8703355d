"""From spool to store: reads events, understands them, writes what happened, and only then forgets the files."""

from tasks.ingest.step import Health, Ingest

__all__ = ["Health", "Ingest"]
