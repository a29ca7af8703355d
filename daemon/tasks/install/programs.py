"""What the service is surrounded by: the client, PATH, and the variables that say where things are."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.config import Settings

#: Where the client's installers put it, beside PATH; `~` is the home folder.
CLIENT_FOLDERS = ("~/.local/bin", "~/.claude/local", "/usr/local/bin", "/opt/homebrew/bin")
STANDARD_FOLDERS = ("~/.local/bin", "/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")


def find_programs(environ: Mapping[str, str], home: Path) -> tuple[Path | None, str]:
    """The client (None when it is nowhere) and the PATH with which a service finds it and what the shell finds."""
    folders = _lasting_folders(environ)
    client = find_client(folders, home)
    if client is not None:
        folders.append(str(client.parent))
    folders += [str(folder) for folder in _expand(STANDARD_FOLDERS, home) if folder.is_dir()]
    return client, ":".join(dict.fromkeys(folders))


def find_client(folders: Sequence[str], home: Path, usual: Sequence[str] = CLIENT_FOLDERS) -> Path | None:
    """The absolute path of `claude`: first in `folders`, then where its installers usually put it."""
    everywhere = [*folders, *map(str, _expand(usual, home))]
    found = shutil.which("claude", path=":".join(everywhere)) if everywhere else None
    return Path(found) if found else None


def service_environment(settings: Settings, path: str, home: Path) -> dict[str, str]:
    """What the service is given: PATH, and where things are when that is not what it would find from HOME alone.

    Compared with HOME alone because a service manager does not see the XDG variables that a shell exports.
    """
    environment = {"PATH": path}
    if settings.data_dir != home / ".local/state/tasksd":
        environment["TASKSD_DATA_DIR"] = str(settings.data_dir)
    if settings.config_file != home / ".config/tasksd/config.toml":
        environment["TASKSD_CONFIG"] = str(settings.config_file)
    return environment


def _lasting_folders(environ: Mapping[str, str]) -> list[str]:
    """The folders of the caller's PATH that mean the same outside this shell."""
    activated = environ.get("VIRTUAL_ENV")
    passing = environ.get("XDG_RUNTIME_DIR")
    kept = []
    for entry in environ.get("PATH", "").split(":"):
        folder = Path(entry)
        if not folder.is_absolute() or not folder.is_dir() or not entry.isprintable():
            continue
        if activated and folder == Path(activated) / "bin":
            continue  # agents would work in the environment that happens to be activated now
        if passing and folder.is_relative_to(passing):
            folder = folder.resolve()  # version managers put a link for each shell there
            if folder.is_relative_to(Path(passing).resolve()):
                continue
        kept.append(str(folder))
    return list(dict.fromkeys(kept))


def _expand(folders: Sequence[str], home: Path) -> list[Path]:
    return [home / folder[2:] if folder.startswith("~/") else Path(folder) for folder in folders]
