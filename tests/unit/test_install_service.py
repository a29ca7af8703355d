import os
import plistlib
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tasks import assets
from tasks.config import Settings, load
from tasks.errors import InstallError
from tasks.install.commands import Commands
from tasks.install.programs import CLIENT_FOLDERS, find_client
from tasks.install.service import (
    Change,
    ServicePlan,
    install,
    plan,
    render_launchd,
    render_systemd,
    status,
    uninstall,
)
from tasks.install.unit import MARKER, baked_path, equal_but_for_path, is_ours, verify_systemd

UNIT = assets.path("systemd/tasksd.service").read_text()
AGENT = assets.path("launchd/dev.tasksd.agent.plist").read_text()
#: the keys whose reasons the template gives
ARGUED = """
Type=notify NotifyAccess=main WatchdogSec=30 TimeoutStartSec=30 TimeoutStopSec=45 Restart=on-failure RestartSec=1
StartLimitIntervalSec=60 StartLimitBurst=5 RestartPreventExitStatus=78 KillMode=process OOMPolicy=continue
RuntimeDirectory=tasksd RuntimeDirectoryMode=0700 LimitCORE=0 WantedBy=default.target
UnsetEnvironment=PYTHONPATH
"""
has_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@dataclass
class Machine:
    """A home folder, and service managers that say what a test wants them to say and note what they are asked."""

    root: Path
    platform: str = "linux"
    answers: bool = True
    active: bool = False
    enabled: bool = False
    linger: str = "yes"
    #: the command of this name fails
    failing: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.root / "home"), "PATH": f"{self.root / 'tools'}:/usr/bin:/bin"}

    @property
    def settings(self) -> Settings:
        return load(environ=self.environ)

    def plan(self, **changes: Any) -> ServicePlan:
        arguments: dict[str, Any] = {
            "environ": self.environ,
            "platform": self.platform,
            "executable": str(self.root / "env/bin/python"),
        }
        return plan(changes.pop("settings", self.settings), **(arguments | changes))

    def run(self, argv: tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[str]:
        if argv[0] == "systemd-analyze":
            return subprocess.run(argv, **options)
        assert options["stdin"] == subprocess.DEVNULL
        assert options["timeout"] > 0
        line = " ".join(argv)
        self.asked.append(line)
        if not self.answers:
            return subprocess.CompletedProcess(argv, 1, "", "Failed to connect to bus: No medium found")
        if self.failing and self.failing in line:
            return subprocess.CompletedProcess(argv, 1, "", "it does not work")
        return subprocess.CompletedProcess(argv, *self._reply(line), "")

    def _reply(self, line: str) -> tuple[int, str]:
        if line.startswith("loginctl"):
            return 0, self.linger + "\n"
        if "show tasksd.service" in line:
            active, enabled = "active" if self.active else "inactive", "enabled" if self.enabled else ""
            return 0, f"ActiveState={active}\nUnitFileState={enabled}\n"
        if any(verb in line for verb in ("enable --now", " restart ", "bootstrap")):
            self.active = self.enabled = True
        if any(verb in line for verb in ("disable --now", "bootout")):
            self.active = self.enabled = False
        if line.startswith("launchctl print gui/") and line.endswith("dev.tasksd.agent"):
            return (0, "\tstate = running\n") if self.active else (113, "")
        return 0, "Version=252\n"

    @property
    def orders(self) -> list[str]:
        """What was asked of the managers beyond questions."""
        return [line for line in self.asked if " show" not in line and " print " not in line]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    program(tmp_path / "env/bin/tasksd")
    program(tmp_path / "tools/claude")
    (tmp_path / "home").mkdir()
    yield Machine(tmp_path)


def words(text: str, key: str) -> list[str]:
    return [line.removeprefix(key + "=") for line in text.splitlines() if line.startswith(key + "=")]


# Rendering


def test_the_unit_has_every_key_that_the_design_argues_for() -> None:
    text = render_systemd(UNIT, program=Path("/opt/t/tasksd"), environment={"PATH": "/usr/bin"})
    settings = {line for line in text.splitlines() if line and not line.startswith(("#", "["))}
    assert settings == {
        "Description=tasksd: history and worker pool for Claude Code agents",
        'ExecStart="/opt/t/tasksd" up',
        'Environment="PATH=/usr/bin"',
        "Environment=PYTHONSAFEPATH=1",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *ARGUED.split(),
    }


def test_the_agent_has_every_key_that_the_design_argues_for() -> None:
    text = render_launchd(
        AGENT,
        program=Path("/opt/t/tasksd"),
        environment={"PATH": "/usr/bin"},
        log_dir=Path("/Users/x/Library/Logs/tasksd"),
    )
    assert plistlib.loads(text.encode()) == {
        "Label": "dev.tasksd.agent",
        "ProgramArguments": ["/opt/t/tasksd", "up"],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 45,
        "AbandonProcessGroup": True,
        "ProcessType": "Standard",
        "StandardErrorPath": "/Users/x/Library/Logs/tasksd/stderr.log",
        "EnvironmentVariables": {"PATH": "/usr/bin", "PYTHONSAFEPATH": "1"},
    }


ODD = [
    "/a b/tasksd",
    "/a$HOME/${X}/tasksd",
    "/100%/%h/tasksd",
    "/ünï/日本/tasksd",
    "/@PROGRAM@/@ENVIRONMENT@/tasksd",
    "/#;/tasksd",
]


@has_analyze
@pytest.mark.parametrize("name", ODD)
def test_systemd_finds_a_program_of_an_odd_path(tmp_path: Path, name: str) -> None:
    where = program(tmp_path / name[1:])
    text = render_systemd(UNIT, program=where, environment={"PATH": f"{where.parent}:/q\"uo'te\\"})
    assert verify_systemd(text, Commands(subprocess.run, dict(os.environ))) == []
    where.unlink()
    with pytest.raises(InstallError, match="not executable"):
        verify_systemd(text, Commands(subprocess.run, dict(os.environ)))


@pytest.mark.parametrize(
    "name", ['/q"/tasksd', "/q'/tasksd", "/back\\slash/tasksd", "/new\nline/tasksd", "/\udcff/tasksd"]
)
def test_a_program_path_that_systemd_cannot_take_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(InstallError, match="folder"):
        render_systemd(UNIT, program=Path(name), environment={"PATH": "/usr/bin"})


@pytest.mark.parametrize("value", ["/x\ny", "/x\x1by", "/\udcff"])
def test_a_control_character_in_a_path_is_refused_everywhere(value: str) -> None:
    good, bad = Path("/opt/tasksd"), Path(value)
    with pytest.raises(InstallError):
        render_systemd(UNIT, program=good, environment={"TASKSD_DATA_DIR": value})
    with pytest.raises(InstallError):
        render_launchd(AGENT, program=good, environment={"TASKSD_DATA_DIR": value}, log_dir=good)
    with pytest.raises(InstallError):
        render_launchd(AGENT, program=bad, environment={}, log_dir=good)
    with pytest.raises(InstallError):
        render_launchd(AGENT, program=good, environment={}, log_dir=bad)


@pytest.mark.parametrize(
    "path", ["/usr/bin", "/a b:/c%d:/e\"f:/g\\h:/i'j:/k$l", "/<&>:/ü:/]]>", "/@LOG_DIR@:/@PROGRAM@"]
)
def test_path_comes_back_from_a_definition_as_it_went_in(path: str) -> None:
    unit = render_systemd(UNIT, program=Path("/t"), environment={"PATH": path})
    agent = render_launchd(AGENT, program=Path("/t"), environment={"PATH": path}, log_dir=Path("/l"))
    assert baked_path(unit) == baked_path(agent) == path


@pytest.mark.parametrize("name", [*ODD, "/<&>\"'/tasksd"])
def test_a_property_list_holds_an_odd_path(name: str) -> None:
    text = render_launchd(AGENT, program=Path(name), environment={}, log_dir=Path(name).parent)
    document = plistlib.loads(text.encode())
    assert document["ProgramArguments"] == [name, "up"]
    assert document["StandardErrorPath"] == f"{Path(name).parent}/stderr.log"


def test_definitions_that_differ_in_path_alone_are_equal_but_for_it() -> None:
    def both(path: str, data: str) -> tuple[str, str]:
        environment = {"PATH": path, "TASKSD_DATA_DIR": data}
        return (
            render_systemd(UNIT, program=Path("/t"), environment=environment),
            render_launchd(AGENT, program=Path("/t"), environment=environment, log_dir=Path("/l")),
        )

    for first, other_path, other_data in zip(both("/a", "/d"), both('/b"\\:/c', "/d"), both("/a", "/e"), strict=True):
        assert is_ours(first)
        assert equal_but_for_path(first, other_path)
        assert not equal_but_for_path(first, other_data)


# Verifying


@has_analyze
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=", "KilMode="),
        ("[Install]", "[Instal]"),
        ("WatchdogSec=30", "WatchdogSec=soon"),
        ("Type=notify", "Type=notifi"),
        ("ExecStart=", "ExecStrat="),
    ],
)
def test_a_mistake_in_the_unit_is_found_before_anything_is_installed(machine: Machine, right: str, wrong: str) -> None:
    made = machine.plan()
    assert right in made.text
    with pytest.raises(InstallError, match="nothing was changed"):
        install(replace(made, text=made.text.replace(right, wrong)), run=machine.run, environ=machine.environ)
    assert not made.file.exists()
    assert machine.orders == []


