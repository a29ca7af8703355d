"""Putting our registrations into other people's settings files, and taking them out again."""

import copy
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tasks import assets
from tasks.cli import hooks as cli
from tasks.errors import InstallError
from tasks.install import hooks, merge
from tasks.install.hooks import Change, RecorderState, Scope
from tasks.install.registration import (
    EVENTS,
    GUARDED,
    Program,
    guard_registrations,
    is_ours,
    parse_version,
    plugin_hooks,
    program_of,
    registrations,
)

NAMES = {event.name for event in EVENTS}

HAND_MADE = """{
\t"model" : "opus",   "permissions": {"allow": ["Bash(ls:*)",  "Read"]},
\t"hooks": {
\t\t"Stop": [{"matcher": "", "hooks": [{"type": "command", "command": "say 'fertig \\u00fc ü'"}]}],
\t\t"PreToolUse": [
\t\t\t{
\t\t\t\t"matcher": "Bash",
\t\t\t\t"hooks": [ { "type": "command", "command": "/opt/other/hooks/record", "timeout": 1.50 } ]
\t\t\t}
\t\t],
\t\t"FutureEvent": []
\t},
\t"unknown": {"deep": [1, 2.0, 1e3, null, "\\ud83d\\ude00"]}
}"""

FILES = {
    "hand made": HAND_MADE,
    "empty object": "{}",
    "empty object, line break": "{}\n",
    "empty hooks": '{\n  "hooks": {}\n}\n',
    "empty event": '{\n  "hooks": {"Stop": []}\n}\n',
    "one line": '{"model":"opus"}',
    "four spaces": '{\n    "model": "opus"\n}\n',
    "windows": '{\r\n  "model": "opus"\r\n}\r\n',
    "byte order mark": '\ufeff{\n  "model": "ü"\n}\n',
    "nothing": "",
    "white space": " \n",
}


class Place:
    """A settings file and a data directory."""

    def __init__(self, root: Path) -> None:
        self.file = root / "config/settings.json"
        self.hooks_dir = root / "data/hooks"
        self.file.parent.mkdir()

    def write(self, text: str) -> None:
        self.file.write_bytes(text.encode())

    def install(self, **options: Any) -> Change:
        return hooks.install(self.file, self.hooks_dir, **options)

    def uninstall(self, **options: Any) -> Change:
        return hooks.uninstall(self.file, **options)

    def data(self) -> Any:
        return json.loads(self.file.read_text("utf-8-sig"))

    def handlers(self, event: str) -> list[Any]:
        return merge.ours_of(self.data(), event)

    def guards(self) -> dict[str, list[Any]]:
        return merge.ours(self.data(), Program.GUARD)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_first_install_registers_every_event_once(place: Place) -> None:
    change = place.install()
    recorder = str(place.hooks_dir / "record")
    assert set(change.added) == NAMES
    assert place.handlers("PreToolUse") == [
        {"type": "command", "command": recorder, "args": ["tasksd"], "async": True, "timeout": 5}
    ]
    assert place.handlers("Stop") == [{"type": "command", "command": recorder, "args": ["tasksd"], "timeout": 2}]
    assert {event: len(found) for event, found in merge.ours(place.data()).items()} == dict.fromkeys(NAMES, 1)


def test_what_begins_or_ends_a_process_blocks_and_the_dangerous_ones_are_left_alone() -> None:
    blocking = {event.name for event in EVENTS if event.blocking}
    assert blocking == {
        "PostToolBatch", "Stop", "StopFailure", "SubagentStop", "SessionStart", "SessionEnd", "Setup",
    }  # fmt: skip
    assert not NAMES & {"WorktreeCreate", "WorktreeRemove", "MessageDisplay", "FileChanged"}
    assert next(event.timeout for event in EVENTS if event.name == "SessionEnd") == 10


