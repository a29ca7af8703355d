"""Prepares the ground for a demo: an environment with no way out of its folder, and the daemon's configuration."""

import contextlib
import json
import os
import site
from collections.abc import Iterator, Mapping

from tasks import config
from tasks.config import Settings
from tasks.demo.place import MARKER, Place, player
from tasks.install.hooks import install
from tasks.process import scrubbed

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


def environment(place: Place, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the demo's processes get of ours: no way out of the folder, and the marker to find them by."""
    kept = {name: value for name, value in scrubbed(environ).items() if not name.startswith(_FOREIGN)}
    if site.ENABLE_USER_SITE:
        kept["PYTHONUSERBASE"] = site.getuserbase()  # it would be looked for in the other home
    return kept | {
        "HOME": str(place.home),
        "TASKSD_DATA_DIR": str(place.data_dir),
        "TASKSD_CONFIG": str(place.config_file),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(place.home / ".gitconfig"),
        MARKER: str(place.folder),
    }


@contextlib.contextmanager
def entered(place: Place) -> Iterator[None]:
    """This process has that environment meanwhile, for what it starts itself. Not for threads."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment(place, before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def prepare(place: Place, *, port: int) -> Settings:
    """Make the folders, the configuration, and a client's settings with our hooks. Returns the settings of the demo's
    daemon. Raises OSError, InstallError.
    """
    for folder in (place.folder, place.home, place.data_dir, place.spool):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.projects.mkdir()
    place.transcripts.mkdir(mode=0o700, parents=True)
    (place.home / ".gitconfig").write_text(_GIT_CONFIG, encoding="utf-8")
    place.config_file.write_text(_configuration(port, place.pace), encoding="utf-8")
    settings = config.load(environ=environment(place))
    install(place.home / ".claude/settings.json", settings.hooks_dir)
    return settings


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
