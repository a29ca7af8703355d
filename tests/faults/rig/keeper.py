"""Starts runs of agents as the daemon does, all at once, and then waits to be killed: run as a program.

Standard input: a JSON list of [directory of the run, marker, argv]. Says "started" when all are.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from tasks.process import RUN_VARIABLE, RunFiles, Watch, spawn


async def keep(directory: str, marker: str, argv: list[str]) -> Watch:
    files = RunFiles(Path(directory))
    environ = {"PATH": os.environ["PATH"], RUN_VARIABLE: marker}
    shim = await asyncio.to_thread(spawn, files, argv, cwd=Path("/"), environ=environ, stdin=None, output_bytes=1 << 20)
    return Watch(shim, files)


async def main() -> None:
    print("ready", flush=True)
    runs = json.loads(sys.stdin.readline())
    watches = await asyncio.gather(*(keep(*run) for run in runs))
    print("started", flush=True)
    await asyncio.gather(*(watch.wait() for watch in watches))
    print("ended", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