def test_recorder_and_spool_are_put_in_place_for_their_owner_alone(place: Place) -> None:
    place.install()
    recorder = place.hooks_dir / "record"
    assert recorder.read_bytes() == assets.path("hooks/record").read_bytes()
    assert recorder.stat().st_mode & 0o777 == 0o755
    for folder in (place.hooks_dir, place.hooks_dir.parent, place.hooks_dir.parent / "spool"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_everything_else_in_the_file_survives(place: Place, text: str) -> None:
    place.write(text)
    place.install()
    before = json.loads(text.removeprefix("\ufeff")) if text.strip() else {}
    after = place.data()
    for event in list(after["hooks"]):
        left = [group for group in after["hooks"][event] if not any(map(is_ours, group["hooks"]))]
        if left or event in before.get("hooks", {}):
            after["hooks"][event] = left
        else:
            del after["hooks"][event]
    if "hooks" not in before:
        del after["hooks"]
    assert json.dumps(after) == json.dumps(before)  # as text: the order counts


def test_lines_of_other_people_stay_as_they_were_typed(place: Place) -> None:
    place.write(HAND_MADE)
    diff = place.install().diff().splitlines()
    gone = [line[1:].rstrip(",") for line in diff if line.startswith("-") and not line.startswith("---")]
    now = place.file.read_text()
    assert gone  # lines that got a comma or an entry behind them
    assert all(line.rstrip("]") in now for line in gone)


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_uninstall_gives_the_file_back_byte_for_byte(place: Place, text: str) -> None:
    place.write(text)
    place.install()
    assert place.file.read_bytes() != text.encode()
    assert set(place.uninstall().removed) == NAMES
    assert place.file.read_bytes() == text.encode()


@pytest.mark.parametrize("name", ["hand made", "empty object", "one line", "four spaces", "windows", "byte order mark"])
def test_uninstall_needs_no_backup(place: Place, name: str) -> None:
    if name == "hand made":
        name, text = (
            name,
            HAND_MADE.replace('\t\t"FutureEvent": []', '\t\t"FutureEvent": [{"hooks": [{"type": "http"}]}]'),
        )
    else:
        text = FILES[name]
    place.write(text)
    change = place.install()
    assert change.backup is not None
    change.backup.unlink()
    place.uninstall()
    if name == "empty object":
        assert place.data() == {}
    else:
        assert place.file.read_bytes() == text.encode()


def test_file_that_was_not_there_is_gone_after_uninstall(place: Place) -> None:
    assert place.install().backup is None
    place.uninstall()
    assert list(place.file.parent.iterdir()) == []


def test_uninstall_keeps_what_came_after_install(place: Place) -> None:
    place.write('{\n  "model": "opus"\n}\n')
    place.install()
    data = place.data()
    data["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "theirs"}]})
    data["hooks"]["Stop"][0]["hooks"].insert(0, {"type": "command", "command": "in our group"})
    place.write(json.dumps(data, indent=2))
    place.uninstall()
    groups = [{"hooks": [{"type": "command", "command": command}]} for command in ("in our group", "theirs")]
    assert place.data() == {"model": "opus", "hooks": {"Stop": groups}}


def test_uninstall_without_registrations_changes_nothing(place: Place) -> None:
    assert not place.uninstall().changes_anything
    assert not place.file.exists()
    place.write(HAND_MADE)
    before = place.file.stat()
    assert not place.uninstall().changes_anything
    assert place.file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_second_install_changes_nothing(place: Place, text: str) -> None:
    place.write(text)
    place.install()
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in place.file.parent.parent.rglob("*")}
    change = place.install()
    assert not change.changes_anything
    assert (change.added, change.updated, change.removed, change.diff()) == ((), (), (), "")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before} == before
    assert set(place.file.parent.parent.rglob("*")) == set(before)


