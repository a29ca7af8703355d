"""A settings file of the client as bytes on disk: read strictly, replaced atomically, backed up first."""

import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InstallError
from tasks.install import json_edit

_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """One settings file as it was read. `text` is None where there is no file."""

    #: the file itself, never a symbolic link to it
    path: Path
    text: str | None
    #: a byte order mark stood in front of `text`
    bom: bool = False

    @classmethod
    def read(cls, path: Path) -> "SettingsFile":
        """Raises InstallError if the file cannot be read or is not UTF-8."""
        target = Path(os.path.realpath(path))
        try:
            text = target.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return cls(target, None)
        except (OSError, UnicodeDecodeError) as error:
            raise InstallError(f"cannot read {path}: {error}; nothing was changed") from error
        return cls(target, text.removeprefix(_BOM), text.startswith(_BOM))

    def data(self) -> dict[str, object]:
        """The settings. Raises InstallError if they are no JSON object; no file and an empty one are {}."""
        if self.text is None or not self.text.strip():
            return {}
        try:
            data = json_edit.load(self.text)
            if not isinstance(data, dict):
                raise InstallError("not a JSON object")
        except InstallError as error:
            raise InstallError(f"{self.path}: {error}. Repair the file and try again; nothing was changed") from error
        return data

    def is_current(self) -> bool:
        """Whether the file on disk still is what was read."""
        return SettingsFile.read(self.path) == self

    def replace(self, text: str) -> None:
        """Put `text` in the file's place in one step, keeping mode and owner."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = ((_BOM if self.bom else "") + text).encode()
        write_atomically(self.path, content, mode=_mode(self.path), owner_of=self.path)

    def backup(self) -> Path | None:
        """Copy the file beside itself (mode 0600) under a name with the time; None where there was no file."""
        if self.text is None:
            return None
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        content = ((_BOM if self.bom else "") + self.text).encode()
        for n in range(1000):
            copy = self.path.with_name(f"{self.path.name}.tasksd-{stamp}.{n:03}.bak")
            try:
                handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return copy
        raise InstallError(f"{self.path}: a thousand backups of this second already exist; nothing was changed")

    def backups(self) -> list[Path]:
        """The backups of this file, newest first."""
        return sorted(self.path.parent.glob(f"{self.path.name}.tasksd-*.bak"), reverse=True)


def write_atomically(path: Path, content: bytes, *, mode: int, owner_of: Path | None = None) -> None:
    """Replace `path` with a file of `content` and `mode` that survives a power cut; a failure leaves the old file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if owner_of is not None and owner_of.exists() and (found := owner_of.stat()).st_uid != os.geteuid():
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o600
