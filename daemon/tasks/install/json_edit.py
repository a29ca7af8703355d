"""Edits of JSON text that leave every byte outside the edit as it was."""

import json
from dataclasses import dataclass
from typing import Any

from tasks.errors import InstallError

_BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Item:
    """One element of an array or member of an object, as spans of the text."""

    #: the member's name; None in an array
    key: str | None
    #: where the element, or the member's name, begins
    start: int
    value: int
    end: int


def load(text: str) -> Any:
    """The value of a JSON document. Raises InstallError for what is not strict JSON or names a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InstallError(f"the key {json.dumps(twice)} stands twice in one object; remove one of them")
        return found

    def refuse(word: str) -> Any:
        raise InstallError(f"{word} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InstallError(f"not valid JSON: {error}") from error
    except RecursionError as error:
        raise InstallError("nested too deeply") from error


def items(text: str, start: int) -> list[Item]:
    """What the array or object that begins at `start` of a valid document holds, in order."""
    decode = json.JSONDecoder().raw_decode
    found: list[Item] = []
    at = _skip(text, start + 1)
    while text[at] not in "]}":
        key, value = None, at
        if text[start] == "{":
            key, after = decode(text, at)
            value = _skip(text, _skip(text, after) + 1)
        end = decode(text, value)[1]
        found.append(Item(key, at, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def locate(text: str, *path: str | int) -> int:
    """Where the value at `path` (member names and element numbers) begins; KeyError if there is none."""
    at = _skip(text, 0)
    for step in path:
        at = items(text, at)[_index(text, at, step)].value
    return at


def append(text: str, start: int, value: Any, *, depth: int, key: str | None = None) -> str:
    """Add `value` at the end of the array or object at `start`, laid out as its neighbours or the document are.

    `depth` is the nesting of what is added: 1 for a member of the document.
    """
    present = items(text, start)
    if not present:
        close = _skip(text, start + 1)
        gap, outer = _break(text, depth), _break(text, depth - 1)
        return text[: start + 1] + gap + _render(text, value, gap, key) + outer + text[close:]
    first = _skip(text, start + 1)
    gap = text[start + 1 : first]
    at = present[-1].end
    between = gap if "\n" in gap else " "
    return text[:at] + "," + between + _render(text, value, gap, key) + text[at:]


def replace(text: str, item: Item, value: Any) -> str:
    """Put `value` in the place of the item's value."""
    line = text.rfind("\n", 0, item.start) + 1
    lead = text[line : item.start]
    gap = "\n" + lead if line and not lead.strip(_BLANK) else ""
    return text[: item.value] + _render(text, value, gap, None) + text[item.end :]


def remove(text: str, start: int, which: str | int) -> str:
    """Take an item out of the array or object at `start`, with the comma and the white space it brought."""
    present = items(text, start)
    index = _index(text, start, which)
    if len(present) == 1:
        return text[: start + 1] + text[_skip(text, present[0].end) :]
    if index:
        return text[: present[index - 1].end] + text[present[index].end :]
    return text[: present[0].start] + text[present[1].start :]


def _index(text: str, start: int, which: str | int) -> int:
    """The number of the member named, or of the element."""
    if isinstance(which, int):
        return which
    for at, item in enumerate(items(text, start)):
        if item.key == which:
            return at
    raise KeyError(which)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _unit(text: str) -> str:
    """One step of indentation: what the document's first member has, or two spaces."""
    start = locate(text) + 1
    lead = text[start : _skip(text, start)].rpartition("\n")[2]
    return lead or "  "


def _break(text: str, depth: int) -> str:
    """A new line indented for `depth`; nothing in a document that is one line and not just `{}`."""
    body = text.strip(_BLANK)
    if "\n" not in body and items(text, locate(text)):
        return ""
    return _newline(text) + _unit(text) * depth


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _render(text: str, value: Any, gap: str, key: str | None) -> str:
    """`value` as text: over several lines where `gap`, the white space before it, holds a line break."""
    name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    if "\n" not in gap:
        return name + json.dumps(value, ensure_ascii=False)
    lead = gap.rpartition("\n")[2]
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text)).split("\n")
    return name + (_newline(text) + lead).join(lines)
