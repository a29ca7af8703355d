"""What one line says. Only the fields that are needed are decoded: most bytes are attachments and tools' answers."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

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
_GEO = re.compile(r"[^a-z0-9]+")
#: of inference_geo, where no surcharge is
_NO_GEO = frozenset({"", "global", "not_available"})
_ERROR_MARK = "<tool_use_error>"


class Line(msgspec.Struct, gc=False, rename="camel"):
    """The outer fields of a line, unchecked."""

    type: Any = None
    uuid: Any = None
    timestamp: Any = None
    session_id: Any = None
    prompt_id: Any = None
    cwd: Any = None
    request_session_id: Any = None
    forked_from: Any = None
    message: msgspec.Raw = _NOTHING

    @property
    def is_copied(self) -> bool:
        """Another session wrote it first. Clients since about 2.1.300 mark the assistant lines that a fork copies with the
        session that made the request, and all lines that `/branch` copies; older ones mark nothing."""
        made_by = self.request_session_id
        return self.forked_from is not None or (isinstance(made_by, str) and made_by != self.session_id)


class _Body(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    usage: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


class _Block(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    name: Any = None
    text: Any = None
    tool_use_id: Any = None
    is_error: Any = None
    input: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


_decode_line = msgspec.json.Decoder(Line).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_decode_blocks = msgspec.json.Decoder(list[_Block]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def parse(raw: bytes) -> tuple[list[Line], int]:
    """The JSON objects in one line of a file (mostly one), and 1 if it was not what a client writes, else 0. Never raises."""
    try:
        return [_decode_line(raw)], 0
    except _UNREADABLE:
        if not raw.strip():
            return [], 0
    mended = _mended(raw.removeprefix(_BOM))
    try:
        return [_decode_line(mended)], 0
    except _UNREADABLE:
        return list(_pieces(mended)), 1


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
    """Of an ISO 8601 time (UTC when it names no zone), else None."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        found = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return found if found > 0 else None


def body_of(line: Line) -> _Body | None:
    """Its message; None when it has none."""
    try:
        return _decode_body(line.message)
    except _UNREADABLE:
        return None


def message_in(line: Line, body: _Body, timestamp: int, prompt_id: str | None) -> Message | None:
    """Of an assistant line; None when it tells of no answer of the API."""
    usage = _object(body.usage)
    message_id = body.id or line.uuid
    if usage is None or body.model == SYNTHETIC or not isinstance(message_id, str):
        return None
    creation, server = usage.get("cache_creation"), usage.get("server_tool_use")
    written = creation if isinstance(creation, dict) else {}
    short, long = _count(written.get("ephemeral_5m_input_tokens")), _count(written.get("ephemeral_1h_input_tokens"))
    # Clients before the second price gave only the sum; what no part accounts for has the lower price.
    unsaid = _count(usage.get("cache_creation_input_tokens")) - short - long
    return Message(
        message_id,
        timestamp,
        body.model if isinstance(body.model, str) else "",
        prompt_id,
        _count(usage.get("input_tokens")),
        _count(usage.get("output_tokens")),
        _count(usage.get("cache_read_input_tokens")),
        short + max(unsaid, 0),
        long,
        _count(server.get("web_search_requests")) if isinstance(server, dict) else 0,
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
    return replace(best, timestamp=first, prompt_id=earlier.prompt_id, copied=copied)


def calls_in(body: _Body, message: Message, timestamp: int) -> Iterator[Call]:
    """The tools that the client itself was asked to run: hooks report no others."""
    for block in _blocks_in(body.content, b'"tool_use"'):
        if block.type == "tool_use" and isinstance(block.id, str) and block.id and isinstance(block.name, str):
            yield Call(
                block.id, block.name, message.message_id, message.model, message.prompt_id, timestamp,
                _utf8(bytes(block.input) or b"{}"),
            )  # fmt: skip


def answers_in(body: _Body, timestamp: int) -> Iterator[Answer]:
    """What the user line of a tool's result says."""
    for block in _blocks_in(body.content, b'"tool_result"'):
        if block.type == "tool_result" and isinstance(block.tool_use_id, str) and block.tool_use_id:
            text = _text(block.content)
            failed = block.is_error is True or text.startswith(_ERROR_MARK)
            yield Answer(block.tool_use_id, timestamp, not failed, text)


def _blocks_in(content: msgspec.Raw, mark: bytes) -> list[_Block]:
    """Those of a content that has `mark` somewhere; none of others."""
    raw = bytes(content)
    if mark not in raw:
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
    texts = (block.text for block in _blocks_in(content, b'"text"') if block.type == "text")
    return "\n".join(text for text in texts if isinstance(text, str))[:TEXT_LIMIT]


def _object(raw: msgspec.Raw) -> dict[str, Any] | None:
    try:
        # The standard library takes numbers of any size.
        value = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _count(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKEN_LIMIT:
        return value
    return 0


def _modifiers(usage: dict[str, Any]) -> str:
    """What changes the price, by the words of the API. A priority tier is paid for by contract: it is none here."""
    words = []
    if usage.get("service_tier") == "batch":
        words.append("batch")
    if usage.get("speed") == "fast":
        words.append("fast")
    geo = usage.get("inference_geo")
    if isinstance(geo, str) and geo not in _NO_GEO:
        words.append("geo_" + _GEO.sub("_", geo.lower())[:16])
    return " ".join(words)


def _utf8(raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode()
