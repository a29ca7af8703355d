"""The registrations that an agent of ours lacks, to be given to it by `--settings`: no file is touched for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.install import hooks
from tasks.install.hooks import Scope
from tasks.install.registration import registrations


def missing_hooks(workdir: Path, hooks_dir: Path, environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Event → groups of handlers, as in `hooks` of a settings file: with them every event of an agent that works in `workdir`
    is recorded, and none twice.

    None: the settings of the user and of the project register the recorder already. `environ` is the agent's.
    """
    files = [hooks.settings_path(scope, directory=workdir, environ=environ) for scope in Scope]
    missing = set(hooks.status(files, hooks_dir).missing)
    wanted = registrations(hooks_dir / "record")
    if not missing:
        return None
    return {event: [{"hooks": [handler]}] for event, handler in wanted.items() if event in missing}
