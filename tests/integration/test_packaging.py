"""What is shipped is what git tracks: nothing forgotten, nothing leaked."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = {
    "daemon/tasks/": "tasks/",
    "hooks/": "tasks/_assets/hooks/",
    "systemd/": "tasks/_assets/systemd/",
    "launchd/": "tasks/_assets/launchd/",
    "schema.sql": "tasks/_assets/schema.sql",
}
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "schema.sql", "CHANGELOG.md", "LICENSE"),
    *("daemon", "hooks", "systemd", "launchd", "tests", "docs"),
}


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(target.glob("*.whl"))


def test_the_wheel_holds_what_git_tracks_and_nothing_else(wheel: Path) -> None:
    wanted = {
        new + path.removeprefix(old) for path in tracked() for old, new in SHIPPED.items() if path.startswith(old)
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_the_recorder_is_executable_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        mode = archive.getinfo("tasks/_assets/hooks/record").external_attr >> 16
    assert mode & 0o111 == 0o111


def test_an_installed_wheel_finds_its_assets(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "from tasks import assets; print(assets.path('schema.sql').read_text()[:20], assets.ROOT)"
    printed = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout
    assert printed.startswith("-- The whole store") and str(tmp_path) in printed


def test_the_top_level_holds_only_what_belongs_there() -> None:
    assert {path.split("/")[0] for path in tracked() if not path.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_machines_own_path_or_a_registry() -> None:
    own = re.compile(r"(?<![\w.])/(?:work|farm|root)/\w|pypi\.or[g]|registry\.npmjs|files\.pythonhosted")
    offenders = []
    for path in tracked():
        file = ROOT / path
        if path.startswith("tests/data/") or not file.is_file():
            continue
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
            if own.search(line):
                offenders.append(f"{path}:{number}: {line.strip()[:80]}")
    assert offenders == []


def test_plugin_and_package_have_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'"version": "{version}"' in (ROOT / ".claude-plugin/plugin.json").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_importing_the_package_costs_nothing() -> None:
    program = "import sys; before = set(sys.modules); import tasks, tasks.cli; print(len(set(sys.modules) - before))"
    printed = subprocess.check_output([sys.executable, "-c", program], env=dict(os.environ), text=True)
    assert int(printed) < 12
