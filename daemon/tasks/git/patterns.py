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
_DEEP = re.compile(r"\*\*(?:(/)|$)")
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
    body = _body(text.removeprefix("/")) if anchored else "(?:.*/)?" + _body(text)
    return body + ("/.*" if folder else "(?:/.*)?")


def _body(text: str) -> str:
    made, at = "", 0
    while at < len(text):
        deep = _DEEP.match(text, at)
        if deep and (at == 0 or text[at - 1] == "/"):
            made += "(?:[^/]+/)*" if deep[1] else "[^/].*"
            at = deep.end()
            continue
        character = text[at]
        at += 1
        if character == "*":
            while text[at : at + 1] == "*":
                at += 1
            made += "[^/]*"
        elif character == "?":
            made += "[^/]"
        elif character == "[":
            end = _end_of_set(text, at)
            if end is None:
                return _NEVER
            made += _set(text[at:end])
            at = end + 1
        else:
            if character == "\\":
                if at == len(text):
                    return _NEVER
                character = text[at]
                at += 1
            made += re.escape(character)
    return made


def _end_of_set(text: str, start: int) -> int | None:
    """Where the "]" is that closes the set whose content begins at `start`."""
    at = start + (text[start : start + 1] in ("!", "^"))
    first = at
    while at < len(text):
        if text[at] == "]" and at > first:
            return at
        named = _NAMED.match(text, at)
        at = named.end() if named else at + 1 + (text[at] == "\\")
    return None


def _set(content: str) -> str:
    negated = content[:1] in ("!", "^")
    made, first, at = "", None, int(negated)
    while at < len(content):
        named = _NAMED.match(content, at)
        if named:
            if named[1] not in _CLASSES:
                return _NEVER
            made, first, at = made + _CLASSES[named[1]], None, named.end()
            continue
        is_range = content[at] == "-" and first is not None and at + 1 < len(content)
        at += is_range
        at += content[at] == "\\" and at + 1 < len(content)
        last, at = content[at], at + 1
        if not is_range:
            made, first = made + re.escape(last), last
            continue
        if first is not None and first <= last:  # from a later to an earlier character: only the first one counts
            made += f"{re.escape(first)}-{re.escape(last)}"
        first = None
    return f"(?!/)[{'^' if negated else ''}{made}]"
