"""What one hook costs: `hooks/record` against starting `/bin/true` in the same way, in turns so that noise cancels.

    python tests/benchmarks/bench_hook.py [--runs N]

Started in two ways. `pipes` is what the client does: an event loop writes the payload into a pipe and waits for the end
of stdout and stderr and for the exit. `spawn` is the bare cost in the kernel: posix_spawn, stdin from a file, wait.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tasks import assets

SIZES = {"2 KB": 2_048, "200 KB": 200_000, "4 MB": 4 << 20}
LIMIT = 2.5  # times the floor, at 2 KB and 200 KB
FLOOR = "/bin/true"


async def _piped(program: str, payload: bytes, environ: dict[str, str]) -> float:
    started = time.perf_counter()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, stdin=pipe, stdout=pipe, stderr=pipe, env=environ)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.communicate(payload)
    return time.perf_counter() - started


def _spawned(program: str, payload: Path, environ: dict[str, str]) -> float:
    with payload.open("rb") as file:
        started = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 0)]
        pid = os.posix_spawn(program, [program], environ, file_actions=actions)
        os.waitpid(pid, 0)
        return time.perf_counter() - started


def _compare(measure: Callable[[str], float], spool: Path, runs: int) -> tuple[list[float], list[float]]:
    """Times of the floor and of the hook, sorted, in seconds."""
    programs = [FLOOR, str(assets.path("hooks/record"))]
    times: dict[str, list[float]] = {program: [] for program in programs}
    for run in range(runs + 5):
        random.shuffle(programs)
        for program in programs:
            took = measure(program)
            if run >= 5:  # the first runs fill the caches
                times[program].append(took)
        for file in spool.iterdir():
            file.unlink()
    return sorted(times[FLOOR]), sorted(times[str(assets.path("hooks/record"))])


def _line(way: str, size: str, floor: list[float], hook: list[float]) -> str:
    def cell(times: list[float]) -> str:
        return f"{statistics.median(times) * 1e3:6.2f} {times[int(len(times) * 0.99)] * 1e3:7.2f}"

    ratio = statistics.median(hook) / statistics.median(floor)
    return f"{way:6} {size:>7}   {cell(floor)}   {cell(hook)}   {ratio:5.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="of each program for each line (default: 200)")
    runs: int = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        spool = Path(folder) / "spool"
        spool.mkdir()
        environ = {**os.environ, "TASKSD_DATA_DIR": folder}
        print(f"ms, median and p99      {FLOOR}      hooks/record     ratio (limit {LIMIT} at 2 KB and 200 KB, pipes)")
        for size, count in SIZES.items():
            content = b'{"x":"' + b"y" * (count - 9) + b'"}\n'
            payload = Path(folder) / "payload"
            payload.write_bytes(content)
            few = runs if count < 1 << 20 else max(runs // 5, 1)

            def piped(program: str, content: bytes = content) -> float:
                return loop.run(_piped(program, content, environ))

            def spawned(program: str, payload: Path = payload) -> float:
                return _spawned(program, payload, environ)

            for way, measure in (("pipes", piped), ("spawn", spawned)):
                floor, hook = _compare(measure, spool, few)
                print(_line(way, size, floor, hook))


if __name__ == "__main__":
    main()
