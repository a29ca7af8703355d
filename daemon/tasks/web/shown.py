"""How values look on pages. Whatever an agent wrote is text, on one line or several, and steers nothing.

Times are absolute here; the page's script makes them relative and keeps them so, since a section that says the same must be
the same whenever it is rendered.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from tasks.text import count, milliseconds, moment, printable, size, span, spelled

#: What is shown of a long text at most, unless a template says otherwise.
LONG = 20_000

#: Parameters that say what a call is about, the first that is there.
_TELLING = (
    "command", "file_path", "notebook_path", "pattern", "path", "url", "query", "prompt", "description", "skill",
)  # fmt: skip
#: What the client says of the end of a session, in words.
_ENDINGS = {
    "prompt_input_exit": "left by the person", "clear": "cleared", "logout": "logged out", "resume": "another was resumed",
    "bypass_permissions_disabled": "its permission mode is no longer allowed", "other": "",
}  # fmt: skip
_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def line(value: object, most: int = 200) -> str:
    """On one line, cut to `most` characters, control characters and marks of direction as escapes."""
    text = str(value or "")
    shown = printable(text[: most + 1])
    return shown if len(text) <= most else shown[:most] + "…"


def lines(value: object, most: int = LONG) -> str:
    """The same with its line breaks, for elements that keep them."""
    text = str(value or "")
    shown = "\n".join(printable(one.replace("\t", "    ")) for one in text[:most].replace("\r\n", "\n").split("\n"))
    return shown if len(text) <= most else f"{shown}\n… ({len(text) - most:,} characters more)"


def money(value: float | None, *, exact: bool = False) -> str:
    """Dollars, with as many digits as say something: $1,234, $12.34, $0.0042."""
    if value is None:
        return "–"
    if 0 < value < 0.00005:
        return "<$0.0001"
    if exact or 0 < abs(value) < 0.1:
        return f"${value:,.4f}"
    return f"${value:,.0f}" if abs(value) >= 10_000 else f"${value:,.2f}"


def compact(value: float | None) -> str:
    """12, 3.4k, 21.0M."""
    if value is None:
        return "–"
    for limit, suffix in _SUFFIXES:
        if abs(value) >= limit:
            return f"{value / limit:.1f}{suffix}"
    return f"{value:,.0f}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Of a part, 0 to 1."""
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def duration(value: float | None) -> str:
    """Of milliseconds."""
    return "–" if value is None else milliseconds(value)


def seconds(value: float | None) -> str:
    return "–" if value is None else (milliseconds(value * 1000) if value < 60 else span(value))


def when(then: int | None) -> Markup:
    """A moment: date and time."""
    return _time(then, "when")


def ago(then: int | None) -> Markup:
    """A moment, which the page's script says as a time from now."""
    return _time(then, "ago")


def since(then: int | None) -> Markup:
    """How long something has been going on, which the page's script counts."""
    return _time(then, "since")


def clock(then: int | None) -> Markup:
    """A moment of today: the time alone."""
    return _time(then, "clock")


def _time(then: int | None, kind: str) -> Markup:
    if then is None:
        return Markup("–")
    try:
        stamp = datetime.fromtimestamp(then / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return Markup("{}").format(moment(then))
    text = time.strftime("%H:%M:%S", time.localtime(then / 1000)) if kind == "clock" else moment(then)
    return Markup('<time datetime="{}" data-ms="{}" data-time="{}" title="{}">{}</time>').format(
        stamp, then, kind, moment(then), text
    )


def status(value: object) -> Markup:
    """A status of a session or task, a state of a merge, a verdict."""
    text = line(value, 40)
    return Markup('<span class="status is-{}">{}</span>').format(text.replace("_", "-"), text.replace("_", " "))


def ending(detail: object) -> str:
    """How a session ended, by the client's word for it or the session that it went on as; nothing where that says nothing."""
    text = line(detail, 140)
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        return f"went on as {short(text)}"
    return _ENDINGS.get(text, text)


def short(id_: object) -> str:
    """The beginning of a long id, which is enough everywhere."""
    return line(id_, 64)[:8]


def folder(path: object, most: int = 48) -> str:
    """A path, its beginning left out where it is long."""
    text = line(path, 4096)
    return text if len(text) <= most else "…" + text[-most:]


def parameters(value: object, most: int = 160) -> str:
    """What a call was asked to do, in short: its first telling text. Takes JSON as text, or parsed."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return line(value, most)
    if isinstance(value, Mapping):
        for name in _TELLING:
            if isinstance(value.get(name), str) and value[name]:
                return line(value[name], most)
    return line(spelled(_beginning(value, [most])), most) if value not in (None, {}, "") else ""


def pretty(value: object, most: int = LONG) -> str:
    """JSON for people, its first `most` characters; text that is JSON is laid out, too."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return _cut(str(value), most)
    return _cut(json.dumps(_beginning(value, [most]), ensure_ascii=False, indent=2), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n…"


def _beginning(value: object, room: list[int]) -> object:
    """What the first `room` characters of its JSON, and some more, are made of: laying out all of it holds up the others."""
    if isinstance(value, str):
        room[0] -= len(value) + 2
        return value
    room[0] -= 1
    if isinstance(value, Mapping):
        items: dict[str, object] = {}
        for name, one in value.items():
            if room[0] < 0:
                break
            room[0] -= len(name) + 3
            items[name] = _beginning(one, room)
        return items
    if isinstance(value, list):
        return [_beginning(one, room) for one in itertools.takewhile(lambda _: room[0] >= 0, value)]
    return value


FILTERS: dict[str, Callable[..., Any]] = {
    "line": line, "lines": lines, "money": money, "compact": compact, "number": number, "percent": percent,
    "duration": duration, "seconds": seconds, "size": size, "when": when, "ago": ago, "since": since, "clock": clock,
    "status": status, "ending": ending, "short": short, "folder": folder, "parameters": parameters, "pretty": pretty,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {"count": count}
