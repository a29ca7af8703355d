"""/v1/doctor on a real socket: the command really runs, in a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tasks.api import doctor
from tasks.process import identify

from .conftest import EventuallyAsync
from .desk import Desk, desk_in
from .service import Service


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from desk_in(tmp_path)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A program in place of the interpreter; each of its runs leaves a line in the file."""
    log = tmp_path / "runs"
    log.touch()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho $$ >>"{log}"\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return log


def test_a_running_daemon_tells_what_the_command_finds(desk: Desk) -> None:
    status, _, found = desk.ask("GET", "/v1/doctor")
    assert status == 200
    told = {one["check"]: one for one in found["findings"]}
    assert told["daemon"]["verdict"] == "ok"
    assert all(one["remedy"] for one in found["findings"] if one["verdict"] != "ok")
    assert set(told["hooks"]) == {"check", "verdict", "message", "remedy"}
    # Problems are findings too: without hooks the command ends with 1.
    assert told["hooks"]["verdict"] == "problem"
    assert desk.ask("GET", "/v1/doctor")[2] == found


async def test_whoever_asks_during_a_look_is_given_what_it_finds(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually_async: EventuallyAsync
) -> None:
    go = tmp_path / "go"
    log = stand_in(tmp_path, monkeypatch, f'until [ -e "{go}" ]; do sleep 0.05; done; echo "[]"')
    made = doctor.Doctor(tmp_path)
    async with asyncio.TaskGroup() as group:
        # All three have begun to wait by the time that the command runs.
        asked = [group.create_task(made.diagnosis(fresh=fresh), name="ask") for fresh in (False, True, False)]

        async def begun() -> bool:
            return bool(log.read_text())

        await eventually_async(begun)
        go.touch()
    assert asked[0].result() is asked[1].result() is asked[2].result()
    assert len(log.read_text().split()) == 1


async def test_an_answer_is_given_again_for_a_while_unless_a_fresh_one_is_wanted(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = stand_in(tmp_path, monkeypatch, 'echo "[]"')
    first = (await service.ask("/v1/doctor")).json()
    assert first["findings"] == []
    assert (await service.ask("/v1/doctor")).json() == first
    assert (await service.ask("/v1/doctor?fresh=true")).json()["checked_at"] >= first["checked_at"]
    assert len(log.read_text().split()) == 2
    monkeypatch.setattr(doctor, "LASTS", 0.0)
    await service.ask("/v1/doctor")
    assert len(log.read_text().split()) == 3


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "without an answer"),
        ("echo '<html>'", "without an answer"),
        ("echo '[{}]'", "without an answer"),
        ("kill -9 $$", "without an answer"),
        ("exec sleep 600", "takes longer"),
    ],
)
async def test_a_look_that_fails_is_answered_with_503_and_tried_again(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(doctor, "TIMEOUT", 0.5)
    log = stand_in(tmp_path, monkeypatch, script)
    answer = await service.ask("/v1/doctor")
    assert (answer.status, told in answer.json()["detail"]) == (503, True)
    assert [pid for pid in log.read_text().split() if identify(int(pid))] == []
    stand_in(tmp_path, monkeypatch, 'echo "[]"')
    assert (await service.ask("/v1/doctor")).status == 200


async def test_a_command_that_is_not_there_is_answered_with_503(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    answer = await service.ask("/v1/doctor")
    assert answer.status == 503
    assert "does not start" in answer.json()["detail"]


async def test_a_look_that_is_called_off_leaves_no_process(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually_async: EventuallyAsync
) -> None:
    log = stand_in(tmp_path, monkeypatch, 'sleep 600 & echo $! >>"$0.child"; wait')
    child = tmp_path / "program.child"
    looking = asyncio.create_task(doctor.Doctor(tmp_path).diagnosis(fresh=False), name="look")

    async def begun() -> bool:
        return child.exists() and bool(child.read_text().strip())

    await eventually_async(begun)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    pids = [int(one.read_text()) for one in (log, child)]

    async def gone() -> bool:
        return all(identify(pid) is None for pid in pids)

    await eventually_async(gone)
