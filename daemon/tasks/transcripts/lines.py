"""What one line says. Only the fields that are needed are decoded: most bytes are attachments and tools' answers."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Annotated, Any

import msgspec

from tasks.transcripts.records import Answer, Call, Message

#: A usage says no more than this of any kind of token: no context is that long, and money has to fit in 64 bits.
TOKEN_LIMIT = 10**9
#: Characters of a tool's answer that are kept.
TEXT_LIMIT = 12_000
#: The model of lines that the client made up itself: API errors, interruptions.
SYNTHETIC = "<synthetic>"

_NOTHING = msgspec.Raw(b"")
#: what msgspec raises for bytes that it cannot decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BOM = b"\xef\xbb\xbf"
#: where a line begins that was written behind another one, or half of one, without a newline between them
_BEGINNING = re.compile(rb'(?<=\})\{"|(?!\A)\{"parentUuid":')
#: Lines that are looked for in one at most.
_GLUED = 8
#: A backslash that stands for itself, a pair of surrogates, and one surrogate alone.
_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)", re.DOTALL)
#: milliseconds: 2001 and 2100; what is outside is no time of an answer
_EARLIEST, _LATEST = 978_307_200_000, 4_102_444_800_000
_GEO = re.compile(r"[^a-z0-9]+")
#: of inference_geo, where no surcharge is
_NO_GEO = frozenset({"", "global", "not_available"})
_ERROR_MARK, _RAW_MARK = "<tool_use_error>", b"<tool_use_error>"


class Block(msgspec.Struct, gc=False):
    """A part of a message's content, unchecked."""

    type: Any = None
    id: Any = None
    name: Any = None
    text: Any = None
    tool_use_id: Any = None
    is_error: Any = None
    input: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


class Body(msgspec.Struct, gc=False):
    """A line's message. The ids are unchecked."""

    id: Any = None
    model: Any = None
    usage: msgspec.Raw = _NOTHING
    content: list[Block] | str | None = None


class _Outer(msgspec.Struct, gc=False, rename="camel"):
    type: Any = None
    uuid: Any = None
    timestamp: Any = None
    session_id: Any = None
    prompt_id: Any = None
    cwd: Any = None
    request_session_id: Any = None
    forked_from: Any = None


class Line(_Outer, gc=False, rename="camel"):
    """The outer fields of a line, unchecked, and its message; None when it has none that is a JSON object."""

    message: Body | None = None

    @property
    def is_copied(self) -> bool:
        """Another session wrote it first. Client 2.1.330 marks the assistant lines that a fork copies with the session that
        made the request, and all lines that `/branch` copies; 2.1.197 marked nothing."""
        made_by = self.request_session_id
        return self.forked_from is not None or (made_by is not None and made_by != self.session_id)


_Count = Annotated[int, msgspec.Meta(ge=0, le=TOKEN_LIMIT)]


