"""The repository as a plugin, judged and run by the real client."""

import json
import mmap
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tasks import assets
from tasks.install.registration import EVENTS

from .rig.rig import Rig

pytestmark = pytest.mark.client


def plugin_command(rig: Rig, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(rig.client.binary), "plugin", *arguments],
        cwd=rig.client.project,
        env=rig.client.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def recorded(rig: Rig) -> Counter[str]:
    spool = rig.daemon.spool
    assert all(file.name.split(".")[3].startswith("p") for file in spool.iterdir())
    return Counter(json.loads(file.read_bytes())["hook_event_name"] for file in spool.iterdir())


def make_spool(rig: Rig) -> None:
    """As if the daemon had run once."""
    rig.daemon.spool.mkdir(parents=True)


@pytest.mark.parametrize("part", ["", ".claude-plugin/plugin.json", ".claude-plugin/marketplace.json"])
def test_client_finds_nothing_wrong_with_the_plugin(rig: Rig, part: str) -> None:
    done = plugin_command(rig, "validate", "--strict", str(assets.ROOT / part))
    assert done.returncode == 0, done.stdout + done.stderr


def test_plugin_directory_records_a_session(rig: Rig) -> None:
    make_spool(rig)
    run = rig.client.run("hello", args=("--plugin-dir", str(assets.ROOT)))
    assert run.returncode == 0
    assert recorded(rig) == {"SessionStart": 1, "UserPromptSubmit": 1, "Stop": 1, "SessionEnd": 1}


def test_plugin_installed_from_the_repository_records_a_session(rig: Rig) -> None:
    make_spool(rig)
    for arguments in (("marketplace", "add", str(assets.ROOT)), ("install", "tasksd@tasksd")):
        done = plugin_command(rig, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    rig.client.run("hello")
    assert recorded(rig)["SessionEnd"] == 1


def test_plugin_creates_no_directory_of_its_own(rig: Rig) -> None:
    rig.client.run("hello", args=("--plugin-dir", str(assets.ROOT)))
    assert not rig.daemon.spool.exists()
    assert not (rig.client.home / ".local/state/tasksd").exists()


def test_events_the_client_knows_are_the_events_registered(client_binary: Path) -> None:
    """Fails when a new client has a new kind of event: register it, or say in `registration` why not."""
    first = b'["PreToolUse","PostToolUse","PostToolUseFailure","PostToolBatch"'
    with client_binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(first)
        if start < 0:
            pytest.skip("this client does not hold its list of events as plain text")
        known = set(json.loads(content[start : content.find(b"]", start) + 1]))
    left_out = {"WorktreeCreate", "WorktreeRemove", "MessageDisplay", "FileChanged", "PreSkillShellCommand"}
    assert known == {event.name for event in EVENTS} | left_out
