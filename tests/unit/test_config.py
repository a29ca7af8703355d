import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from tasks.config import SOCKET_PATH_MAX, default_data_dir, load, secret_key, socket_path
from tasks.errors import ConfigError
from tasks.words import PrivacyLevel


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / ".config/tasksd/config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_without_anything_the_defaults_hold(tmp_path: Path, environ: dict[str, str]) -> None:
    settings = load(environ=environ)
    assert settings.data_dir == tmp_path / ".local/state/tasksd"
    assert settings.config_file == tmp_path / ".config/tasksd/config.toml"
    assert settings.privacy.level is PrivacyLevel.DEFAULT
    assert settings.spool.max_files == 100_000


def test_option_beats_environment_beats_file_beats_default(config_file: Path, environ: dict[str, str]) -> None:
    def level(**overrides: str) -> PrivacyLevel:
        return load(environ=environ, **overrides).privacy.level

    assert level() is PrivacyLevel.DEFAULT
    config_file.write_text('[privacy]\nlevel = "minimal"\n')
    assert level() is PrivacyLevel.MINIMAL
    environ["TASKSD_PRIVACY_LEVEL"] = "full"
    assert level() is PrivacyLevel.FULL
    assert level(privacy_level="default") is PrivacyLevel.DEFAULT


def test_the_data_directory_follows_the_same_order(config_file: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    environ["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    assert load(environ=environ).data_dir == tmp_path / "xdg/tasksd"
    config_file.write_text(f'data_dir = "{tmp_path}/file"\n')
    assert load(environ=environ).data_dir == tmp_path / "file"
    environ["TASKSD_DATA_DIR"] = str(tmp_path / "environment")
    assert load(environ=environ).data_dir == tmp_path / "environment"
    assert load(environ=environ, data_dir=tmp_path / "option").data_dir == tmp_path / "option"


def test_a_relative_data_directory_is_made_absolute(environ: dict[str, str]) -> None:
    assert load(environ=environ, data_dir="data").data_dir == Path.cwd() / "data"


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_tilde_is_the_home_directory(config_file: Path, environ: dict[str, str], tmp_path: Path, source: str) -> None:
    if source == "file":
        config_file.write_text('data_dir = "~/state"\n')
    else:
        environ["TASKSD_DATA_DIR"] = "~/state"
    assert load(environ=environ).data_dir == tmp_path / "state"


def test_the_config_file_can_be_chosen(tmp_path: Path, environ: dict[str, str]) -> None:
    for variable, place in (("XDG_CONFIG_HOME", "xdg/tasksd/config.toml"), ("TASKSD_CONFIG", "own.toml")):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[database]\nbackups = 3\n")
        environ[variable] = str(tmp_path / "xdg") if variable.startswith("XDG") else str(path)
        assert load(environ=environ).config_file == path
        assert load(environ=environ).database.backups == 3


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[privacy]\nlevel = "loud"\n', "privacy.level"),
        ("[privacy]\nlevel = 3\n", "privacy.level"),
        ("[spool]\nmax_files = 0\n", "spool.max_files"),
        ("[spool]\nmax_files = -5\n", "spool.max_files"),
        ("[spool]\nmax_files = 1.5\n", "spool.max_files"),
        ("[spool]\nmax_files = true\n", "spool.max_files"),
        ('[spool]\nmax_files = "many"\n', "spool.max_files"),
        ("[spool]\nmax_files = [1]\n", "spool.max_files"),
        ("[spool]\nmax_fils = 1\n", "spool.max_fils"),
        ('[log]\nlevel = "loud"\n', "log.level"),
        ('[log]\nformat = "xml"\n', "log.format"),
        ("[log]\nlevel = 1\n", "log.level"),
        ("[spol]\nmax_files = 1\n", "spol"),
        ("spool = 5\n", "spool"),
        ("data_dir = 5\n", "data_dir"),
        ("config_file = 'x'\n", "config_file"),
        ("[spool\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_the_file_and_the_key(
    config_file: Path, environ: dict[str, str], text: str, key: str
) -> None:
    config_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(environ=environ)
    assert str(config_file) in str(caught.value)
    assert key in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(config_file: Path, environ: dict[str, str]) -> None:
    config_file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load(environ=environ)
    config_file.unlink()
    config_file.mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load(environ=environ)


def test_a_mistake_elsewhere_names_its_place(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="environment TASKSD_SPOOL_MAX_FILES"):
        load(environ=environ | {"TASKSD_SPOOL_MAX_FILES": "x"})
    with pytest.raises(ConfigError, match=r"option log\.level"):
        load(environ=environ, log_level="loud")


def test_the_socket_lies_in_the_data_directory_while_its_path_is_short_enough(tmp_path: Path) -> None:
    room = SOCKET_PATH_MAX - len("/tasksd.sock")
    fits, long = Path("/" + "d" * (room - 1)), Path("/" + "d" * room)
    assert socket_path(fits, {}) == fits / "tasksd.sock"
    for environ in ({}, {"XDG_RUNTIME_DIR": "/run/user/1"}):
        found = socket_path(long, environ)
        assert len(os.fsencode(found)) <= SOCKET_PATH_MAX
        assert found != socket_path(Path(f"{long}x"), environ)
        assert found == socket_path(long, environ)
        assert found.parent.name.startswith("tasksd")


def test_service_and_cron_job_come_to_the_same_socket(tmp_path: Path) -> None:
    long = Path("/" + "d" * 200)
    (tmp_path / str(os.getuid())).mkdir()
    places = {
        socket_path(long, environ, run_user=tmp_path)
        for environ in ({}, {"XDG_RUNTIME_DIR": "/run/x"}, {"TMPDIR": "/t"})
    }
    assert {place.parent for place in places} == {tmp_path / str(os.getuid()) / "tasksd"}


def test_a_path_is_measured_in_bytes() -> None:
    assert socket_path(Path("/" + "é" * 50), {}).parent.name.startswith("tasksd")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"TASKSD_DATA_DIR": "{home}/own"}, "own"),
        ({"TASKSD_DATA_DIR": "~/own"}, "own"),
        ({"TASKSD_DATA_DIR": "{home}/own", "XDG_STATE_HOME": "{home}/xdg"}, "own"),
        ({"XDG_STATE_HOME": "{home}/xdg"}, "xdg/tasksd"),
        ({"TASKSD_DATA_DIR": "", "XDG_STATE_HOME": "{home}/xdg"}, "xdg/tasksd"),
        ({"TASKSD_DATA_DIR": "", "XDG_STATE_HOME": ""}, ".local/state/tasksd"),
        ({}, ".local/state/tasksd"),
    ],
)
def test_the_recorder_finds_the_same_data_directory(
    hook: Any, tmp_path: Path, variables: dict[str, str], place: str
) -> None:
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    environ |= {name: value.format(home=tmp_path) for name, value in variables.items()}
    assert load(environ=environ).data_dir == default_data_dir(environ) == tmp_path / place
    spool = load(environ=environ).spool_dir
    spool.mkdir(parents=True)
    assert hook.run(b"{}", "plugin", env=environ).returncode == 0
    assert [path.read_bytes() for path in spool.iterdir()] == [b"{}"]


