"""Money under faults: transcripts that change under their reader, odd names, processes killed at any moment."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from .rig.daemon import Daemon
from .rig.events import Dropper
from .rig.waiting import until

BEGIN = time.time() - 3 * 86_400
#: Dollars per million tokens: input, output, cache reads, cache writes for 5 minutes and for an hour.
RATES = {"model-a": (3.0, 15.0, 0.3, 3.75, 6.0), "model-b": (0.1, 0.5, 0.01, 0.125, 0.2)}
NAMES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


def line(kind: str, session: str, at: float, **fields: Any) -> str:
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"type": kind, "sessionId": session, "cwd": "/p", "timestamp": stamp} | fields) + "\n"


def answer(session: str, number: int, *, output: int = 10, model: str = "model-a", read: int = 0) -> str:
    """An answer of the API with one call, and the call's result."""
    name = f"{session}-{number}"
    usage = {
        "input_tokens": 1, "output_tokens": output, "cache_read_input_tokens": read, "cache_creation_input_tokens": 9,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7},
    }  # fmt: skip
    call = {"type": "tool_use", "id": f"toolu_{name}", "name": "Bash", "input": {"command": "x" * (output % 997)}}
    told = {"type": "tool_result", "tool_use_id": f"toolu_{name}", "content": "ok"}
    message = {"id": f"msg_{name}", "model": model, "role": "assistant"}
    placeholder = message | {"usage": usage | {"output_tokens": 1}, "content": []}
    return (
        line("assistant", session, BEGIN + number, message=placeholder)
        + line("assistant", session, BEGIN + number, message=message | {"usage": usage, "content": [call]})
        + line("user", session, BEGIN + number + 0.5, message={"role": "user", "content": [told]})
    )


