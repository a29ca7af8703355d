"""The folder of a demo, which holds everything that it touches: home, projects, data of the daemon."""

import contextlib
import json
import os
import site
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks import config
from tasks.config import Settings
from tasks.demo.projects import Project
from tasks.process import scrubbed

#: In the environment of every process of a demo: its folder.
MARKER = "TASKSD_DEMO"
#: Agents at work at once.
AGENTS = 3
#: Bytes that the database may take before its oldest rows go: a demo may be forgotten over night.
DATABASE_BYTES = 80 << 20

#: Of the person who tries it out; they would lead out of the folder, or to an account.
_FOREIGN = ("ANTHROPIC_", "CLAUDE_", "GIT_", "TASKSD_", "TASKS_", "XDG_")

_GIT_CONFIG = """[user]
	name = Claude
	email = claude@example.org
[init]
	defaultBranch = main
[commit]
	gpgsign = false
[gc]
	auto = 0
[maintenance]
	auto = false
"""


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

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """What the demo's processes get of ours: no way out of the folder, and the marker to find them by."""
        kept = {name: value for name, value in scrubbed(environ).items() if not name.startswith(_FOREIGN)}
        if site.ENABLE_USER_SITE:
            kept["PYTHONUSERBASE"] = site.getuserbase()  # it would be looked for in the other home
        return kept | {
            "HOME": str(self.home),
            "TASKSD_DATA_DIR": str(self.data_dir),
            "TASKSD_CONFIG": str(self.config_file),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            MARKER: str(self.folder),
        }

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This process has that environment meanwhile, for what it starts itself. Not for threads."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment(before))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def prepare(self, *, port: int) -> Settings:
        """Make the folders and the configuration. Returns the settings of the demo's daemon. Raises OSError."""
        for folder in (self.folder, self.home, self.data_dir, self.spool):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.projects.mkdir()
        self.transcripts.mkdir(mode=0o700, parents=True)
        (self.home / ".gitconfig").write_text(_GIT_CONFIG, encoding="utf-8")
        self.config_file.write_text(_configuration(port, self.pace), encoding="utf-8")
        return config.load(environ=self.environment())


def player(part: str, session: str, model: str, pace: float) -> tuple[str, ...]:
    """The command that plays a client: see `tasks.demo.player`."""
    return program("player", part, session, model, str(pace))


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs one of this package's programs, wherever it is installed."""
    return (sys.executable, "-P", "-m", f"tasks.demo.{name}", *arguments)


def _configuration(port: int, pace: float) -> str:
    command = ", ".join(json.dumps(word, ensure_ascii=False) for word in player("task", "{session}", "{model}", pace))
    return f"""# Of `tasksd demo`: a daemon of its own, which knows nothing of yours.
[web]
enabled = true
port = {port}
password_cost = 8       # the password is random

[pool]
max_agents = {AGENTS}
free_disk = {64 << 20}

[agent]
command = [{command}]

[transcripts]
grace = 20

[git]
retry = 5

[database]
backups = 1

[retention]
max_bytes = {DATABASE_BYTES}
"""
