"""The text of the service definitions: rendering, quoting, recognising our own, verifying. Installs nothing."""

import plistlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import InstallError
from tasks.install.commands import Commands

#: In the first line of every file we write, in XML the second; no other file is ever replaced or removed.
MARKER = "Written by `tasksd service install`"
UNIT_NAME = "tasksd.service"
LABEL = "dev.tasksd.agent"

#: Keys that systemd before 243 does not know and ignores without harm. Any other unknown key is a mistake.
LATER_KEYS = frozenset({"OOMPolicy"})

_PLACEHOLDER = re.compile(r"@(PROGRAM|ENVIRONMENT|LOG_DIR)@")
_UNKNOWN_KEY = re.compile(r"Unknown (?:key name|key|lvalue) '([^']*)'")
_COMPLAINT = re.compile(r"Unknown section|Failed to parse|Invalid|ignoring", re.IGNORECASE)
_PATH_LINE = re.compile(r'^Environment="PATH=(?:[^"\\]|\\.)*"\n', re.MULTILINE)


def render_systemd(template: str, *, program: Path, environment: Mapping[str, str]) -> str:
    """The unit that starts `program up` with `environment`. Pure.

    Raises InstallError for a name that systemd cannot take: quotes and backslashes in the program, control characters.
    """
    if found := set("\"'\\") & set(str(program)):
        raise InstallError(
            f"systemd cannot start {program}: {' '.join(sorted(found))} in a program's path is refused;"
            " install tasksd in a folder without it"
        )
    values = {
        "PROGRAM": _quote(str(program)),
        "ENVIRONMENT": "\n".join(f"Environment={_quote(f'{name}={value}')}" for name, value in environment.items()),
    }
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def render_launchd(template: str, *, program: Path, environment: Mapping[str, str], log_dir: Path) -> str:
    """The property list that starts `program up` with `environment`, its stderr in `log_dir`. Pure.

    Raises InstallError for control characters.
    """
    values = {"PROGRAM": _checked(str(program)), "LOG_DIR": _checked(str(log_dir))}

    def filled(node: Any) -> Any:
        match node:
            case str():
                return _PLACEHOLDER.sub(lambda match: values[match[1]], node)
            case list():
                return [filled(item) for item in node]
            case dict():
                return {key: filled(item) for key, item in node.items()}
        return node

    document = filled(plistlib.loads(template.encode()))
    document["EnvironmentVariables"] = {name: _checked(value) for name, value in environment.items()} | document[
        "EnvironmentVariables"
    ]
    declaration, _, rest = plistlib.dumps(document, sort_keys=False).decode().partition("\n")
    return f"{declaration}\n<!-- {MARKER}, which replaces it. -->\n{rest}"


def is_ours(text: str) -> bool:
    return any(MARKER in line for line in text.splitlines()[:2])


def equal_but_for_path(one: str, other: str) -> bool:
    """Whether two definitions say the same, whatever PATH they bake in: it differs from shell to shell."""
    return bool(_without_path(one) == _without_path(other))


def baked_path(text: str) -> str | None:
    """PATH in a definition that `render_systemd` or `render_launchd` made."""
    if _is_plist(text):
        value = plistlib.loads(text.encode()).get("EnvironmentVariables", {}).get("PATH")
        return value if isinstance(value, str) else None
    if (match := _PATH_LINE.search(text)) is None:
        return None
    quoted = match[0].removeprefix('Environment="PATH=').removesuffix('"\n')
    return re.sub(r"\\(.)", r"\1", quoted).replace("%%", "%")


def verify_systemd(text: str, commands: Commands) -> list[str]:
    """Let systemd read the unit before it is installed. Returns warnings.

    A misspelt key is only a warning with exit status 0 there, so the output is read as well. Raises InstallError.
    """
    with tempfile.TemporaryDirectory(prefix="tasksd-") as folder:
        unit = Path(folder) / UNIT_NAME
        unit.write_text(text, encoding="utf-8")
        # Away from the person's own units and drop-ins; without a run-time directory the tool gives up at once.
        done = commands.call(
            "systemd-analyze",
            "verify",
            "--user",
            str(unit),
            HOME=folder,
            XDG_CONFIG_HOME=folder,
            XDG_RUNTIME_DIR=folder,
        )
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if UNIT_NAME in line]
    if done.returncode == 127:
        return ["the unit was not verified: systemd-analyze is not here"]
    unknown = {match[1] for line in lines if (match := _UNKNOWN_KEY.search(line))}
    wrong = [line for line in lines if _COMPLAINT.search(line) and not _names_one_of(line, LATER_KEYS)]
    if wrong or (done.returncode != 0 and lines):
        raise InstallError(f"systemd refuses the unit, nothing was changed: {'; '.join(wrong or lines)}")
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        return [f"the unit was not verified: {last}"]
    return [f"this systemd does not know {key} and ignores it" for key in sorted(unknown)]


def verify_launchd(text: str) -> list[str]:
    """Read the property list back. Raises InstallError."""
    try:
        document = plistlib.loads(text.encode())
    except (ValueError, plistlib.InvalidFileException) as error:
        raise InstallError(f"the property list is not valid, nothing was changed: {error}") from error
    if document.get("Label") != LABEL or not document.get("ProgramArguments"):
        raise InstallError("the property list lacks Label or ProgramArguments, nothing was changed: reinstall tasksd")
    return []


def _names_one_of(line: str, keys: frozenset[str]) -> bool:
    match = _UNKNOWN_KEY.search(line)
    return match is not None and match[1] in keys


def _checked(value: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in value):
        raise InstallError(
            f"a service definition cannot hold {value!r}: control characters, or bytes that are not UTF-8;"
            " rename the folder"
        )
    return value


def _quote(value: str) -> str:
    """One word of a systemd setting. A dollar stays single: neither a program's path nor Environment= expands it."""
    return '"' + _checked(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _is_plist(text: str) -> bool:
    return text.startswith("<?xml")


def _without_path(text: str) -> Any:
    if not _is_plist(text):
        return _PATH_LINE.sub("", text)
    try:
        document = plistlib.loads(text.encode())
        document.get("EnvironmentVariables", {}).pop("PATH", None)
    except (ValueError, plistlib.InvalidFileException, AttributeError):
        return text
    return document
