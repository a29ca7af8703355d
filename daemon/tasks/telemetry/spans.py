"""What finished, as OpenTelemetry spans. Ids are hashes: a span pushed twice is the same span, in whatever order they come."""

import hashlib
from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tasks.telemetry.finished import Call, Finished, Session, Turn, Usage

#: gen_ai.agent.name of the main agent.
AGENT = "claude-code"

_Attributes = dict[str, str | int | float | bool]


class Spans:
    def __init__(self, version: str, host: str) -> None:
        self._resource = Resource(
            {"service.name": "tasksd", "service.version": version, "host.name": host},
        )
        self._scope = InstrumentationScope("tasksd", version)

    def of(self, found: Finished) -> list[ReadableSpan]:
        """A trace for each session: session → turns and subagents → tool calls."""
        return [
            *(self._session(one) for one in found.sessions),
            *(self._turn(one) for one in found.turns),
            *(self._call(one) for one in found.calls),
        ]

    def _session(self, one: Session) -> ReadableSpan:
        attributes: _Attributes = {"gen_ai.conversation.id": one.session_uuid, "tasksd.session.status": one.status}
        return self._span(
            "session",
            trace=one.session_uuid,
            key=_session_key(one.session_uuid),
            parent=None,
            began=one.began,
            ended=one.ended,
            attributes=attributes | _known(task_id=one.task_id, origin=one.origin) | _usage(one.usage),
            error=None if one.status == "ended" else one.status,
        )

    def _turn(self, one: Turn) -> ReadableSpan:
        agent = one.agent_type or ("subagent" if one.agent_id else AGENT)
        attributes: _Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent,
            "gen_ai.conversation.id": one.session_uuid,
        }
        if one.agent_id:
            attributes["gen_ai.agent.id"] = one.agent_id
        return self._span(
            f"invoke_agent {agent}",
            trace=one.session_uuid,
            key=_turn_key(one.session_uuid, one.agent_id, one.prompt_id or str(one.ended)),
            parent=_turn_key(one.session_uuid, None, one.prompt_id)
            if one.agent_id and one.prompt_id
            else _session_key(one.session_uuid),
            began=one.began,
            ended=one.ended,
            attributes=attributes | _known(task_id=one.task_id, prompt_id=one.prompt_id) | _usage(one.usage),
            error="api_error" if one.failed else None,
        )

    def _call(self, one: Call) -> ReadableSpan:
        attributes: _Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": one.tool_name,
            "gen_ai.tool.type": "extension" if one.tool_name.startswith("mcp__") else "function",
        }
        if one.tool_use_id:
            attributes["gen_ai.tool.call.id"] = one.tool_use_id
        if one.model:
            attributes["gen_ai.request.model"] = one.model
        if one.session_uuid:
            attributes["gen_ai.conversation.id"] = one.session_uuid
        parent = None
        if one.session_uuid and (one.agent_id or one.prompt_id):
            parent = _turn_key(one.session_uuid, one.agent_id, one.prompt_id)
        elif one.session_uuid:
            parent = _session_key(one.session_uuid)
        return self._span(
            f"execute_tool {one.tool_name}",
            trace=one.session_uuid or (f"task/{one.task_id}" if one.task_id else one.key),
            key=one.key,
            parent=parent,
            began=one.began,
            ended=one.ended,
            attributes=attributes | _known(task_id=one.task_id),
            error=one.error_category,
        )

    def _span(
        self,
        name: str,
        *,
        trace: str,
        key: str,
        parent: str | None,
        began: float,
        ended: float,
        attributes: Mapping[str, str | int | float | bool],
        error: str | None,
    ) -> ReadableSpan:
        trace_id = _number(trace, 16)
        return ReadableSpan(
            name=name,
            context=_context(trace_id, key),
            parent=None if parent is None else _context(trace_id, parent),
            resource=self._resource,
            instrumentation_scope=self._scope,
            attributes=attributes if error is None else {**attributes, "error.type": error},
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
            start_time=round(began * 1000) * 1000,
            end_time=round(ended * 1000) * 1000,
        )


def _session_key(session: str) -> str:
    return f"session/{session}"


def _turn_key(session: str, agent: str | None, prompt: str | None) -> str:
    """A subagent is named by its id alone: its calls and its end may carry different prompts."""
    return f"agent/{session}/{agent}" if agent else f"turn/{session}/{prompt}"


def _context(trace_id: int, key: str) -> SpanContext:
    return SpanContext(trace_id, _number(key, 8), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=size).digest()) or 1


def _known(**values: str | None) -> _Attributes:
    return {f"tasksd.{name}": value for name, value in values.items() if value is not None}


def _usage(usage: Usage | None) -> _Attributes:
    if usage is None:
        return {}
    found: _Attributes = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": usage.model,
        # By the convention, with what was read from the cache and written to it.
        "gen_ai.usage.input_tokens": usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }
    if usage.cost is not None:
        found["tasksd.cost_usd"] = usage.cost / 1e12
    return found