def test_the_secret_is_made_once_and_is_private(tmp_path: Path, environ: dict[str, str]) -> None:
    settings = load(data_dir=tmp_path / "data", environ=environ)
    key = secret_key(settings)
    assert (len(key), secret_key(settings)) == (32, key)
    assert stat.S_IMODE(settings.secret_file.stat().st_mode) == 0o600
    assert [path.name for path in settings.data_dir.iterdir()] == ["secret"]


def test_threads_that_make_the_secret_at_once_agree_on_it(tmp_path: Path, environ: dict[str, str]) -> None:
    for turn in range(20):
        settings = load(data_dir=tmp_path / str(turn), environ=environ)
        ready, keys = threading.Barrier(8), list[bytes]()

        def make(settings: Any = settings, ready: threading.Barrier = ready, keys: list[bytes] = keys) -> None:
            ready.wait()
            keys.append(secret_key(settings))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert keys == [settings.secret_file.read_bytes()] * 8
        assert [path.name for path in settings.data_dir.iterdir()] == ["secret"]


def test_a_secret_that_others_can_read_or_that_was_cut_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    settings = load(data_dir=tmp_path, environ=environ)
    secret_key(settings)
    settings.secret_file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        secret_key(settings)
    settings.secret_file.chmod(0o600)
    settings.secret_file.write_bytes(b"short")
    with pytest.raises(ConfigError, match="secret"):
        secret_key(settings)
