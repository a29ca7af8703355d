"""Where things are and how the daemon behaves: option > `TASKSD_*` environment > config file > default, resolved once."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tasks.config import values
from tasks.config.sections import (
    AgentSettings,
    CostSettings,
    DatabaseSettings,
    EnforcementSettings,
    GitSettings,
    GuardSettings,
    LogSettings,
    OtlpSettings,
    PoolSettings,
    PriceSettings,
    PrivacySettings,
    RetentionSettings,
    SpoolSettings,
    TranscriptSettings,
    WebSettings,
)
from tasks.errors import ConfigError

#: Longest Unix socket path that every platform takes (sun_path is 104 bytes on macOS, 108 on Linux).
SOCKET_PATH_MAX = 103


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the daemon and the command line need to know. Sections are tables of the config file."""

    data_dir: Path
    config_file: Path
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    log: LogSettings = field(default_factory=LogSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    enforcement: EnforcementSettings = field(default_factory=EnforcementSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    git: GitSettings = field(default_factory=GitSettings)
    transcripts: TranscriptSettings = field(default_factory=TranscriptSettings)
    costs: CostSettings = field(default_factory=CostSettings)
    prices: PriceSettings = field(default_factory=PriceSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    otlp: OtlpSettings = field(default_factory=OtlpSettings)
    web: WebSettings = field(default_factory=WebSettings)

    @property
    def database_file(self) -> Path:
        return self.data_dir / "tasks.db"

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    @property
    def quarantine_dir(self) -> Path:
        return self.data_dir / "quarantine"

    @property
    def hooks_dir(self) -> Path:
        return self.data_dir / "hooks"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def worktrees_dir(self) -> Path:
        return self.data_dir / "worktrees"

    @property
    def repository_locks_dir(self) -> Path:
        """One lock file for every repository that tasks work in."""
        return self.data_dir / "repositories"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "lock"

    @property
    def backup_dir(self) -> Path:
        return self.data_dir / "backups"

    @property
    def secret_file(self) -> Path:
        return self.data_dir / "secret"

    @property
    def auth_dir(self) -> Path:
        """Keys of logins and of passwords."""
        return self.data_dir / "auth"

    @property
    def socket_path(self) -> Path:
        return socket_path(self.data_dir)


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`TASKSD_DATA_DIR`, else `$XDG_STATE_HOME/tasksd`, else `~/.local/state/tasksd`: the rule `hooks/record` follows."""
    if chosen := environ.get("TASKSD_DATA_DIR"):
        return _path(chosen, environ)
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state) / "tasksd"
    return _home(environ) / ".local/state/tasksd"


def default_config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """`TASKSD_CONFIG`, else `$XDG_CONFIG_HOME/tasksd/config.toml`, else `~/.config/tasksd/config.toml`."""
    if chosen := environ.get("TASKSD_CONFIG"):
        return _path(chosen, environ)
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else _home(environ) / ".config") / "tasksd/config.toml"


def socket_path(
    data_dir: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    run_user: Path = Path("/run/user"),
    temporary: str = "/tmp",  # noqa: S108  (a folder of our own in it, and its owner is checked)
) -> Path:
    """`tasksd.sock` in the data directory, or, where that path would be too long, in a private run-time directory.

    The run-time name carries a hash of the data directory, so two daemons of one user never meet. A service and a cron job
    must come to the same path: what the machine has goes before what the environment says.
    """
    path = data_dir / "tasksd.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    import hashlib

    name = hashlib.blake2b(os.fsencode(data_dir), digest_size=8).hexdigest() + ".sock"
    own = run_user / str(os.getuid())
    if own.is_dir():
        return own / "tasksd" / name
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "tasksd" / name
    return Path(temporary) / f"tasksd-{os.getuid()}" / name


def load(
    *, data_dir: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ, **overrides: str
) -> Settings:
    """Resolve the settings. `overrides` are command-line options named `section_key`.

    Raises ConfigError naming the file, the key and the accepted values; nothing is guessed.
    """
    config_file = default_config_file(environ)
    document = _read(config_file)
    stored_dir = document.pop("data_dir", "")
    if not isinstance(stored_dir, str):
        raise ConfigError(f"{config_file}: data_dir = {stored_dir!r}: text is needed")
    chosen_dir = data_dir or environ.get("TASKSD_DATA_DIR") or stored_dir
    where = _path(chosen_dir, environ) if chosen_dir else default_data_dir(environ)
    chosen: dict[str, Any] = {}
    for section in fields(Settings):
        if section.name in ("data_dir", "config_file"):
            continue
        table = document.pop(section.name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{config_file}: [{section.name}] must be a table")
        kind: Any = section.default_factory
        chosen[section.name] = values.section(kind, section.name, table, environ, overrides, config_file)
    if document:
        known = ", ".join(sorted(chosen))
        raise ConfigError(
            f"{config_file}: unknown table or key {', '.join(sorted(document))}; known are data_dir, {known}"
        )
    return Settings(data_dir=where, config_file=config_file, **chosen)


def secret_key(settings: Settings) -> bytes:
    """The 32 random bytes of this installation, made on first use. They never leave the machine.

    Raises ConfigError when the file is not private, or not whole.
    """
    path = settings.secret_file
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # A name of its own for every caller: threads of one process come here at once too.
        draft = path.with_name(f".secret.{os.urandom(8).hex()}")
        fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # whoever is first wins, and never half a key
        draft.unlink()
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others; run `chmod 600 {path}`")
    key = path.read_bytes()
    if len(key) != 32:
        raise ConfigError(f"{path} is no secret of 32 bytes; remove it, and a new one is made")
    return key


def _path(chosen: str | os.PathLike[str], environ: Mapping[str, str]) -> Path:
    """Absolute; `~/` is the home directory, as for `hooks/record`."""
    path = Path(chosen)
    return (_home(environ).joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path).absolute()


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(home) if home else Path.home()


def _read(config_file: Path) -> dict[str, Any]:
    try:
        text = config_file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {config_file}: {error}") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{config_file} is not valid TOML: {error}") from error


__all__ = [
    "AgentSettings",
    "CostSettings",
    "DatabaseSettings",
    "EnforcementSettings",
    "GitSettings",
    "GuardSettings",
    "LogSettings",
    "OtlpSettings",
    "PoolSettings",
    "PriceSettings",
    "PrivacySettings",
    "RetentionSettings",
    "Settings",
    "SpoolSettings",
    "TranscriptSettings",
    "WebSettings",
    "default_config_file",
    "default_data_dir",
    "load",
    "secret_key",
    "socket_path",
]
