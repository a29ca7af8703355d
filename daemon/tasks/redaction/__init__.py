"""Takes secrets out of everything before it is first written, and cuts it to the size of its privacy level."""

import hmac
import re
import time
from dataclasses import dataclass

from tasks.redaction.gate import may_contain, may_contain_bytes
from tasks.redaction.rules import is_secret_name, redact
from tasks.words import PrivacyLevel

__all__ = ["EVENT_LIMIT", "STRING_LIMIT", "Redactor", "may_contain_secret"]

STRING_LIMIT = 8 * 1024  # bytes of UTF-8 of one string at level default
EVENT_LIMIT = 64 * 1024  # bytes of UTF-8 of all strings, keys and numbers of one event at level default
BUDGET = 0.050  # seconds of processor time per event: a busy machine is no reason to lose one
_END = 3_000  # characters of either end of a long text that tell why something failed
_OVERLAP = 4 * 1024  # characters behind the cut that are redacted too, so that a secret on the cut is seen whole
_CHUNK = 64 * 1024  # characters redacted between two looks at the clock
_LONGEST_LINE = 512 * 1024  # characters; a longer line cannot be redacted in time
_MARK_ROOM = 64  # bytes kept free for the mark of a cut
_MAX_DEPTH = 200
_NAME_KEYS = ("name", "key", "Name", "Key")
_VALUE_KEYS = ("value", "Value")
_TOO_LONG = "[not stored: redaction took too long]"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAYBE_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def may_contain_secret(raw: bytes) -> bool:
    """Whether `Redactor` could find a secret in the JSON text `raw`; False is a guarantee, True is not."""
    return may_contain_bytes(raw)


@dataclass(slots=True)
class _Walk:
    """What one event may still cost."""

    deadline: float  # of time.thread_time()
    room: int  # bytes of UTF-8
    redacts: bool


