"""API, client and daemon together, in one throw-away directory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .client import Client, Process, Run
from .daemon import Daemon
from .messages_api import MessagesApi
from .scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Rig:
    """Nothing runs yet but the API. `root` holds client/ and data/."""

    root: Path
    api: MessagesApi
    client: Client
    #: not started
    daemon: Daemon

    def play(self, scenario: Scenario, *, args: Sequence[str] = (), timeout: float = 60.0) -> Run:
        """Run a scenario to its end; `args` come after its own."""
        return self.begin(scenario, args=args).finish(timeout=timeout)

    def begin(self, scenario: Scenario, *, args: Sequence[str] = (), conversation: bool = False) -> Process:
        """Start a scenario and return at once."""
        self.teach(scenario)
        return self.client.start(
            scenario.prompt,
            args=[*scenario.args, *args],
            env=scenario.env,
            settings=scenario.settings or None,
            conversation=conversation,
        )

    def teach(self, scenario: Scenario) -> None:
        """Let the API know the scripts of a scenario whose prompt is sent later."""
        self.api.scripts.update(scenario.scripts)


@contextmanager
def rig_in(root: Path, client_binary: Path) -> Iterator[Rig]:
    """A rig in `root`, which must be short enough for a socket path. At the end nothing of it runs any more.

    AssertionError at the end when the daemon does not stop as a healthy one does.
    """
    data_dir = root / "data"
    with MessagesApi({}) as api:
        client = Client(client_binary, api.url, root / "client", env={"TASKSD_DATA_DIR": str(data_dir)})
        daemon = Daemon(data_dir, home=client.home)
        try:
            try:
                yield Rig(root, api, client, daemon)
            finally:
                client.close()
            daemon.stop()
        finally:
            daemon.kill()
