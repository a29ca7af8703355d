"""Reads single values out of JSON that may hold anything."""

import math
import re
from collections.abc import Mapping, Sequence

#: what the store can hold
BIGGEST = (1 << 63) - 1
#: what the client puts behind the reason when a hook blocked a prompt
_BLOCKED_PROMPT = "\n\nOriginal prompt:"
_SURROGATE = re.compile("[\ud800-\udfff]")


def mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def text(value: object) -> str:
    """A string that can be encoded; empty for everything else."""
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""


def words(value: object) -> str:
    """What the client says to a person, without the prompt that it repeats."""
    return text(value).partition(_BLOCKED_PROMPT)[0].strip()


def count(value: object) -> int:
    """A whole number from 0 on that fits into 63 bits; 0 for everything else."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    return number if 0 <= number <= BIGGEST else 0


def amount(value: object) -> float:
    """A finite number from 0 on; 0 for everything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= BIGGEST:
        return 0.0
    return float(value) if math.isfinite(value) else 0.0