class Redactor:
    """Redacts texts and JSON values. Equal secrets get equal marks under one `key`; without it marks say nothing.

    At level `default` strings are cut to 8 KiB and events to 64 KiB, at `full` nothing is cut, at `minimal` values are
    not kept at all (a text that is stored nevertheless, such as an error, is treated as at `default`).
    """

    def __init__(self, key: bytes, level: PrivacyLevel) -> None:
        self._key = key
        #: may be changed at any time; what comes after is treated accordingly
        self.level = level

    @property
    def _cuts(self) -> bool:
        return self.level is not PrivacyLevel.FULL

    def text(self, value: str) -> str:
        """`value` without secrets, NUL and lone surrogates, at most 8 KiB of UTF-8 unless the level is `full`."""
        return self._text(value, _Walk(time.thread_time() + BUDGET, STRING_LIMIT, redacts=True))

    def ends(self, value: str, kept: str | None = None) -> str:
        """`text` of `value`; of what is too long for that, both ends: programs say why they failed first or last.

        `kept`: its `text`, where that is known already.
        """
        kept = self.text(value) if kept is None else kept
        if not self._cuts or len(value) <= 2 * _END or not kept.endswith("]"):
            return kept
        return f"{kept[:_END]}\n{self.text(value[-_END - _OVERLAP :])[-_END:]}"

    def value(self, obj: object, *, raw: bytes | None = None) -> object:
        """A JSON value with the same done to every string and key, and the values of secret-looking keys replaced.

        `obj` itself is returned when nothing is to be changed, else a new value. `raw` is a JSON text that contains
        `obj`, for instance the payload it was parsed from; it makes the usual case, no secret in a small event, cheap.
        After 50 ms of processor time what is left is replaced by a mark.
        """
        if self.level is PrivacyLevel.MINIMAL:
            return None
        redacts = True
        if raw is not None:
            redacts = len(raw) > EVENT_LIMIT or may_contain_bytes(raw)  # of a large event little may be kept
            if not redacts and (not self._cuts or len(raw) <= STRING_LIMIT) and not _MAYBE_UNSTORABLE.search(raw):
                return obj
        elif (joined := _joined(obj)) is not None and not may_contain(joined) and not _UNSTORABLE.search(joined):
            return obj
        room = EVENT_LIMIT if self._cuts else 1 << 62
        return self._value(obj, _Walk(time.thread_time() + BUDGET, room, redacts), depth=0)

    def _value(self, obj: object, walk: _Walk, depth: int) -> object:
        if isinstance(obj, str):
            return self._text(obj, walk)
        if isinstance(obj, dict):
            return self._object(obj, walk, depth)
        if isinstance(obj, list | tuple):
            return self._array(obj, walk, depth)
        walk.room -= 8 if obj is None or isinstance(obj, bool | float) else 8 + obj.bit_length() // 3  # type: ignore[attr-defined]
        return obj

    def _object(self, obj: dict[str, object], walk: _Walk, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        names_secret = walk.redacts and _names_secret(obj)
        for n, (key, value) in enumerate(obj.items()):
            if walk.room < _MARK_ROOM or depth > _MAX_DEPTH:
                result["…"] = f"[cut {len(obj) - n} of {len(obj)} items]"
                break
            name = self._text(key, walk)
            if walk.redacts and (is_secret_name(key) or (names_secret and key in _VALUE_KEYS)):
                result[name] = self._hidden(value, walk)
            else:
                result[name] = self._value(value, walk, depth + 1)
        return result

    def _array(self, obj: "list[object] | tuple[object, ...]", walk: _Walk, depth: int) -> list[object]:
        result: list[object] = []
        for n, value in enumerate(obj):
            if walk.room < _MARK_ROOM or depth > _MAX_DEPTH:
                result.append(f"…[cut {len(obj) - n} of {len(obj)} items]")
                break
            result.append(self._value(value, walk, depth + 1))
        return result

    def _hidden(self, value: object, walk: _Walk) -> object:
        """The value of a secret-looking key, with all that is in it, is one secret."""
        if value is None or isinstance(value, bool) or value in ("", [], {}):
            return value
        walk.room -= _MARK_ROOM
        secret = value if isinstance(value, str) else repr(value)
        return secret if secret.startswith("[REDACTED:") else self._mark("key", secret)

    def _text(self, value: str, walk: _Walk) -> str:
        limit = min(STRING_LIMIT, walk.room) if self._cuts else 1 << 62
        long = len(value) > limit or (len(value) > limit // 4 and not value.isascii() and _size(value) > limit)
        window = value[: limit + _OVERLAP] if long else value
        if walk.redacts and may_contain(window):
            window = self._redact(window, walk)
        if not window.isascii() or "\0" in window:
            window = _UNSTORABLE.sub("\ufffd", window)
        if long or (self._cuts and len(window) > limit // 4 and _size(window) > limit):
            window = self._cut(value, window, limit)
        walk.room -= len(window) if window.isascii() else _size(window)
        return window

    def _cut(self, whole: str, window: str, limit: int) -> str:
        # The last characters of a shortened window may be the beginning of a secret that nothing can recognise.
        keep = len(window) - _OVERLAP if len(whole) > limit + _OVERLAP else len(window)
        kept = window[: max(keep, 0)].encode()[: max(limit - _MARK_ROOM, 0)].decode(errors="ignore")
        cut = max(len(whole) - len(kept), 1)
        return f"{kept}…[cut {cut} characters, hmac {self._hmac(whole, 8)}]"

    def _redact(self, text: str, walk: _Walk) -> str:
        marks: dict[tuple[str, str], str] = {}

        def mark(rule: str, secret: str) -> str:
            if (rule, secret) not in marks:
                marks[rule, secret] = self._mark(rule, secret)
            return marks[rule, secret]

        if len(text) <= _CHUNK:
            return _TOO_LONG if time.thread_time() > walk.deadline else redact(text, mark)
        parts = []
        for chunk in _chunks(text):
            if time.thread_time() > walk.deadline or (len(chunk) > _LONGEST_LINE and may_contain(chunk)):
                parts.append(_TOO_LONG)
                break
            parts.append(redact(chunk, mark) if may_contain(chunk) else chunk)
        return "".join(parts)

    def _mark(self, rule: str, secret: str) -> str:
        return f"[REDACTED:{rule}:{self._hmac(secret, 4)}]"

    def _hmac(self, text: str, digits: int) -> str:
        return hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256").hex()[:digits]


def _joined(obj: object) -> str | None:
    """All strings of a small, flat value as one text to search, or None when it has to be walked."""
    if isinstance(obj, str):
        return obj if len(obj) <= STRING_LIMIT // 4 else None
    if not isinstance(obj, dict) or any(key in obj for key in _VALUE_KEYS):
        return None
    parts = []
    for key, value in obj.items():
        if isinstance(value, str):
            parts.append(f"{key}:{value}")
        elif isinstance(value, dict | list):
            return None
        else:
            parts.append(f"{key}:")
    joined = "\n".join(parts)
    return joined if len(joined) <= STRING_LIMIT // 4 or (joined.isascii() and len(joined) <= STRING_LIMIT) else None


def _names_secret(obj: dict[str, object]) -> bool:
    """Whether an object says in one field what the value in another is: `{"name": "DB_PASSWORD", "value": …}`."""
    return any(key in obj for key in _VALUE_KEYS) and any(
        isinstance(name := obj.get(key), str) and is_secret_name(name) for key in _NAME_KEYS
    )


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _chunks(text: str) -> list[str]:
    """`text` in pieces of whole lines; a private key is never divided."""
    chunks, start = [], 0
    while len(text) - start > _CHUNK:
        end = text.find("\n", start + _CHUNK) + 1 or len(text)
        begin = text.rfind("-----BEGIN ", start, end)
        if begin >= 0 and (close := text.find("-----END ", begin)) >= end:
            end = text.find("\n", close) + 1 or len(text)
        chunks.append(text[start:end])
        start = end
    chunks.append(text[start:])
    return [c for c in chunks if c]
