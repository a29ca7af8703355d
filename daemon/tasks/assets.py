"""Where the files that are not Python lie, in a checkout and in an installed wheel. The only place that knows."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_BUNDLED = _PACKAGE / "_assets"  # a built wheel
ROOT = _BUNDLED if _BUNDLED.is_dir() else _PACKAGE.parents[1]  # a checkout


def path(name: str) -> Path:
    """The file or folder `name` ("schema.sql", "hooks/record", "systemd/tasksd.service") as shipped."""
    return ROOT / name
