from pathlib import Path

import pytest
from tasks import config
from tasks.cli.place import quick_client, quick_data_dir

ENVIRONMENTS: list[dict[str, str]] = [
    {"HOME": "{tmp}"},
    {"HOME": "{tmp}/"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": "{tmp}/d"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": "{tmp}/d/"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": "{tmp}//d/./e"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": "relative"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": "~/d"},
    {"HOME": "{tmp}", "TASKSD_DATA_DIR": ""},
    {"HOME": "{tmp}", "XDG_STATE_HOME": "{tmp}/state"},
    {"HOME": "{tmp}", "XDG_STATE_HOME": "~/state"},
    {"HOME": "{tmp}", "XDG_STATE_HOME": ""},
    {"HOME": "{tmp}", "XDG_CONFIG_HOME": "{tmp}/c"},
    {"HOME": "{tmp}", "TASKSD_CONFIG": "{tmp}/c/tasksd/config.toml"},
    {"HOME": "{tmp}", "TASKSD_CONFIG": "{tmp}/c/tasksd/config.toml", "TASKSD_DATA_DIR": "{tmp}/d"},
    {"HOME": "{tmp}", "TASKSD_CONFIG": "~/c/tasksd/config.toml"},
    {"HOME": ""},
    {},
]
CONFIGS = [None, "", "[log]\nlevel = 'debug'\n", "data_dir = '{tmp}/chosen'\n", '"data\\u005fdir" = "{tmp}/spelled"\n']
VARIABLES = ("HOME", "TASKSD_DATA_DIR", "TASKSD_CONFIG", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")


@pytest.mark.parametrize("text", CONFIGS)
@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=str)
def test_the_quick_rule_gives_the_place_of_the_settings_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], text: str | None
) -> None:
    if text is not None:
        for folder in ("c", ".config"):
            (tmp_path / folder / "tasksd").mkdir(parents=True)
            (tmp_path / folder / "tasksd/config.toml").write_text(text.replace("{tmp}", str(tmp_path)))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("{tmp}", str(tmp_path)))
    found = quick_data_dir()
    if found is not None:
        settings = config.load()
        assert Path(found) == settings.data_dir
        client = quick_client(1.0)
        assert client is None or client.socket_path == str(settings.socket_path)


@pytest.mark.parametrize("environ", [{}, {"TASKSD_DATA_DIR": "{tmp}/d"}, {"XDG_STATE_HOME": "{tmp}/s"}], ids=str)
def test_the_usual_places_are_found_quickly(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    tmp_path = tmp_path_factory.mktemp("h")  # short enough for a socket
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("{tmp}", str(tmp_path)))
    assert quick_client(1.0) is not None


def test_a_socket_path_that_is_too_long_is_left_to_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKSD_DATA_DIR", str(tmp_path / ("x" * 100)))
    assert quick_client(1.0) is None
