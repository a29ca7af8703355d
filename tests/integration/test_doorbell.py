"""The doorbell rings for what happens in the spool, and survives what deafens watchers."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tasks.config import SpoolSettings
from tasks.spool import Doorbell, Spool

DEADLINE = 10.0  # seconds


class Bell:
    """Counts rings, and waits for one."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.count = 0

    def ring(self) -> None:
        self.count += 1
        self._rung.set()

    async def wait(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._rung.wait()
        self._rung.clear()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", SpoolSettings())
    made.prepare()
    return made


@asynccontextmanager
async def hung(spool: Spool) -> AsyncIterator[tuple[Doorbell, Bell]]:
    """A doorbell that has been proven to ring, and is silent now."""
    bell = Bell()
    doorbell = Doorbell(spool, bell.ring)
    running = asyncio.create_task(doorbell.run())
    try:
        await proven(spool, doorbell, bell, "begin")
        yield doorbell, bell
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def proven(spool: Spool, doorbell: Doorbell, bell: Bell, label: str) -> None:
    """Returns once a new file rings while the watcher says that it watches."""
    async with asyncio.timeout(DEADLINE):
        for number in range(1000):
            while bell.count:
                bell.count = 0
                await asyncio.sleep(0.12)
            if doorbell.state == "watching" and spool.identity():
                (spool.path / f"{label}-{number}").touch()
                await asyncio.sleep(0.3)
                if bell.count:
                    return
            await asyncio.sleep(0.02)


async def test_it_rings_soon_after_a_new_file(spool: Spool) -> None:
    async with hung(spool) as (doorbell, bell):
        for number in range(3):
            bell.count = 0
            bell._rung.clear()
            (spool.path / f"-.1.1.{number}.json").write_bytes(b"{}")
            await bell.wait()
        assert doorbell.state == "watching"


async def test_it_says_that_it_watches_even_when_nothing_happens(spool: Spool, eventually_async: Any) -> None:
    doorbell = Doorbell(spool, lambda: None)
    running = asyncio.create_task(doorbell.run())

    async def watching() -> bool:
        return doorbell.state == "watching"

    await eventually_async(watching, seconds=5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_rings_for_the_new_directory_after_the_old_one_was_deleted(spool: Spool) -> None:
    async with hung(spool) as (doorbell, bell):
        shutil.rmtree(spool.path)
        await bell.wait()
        spool.prepare()
        await proven(spool, doorbell, bell, "anew")


async def test_it_notices_a_new_directory_that_got_the_inode_of_the_old_one(spool: Spool) -> None:
    async with hung(spool) as (doorbell, bell):
        before = spool.identity()
        for _ in range(20):
            shutil.rmtree(spool.path)
            spool.prepare()
            if spool.identity() == before:  # where inodes are not given out again at once there is nothing to confuse
                break
        await proven(spool, doorbell, bell, "same")


async def test_it_rings_for_the_new_directory_after_the_old_one_was_replaced(spool: Spool) -> None:
    async with hung(spool) as (doorbell, bell):
        spool.path.rename(spool.path.with_name("old"))
        spool.prepare()
        await proven(spool, doorbell, bell, "replaced")


async def test_it_waits_for_a_directory_that_is_not_there_yet(spool: Spool, eventually_async: Any) -> None:
    spool.path.rmdir()
    bell = Bell()
    doorbell = Doorbell(spool, bell.ring)
    running = asyncio.create_task(doorbell.run())

    async def polling() -> bool:
        return doorbell.state.startswith("polling: ")

    await eventually_async(polling)
    spool.prepare()
    await proven(spool, doorbell, bell, "late")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_survives_a_name_that_is_not_utf_8(spool: Spool) -> None:
    async with hung(spool) as (doorbell, bell):
        odd = os.path.join(os.fsencode(spool.path), b"-.1.1.\xff.json")
        with open(odd, "wb"):
            pass
        await bell.wait()
        await proven(spool, doorbell, bell, "beside")
        os.unlink(odd)
        await proven(spool, doorbell, bell, "after")


LIMITED = """
import asyncio
from pathlib import Path
from tasks.config import SpoolSettings
from tasks.spool import Doorbell, Spool
limit = Path("/proc/sys/user") / args[1]
try: before = limit.read_text(); limit.write_text("0")
except OSError as error: say("SKIP cannot limit watches:", error); sys.exit()
async def main():
    spool = Spool(Path(args[0]), SpoolSettings()); spool.prepare()
    rings = []
    doorbell = Doorbell(spool, lambda: rings.append(1))
    running = asyncio.create_task(doorbell.run())
    while not doorbell.state.startswith("polling: ") or not rings: await asyncio.sleep(0.01)
    say(doorbell.state)
    limit.write_text(before)
    while doorbell.state != "watching": await asyncio.sleep(0.01)
    say(doorbell.state)
    running.cancel()
asyncio.run(asyncio.wait_for(main(), 20))
"""


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_without_watches_it_polls_says_so_and_recovers(programs: Any, tmp_path: Path, limit: str) -> None:
    ended = programs.run(LIMITED, tmp_path / "spool", limit, prefix=programs.unshared("-U", "--map-root-user"))
    assert ended.returncode == 0, ended.stderr
    polling, watching = ended.stdout.splitlines()
    assert polling.startswith("polling: ")
    assert watching == "watching"
