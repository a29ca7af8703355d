"""Fixtures of the end-to-end tests. A rig for several tests: `rig_in` in a fixture of wider scope."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig.client import Client, find_client
from .rig.daemon import Daemon
from .rig.messages_api import MessagesApi
from .rig.rig import Rig, rig_in


@pytest.fixture(scope="session")
def client_binary() -> Path:
    """The real client; without one the test is skipped."""
    found = find_client()
    if found is None:
        pytest.skip("no Claude Code client: pip install 'tasksd[client]', or put claude on PATH")
    return found


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory, client_binary: Path) -> Iterator[Rig]:
    """API and client ready, daemon not started."""
    # Not tmp_path: the name of a test makes socket paths too long.
    with rig_in(tmp_path_factory.mktemp("e"), client_binary) as rig:
        yield rig


@pytest.fixture
def messages_api(rig: Rig) -> MessagesApi:
    return rig.api


@pytest.fixture
def client(rig: Rig) -> Client:
    return rig.client


@pytest.fixture
def daemon(rig: Rig) -> Daemon:
    """Running and answering."""
    rig.daemon.start()
    return rig.daemon