def test_older_registration_of_ours_is_brought_up_to_date_in_its_place(place: Place) -> None:
    place.write(HAND_MADE)
    place.install()
    data = place.data()
    old = {"type": "command", "command": "exec '/old place/hooks/record' tasksd", "timeout": 60}
    data["hooks"]["Stop"][1]["hooks"][0] = old
    data["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "theirs"}, old]})
    data["hooks"]["OldEvent"] = [{"hooks": [old]}]
    del data["hooks"]["PostToolBatch"]
    place.write(json.dumps(data, indent=2))
    change = place.install()
    assert (change.added, change.updated, change.removed) == (("PostToolBatch",), ("Stop",), ("OldEvent",))
    after = place.data()["hooks"]
    wanted = registrations(place.hooks_dir / "record")["Stop"]
    assert [[h["command"] for h in group["hooks"]] for group in after["Stop"]] == [
        ["say 'fertig ü ü'"],
        [wanted["command"]],
        ["theirs"],
    ]
    assert "OldEvent" not in after


def test_registration_that_was_put_under_a_matcher_covers_every_call_again(place: Place) -> None:
    place.install()
    data = place.data()
    data["hooks"]["PreToolUse"][0]["matcher"] = "Bash"
    place.write(json.dumps(data))
    place.install()
    assert [group.get("matcher") for group in place.data()["hooks"]["PreToolUse"]] == [None]


def test_registrations_that_pile_up_in_one_list_are_all_found(place: Place) -> None:
    place.install()
    data = place.data()
    (ours,) = data["hooks"]["Stop"][0]["hooks"]
    theirs = [{"type": "command", "command": command} for command in "abc"]
    piled = [theirs[0], ours, ours, theirs[1], ours, theirs[2]]
    data["hooks"]["Stop"] = [{"hooks": [ours, ours]}, {"hooks": piled}, {"hooks": [ours]}]
    place.write(json.dumps(data))
    place.install()
    assert place.data()["hooks"]["Stop"] == [{"hooks": [ours]}, {"hooks": theirs}]
    place.write(json.dumps(data))
    place.uninstall()
    assert place.data() == {"hooks": {"Stop": [{"hooks": theirs}]}}


def test_dry_run_writes_nothing_and_shows_the_change(place: Place) -> None:
    place.write(HAND_MADE)
    before = sorted(place.file.parent.parent.rglob("*"))
    change = place.install(dry_run=True)
    assert change.recorder
    assert '+\t\t"SessionEnd": [' in change.diff().splitlines()
    assert sorted(place.file.parent.parent.rglob("*")) == before
    assert place.file.read_text() == HAND_MADE
    place.install()
    assert place.uninstall(dry_run=True).removed
    assert place.handlers("Stop")


def test_backup_holds_the_old_bytes_for_its_owner_alone(place: Place) -> None:
    place.write(FILES["byte order mark"])
    change = place.install()
    assert change.backup is not None
    assert change.backup.parent == place.file.parent
    assert change.backup.read_bytes() == FILES["byte order mark"].encode()
    assert change.backup.stat().st_mode & 0o777 == 0o600


def test_mode_of_the_file_survives(place: Place) -> None:
    place.write("{}")
    place.file.chmod(0o640)
    place.install()
    assert place.file.stat().st_mode & 0o777 == 0o640


def test_linked_settings_file_stays_a_link(place: Place, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    place.file.symlink_to(real)
    place.install()
    assert place.file.is_symlink()
    assert "hooks" in json.loads(real.read_text())
    place.uninstall()
    assert place.file.is_symlink()
    assert real.read_text() == "{}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a JSON object"),
        ('"hooks"', "not a JSON object"),
        ("{", "not valid JSON"),
        ("{} // mine", "not valid JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', '"a" stands twice'),
        ('{"x": {"hooks": 1, "hooks": 2}}', '"hooks" stands twice'),
        ('{"hooks": []}', '"hooks" must be an object'),
        ('{"hooks": {"Stop": {}}}', '"Stop" must be a list'),
        ('{"hooks": {"Stop": ["x"]}}', "every entry must be an object"),
        ('{"hooks": {"Stop": [{"hooks": {}}]}}', "every entry must be an object"),
        ('{"hooks": {"Stop": [{"matcher": 1, "hooks": []}]}}', '"matcher" must be text'),
        ('{"hooks": {"Stop": [{"hooks": ["x"]}]}}', "every hook must be an object"),
        ('{"hooks": {"Stop": [{"hooks": [{"command": "x"}]}]}}', '"type"'),
        ("[" * 100_000, "deep"),
    ],
)
def test_file_that_cannot_be_merged_is_refused_and_left_alone(place: Place, text: str, said: str) -> None:
    place.write(text)
    with pytest.raises(InstallError, match=said) as caught:
        place.install()
    assert str(place.file) in str(caught.value)
    assert place.file.read_text() == text
    assert [path.name for path in place.file.parent.iterdir()] == ["settings.json"]


def test_file_that_is_not_utf8_is_refused(place: Place) -> None:
    place.file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InstallError, match="cannot read"):
        place.install()


