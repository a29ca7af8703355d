"""What a scripted API may answer, and how it looks on the wire."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call. `id` is sent as it stands, so a test knows the tool_use_id beforehand."""

    id: str
    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    #: sent in place of `input`, unparsed (streamed answers only): broken JSON
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. The two cache writes have two prices."""

    input: int = 3
    output: int = 80
    cache_read: int = 9000
    cache_write_5m: int = 300
    cache_write_1h: int = 0

    def as_json(self, *, output: int | None = None) -> dict[str, Any]:
        return {
            "input_tokens": self.input,
            "output_tokens": self.output if output is None else output,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m,
                "ephemeral_1h_input_tokens": self.cache_write_1h,
            },
            "service_tier": "standard",
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """One assistant message."""

    blocks: Sequence[Text | ToolUse]
    usage: Usage = Usage()
    #: "tool_use" or "end_turn" by the blocks when not given
    stop_reason: str | None = None
    #: seconds before the first byte
    delay: float = 0.0
    #: name of a gate that holds the answer until the test opens it
    gate: str | None = None
    #: the gate holds the second half of the stream, not the whole answer
    gate_in_stream: bool = False
    #: response headers besides the usual ones
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApiError:
    """An HTTP error, for every attempt; with `times`, that many errors and then the turn is as if it had not been."""

    status: int
    type: str = "api_error"
    message: str = "scripted failure"
    retry_after: int | None = None
    times: int | None = None
    gate: str | None = None
    #: response headers besides the usual ones
    headers: Mapping[str, str] = field(default_factory=dict)


Turn: TypeAlias = Reply | ApiError
Script: TypeAlias = Sequence[Turn]


def as_message(reply: Reply, *, model: str, number: int) -> dict[str, Any]:
    """The body of an answer that is not streamed; `number` makes its id."""
    calls = any(isinstance(block, ToolUse) for block in reply.blocks)
    return {
        "id": f"msg_scripted{number:012d}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_block(block) for block in reply.blocks],
        "stop_reason": reply.stop_reason or ("tool_use" if calls else "end_turn"),
        "stop_sequence": None,
        "usage": reply.usage.as_json(),
    }


def _block(block: Text | ToolUse) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    return {"type": "tool_use", "id": block.id, "name": block.name, "input": dict(block.input)}


def as_stream(reply: Reply, message: Mapping[str, Any]) -> Iterator[str]:
    """The server-sent events of one message: message_start has 1 output token, message_delta the true number."""
    start = {**message, "content": [], "stop_reason": None, "usage": reply.usage.as_json(output=1)}
    yield _event("message_start", message=start)
    for index, block in enumerate(reply.blocks):
        if isinstance(block, Text):
            yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            delta = {"type": "text_delta", "text": block.text}
        else:
            yield _event("content_block_start", index=index, content_block={**_block(block), "input": {}})
            written = json.dumps(dict(block.input)) if block.raw is None else block.raw
            delta = {"type": "input_json_delta", "partial_json": written}
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage=reply.usage.as_json())
    yield _event("message_stop")


def _event(kind: str, **content: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n"
