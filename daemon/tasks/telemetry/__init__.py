"""Traces of sessions, turns and tool calls for an OpenTelemetry collector."""