def test_change_by_the_client_in_between_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write('{"model": "opus"}')
    sync, writes = os.fsync, iter(['{"model": "sonnet"}', '{"model": "haiku"}'])

    def meanwhile(handle: int) -> None:
        sync(handle)
        if ".bak" in os.readlink(f"/proc/self/fd/{handle}") and (text := next(writes, None)):
            place.write(text)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", meanwhile)
    change = place.install()
    assert place.data()["model"] == "haiku"
    assert place.handlers("Stop")
    assert change.backup is not None
    assert [path.read_text() for path in place.file.parent.glob("*.bak")] == ['{"model": "haiku"}']


def test_failure_to_replace_leaves_the_old_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("{}")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    place.install(dry_run=True)
    hooks.install(place.file.with_name("other.json"), place.hooks_dir)  # the recorder is in place
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InstallError, match="No space left"):
        place.install()
    assert place.file.read_text() == "{}"
    assert not [path for path in place.file.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("version", "events", "command"),
    [
        ("2.0.45 (Claude Code)", {event.name for event in EVENTS if event.old}, "exec"),
        ("2.1.97 (Claude Code)", {event.name for event in EVENTS if event.old}, "exec"),
        ("2.1.119 (Claude Code)", NAMES, "exec"),
        ("2.1.330 (Claude Code)", NAMES, "path"),
        ("no version", NAMES, "path"),
    ],
)
def test_older_client_gets_what_it_understands(place: Place, version: str, events: set[str], command: str) -> None:
    change = place.install(client=parse_version(version))
    assert set(merge.ours(place.data())) == events
    assert bool(change.warnings) == (events != NAMES)
    recorder = f"{place.hooks_dir}/record"
    (handler,) = place.handlers("Stop")
    assert handler["command"] == (recorder if command == "path" else f"exec {recorder} tasksd")


def test_path_with_spaces_is_quoted_for_an_older_client_and_still_ours(tmp_path: Path) -> None:
    handler = registrations(tmp_path / "my data/hooks/record", (2, 0, 45))["Stop"]
    assert handler["command"] == f"exec '{tmp_path}/my data/hooks/record' tasksd"
    assert is_ours(handler)


@pytest.mark.parametrize(
    "handler",
    [
        {"type": "command", "command": "/x/hooks/record"},
        {"type": "command", "command": "/x/hooks/record", "args": []},
        {"type": "command", "command": "/x/hooks/record", "args": ["mine"]},
        {"type": "command", "command": "/x/hooks/other", "args": ["tasksd"]},
        {"type": "command", "command": "exec /x/hooks/record"},
        {"type": "command", "command": "/x/hooks/record tasksd; rm x"},
        {"type": "command", "command": "unbalanced 'quote"},
        {"type": "prompt", "prompt": "x"},
        {"type": "command", "command": 3},
        "text",
    ],
)
def test_hooks_of_others_are_not_taken_for_ours(handler: Any) -> None:
    assert not is_ours(handler)


def test_status_says_where_each_event_is_registered(place: Place, tmp_path: Path) -> None:
    project = tmp_path / "project/.claude/settings.json"
    assert set(hooks.status([place.file, project], place.hooks_dir).missing) == NAMES
    place.install(client=(2, 0, 45))
    status = hooks.status([place.file, project], place.hooks_dir)
    assert status.recorder is RecorderState.CURRENT
    assert set(status.missing) == {event.name for event in EVENTS if not event.old}
    assert not any(event.twice for event in status.events)
    hooks.install(project, tmp_path / "elsewhere/hooks")
    status = hooks.status([place.file, project], place.hooks_dir)
    (stop,) = [event for event in status.events if event.event == "Stop"]
    assert stop.twice
    assert [found.file for found in stop.places] == [place.file, project]
    assert status.missing == ()


def test_same_registration_in_two_files_runs_once(place: Place, tmp_path: Path) -> None:
    place.install()
    hooks.install(tmp_path / "project.json", place.hooks_dir)
    status = hooks.status([place.file, tmp_path / "project.json"], place.hooks_dir)
    assert not any(event.twice for event in status.events)


def test_plugin_beside_the_registration_is_twice(place: Place) -> None:
    place.write('{"enabledPlugins": {"tasksd@tasksd": true}}')
    alone = hooks.status([place.file], place.hooks_dir)
    assert alone.missing == ()
    assert not any(event.twice for event in alone.events)
    place.install()
    assert all(event.twice for event in hooks.status([place.file], place.hooks_dir).events)


