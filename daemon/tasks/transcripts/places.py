"""Where transcripts are."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tasks.transcripts import lines
from tasks.transcripts.records import TranscriptFile

if TYPE_CHECKING:
    from tasks.config import Settings

_AGENT = "agent-"
_SUFFIX = ".jsonl"
_BEGIN = 256 << 10  # bytes


class _Meta(msgspec.Struct, rename="camel"):
    agent_type: str | None = None


def projects_dir(settings: "Settings", environ: Mapping[str, str]) -> Path:
    """The client's folder of projects: as configured, else `$CLAUDE_CONFIG_DIR/projects`, else `~/.claude/projects`."""
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    if configured := settings.transcripts.projects:
        if configured == "~" or configured.startswith("~/"):
            return home / configured[2:]
        return Path(configured)
    if folder := environ.get("CLAUDE_CONFIG_DIR"):
        return Path(folder) / "projects"
    return home / ".claude" / "projects"


def agent_of(path: Path) -> str | None:
    """The id in the name of a subagent's file."""
    name = path.name
    if name.startswith(_AGENT) and name.endswith(_SUFFIX):
        return name[len(_AGENT) : -len(_SUFFIX)] or None
    return None


def stored_name(path: str | Path) -> str:
    """A path, or a part of one, as a text that a store takes: bytes of it that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def find(projects: Path) -> list[TranscriptFile]:
    """All transcripts in the client's folder, in the order of their paths' text, so a main agent's before its subagents'.

    Nothing when there is no such folder; what vanishes meanwhile is left out.
    """
    found = []
    for project in _entries(projects):
        if project.is_dir():
            for entry in _entries(Path(project.path)):
                if entry.name.endswith(_SUFFIX) and (file := _file(Path(entry.path))):
                    found.append(file)
                elif not entry.name.endswith(_SUFFIX) and entry.is_dir():
                    found += _subagents(Path(entry.path))
    return sorted(found, key=lambda file: str(file.path))


def of_session(transcript_path: Path) -> list[TranscriptFile]:
    """That file, when it exists, and its subagents' files."""
    main = _file(transcript_path)
    return [*([main] if main else []), *_subagents(transcript_path.with_suffix(""))]


def _subagents(session: Path) -> list[TranscriptFile]:
    paths = [
        Path(folder, name)
        for folder, _, names in os.walk(session / "subagents")
        for name in names
        if name.startswith(_AGENT) and name.endswith(_SUFFIX)
    ]
    return [file for path in sorted(paths, key=str) if (file := _file(path, session.name))]


def _file(path: Path, session_uuid: str | None = None) -> TranscriptFile | None:
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    agent_id = agent_of(path)
    if agent_id and session_uuid is None:
        session_uuid = _session_in(path)
    return TranscriptFile(
        path,
        stored_name(session_uuid or path.stem),
        agent_id and stored_name(agent_id),
        _agent_type(path) if agent_id else None,
        status.st_size,
        status.st_mtime_ns,
    )


def _session_in(path: Path) -> str | None:
    """Of a subagent's file beside the main agent's, where old clients put it: only its lines tell whose it is."""
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN)
    except OSError:
        return None
    for raw in begin.split(b"\n"):
        for line in lines.parse(raw)[0]:
            if isinstance(line.session_id, str) and line.session_id:
                return line.session_id
    return None


def _agent_type(path: Path) -> str | None:
    try:
        meta = msgspec.json.decode(path.with_suffix(".meta.json").read_bytes(), type=_Meta)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return meta.agent_type or None


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except OSError:
        return
