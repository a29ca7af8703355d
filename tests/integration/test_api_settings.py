"""/v1/settings on a real socket: what a daemon was started with, from a real configuration file."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tasks.config import Settings

from .service import Service

SECRET = "s3cr3t-" + "x9" * 10
TOKEN = "ghp_" + "a1B2" * 9
CONFIG = f"""
[pool]
max_agents = 7
[agent]
command = ["/bin/agent", "--token", "{TOKEN}"]
environment = {{ DEPLOY = "{SECRET}", OTHER = "{SECRET}" }}
[agent.types.Explore]
model = "haiku"
environment = {{ ONE = "{SECRET}" }}
[agent.types.same]
[enforcement]
pre_task = "warn"
[enforcement.types.docs]
exempt = ["<b>*"]
[otlp]
endpoint = "http://me:{SECRET}@127.0.0.1:1/v1/traces"
headers = {{ authorization = "Bearer {SECRET}" }}
[prices.models.odd]
input = 1.5
"""

Known = dict[tuple[str, str], Any]


async def settings(folder: Path, config: str) -> tuple[Any, str]:
    """The answer, and its text."""
    file = folder / ".config/tasksd/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(config)
    service = Service(folder)
    await service.start()
    try:
        answer = await service.ask("/v1/settings")
        assert answer.status == 200, answer.body
        return answer.json(), answer.body.decode()
    finally:
        await service.stop()


def known(answer: Any) -> Known:
    return {(one["section"], one["key"]): one for one in answer["settings"]}


async def test_every_setting_is_told_with_its_default(tmp_path: Path) -> None:
    answer, _ = await settings(tmp_path, "")
    found = known(answer)
    assert (answer["data_dir"], answer["config_file"]) == (str(tmp_path), str(tmp_path / ".config/tasksd/config.toml"))
    for section in dataclasses.fields(Settings):
        if section.name in ("data_dir", "config_file"):
            continue
        factory: Any = section.default_factory
        for key in dataclasses.fields(factory()):
            assert (key.name == "types") != ((section.name, key.name) in found)
    assert not [one for one in answer["settings"] if one["changed"]]
    assert found["pool", "max_agents"] == {
        "section": "pool", "key": "max_agents", "value": 3, "default": 3, "changed": False,
    }  # fmt: skip
    assert found["guard", "protected_branches"]["value"] == ["main", "master"]
    assert found["privacy", "level"]["value"] == "default"


async def test_what_was_changed_is_told_apart(tmp_path: Path) -> None:
    answer, _ = await settings(tmp_path, CONFIG)
    found = known(answer)
    assert found["pool", "max_agents"] == {
        "section": "pool", "key": "max_agents", "value": 7, "default": 3, "changed": True,
    }  # fmt: skip
    assert found["prices", "models"]["value"] == {"odd": {"input": 1.5}}
    assert found["enforcement", "pre_task"]["value"] == "warn"
    # Of one type of agent, what differs from all others.
    assert {key for section, key in found if section == "agent.types.Explore"} == {"model", "environment"}
    assert found["agent.types.Explore", "model"]["value"] == "haiku"
    assert found["enforcement.types.docs", "exempt"]["value"] == ["<b>*"]
    assert not [key for section, key in found if section == "agent.types.same"]


async def test_no_secret_is_told(tmp_path: Path) -> None:
    answer, text = await settings(tmp_path, CONFIG)
    found = known(answer)
    assert SECRET not in text
    assert TOKEN not in text
    assert found["otlp", "headers"]["value"] == {"authorization": "set"}
    assert found["agent", "environment"]["value"] == {"DEPLOY": "set", "OTHER": "set"}
    assert found["agent.types.Explore", "environment"]["value"] == {"ONE": "set"}
    assert found["agent.types.Explore", "environment"]["default"] == {"DEPLOY": "set", "OTHER": "set"}
    assert found["otlp", "endpoint"]["value"].startswith("http://me:[REDACTED")


async def test_a_folder_of_any_bytes_can_be_told(tmp_path: Path) -> None:
    folder = Path(f"{tmp_path}/odd \udcff<b>")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    answer, _ = await settings(folder, "")
    assert answer["data_dir"] == f"{tmp_path}/odd \\xff<b>"
