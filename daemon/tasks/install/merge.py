"""Our registrations in the text of a settings file: put in, brought up to date, taken out. No I/O."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from tasks.errors import InstallError
from tasks.install import json_edit
from tasks.install.registration import Program, matcher, program_of

#: The kinds of hook handlers that clients know.
_TYPES = ("command", "prompt", "agent", "http", "mcp_tool")


def merged(text: str | None, wanted: Mapping[str, Mapping[str, Any]], program: Program = Program.RECORD) -> str:
    """`text` with exactly the handlers `wanted` (event name -> handler) of `program`; all else as it was, byte for byte.

    Raises InstallError if the result would not hold what it should.
    """
    before = text if text is not None and text.strip() else "{}\n"
    check_shape(json_edit.load(before))
    after = _without(before, (program,), keep=wanted)
    for event, handler in wanted.items():
        if not ours_of(json_edit.load(after), event, program):
            under = matcher(program, event)
            after = _with_group(after, event, {**({"matcher": under} if under else {}), "hooks": [handler]})
    data = json_edit.load(after)
    check_shape(data)
    right = all(ours_of(data, event, program) == [handler] for event, handler in wanted.items())
    others = _others(data, (program,)) == _others(json_edit.load(before), (program,))
    if not right or set(ours(data, program)) != set(wanted) or not others:
        raise InstallError("the registrations could not be merged without touching other settings; nothing was changed")
    return after


def removed(text: str, programs: Collection[Program] = tuple(Program)) -> str:
    """`text` without the handlers of `programs` and the containers they leave empty. Raises InstallError like `merged`."""
    before = json_edit.load(text)
    check_shape(before)
    after = _without(text, programs, keep={})
    data = json_edit.load(after)
    if any(ours(data, program) for program in programs) or _others(data, programs) != _others(before, programs):
        raise InstallError("the registrations could not be taken out alone; nothing was changed")
    return after


def ours(data: Mapping[str, Any], program: Program = Program.RECORD) -> dict[str, list[Any]]:
    """Event name -> our handlers that start `program`, for the events that have any."""
    return {event: found for event in _hooks(data) if (found := ours_of(data, event, program))}


def ours_of(data: Mapping[str, Any], event: str, program: Program = Program.RECORD) -> list[Any]:
    """The same of one event."""
    groups = _hooks(data).get(event, [])
    return [handler for group in groups for handler in group["hooks"] if program_of(handler) is program]


def check_shape(data: Any) -> None:
    """Raises InstallError where `hooks` is not what the client expects: it would silently ignore the whole file."""
    if not isinstance(data, dict):
        raise InstallError("not a JSON object")
    hooks = data.get("hooks", {})
    if not isinstance(hooks, dict):
        raise InstallError('"hooks" must be an object')
    for event, groups in hooks.items():
        where = f'"hooks" > "{event}"'
        if not isinstance(groups, list):
            raise InstallError(f"{where} must be a list")
        for group in groups:
            if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
                raise InstallError(f'{where}: every entry must be an object with a list "hooks"')
            if not isinstance(group.get("matcher", ""), str):
                raise InstallError(f'{where}: "matcher" must be text')
            if not all(isinstance(h, dict) and isinstance(h.get("type"), str) for h in group["hooks"]):
                raise InstallError(f'{where}: every hook must be an object with a "type"')


def odd_types(data: Mapping[str, Any]) -> list[str]:
    """Hook types that no known client takes; older clients ignore the whole file because of one."""
    found = {h["type"] for groups in _hooks(data).values() for group in groups for h in group["hooks"]}
    return sorted(found.difference(_TYPES))


def _hooks(data: Mapping[str, Any]) -> dict[str, Any]:
    hooks: dict[str, Any] = data.get("hooks", {})
    return hooks


def _without(text: str, programs: Collection[Program], *, keep: Mapping[str, Mapping[str, Any]]) -> str:
    """Take out the handlers of `programs` but one of each event in `keep`, which gets the value wanted."""
    hooks = _hooks(json_edit.load(text))
    spots = [
        (event, group_at, at)
        for event, groups in hooks.items()
        for group_at, group in enumerate(groups)
        for at, handler in enumerate(group["hooks"])
        if program_of(handler) in programs
    ]
    stays: dict[str, tuple[str, int, int]] = {}
    for event, group_at, at in spots:
        # under another matcher it would miss calls
        group = hooks[event][group_at]
        if event in keep and _covers(group.get("matcher", ""), matcher(program_of(group["hooks"][at]), event)):
            stays.setdefault(event, (event, group_at, at))
    for spot in reversed(spots):  # from the end, so that the spots before an edit stay where they are
        event, group_at, at = spot
        if stays.get(event) != spot:
            text = _take_out(text, event, group_at, at)
        elif hooks[event][group_at]["hooks"][at] != keep[event]:
            place = json_edit.items(text, json_edit.locate(text, "hooks", event, group_at, "hooks"))[at]
            text = json_edit.replace(text, place, keep[event])
    return text


def _covers(under: str, wanted: str) -> bool:
    return under == wanted or (under == "*" and not wanted)


def _take_out(text: str, event: str, group_at: int, at: int) -> str:
    """Remove one handler and every container that it leaves empty."""
    for *path, last in (
        ("hooks", event, group_at, "hooks", at),
        ("hooks", event, group_at),
        ("hooks", event),
        ("hooks",),
    ):
        container = json_edit.locate(text, *path)
        text = json_edit.remove(text, container, last)
        if json_edit.items(text, container):
            break
    return text


def _with_group(text: str, event: str, group: Mapping[str, Any]) -> str:
    hooks = _hooks(json_edit.load(text))
    if event in hooks:
        return json_edit.append(text, json_edit.locate(text, "hooks", event), group, depth=3)
    if "hooks" in json_edit.load(text):
        return json_edit.append(text, json_edit.locate(text, "hooks"), [group], depth=2, key=event)
    return json_edit.append(text, json_edit.locate(text), {event: [group]}, depth=1, key="hooks")


def _others(data: Mapping[str, Any], programs: Collection[Program]) -> str:
    """Everything but the handlers of `programs`, in order, without the containers of `hooks` that hold nothing."""
    hooks: dict[str, Any] = {}
    for event, groups in _hooks(data).items():
        left = [{**group, "hooks": [h for h in group["hooks"] if program_of(h) not in programs]} for group in groups]
        if left := [group for group in left if group["hooks"]]:
            hooks[event] = left
    rest = [(key, hooks if key == "hooks" else value) for key, value in data.items()]
    return json.dumps([pair for pair in rest if pair != ("hooks", {})])
