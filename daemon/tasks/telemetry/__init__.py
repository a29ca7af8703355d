"""Traces of sessions, turns, subagents and tool calls for an OpenTelemetry collector, with the GenAI semantic conventions.

Off unless `[otlp] endpoint` is set. Names, times, numbers and ids leave this process, texts never do.
"""

from tasks.telemetry.pusher import Pusher

__all__ = ["Pusher"]
