"""A recorder made of nothing but `sh`: it tells which hooks the client really fires, whatever tasksd makes of them."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EVENTS = (
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "UserPromptSubmit",
    "SessionStart",
    "SessionEnd",
    "Stop",
    "StopFailure",
    "SubagentStart",
    "SubagentStop",
    "Notification",
    "PermissionRequest",
    "PermissionDenied",
    "PreCompact",
    "PostCompact",
)


class Recorder:
    """Writes each payload to a file of its own in `directory`, named by the nanosecond it came in."""

    def __init__(self, directory: Path, *, asynchronous: bool = False) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._asynchronous = asynchronous

    def settings(self, events: Sequence[str] = EVENTS) -> dict[str, Any]:
        """A settings document that registers the recorder."""
        target = shlex.quote(str(self.directory))
        command = f"f={target}/$(date +%s%N).$$; cat > $f.part && mv $f.part $f.json"
        hook = {"type": "command", "command": command, **({"async": True} if self._asynchronous else {})}
        return {"hooks": {event: [{"hooks": [hook]}] for event in events}}

    def register(self, settings_file: Path) -> None:
        """Make the recorder the only content of a settings file."""
        settings_file.write_text(json.dumps(self.settings()), encoding="utf-8")

    def events(self) -> list[Mapping[str, Any]]:
        """The payloads in the order in which their hooks started."""
        files = sorted(self.directory.glob("*.json"), key=lambda file: int(file.name.partition(".")[0]))
        return [json.loads(file.read_text(encoding="utf-8", errors="surrogateescape")) for file in files]
