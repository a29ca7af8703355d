"""Where the daemon's files are, found without loading the settings wherever that gives the same answer."""

from __future__ import annotations

import os

from tasks.client import Client

#: As in tasks.config, where the reason stands.
_SOCKET_PATH_MAX = 103


def quick_data_dir() -> str | None:
    """What `tasks.config.load().data_dir` would be; None where only that can tell."""
    environ = os.environ
    chosen = environ.get("TASKSD_DATA_DIR") or ""
    home = environ.get("HOME") or ""
    config = environ.get("TASKSD_CONFIG") or ""
    if "~" in (chosen[:1], config[:1]):
        return None
    if not config:
        base = environ.get("XDG_CONFIG_HOME") or (home and home + "/.config")
        if not base:
            return None
        config = base + "/tasksd/config.toml"
    if not chosen and _may_name_data_dir(config):
        return None
    if not chosen:
        base = environ.get("XDG_STATE_HOME") or (home and home + "/.local/state")
        if not base:
            return None
        chosen = base + "/tasksd"
    return chosen if chosen.startswith("/") and "/./" not in chosen and "//" not in chosen else None


def quick_client(timeout: float) -> Client | None:
    """A client for the daemon of these settings; None where only the settings tell where it listens."""
    data_dir = quick_data_dir()
    if data_dir is None:
        return None
    path = f"{data_dir.rstrip('/')}/tasksd.sock"
    return Client(path, timeout) if len(os.fsencode(path)) <= _SOCKET_PATH_MAX else None


def _may_name_data_dir(config: str) -> bool:
    """Whether the file sets the data directory, or could in a spelling that only a parser of TOML sees."""
    try:
        fd = os.open(config, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        content = os.read(fd, 1 << 20)
    except OSError:
        return True
    finally:
        os.close(fd)
    return b"data_dir" in content or b"\\" in content or len(content) == 1 << 20
