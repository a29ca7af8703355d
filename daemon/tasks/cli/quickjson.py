"""JSON with the C half of the standard library's `json`: importing all of it would cost half a start of the interpreter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Standard:
    """What `json.JSONDecoder` hands to its scanner by default."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def loads(raw: bytes) -> Any:
    """Parse one document without white space around it. Raises ValueError."""
    try:
        from _json import make_scanner  # only in CPython

        text = raw.decode()
        value, end = make_scanner(_Standard)(text, 0)  # type: ignore[arg-type]
        if end == len(text):
            return value
    except (ImportError, AttributeError, TypeError, StopIteration):
        pass
    import json

    return json.loads(raw)
