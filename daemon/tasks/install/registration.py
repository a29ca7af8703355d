"""Which events of the client are recorded and guarded, how each is registered, and which registrations are ours."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

#: The argument that marks a registration in a settings file as ours; `record` ignores it.
MARK = "tasksd"
#: The argument under which the plugin's copy runs, so that its events are told apart.
PLUGIN_MARK = "plugin"

#: Seconds. A blocking hook holds the agent up; a longer wait in the background costs nothing.
BLOCKING_TIMEOUT = 2
BACKGROUND_TIMEOUT = 5
#: The guard gives up after 2 s by itself; on a loaded machine its start takes some time too.
GUARD_TIMEOUT = 5
#: Without a timeout of its own a SessionEnd hook gets 1.5 s; the agent has finished, so nothing waits.
LAST_TIMEOUT = 10

Version = tuple[int, int, int]
#: Clients at least this new skip event names they do not know; 2.1.97 then ignores the whole settings file. Measured.
TOLERANT_CLIENT: Version = (2, 1, 119)
#: Clients at least this new start `command` + `args` without a shell; 2.1.128 gives `command` to a shell. Measured.
EXEC_CLIENT: Version = (2, 1, 139)


class Program(StrEnum):
    """Our hooks, by the name of their file in `hooks/`."""

    RECORD = "record"
    GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event and how it is registered."""

    name: str
    #: the agent waits for the recorder; everything else is recorded in the background (`async`)
    blocking: bool = False
    timeout: int = BACKGROUND_TIMEOUT
    #: known to every client that has hooks and plugins
    old: bool = False

    def handler(self, command: str, *arguments: str) -> dict[str, Any]:
        """The registration that starts `command` with `arguments` and no shell."""
        return self._handler({"command": command, "args": list(arguments)})

    def shell_handler(self, command: str) -> dict[str, Any]:
        """The registration of a shell command."""
        return self._handler({"command": command})

    def _handler(self, start: dict[str, Any]) -> dict[str, Any]:
        background = {} if self.blocking else {"async": True}
        return {"type": "command", **start, **background, "timeout": self.timeout}


# Background hooks are killed when `claude -p` exits, so whatever may come last in a process has to block. Not here, on
# purpose: WorktreeCreate and WorktreeRemove (a hook replaces what git does), MessageDisplay (fires for every streamed
# piece), FileChanged (fires for nothing but the files that its own matcher watches), PreSkillShellCommand (its hooks decide
# whether a shell line of a skill runs, and one without an answer is reported to the user).
EVENTS = (
    # Before anything else, so that no first prompt overtakes it; a few milliseconds once a session.
    Event("SessionStart", blocking=True, timeout=BLOCKING_TIMEOUT, old=True),
    Event("Setup", blocking=True, timeout=BLOCKING_TIMEOUT),  # --init-only exits right after it
    Event("UserPromptSubmit", old=True),
    Event("UserPromptExpansion"),
    Event("PreToolUse", old=True),
    Event("PostToolUse", old=True),
    Event("PostToolUseFailure"),
    # Once per message of the model: while the agent waits here, the background hooks of that message finish, also when
    # the process exits right after it (--max-turns).
    Event("PostToolBatch", blocking=True, timeout=BLOCKING_TIMEOUT),
    Event("PermissionRequest"),
    Event("PermissionDenied"),
    Event("Notification", old=True),
    Event("Elicitation"),
    Event("ElicitationResult"),
    Event("SubagentStart"),
    Event("SubagentStop", blocking=True, timeout=BLOCKING_TIMEOUT, old=True),
    Event("TaskCreated"),
    Event("TaskCompleted"),
    Event("TeammateIdle"),
    Event("PreCompact", old=True),
    Event("PostCompact"),
    Event("PreModelSwitch"),
    Event("PostModelSwitch"),
    Event("InstructionsLoaded"),
    Event("ConfigChange"),
    Event("CwdChanged"),
    Event("DirectoryAdded"),
    Event("Stop", blocking=True, timeout=BLOCKING_TIMEOUT, old=True),
    Event("StopFailure", blocking=True, timeout=BLOCKING_TIMEOUT),
    Event("SessionEnd", blocking=True, timeout=LAST_TIMEOUT, old=True),
)


#: What the guard is asked about, with the matcher it is registered under; the client waits for it each time.
GUARDED = {"UserPromptSubmit": "", "Stop": "", "PreToolUse": "Bash"}


def parse_version(text: str) -> Version | None:
    """`2.1.330 (Claude Code)` -> (2, 1, 330); None where there is no version."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def registrations(recorder: Path, client: Version | None = None) -> dict[str, dict[str, Any]]:
    """Event name -> hook handler, for a client of that version (None: a current one).

    A client that would ignore a settings file with names it does not know gets the old events only; one that knows no
    `args` gets a shell command whose shell the recorder replaces, so that its parent is the client there too.
    """
    events = [event for event in EVENTS if event.old or client is None or client >= TOLERANT_CLIENT]
    return _handlers(events, recorder, client)


def guard_registrations(guard: Path, client: Version | None = None) -> dict[str, dict[str, Any]]:
    """The same for the guard; `matcher` tells what each goes under. Every client knows these events."""
    return _handlers([Event(name, blocking=True, timeout=GUARD_TIMEOUT) for name in GUARDED], guard, client)


def matcher(program: Program | None, event: str) -> str:
    """The matcher of the group in which a handler of `program` stands; empty: every call."""
    return GUARDED.get(event, "") if program is Program.GUARD else ""


def program_of(handler: Any) -> Program | None:
    """Which of our programs a hook handler of a settings file starts, if `install` put it there, whatever its path and
    version; None for the handlers of others.
    """
    if not isinstance(handler, dict) or not isinstance(command := handler.get("command"), str):
        return None
    if "args" in handler:
        return _program_at(command) if handler["args"] == [MARK] else None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    ours = len(words) == 3 and words[0] == "exec" and words[2] == MARK
    return _program_at(words[1]) if ours else None


def is_ours(handler: Any) -> bool:
    """Whether a hook handler of a settings file starts one of our programs."""
    return program_of(handler) is not None


def _program_at(path: str) -> Program | None:
    return next((program for program in Program if path.endswith(f"/hooks/{program}")), None)


def _handlers(events: Iterable[Event], program: Path, client: Version | None) -> dict[str, dict[str, Any]]:
    if client is None or client >= EXEC_CLIENT:
        return {event.name: event.handler(str(program), MARK) for event in events}
    line = f"exec {shlex.quote(str(program))} {MARK}"
    return {event.name: event.shell_handler(line) for event in events}


def plugin_hooks() -> Mapping[str, str]:
    """File name -> text of the plugin's hook files.

    `hooks.json` has the events every client knows: an older client drops a whole file for one unknown name. The others
    are in a file of their own, which such a client drops alone.
    """
    line = f'exec "${{CLAUDE_PLUGIN_ROOT}}/hooks/record" {PLUGIN_MARK}'
    files: dict[str, dict[str, Any]] = {"hooks.json": {}, "hooks-recent.json": {}}
    for event in EVENTS:
        files["hooks.json" if event.old else "hooks-recent.json"][event.name] = [{"hooks": [event.shell_handler(line)]}]
    return {name: json.dumps({"hooks": hooks}, indent=2) + "\n" for name, hooks in files.items()}