class Place:
    """A daemon, and the client's folder of projects."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        self.daemon = daemon
        self.dropper = Dropper(daemon.spool)
        self.folder = folder / ".claude/projects/-p"
        self.folder.mkdir(parents=True)
        config = folder / ".config/tasksd/config.toml"
        config.parent.mkdir(parents=True)
        prices = [
            f"[prices.models.{model}]\n"
            + "".join(f"{name} = {rate}\n" for name, rate in zip(NAMES, rates, strict=True))
            for model, rates in RATES.items()
        ]
        config.write_text("[transcripts]\ngrace = 1\n" + "".join(prices))

    def command(self, *words: str) -> "subprocess.Popen[str]":
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder.parents[2]), "LANG": "C.UTF-8",
            "TASKSD_DATA_DIR": str(self.daemon.data_dir),
        }  # fmt: skip
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("tasksd")), *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def backfill(self) -> dict[str, Any]:
        process = self.command("backfill", "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def happened(self, path: Path) -> None:
        """A hook names the transcript."""
        fields = {"session_id": path.stem, "transcript_path": str(path), "cwd": "/p", "prompt": "x"}
        self.dropper.raw(json.dumps(fields | {"hook_event_name": "UserPromptSubmit"}).encode())

    def output(self) -> tuple[int, int]:
        """Messages and their tokens of output: by the rows, and the same by the roll-up."""
        (rows,) = self.daemon.rows("SELECT count(*), coalesce(sum(output_tokens), 0) FROM messages")
        sums = "coalesce(sum(messages), 0), coalesce(sum(output_tokens), 0)"
        for grain in (900_000, 86_400_000):
            where = f"dimension = 'all' AND grain = {grain}"
            assert self.daemon.rows(f"SELECT {sums} FROM cost_rollup WHERE {where}") == [rows]
        return int(rows[0]), int(rows[1])


@pytest.fixture
def place(folder: Path, new_daemon: Callable[..., Daemon]) -> Place:
    return Place(folder, new_daemon())


def test_a_transcript_that_changes_under_its_reader_loses_and_doubles_nothing(place: Place) -> None:
    place.daemon.start()
    path = place.folder / "s.jsonl"

    def reads(count: int, what: str) -> None:
        place.happened(path)
        # Both numbers in one statement: the daemon writes meanwhile.
        until(lambda: place.daemon.rows("SELECT count(*) FROM messages") == [(count,)], what)
        assert place.output() == (count, 10 * count)

    path.write_text("".join(answer("s", number) for number in range(10)))
    reads(10, "the file read")
    other = path.with_name("other")
    other.write_text("".join(answer("s", number) for number in range(12)))
    other.replace(path)
    reads(12, "the file that took its place read")
    path.write_text("".join(answer("s", number) for number in range(5)))
    with path.open("a") as file:
        file.write("".join(answer("s", number) for number in range(20, 26)))
    reads(18, "what came after it was cut short read")
    path.unlink()
    path.write_text("".join(answer("s", number) for number in range(30, 33)))
    reads(21, "a new file of the same name read")
    half = answer("s", 40)
    with path.open("a") as file:
        file.write(half[:200])
        file.flush()
        place.happened(path)
        file.write(half[200:])
    reads(22, "both halves of a line read")
    place.daemon.stop()
    place.daemon.assert_calm()


def test_odd_names_hinder_nothing(place: Place, new_daemon: Callable[..., Daemon]) -> None:
    projects = place.folder.parent
    place.folder.joinpath("s.jsonl").write_text(answer("s", 1))
    strange = os.fsencode(projects) + b"/-\xff"
    os.mkdir(strange)
    for name, session in ((b"t", "t"), (b"\xfe", "u")):
        with open(strange + b"/" + name + b".jsonl", "w") as file:
            file.write(answer(session, 1))
    (projects / "-again").symlink_to(place.folder)
    (projects / "-circle").symlink_to(projects)
    (projects / "file").write_text("")
    (place.folder / "folder.jsonl").mkdir()
    (place.folder / "nowhere.jsonl").symlink_to("/nowhere")
    (place.folder / "endless.jsonl").symlink_to("/dev/zero")
    os.mkfifo(place.folder / "pipe.jsonl")
    for messages in (3, 0):
        found = place.backfill()
        assert (found["messages"], found["skipped"]) == (messages, [])
    assert place.output() == (3, 30)
    place.daemon.start()
    place.happened(place.folder / "s.jsonl")
    until(lambda: place.daemon.rows("SELECT 1 FROM events"), "the event")
    place.daemon.stop()
    place.daemon.assert_calm()
    assert place.output() == (3, 30)


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_daemon_and_two_backfills_killed_at_any_moment_count_everything_once(place: Place, rounds: int) -> None:
    rng = random.Random(rounds)
    paths = [place.folder / f"session{number}.jsonl" for number in range(30)]
    told: dict[str, tuple[int, str, int]] = {}

    def grow(path: Path, count: int) -> None:
        with path.open("a") as file:
            for _ in range(count):
                number, output, read = len(told), rng.randrange(2, 3000), rng.randrange(90_000)
                model = rng.choice(list(RATES))
                told[f"msg_{path.stem}-{number}"] = output, model, read
                file.write(answer(path.stem, number, output=output, model=model, read=read))

    for path in paths:
        grow(path, rng.randrange(20, 200))
    place.daemon.start()
    for _ in range(rounds):
        fills = [place.command("backfill") for _ in range(2)]
        for _ in range(4):
            path = rng.choice(paths)
            grow(path, 3)
            place.happened(path)
            time.sleep(rng.uniform(0.02, 0.3))
        for fill in fills:
            if rng.random() < 0.7:
                fill.kill()
            _, errors = fill.communicate(timeout=60)
            assert fill.returncode in (0, -9), errors
        if rng.random() < 0.6:
            place.daemon.kill()
            place.daemon.start()
    place.backfill()
    place.daemon.drained()
    until(lambda: not place.daemon.rows("SELECT 1 FROM expected_calls"), "all calls settled")
    place.daemon.stop()
    place.daemon.assert_calm()
    assert place.output() == (len(told), sum(output for output, _, _ in told.values()))
    rows = place.daemon.rows("SELECT message_id, output_tokens, model, cache_read_tokens FROM messages")
    assert {row[0]: row[1:] for row in rows} == told
    cost = sum(
        sum(map(float.__mul__, RATES[model], map(float, (1, output, read, 2, 7))))
        for output, model, read in told.values()
    )
    (stored,) = place.daemon.rows("SELECT sum(cost) FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000")
    assert stored[0] / 1e6 == pytest.approx(cost, abs=1e-3)
    calls = place.daemon.rows("SELECT count(*), count(DISTINCT tool_use_id) FROM tool_usage")
    assert calls == [(len(told), len(told))]
    counts = place.daemon.rows("SELECT sum(expected), sum(seen), sum(added) FROM reconciliations")
    assert counts == [(len(told), 0, len(told))]
    assert place.daemon.rows("PRAGMA integrity_check") == [("ok",)]