def test_status_names_what_keeps_hooks_from_running(place: Place, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    place.write('{"disableAllHooks": true}')
    place.install()
    status = hooks.status([place.file, broken], place.hooks_dir)
    assert len(status.problems) == 2
    assert "disableAllHooks" in status.problems[0]
    assert str(broken) in status.problems[1]


def test_state_of_the_installed_recorder_is_told_and_mended(place: Place) -> None:
    recorder = place.hooks_dir / "record"

    def state() -> RecorderState:
        return hooks.status([place.file], place.hooks_dir).recorder

    assert state() is RecorderState.MISSING
    place.install()
    recorder.chmod(0o644)
    assert state() is RecorderState.NOT_EXECUTABLE
    assert place.install().recorder
    assert state() is RecorderState.CURRENT
    recorder.write_text("#!/bin/sh\n")
    assert state() is RecorderState.OUTDATED
    change = place.install()
    assert (change.recorder, change.changes_file) == (True, False)
    assert state() is RecorderState.CURRENT


# The guard.


def test_guard_is_off_until_it_is_asked_for(place: Place) -> None:
    place.install()
    assert place.guards() == {}
    assert not (place.hooks_dir / "guard").exists()
    assert not hooks.status([place.file], place.hooks_dir).guard.registered


def test_guard_is_registered_beside_the_recorder(place: Place) -> None:
    change = place.install(guard=True)
    assert (change.guard_change, change.guard) == ("registered", True)
    handler = {"type": "command", "command": str(place.hooks_dir / "guard"), "args": ["tasksd"], "timeout": 5}
    assert place.guards() == {event: [handler] for event in GUARDED}
    groups = place.data()["hooks"]
    assert [group.get("matcher") for group in groups["PreToolUse"]] == [None, "Bash"]
    assert [group.get("matcher") for group in groups["Stop"]] == [None, None]
    assert set(merge.ours(place.data())) == NAMES
    installed = place.hooks_dir / "guard"
    assert installed.read_bytes() == assets.path("hooks/guard").read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
@pytest.mark.parametrize("steps", [(True,), (None, True), (True, None), (True, False, True)], ids=str)
def test_guard_comes_and_goes_without_a_trace(place: Place, text: str, steps: tuple[bool | None, ...]) -> None:
    place.write(text)
    for guard in steps:
        place.install(guard=guard)
    assert set(place.guards()) == set(GUARDED)
    assert not place.install().changes_anything
    assert not place.install(guard=True).changes_anything
    change = place.uninstall()
    assert (set(change.removed), change.guard_change) == (NAMES, "removed")
    assert place.file.read_bytes() == text.encode()


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_guard_can_be_taken_out_alone(place: Place, text: str) -> None:
    place.write(text)
    place.install()
    before = place.file.read_bytes()
    place.install(guard=True)
    change = place.install(guard=False)
    assert (change.guard_change, change.added, change.updated, change.removed) == ("removed", (), (), ())
    assert place.file.read_bytes() == before
    assert not place.install(guard=False).changes_anything


def test_installation_brings_a_guard_that_is_there_up_to_date(place: Place) -> None:
    place.install(guard=True)
    data = place.data()
    data["hooks"]["PreToolUse"][1]["matcher"] = "Write"
    data["hooks"]["Stop"][1]["hooks"][0] = {"type": "command", "command": "exec /old/hooks/guard tasksd"}
    del data["hooks"]["UserPromptSubmit"][1]
    place.write(json.dumps(data))
    (place.hooks_dir / "guard").write_text("#!/bin/sh\n")
    found = hooks.status([place.file], place.hooks_dir).guard
    assert (found.missing, found.state, found.is_fine) == (("UserPromptSubmit",), RecorderState.OUTDATED, False)
    change = place.install()
    assert (change.guard_change, change.guard, change.recorder, change.updated) == ("updated", True, False, ())
    assert set(place.guards()) == set(GUARDED)
    assert [group.get("matcher") for group in place.data()["hooks"]["PreToolUse"]] == [None, "Bash"]
    assert hooks.status([place.file], place.hooks_dir).guard.is_fine


def test_older_client_gets_a_guard_that_it_understands(place: Place) -> None:
    place.install(guard=True, client=(2, 0, 45))
    (handler,) = place.guards()["Stop"]
    assert handler["command"] == f"exec {place.hooks_dir}/guard tasksd"
    assert program_of(handler) is Program.GUARD


def test_guard_beside_the_plugin_registers_no_second_recorder(place: Place) -> None:
    place.write('{"enabledPlugins": {"tasksd@tasksd": true}}')
    change = place.install(guard=True)
    assert (change.added, change.guard_change) == ((), "registered")
    status = hooks.status([place.file], place.hooks_dir)
    assert (status.missing, status.guard.is_fine) == ((), True)
    assert not any(event.twice for event in status.events)
    place.uninstall()
    assert place.file.read_text() == '{"enabledPlugins": {"tasksd@tasksd": true}}'


def test_plugin_carries_no_guard() -> None:
    assert "guard" not in "".join(plugin_hooks().values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--guard", "--dry-run"), "the guard would be registered in"),
        (("--guard",), "the guard is registered in"),
        (("--no-guard",), "nothing to change"),
    ],
)
def test_guard_is_switched_on_by_its_option(
    place: Place, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    runner = CliRunner(env={"TASKSD_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path), "PATH": ""})
    where = ("--settings", str(place.file))
    place.install()
    done = runner.invoke(cli.hooks, ["install", *where, *arguments])
    assert done.exit_code == 0
    assert said in done.stderr
    shown = runner.invoke(cli.hooks, ["status", *where])
    assert ("guard: current" in shown.stdout) == (arguments == ("--guard",))
    document = json.loads(runner.invoke(cli.hooks, ["status", *where, "--json"]).stdout)
    assert document["guard"]["registered"] == (arguments == ("--guard",))


def test_scopes_name_the_files_of_the_client(tmp_path: Path) -> None:
    user = {"HOME": "/home/u"}
    assert hooks.settings_path(Scope.USER, directory=tmp_path, environ=user) == Path("/home/u/.claude/settings.json")
    moved = {"HOME": "/home/u", "CLAUDE_CONFIG_DIR": "/c"}
    assert hooks.settings_path(Scope.USER, directory=tmp_path, environ=moved) == Path("/c/settings.json")
    assert hooks.settings_path(Scope.PROJECT, directory=tmp_path) == tmp_path / ".claude/settings.json"
    assert hooks.settings_path(Scope.LOCAL, directory=tmp_path) == tmp_path / ".claude/settings.local.json"


def test_files_of_the_plugin_are_those_of_the_registration_table() -> None:
    for name, text in plugin_hooks().items():
        assert assets.path(f"hooks/{name}").read_text() == text, f"write plugin_hooks()[{name!r}] to hooks/{name}"
    manifest = json.loads(assets.path(".claude-plugin/plugin.json").read_text())
    project = tomllib.loads(assets.path("pyproject.toml").read_text())["project"]
    assert manifest["version"] == project["version"]
    assert manifest["hooks"] == "./hooks/hooks-recent.json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
THEIRS = st.fixed_dictionaries({"type": st.sampled_from(["command", "http"])}, optional={"command": st.text()})
GROUP = st.fixed_dictionaries({"hooks": st.lists(THEIRS, max_size=3)}, optional={"matcher": st.text(max_size=3)})
SETTINGS = st.dictionaries(st.text().filter(lambda key: key != "hooks"), JSON, max_size=3).flatmap(
    lambda rest: st.dictionaries(st.sampled_from(sorted(NAMES | {"Odd"})), st.lists(GROUP, max_size=3), max_size=4).map(
        lambda found: {**rest, "hooks": found}
    )
)


@given(SETTINGS, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_any_settings_survive_install_and_uninstall(data: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    wanted = registrations(Path("/data/hooks/record"))
    installed = merge.merged(text, wanted)
    assert merge.merged(installed, wanted) == installed
    assert merge.ours(json.loads(installed)) == {event: [handler] for event, handler in wanted.items()}
    expected = copy.deepcopy(data)
    for event in wanted:  # an empty container that was there before is taken for ours
        if expected["hooks"].get(event) == []:
            del expected["hooks"][event]
    if not expected["hooks"]:
        del expected["hooks"]
    assert json.dumps(json.loads(merge.removed(installed))) == json.dumps(expected)
    guards = guard_registrations(Path("/data/hooks/guard"))
    guarded = merge.merged(installed, guards, Program.GUARD)
    assert merge.ours(json.loads(guarded)) == {event: [handler] for event, handler in wanted.items()}
    assert merge.removed(guarded, (Program.GUARD,)) == installed
    assert merge.merged(guarded, wanted) == guarded
