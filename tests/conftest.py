"""Fixtures for more than one kind of test."""

import os
import subprocess
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tasks import assets

# How long an example takes says something about the machine, and about who else works on it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


class Hook:
    """`hooks/record` as the client starts it, with a data directory of its own."""

    script = assets.path("hooks/record")

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.spool = data_dir / "spool"
        self.spool.mkdir(parents=True)

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "TASKSD_DATA_DIR": str(self.data_dir), **variables}

    def run(
        self,
        payload: bytes,
        *arguments: str,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        script: Path | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end with `payload` on stdin; `before` is a shell or tracer to start it with."""
        return subprocess.run(
            [*before, str(script or self.script), *arguments],
            input=payload,
            capture_output=True,
            env=self.environment() if env is None else env,
            timeout=60,
            check=False,
        )

    def files(self) -> list[Path]:
        """The events in the spool, oldest first."""
        return sorted(self.spool.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)

    def dropped(self) -> int:
        """How many drops were counted."""
        counter = self.spool / ".dropped"
        return counter.stat().st_size if counter.exists() else 0


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path / "data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Captured text of any kind can be sent between processes that share the tests (pytest-xdist)."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
