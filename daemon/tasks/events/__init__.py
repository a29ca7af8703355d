"""Hook events of Claude Code: their models, and how bytes become one."""

from tasks.events.models import Event, KnownEvent, UnknownEvent
from tasks.events.parse import Parsed, Rejected, parse_event

__all__ = ["Event", "KnownEvent", "Parsed", "Rejected", "UnknownEvent", "parse_event"]
