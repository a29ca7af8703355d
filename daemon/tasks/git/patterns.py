"""Patterns in the form of .gitignore, without negation, for paths that are in nobody's .gitignore."""

import re
from collections.abc import Iterable
from functools import lru_cache

from tasks.errors import ConfigError

_NEVER = "(?!)"
_CLASSES = {
    **{"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "xdigit": "0-9a-fA-F"},
    **{"blank": " \\t", "space": r"\s", "punct": r"!-/:-@\[-`{-~", "cntrl": r"\x00-\x1f\x7f"},
    **{"print": " -~", "graph": "!-~"},
}
_NAMED = re.compile(r"\[:([a-z]*):\]")


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether any pattern names `path` (from the top of the repository, "/" between) or a folder that it is in.

    A path that ends in "/" is a folder. Raises ConfigError for a pattern that starts with "!".
    """
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_expression(pattern), re.DOTALL)


def _expression(pattern: str) -> str:
    """By gitignore(5), "Pattern format"."""
    if pattern.startswith("!"):
        raise ConfigError(f"the pattern {pattern!r} is a negation, which has no meaning here; name what is exempt")
    text = re.sub(r"(?<!\\) +$", "", pattern)
    if not text or text.startswith("#"):
        return _NEVER
    folder = text.endswith("/")
    text = text.removesuffix("/")
    anchored = "/" in text
    parts = text.removeprefix("/").split("/")
    body = "" if anchored else "(?:.*/)?"
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**" and anchored:
            body += "[^/].*" if last else "(?:[^/]+/)*"
        else:
            body += _part(part) + ("" if last else "/")
    return body + ("/.*" if folder else "(?:/.*)?")


def _part(part: str) -> str:
    """What stands between two slashes."""
    made, at = "", 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            while part[at : at + 1] == "*":
                at += 1
            made += "[^/]*"
        elif character == "?":
            made += "[^/]"
        elif character == "[":
            end = _end_of_set(part, at)
            if end is None:
                return _NEVER
            made += _set(part[at:end])
            at = end + 1
        elif character == "\\":
            if at == len(part):
                return _NEVER
            made += re.escape(part[at])
            at += 1
        else:
            made += re.escape(character)
    return made


def _end_of_set(part: str, start: int) -> int | None:
    """Where the "]" is that closes the set whose content begins at `start`."""
    at = start + (part[start : start + 1] in ("!", "^"))
    first = at
    while at < len(part):
        if part[at] == "]" and at > first:
            return at
        named = _NAMED.match(part, at)
        at = named.end() if named else at + 1 + (part[at] == "\\")
    return None


def _set(content: str) -> str:
    negated = content[:1] in ("!", "^")
    made, at = "", int(negated)
    while at < len(content):
        named = _NAMED.match(content, at)
        if named:
            if named[1] not in _CLASSES:
                return _NEVER
            made += _CLASSES[named[1]]
            at = named.end() - 1
        elif content[at] == "-" and at - negated > 0 and at + 1 < len(content):
            made += "-"
        else:
            at += content[at] == "\\" and at + 1 < len(content)
            made += re.escape(content[at])
        at += 1
    try:
        re.compile(f"[{made}]")
    except re.error:  # a range from a later to an earlier character holds nothing
        return _NEVER
    return f"(?!/)[{'^' if negated else ''}{made}]"
