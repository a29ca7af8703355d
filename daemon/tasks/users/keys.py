"""The private keys of logins: files that only their owner can read, made on first use, and never half written."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError

#: Seconds that tokens of a retired key are accepted: as long as a token lasts.
GRACE = 15 * 60
KEY_BYTES = 32

_FILE_LIMIT = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Key:
    kid: str
    secret: bytes
    #: epoch seconds
    made_at: int
    #: None: signs
    retired_at: int | None = None


def load_pepper(folder: Path) -> bytes:
    """The 32 bytes that passwords are hashed with, made on first use.

    Without them no password can be checked: they belong into a backup. Raises ConfigError when the file is not private or
    not whole.
    """
    path = folder / "pepper"
    _prepare(folder)
    if not os.path.lexists(path):
        _place(path, os.urandom(KEY_BYTES))
    pepper = _read(path)[0]
    if len(pepper) != KEY_BYTES:
        raise ConfigError(
            f"{path} is not {KEY_BYTES} bytes long: restore it from a backup, or remove it and set every password again"
        )
    return pepper


class KeyRing:
    """The keys that tokens are signed with: one that signs, and those it took over from less than 15 minutes ago.

    Reads the file again whenever it is another one, so that a rotation by another process counts at once. Every method
    raises ConfigError when the file is not private or not whole.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._path = folder / "web-keys.json"
        self._now = now
        self._seen: tuple[int, ...] = ()
        self._keys: tuple[Key, ...] = ()
        self._refresh()

    def current(self) -> Key:
        """The key to sign with."""
        self._refresh()
        return self._keys[-1]

    def secret_of(self, kid: str) -> bytes | None:
        """What a token that names `kid` is checked with; None: not one of ours, or retired for too long."""
        self._refresh()
        return next((key.secret for key in self._keys if key.kid == kid and self._counts(key)), None)

    def rotate(self) -> Key:
        """Sign with a new key from now on. Tokens of the old one are accepted for 15 minutes."""
        with _locked(self._folder):
            self._refresh()
            now = int(self._now())
            *older, last = self._keys
            retired = Key(last.kid, last.secret, last.made_at, now)
            keys = (*filter(self._counts, older), retired, self._made())
            _replace(self._path, _document(keys))
        self._refresh()
        return self._keys[-1]

    def _counts(self, key: Key) -> bool:
        return key.retired_at is None or self._now() < key.retired_at + GRACE

    def _made(self) -> Key:
        return Key(secrets.token_hex(8), os.urandom(KEY_BYTES), int(self._now()))

    def _refresh(self) -> None:
        try:
            status = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            _prepare(self._folder)
            _place(self._path, _document((self._made(),)))
        else:
            if _identity(status) == self._seen:
                return
        content, status = _read(self._path)
        self._keys = _parsed(self._path, content)
        self._seen = _identity(status)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Changes with every change of the file, also of its rights."""
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size, status.st_mode)


def _document(keys: tuple[Key, ...]) -> bytes:
    rows = [
        {"kid": key.kid, "key": key.secret.hex()} | {name: asdict(key)[name] for name in ("made_at", "retired_at")}
        for key in keys
    ]
    return json.dumps({"keys": rows}, indent=1).encode() + b"\n"


def _parsed(path: Path, content: bytes) -> tuple[Key, ...]:
    """All keys, the one that signs last."""
    try:
        keys = tuple(_key(row) for row in json.loads(content)["keys"])
        if not keys or any((key.retired_at is None) != (key is keys[-1]) for key in keys):
            raise ValueError("the last key, and no other, has to be in use")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not whole ({error}); remove it: a new key is made, and everybody has to log in again"
        ) from error
    return keys


def _key(row: Any) -> Key:
    key = Key(row["kid"], bytes.fromhex(row["key"]), row["made_at"], row["retired_at"])
    times = (key.made_at, 0 if key.retired_at is None else key.retired_at)
    if not isinstance(key.kid, str) or len(key.secret) != KEY_BYTES or any(type(one) is not int for one in times):
        raise ValueError(f"a key needs a name, {KEY_BYTES} bytes and its times")
    return key


def _prepare(folder: Path) -> None:
    """The folder, for its owner alone."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = os.lstat(folder)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}, which holds the keys of logins: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{folder} has to be a folder: it holds the keys of logins")
    _require_private(folder, status, "700")


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """Its content and what it was when it was read. Raises ConfigError when somebody else could have written or read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; it has to be a file of yours of mode 600") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is no file; remove it, and a new one is made")
        _require_private(path, status, "600")
        return os.read(fd, _FILE_LIMIT), status
    finally:
        os.close(fd)


def _require_private(path: Path, status: os.stat_result, mode: str) -> None:
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to user {status.st_uid}, not to you: it cannot be trusted; remove it")
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o}); run `chmod {mode} {path}`"
        )


def _place(path: Path, content: bytes) -> None:
    """Make the file unless another process is faster: whoever is first wins, and nobody ever sees half a file."""
    draft = _draft(path, content)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    finally:
        draft.unlink()
    _sync(path.parent)


def _replace(path: Path, content: bytes) -> None:
    draft = _draft(path, content)
    try:
        draft.rename(path)
    except BaseException:
        draft.unlink()
        raise
    _sync(path.parent)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
        except BaseException:
            draft.unlink()
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    return draft


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time changes what is in the folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