class _Written(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: _Count = 0
    ephemeral_1h_input_tokens: _Count = 0


class _Served(msgspec.Struct, gc=False):
    web_search_requests: _Count = 0


class _Usage(msgspec.Struct, gc=False):
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0
    cache_creation: _Written | None = None
    server_tool_use: _Served | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None


class _OddLine(_Outer, gc=False, rename="camel"):
    """One that is no `Line` because of something in its message, of which the rest may be good."""

    message: msgspec.Raw = _NOTHING


class _OddBody(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    usage: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


_decode_usual_line = msgspec.json.Decoder(Line).decode
_decode_odd_line = msgspec.json.Decoder(_OddLine).decode
_decode_odd_body = msgspec.json.Decoder(_OddBody).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_block = msgspec.json.Decoder(Block).decode
_decode_blocks = msgspec.json.Decoder(list[Block]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def parse(line: bytes | memoryview) -> tuple[list[Line], int]:
    """The JSON objects in one line of a file (mostly one), and 1 if it was not what a client writes, else 0. Never raises."""
    try:
        return [_decode_usual_line(line)], 0
    except _UNREADABLE:
        raw = bytes(line)
    if not raw.strip():
        return [], 0
    try:
        return [_decode_line(raw)], 0
    except _UNREADABLE:
        pass
    mended = _mended(raw.removeprefix(_BOM))
    try:
        return [_decode_line(mended)], 0
    except _UNREADABLE:
        return list(_pieces(mended)), 1


def _decode_line(raw: bytes) -> Line:
    """As much of it as can be read. Raises one of _UNREADABLE when that is nothing."""
    odd = _decode_odd_line(raw)
    outer = {name: getattr(odd, name) for name in _Outer.__struct_fields__}
    try:
        body = _decode_odd_body(odd.message)
    except _UNREADABLE:
        return Line(**outer)
    return Line(**outer, message=Body(body.id, body.model, body.usage, _blocks_in(body.content)))


def _mended(raw: bytes) -> bytes:
    """Lone surrogates, as the client's own cutting of texts produces them, and bytes that are no UTF-8 become U+FFFD."""
    text = raw.decode("utf-8", "replace").encode()
    return _SURROGATES.sub(lambda found: b"\\ufffd" if found[1] else found[0], text)


def _pieces(raw: bytes) -> Iterator[Line]:
    """What can be read of a line that was torn, or that has another one glued to it."""
    starts = [found.start() for found in islice(_BEGINNING.finditer(raw), _GLUED)]
    for begin, end in pairwise([0, *starts, len(raw)]):
        for piece in (raw[begin:end], raw[begin:]):
            try:
                yield _decode_line(piece.strip(b"\0 \t\r"))
            except _UNREADABLE:
                continue
            break


def milliseconds(timestamp: object) -> int | None:
    """Of an ISO 8601 time of this century (UTC when it names no zone), else None."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        found = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return found if _EARLIEST <= found < _LATEST else None


def message_in(line: Line, body: Body, timestamp: int, prompt_id: str | None) -> Message | None:
    """Of an assistant line; None when it tells of no answer of the API."""
    message_id = body.id or line.uuid
    if body.model == SYNTHETIC or not isinstance(message_id, str) or (usage := _usage_in(body.usage)) is None:
        return None
    written, served = usage.cache_creation or _Written(), usage.server_tool_use or _Served()
    short, long = written.ephemeral_5m_input_tokens, written.ephemeral_1h_input_tokens
    return Message(
        message_id,
        timestamp,
        body.model if isinstance(body.model, str) else "",
        prompt_id,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        # Clients before the second price gave only the sum; what no part accounts for has the lower price.
        short + max(usage.cache_creation_input_tokens - short - long, 0),
        long,
        served.web_search_requests,
        _modifiers(usage),
        line.is_copied,
    )


def joined(earlier: Message, later: Message) -> Message:
    """One message of two lines with the same id: the usage is that of the line with more output, whole."""
    best = later if later.weight > earlier.weight else earlier
    first = min(earlier.timestamp, later.timestamp)
    copied = earlier.copied and later.copied
    if best.timestamp == first and best.prompt_id == earlier.prompt_id and best.copied == copied:
        return best
    return best.seen(first, earlier.prompt_id, copied=copied)


def calls_in(body: Body, message: Message, timestamp: int) -> Iterator[Call]:
    """The tools that the client itself was asked to run: hooks report no others."""
    for block in body.content if isinstance(body.content, list) else ():
        if block.type == "tool_use" and isinstance(block.id, str) and block.id and isinstance(block.name, str):
            yield Call(
                block.id, block.name, message.message_id, message.model, message.prompt_id, timestamp,
                _utf8(bytes(block.input) or b"{}"),
            )  # fmt: skip


def answers_in(body: Body, timestamp: int, *, only_failures: bool) -> Iterator[Answer]:
    """What the user line of a tool's result says; `only_failures`: of what went well without the text."""
    for block in body.content if isinstance(body.content, list) else ():
        if block.type == "tool_result" and isinstance(block.tool_use_id, str) and block.tool_use_id:
            told_to = block.is_error is True
            if only_failures and not told_to and not _may_be_marked(block.content):
                yield Answer(block.tool_use_id, timestamp, True, "")
                continue
            text = _text(block.content)
            failed = told_to or text.startswith(_ERROR_MARK)
            yield Answer(block.tool_use_id, timestamp, not failed, text if failed or not only_failures else "")


def _may_be_marked(content: msgspec.Raw) -> bool:
    """Whether the text of a content could begin with the mark of an error; False is sure. To decode all of them, most of which
    are long, takes a fifth of the time of reading."""
    begin = bytes(memoryview(content)[:2])
    if begin.startswith(b'"'):
        return begin in (b'"<', b'"\\')
    return begin.startswith(b"[") and (_RAW_MARK in (raw := bytes(content)) or b"\\u" in raw)


def _blocks_in(content: msgspec.Raw) -> list[Block]:
    """Those of a content that can be read."""
    raw = bytes(content)
    if not raw.startswith(b"["):
        return []
    try:
        return _decode_blocks(raw)
    except _UNREADABLE:
        pass
    try:
        raws = _decode_raws(raw)
    except _UNREADABLE:
        return []
    blocks = []
    for one in raws:
        try:
            blocks.append(_decode_block(one))
        except _UNREADABLE:
            continue
    return blocks


def _text(content: msgspec.Raw) -> str:
    """A string, or the text blocks of a list, one below the other."""
    raw = bytes(content)
    if raw.startswith(b'"'):
        try:
            return _decode_text(raw)[:TEXT_LIMIT]
        except _UNREADABLE:
            return _decode_text(_mended(raw))[:TEXT_LIMIT]
    texts = (block.text for block in _blocks_in(content) if block.type == "text")
    return "\n".join(text for text in texts if isinstance(text, str))[:TEXT_LIMIT]


def _usage_in(raw: msgspec.Raw) -> _Usage | None:
    try:
        return _decode_usage(raw)
    except _UNREADABLE:
        pass
    try:
        # The standard library takes numbers of any size.
        told = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return None
    return _mended_usage(told) if isinstance(told, dict) else None


def _mended_usage(told: dict[str, Any]) -> _Usage:
    """What of it makes sense; what does not is nothing."""
    mended: dict[str, Any] = {}
    for name in _Usage.__struct_fields__:
        value = told.get(name)
        if name in ("speed", "service_tier", "inference_geo"):
            mended[name] = value if isinstance(value, str) else None
        elif name in ("cache_creation", "server_tool_use"):
            parts = value if isinstance(value, dict) else {}
            mended[name] = {part: _count(number) for part, number in parts.items()}
        else:
            mended[name] = _count(value)
    return msgspec.convert(mended, _Usage)


def _count(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKEN_LIMIT:
        return value
    return 0


def _modifiers(usage: _Usage) -> str:
    """What changes the price, in words of the API. A priority tier is paid for by contract: it is none here."""
    words = []
    if usage.service_tier == "batch":
        words.append("batch")
    if usage.speed == "fast":
        words.append("fast")
    if usage.inference_geo and usage.inference_geo not in _NO_GEO:
        words.append("geo_" + _GEO.sub("_", usage.inference_geo.lower())[:16])
    return " ".join(words)


def _utf8(raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode()
