import sys
from pathlib import Path

import pytest
from tasks.cli import machine


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at Linux's own file systems")
def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    assert machine.file_system(Path("/proc/self")) == "proc"
    (tmp_path / "link").symlink_to("/proc")
    assert machine.file_system(tmp_path / "link" / "self") == "proc"
    assert machine.file_system(tmp_path) not in (None, "proc")


def test_a_program_that_is_missing_or_silent_has_no_version(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    assert machine.version(str(silent)) is None
    assert machine.version(str(tmp_path / "missing")) is None


def test_the_version_is_the_first_line_that_a_program_prints(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "program 1.2.3"; echo more\n')
    program.chmod(0o755)
    assert machine.version(str(program)) == "program 1.2.3"
