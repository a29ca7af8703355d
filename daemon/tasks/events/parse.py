"""Bytes of a spool file → an event, or the reason why not. Pure; never raises whatever the bytes are."""

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from tasks.events.models import Event, KnownEvent, UnknownEvent
from tasks.words import QuarantineReason

#: Deeper nesting than any client sends, well below what the parsers survive.
MAX_DEPTH = 128

_KNOWN: TypeAdapter[Event] = TypeAdapter(KnownEvent)

_BOM = b"\xef\xbb\xbf"
#: Possessive, and taking a string that is never closed too: a torn file must not cost more than a whole one.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = re.compile(rb"[^\[\]{}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Envelope keys that decide what an event is. Nested or quoted ones do no harm: the slow look decides.
_KIND_KEY, _SESSION_KEY = b'"hook_event_name"', b'"session_id"'


class Parsed(NamedTuple):
    event: Event
    #: what had to be mended: "surrogates", "nul", "dup_keys"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    reason: QuarantineReason
    #: at most 200 characters, no payload text
    detail: str
    #: whether these bytes could be the beginning of an event that is still being written
    maybe_unfinished: bool = False


def parse_event(raw: bytes) -> Parsed | Rejected:
    """The event in `raw`. Kinds and fields that this version does not know are kept."""
    if not raw:
        return Rejected(QuarantineReason.EMPTY, "no bytes", maybe_unfinished=True)
    if raw.startswith(_BOM):
        raw = raw[len(_BOM) :]
    # Counting brackets is an upper bound of the depth at a thousandth of the cost of knowing it.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_too_deep(raw):
        return Rejected(QuarantineReason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
    flags: tuple[str, ...] = ()
    if (raw.count(_KIND_KEY) > 1 or raw.count(_SESSION_KEY) > 1) and _has_duplicate_keys(raw):
        flags = ("dup_keys",)
    if b"\\u0000" in raw:
        return _parse_leniently(raw, flags)
    try:
        return Parsed(_KNOWN.validate_json(raw), flags)
    except ValidationError as error:
        kind = error.errors(include_url=False, include_context=False, include_input=False)[0]["type"]
        if kind == "json_invalid":
            return _parse_leniently(raw, flags)
        return _without_discriminator(raw, error, flags)
    except RecursionError:
        return Rejected(QuarantineReason.TOO_DEEP, "nested deeper than the parser goes")


def _without_discriminator(raw: bytes, error: ValidationError, flags: tuple[str, ...]) -> Parsed | Rejected:
    """Valid JSON that is no known event: an unknown kind, or a known one of the wrong shape."""
    if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] != "union_tag_invalid":
        return _schema_error(error)
    try:
        return Parsed(UnknownEvent.model_validate_json(raw), flags)
    except ValidationError as deeper:
        return _schema_error(deeper)


def _parse_leniently(raw: bytes, flags: tuple[str, ...]) -> Parsed | Rejected:
    """The standard library takes what the strict parser refuses: lone surrogates, which the client's cutting produces."""
    if b"\x00" in raw:
        return Rejected(QuarantineReason.NUL, f"NUL byte at offset {raw.index(0)}", maybe_unfinished=True)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        unfinished = error.reason == "unexpected end of data"
        return Rejected(QuarantineReason.BAD_UTF8, f"not UTF-8 at offset {error.start}", maybe_unfinished=unfinished)
    mended: set[str] = set()
    try:
        document = _mend(json.loads(text), mended)
    except json.JSONDecodeError as error:
        torn = _looks_unfinished(text, error)
        reason = QuarantineReason.TORN if torn else QuarantineReason.BAD_JSON
        return Rejected(reason, f"{error.msg} at character {error.pos}", maybe_unfinished=torn)
    except RecursionError:
        return Rejected(QuarantineReason.TOO_DEEP, "nested deeper than the parser goes")
    except ValueError as error:  # an integer of more than 4300 digits
        return Rejected(QuarantineReason.INT_RANGE, str(error)[:200])
    all_flags = flags + tuple(sorted(mended))
    try:
        return Parsed(_KNOWN.validate_python(document), all_flags)
    except ValidationError as error:
        if (
            error.errors(include_url=False, include_context=False, include_input=False)[0]["type"]
            != "union_tag_invalid"
        ):
            return _schema_error(error)
    try:
        return Parsed(UnknownEvent.model_validate(document), all_flags)
    except ValidationError as error:
        return _schema_error(error)


def _schema_error(error: ValidationError) -> Rejected:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return Rejected(QuarantineReason.SCHEMA, f"{where or 'payload'}: {first['msg']}"[:200])


def _looks_unfinished(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text may be a prefix of valid JSON: the decoder stopped at its end, or in a string or token never closed."""
    if error.msg == "Extra data":
        return False
    if error.msg.startswith(("Unterminated string", "Invalid \\uXXXX escape")) or error.pos >= len(text.rstrip()):
        return True
    return error.pos >= len(text) - len("-Infinity")


def _mend(value: Any, mended: set[str]) -> Any:
    """Replace what cannot be stored by U+FFFD, in keys too."""
    if isinstance(value, str):
        if _SURROGATE.search(value):
            mended.add("surrogates")
            value = _SURROGATE.sub("\ufffd", value)
        if "\x00" in value:
            mended.add("nul")
            value = value.replace("\x00", "\ufffd")
        return value
    if isinstance(value, dict):
        return {_mend(key, mended): _mend(item, mended) for key, item in value.items()}
    if isinstance(value, list):
        return [_mend(item, mended) for item in value]
    return value


def _is_too_deep(raw: bytes) -> bool:
    depth = 0
    for bracket in _NO_BRACKETS.sub(b"", _STRING.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _has_duplicate_keys(raw: bytes) -> bool:
    """Whether the outermost object repeats a key. The last one wins, as with every JSON parser, but it is worth a flag."""

    class Pairs(list[tuple[str, Any]]):
        pass

    try:
        pairs = json.loads(raw, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return False
    keys = [key for key, _ in pairs] if isinstance(pairs, Pairs) else []
    return len(keys) != len(set(keys))
