"""The folder of a demo, which holds everything that it touches: home, projects, data of the daemon. Quick to import."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tasks.demo.projects import Project

#: In the environment of every process of a demo: its folder.
MARKER = "TASKSD_DEMO"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the parts of a demo are. `folder` is absolute."""

    folder: Path
    #: how many times as long as usual everything takes that is played
    pace: float = 1.0

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def projects(self) -> Path:
        return self.home / "work"

    @property
    def transcripts(self) -> Path:
        return self.home / ".claude/projects"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def spool(self) -> Path:
        return self.data_dir / "spool"

    @property
    def worktrees(self) -> Path:
        return self.data_dir / "worktrees"

    @property
    def runs(self) -> Path:
        return self.data_dir / "runs"

    @property
    def config_file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    def workspace(self, project: Project) -> Path:
        return self.projects / project.name


def player(part: str, session: str, model: str, pace: float) -> tuple[str, ...]:
    """The command that plays a client: see `tasks.demo.player`."""
    return program("player", part, session, model, str(pace))


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs one of this package's programs, wherever it is installed."""
    return (sys.executable, "-P", "-m", f"tasks.demo.{name}", *arguments)