@has_analyze
def test_a_broken_drop_in_of_the_person_does_not_forbid_the_installation(machine: Machine) -> None:
    made = machine.plan()
    drop_in = made.file.parent / "tasksd.service.d/own.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nNoSuchKey=1\n")
    assert install(made, run=machine.run, environ=machine.environ).change is Change.INSTALLED


def test_a_key_that_only_an_older_systemd_does_not_know_is_a_warning() -> None:
    def old(argv: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        line = f"[{argv[-1]}:40] Unknown lvalue 'OOMPolicy' in section 'Service', ignoring\n"
        return subprocess.CompletedProcess(argv, 0, "", line)

    assert verify_systemd("", Commands(old, {})) == ["this systemd does not know OOMPolicy and ignores it"]


def test_without_systemd_analyze_the_installation_says_that_it_was_not_verified() -> None:
    (warning,) = verify_systemd("", Commands(subprocess.run, {"PATH": "/nonexistent"}))
    assert "not verified" in warning or "systemd-analyze" in warning


# Planning


def test_a_plan_holds_absolute_paths_and_changes_nothing(machine: Machine) -> None:
    before = sorted(machine.root.rglob("*"))
    made = machine.plan()
    assert sorted(machine.root.rglob("*")) == before
    assert made.program == machine.root / "env/bin/tasksd"
    assert made.client == machine.root / "tools/claude"
    assert made.file == machine.root / "home/.config/systemd/user/tasksd.service"
    assert words(made.text, "ExecStart") == [f'"{made.program}" up']
    assert made.warnings == ()
    assert "TASKSD_" not in made.text


def test_without_a_tasksd_command_beside_the_interpreter_there_is_no_plan(machine: Machine) -> None:
    with pytest.raises(InstallError, match="install tasksd"):
        machine.plan(executable=str(machine.root / "tools/python"))
    (machine.root / "env/bin/tasksd").chmod(0o644)
    with pytest.raises(InstallError, match="install tasksd"):
        machine.plan()


def test_an_interpreter_that_is_a_link_keeps_the_folder_of_its_environment(machine: Machine) -> None:
    (machine.root / "env/bin/python").symlink_to(shutil.which("sh") or "/bin/sh")
    assert machine.plan().program == machine.root / "env/bin/tasksd"


def test_the_unit_goes_where_xdg_says(machine: Machine) -> None:
    environ = machine.environ | {"XDG_CONFIG_HOME": str(machine.root / "cfg")}
    assert machine.plan(environ=environ).file == machine.root / "cfg/systemd/user/tasksd.service"
    environ = machine.environ | {"XDG_CONFIG_HOME": "relative"}
    assert machine.plan(environ=environ).file == machine.root / "home/.config/systemd/user/tasksd.service"


def test_places_that_the_service_would_not_find_by_itself_are_baked_in(machine: Machine) -> None:
    chosen = load(data_dir=machine.root / "my data", environ=machine.environ)
    made = machine.plan(settings=chosen)
    assert f'"TASKSD_DATA_DIR={machine.root}/my data"' in words(made.text, "Environment")
    assert "TASKSD_CONFIG" not in made.text
    # A shell's XDG variables are not those of the user manager.
    environ = machine.environ | {"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}
    made = machine.plan(settings=load(environ=environ), environ=environ)
    assert '"TASKSD_DATA_DIR=/s/tasksd"' in words(made.text, "Environment")
    assert '"TASKSD_CONFIG=/c/tasksd/config.toml"' in words(made.text, "Environment")


def test_the_client_is_found_where_its_installers_put_it(tmp_path: Path) -> None:
    for folder in (".claude/local", ".local/bin"):
        client = program(tmp_path / folder / "claude")
        assert find_client(["/nonexistent"], tmp_path) == client
    on_path = program(tmp_path / "first/claude")
    assert find_client([str(on_path.parent)], tmp_path) == on_path


def test_a_client_beside_path_has_its_folder_baked_in(machine: Machine) -> None:
    (machine.root / "tools/claude").unlink()
    client = program(machine.root / "home/.claude/local/claude")
    made = machine.plan()
    assert made.client == client
    assert str(client.parent) in (baked_path(made.text) or "").split(":")


@pytest.mark.skipif(any(Path(f, "claude").exists() for f in CLIENT_FOLDERS[2:]), reason="this machine has a client")
def test_a_missing_client_is_a_warning_with_a_remedy(machine: Machine) -> None:
    environ = machine.environ | {"PATH": "/nonexistent"}
    made = machine.plan(environ=environ)
    assert made.client is None
    assert any("claude" in warning and "install" in warning for warning in made.warnings)


def test_path_keeps_what_lasts_beyond_this_shell(machine: Machine) -> None:
    root = machine.root
    for name in ("tools", "venv/bin", "run", "lasting", "run/own"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "run/shell-7").symlink_to(root / "lasting")
    entries = [
        "",
        ".",
        "relative",
        root / "venv/bin",
        root / "run/shell-7",
        root / "run/own",
        root / "nothing",
        root / "tools",
    ]
    environ = {
        "HOME": str(root / "home"),
        "PATH": ":".join(map(str, [*entries, root / "tools", "/usr/bin"])),
        "VIRTUAL_ENV": str(root / "venv"),
        "XDG_RUNTIME_DIR": str(root / "run"),
    }
    baked = (baked_path(machine.plan(environ=environ).text) or "").split(":")
    assert baked[:3] == [str(root / "lasting"), str(root / "tools"), "/usr/bin"]
    assert all(Path(entry).is_absolute() and Path(entry).is_dir() for entry in baked)
    assert len(baked) == len(set(baked))
    assert not {str(root / "venv/bin"), str(root / "run/own")} & set(baked)


def test_a_platform_without_a_known_manager_is_told_so(machine: Machine) -> None:
    with pytest.raises(InstallError, match="tasksd up"):
        machine.plan(platform="freebsd14")


# Installing


def test_installing_writes_the_unit_and_starts_it(machine: Machine) -> None:
    made = machine.plan()
    outcome = install(made, run=machine.run, environ=machine.environ)
    assert outcome.change is Change.INSTALLED
    assert made.file.read_text() == made.text
    assert made.text.splitlines()[0].startswith(f"# {MARKER}")
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o644
    assert [entry.name for entry in made.file.parent.iterdir()] == ["tasksd.service"]
    assert machine.orders == [
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed tasksd.service",
        "systemctl --user enable --now tasksd.service",
    ]
    assert outcome.remaining == ()
    assert outcome.warnings == ()


def test_a_second_installation_changes_nothing(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    before, machine.asked = made.file.stat(), []
    outcome = install(machine.plan(), run=machine.run, environ=machine.environ)
    assert outcome.change is Change.UNCHANGED
    after = made.file.stat()  # but for when it was read
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert machine.orders == []
    assert outcome.remaining == ()


def test_an_unchanged_service_that_does_not_run_is_started(machine: Machine) -> None:
    install(machine.plan(), run=machine.run, environ=machine.environ)
    machine.active = False
    outcome = install(machine.plan(), run=machine.run, environ=machine.environ)
    assert outcome.change is Change.UNCHANGED
    assert machine.active


def test_a_changed_unit_is_replaced_and_the_daemon_restarted(machine: Machine) -> None:
    install(machine.plan(), run=machine.run, environ=machine.environ)
    machine.asked = []
    made = machine.plan(settings=load(data_dir=machine.root / "elsewhere", environ=machine.environ))
    outcome = install(made, run=machine.run, environ=machine.environ)
    assert outcome.change is Change.UPDATED
    assert made.file.read_text() == made.text
    assert machine.orders[-2:] == ["systemctl --user enable tasksd.service", "systemctl --user restart tasksd.service"]


def test_without_a_user_manager_the_rest_is_spelt_out(machine: Machine) -> None:
    machine.answers = False
    made = machine.plan()
    outcome = install(made, run=machine.run, environ=machine.environ)
    assert outcome.change is Change.INSTALLED
    assert made.file.exists()
    assert machine.orders == []
    left = "\n".join(outcome.remaining)
    for order in ("systemctl --user daemon-reload", "systemctl --user enable --now tasksd.service", "tasksd up"):
        assert order in left
        assert order in outcome.text


def test_with_the_real_commands_the_installation_ends_well_or_says_what_is_left(machine: Machine) -> None:
    if os.environ.get("DBUS_SESSION_BUS_ADDRESS") or Path(f"/run/user/{os.getuid()}").exists():
        pytest.skip("a user manager may answer here, and this test must not touch it")
    outcome = install(machine.plan(), environ=machine.environ)
    assert outcome.change is Change.INSTALLED
    assert any("enable --now" in line for line in outcome.remaining)


def test_a_failing_start_is_reported_with_its_reason_and_what_is_left(machine: Machine) -> None:
    machine.failing = "enable --now"
    outcome = install(machine.plan(), run=machine.run, environ=machine.environ)
    assert outcome.remaining == ("systemctl --user enable --now tasksd.service",)
    assert any("it does not work" in warning for warning in outcome.warnings)


def test_a_file_of_somebody_else_is_never_replaced_or_removed(machine: Machine) -> None:
    made = machine.plan()
    made.file.parent.mkdir(parents=True)
    made.file.write_text("[Service]\nExecStart=/bin/mine\n")
    with pytest.raises(InstallError, match="not written by"):
        install(made, run=machine.run, environ=machine.environ)
    with pytest.raises(InstallError, match="not written by"):
        uninstall(run=machine.run, environ=machine.environ, platform="linux")
    assert made.file.read_text() == "[Service]\nExecStart=/bin/mine\n"
    assert machine.orders == []
    found = status(made, run=machine.run, environ=machine.environ)
    assert (found.installed, found.ours, found.current) == (True, False, False)


def test_a_masked_unit_stays_masked(machine: Machine) -> None:
    made = machine.plan()
    made.file.parent.mkdir(parents=True)
    made.file.symlink_to("/dev/null")
    with pytest.raises(InstallError, match="unmask"):
        install(made, run=machine.run, environ=machine.environ)
    assert made.file.readlink() == Path("/dev/null")


def test_a_folder_that_cannot_be_written_leaves_everything_as_it_was(machine: Machine) -> None:
    made = machine.plan()
    (machine.root / "home/.config").write_text("a file where a folder should be")
    with pytest.raises(InstallError, match="nothing was changed"):
        install(made, run=machine.run, environ=machine.environ)
    assert machine.orders == []


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_dry_run_tells_all_and_changes_nothing(machine: Machine, platform: str) -> None:
    machine.platform = platform
    made = machine.plan()
    before = sorted(machine.root.rglob("*"))
    outcome = install(made, run=machine.run, environ=machine.environ, dry_run=True)
    assert made.text.splitlines()[5] in outcome.text
    assert ("enable --now" if platform == "linux" else "bootstrap") in outcome.text
    install(made, run=machine.run, environ=machine.environ)
    machine.asked = []
    outcome = uninstall(run=machine.run, environ=machine.environ, platform=platform, dry_run=True)
    assert f"rm {made.file}" in outcome.text
    assert machine.orders == []
    made.file.unlink()
    left = [entry for entry in sorted(machine.root.rglob("*")) if entry.is_file()]
    assert left == [entry for entry in before if entry.is_file()]


# Removing


def test_uninstalling_stops_disables_and_removes_exactly_our_file(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    (made.file.parent / "other.service").write_text("[Service]\n")
    machine.asked = []
    outcome = uninstall(run=machine.run, environ=machine.environ, platform="linux")
    assert outcome.change is Change.REMOVED
    assert [entry.name for entry in made.file.parent.iterdir()] == ["other.service"]
    assert machine.orders[0] == "systemctl --user disable --now tasksd.service"
    assert "systemctl --user daemon-reload" in machine.orders
    assert uninstall(run=machine.run, environ=machine.environ, platform="linux").change is Change.ABSENT


def test_a_service_that_does_not_stop_keeps_its_file(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    machine.failing = "disable --now"
    with pytest.raises(InstallError, match="it does not work"):
        uninstall(run=machine.run, environ=machine.environ, platform="linux")
    assert made.file.exists()


def test_without_a_manager_uninstalling_removes_the_link_of_enabling_too(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    link = made.file.parent / "default.target.wants/tasksd.service"
    link.parent.mkdir()
    link.symlink_to(made.file)
    machine.answers = False
    assert uninstall(run=machine.run, environ=machine.environ, platform="linux").change is Change.REMOVED
    assert not link.is_symlink()


# Status


def test_status_of_a_running_service_has_no_complaint(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    found = status(made, run=machine.run, environ=machine.environ)
    assert (found.installed, found.ours, found.current) == (True, True, True)
    assert (found.state.active, found.state.enabled, found.state.lingering) == (True, True, True)
    assert found.warnings == ()


def test_status_before_the_installation_says_how_to_install(machine: Machine) -> None:
    found = status(machine.plan(), run=machine.run, environ=machine.environ)
    assert (found.installed, found.ours, found.current) == (False, False, False)
    assert any("tasksd service install" in warning for warning in found.warnings)


def test_status_notices_a_unit_that_is_out_of_date(machine: Machine) -> None:
    made = machine.plan()
    install(made, run=machine.run, environ=machine.environ)
    made.file.write_text(made.text.replace("WatchdogSec=30", "WatchdogSec=31"))
    found = status(made, run=machine.run, environ=machine.environ)
    assert (found.ours, found.current) == (True, False)
    assert any("differs" in warning for warning in found.warnings)


def test_status_from_another_shell_is_still_current(machine: Machine) -> None:
    install(machine.plan(), run=machine.run, environ=machine.environ)
    (machine.root / "more").mkdir()
    environ = machine.environ | {"PATH": f"{machine.root / 'more'}:{machine.environ['PATH']}"}
    found = status(machine.plan(environ=environ), run=machine.run, environ=environ)
    assert found.current
    assert found.warnings == ()


def test_status_notices_that_the_service_would_not_find_the_client_any_more(machine: Machine) -> None:
    install(machine.plan(), run=machine.run, environ=machine.environ)
    (machine.root / "tools/claude").unlink()
    client = program(machine.root / "moved/claude")
    environ = machine.environ | {"PATH": f"{client.parent}:{machine.environ['PATH']}"}
    found = status(machine.plan(environ=environ), run=machine.run, environ=environ)
    if shutil.which("claude", path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin") is None:
        assert any("would not find" in warning for warning in found.warnings)


def test_lingering_off_is_a_warning_with_its_remedy(machine: Machine) -> None:
    machine.linger = "no"
    outcome = install(machine.plan(), run=machine.run, environ=machine.environ)
    assert any("enable-linger" in warning for warning in outcome.warnings)
    found = status(machine.plan(), run=machine.run, environ=machine.environ)
    assert found.state.lingering is False
    assert any("enable-linger" in warning for warning in found.warnings)


def test_where_no_manager_answers_the_state_is_unknown_and_not_stopped(machine: Machine) -> None:
    install(machine.plan(), run=machine.run, environ=machine.environ)
    machine.answers = False
    found = status(machine.plan(), run=machine.run, environ=machine.environ)
    assert (found.state.active, found.state.enabled, found.state.lingering) == (None, None, None)
    assert any("not known" in warning for warning in found.warnings)


# launchd


def test_a_launchd_agent_is_bootstrapped_replaced_and_removed(machine: Machine) -> None:
    machine.platform = "darwin"
    domain, target = f"gui/{os.getuid()}", f"gui/{os.getuid()}/dev.tasksd.agent"
    made = machine.plan()
    assert made.file == machine.root / "home/Library/LaunchAgents/dev.tasksd.agent.plist"
    assert install(made, run=machine.run, environ=machine.environ).change is Change.INSTALLED
    assert machine.orders == [f"launchctl enable {target}", f"launchctl bootstrap {domain} {made.file}"]
    assert MARKER in made.file.read_text().splitlines()[1]
    assert stat.S_IMODE((machine.root / "home/Library/Logs/tasksd").stat().st_mode) == 0o700

    machine.asked = []
    assert install(machine.plan(), run=machine.run, environ=machine.environ).change is Change.UNCHANGED
    assert machine.orders == []
    assert status(made, run=machine.run, environ=machine.environ).warnings == ()

    newer = machine.plan(settings=load(data_dir=machine.root / "elsewhere", environ=machine.environ))
    assert install(newer, run=machine.run, environ=machine.environ).change is Change.UPDATED
    assert machine.orders[0] == f"launchctl bootout {target}"
    assert machine.orders[-1] == f"launchctl bootstrap {domain} {made.file}"

    assert uninstall(run=machine.run, environ=machine.environ, platform="darwin").change is Change.REMOVED
    assert not made.file.exists()
    assert not machine.active


def test_a_bootstrap_waits_until_the_former_agent_is_gone(machine: Machine) -> None:
    machine.platform = "darwin"
    install(machine.plan(), run=machine.run, environ=machine.environ)
    questions = 0

    def slow(argv: tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[str]:
        nonlocal questions
        if argv[:2] == ("launchctl", "print") and argv[2].endswith("dev.tasksd.agent") and machine.orders[-1:] == [out]:
            questions += 1
            if questions < 3:
                return subprocess.CompletedProcess(argv, 0, "state = exiting", "")
        return machine.run(argv, **options)

    out = f"launchctl bootout gui/{os.getuid()}/dev.tasksd.agent"
    made = machine.plan(settings=load(data_dir=machine.root / "elsewhere", environ=machine.environ))
    install(made, run=slow, environ=machine.environ)
    assert questions == 3
    assert "bootstrap" in machine.orders[-1]
