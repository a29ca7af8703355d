"""What accounts bring along is in memory only where it is needed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import tasks.daemon.run", {"jwt", "cryptography", "jinja2", "zxcvbn"}),
        ("from tasks.users import passwords; passwords.check_new('correct horse battery', 'ada')", {"zxcvbn"}),
    ],
    ids=["a daemon without a page", "choosing a password"],
)
def test_nobody_pays_for_what_others_use(code: str, unwanted: set[str]) -> None:
    asked = f"{code}\nimport sys\nprint(*sorted({unwanted!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == []
