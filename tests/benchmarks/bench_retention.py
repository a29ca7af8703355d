"""How fast pruning is against ingesting: the same events, stored through the spool, then pruned from bodies to the last row.

Pruning has its pauses and gives the space back; both are in its time. Ingestion has no pauses here.
Run: python tests/benchmarks/bench_retention.py [events]
"""

import asyncio
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.config import load
from tasks.database import Database
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.retention import Pruned, Pruner, state
from tasks.rollups import DAY
from tasks.spool import Quarantine, Spool
from tasks.words import PrivacyLevel

ROUNDS = 3


def drain() -> Any:
    """The events of the benchmark beside this one."""
    spec = importlib.util.spec_from_file_location("bench_drain", Path(__file__).with_name("bench_drain.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def measure(
    root: Path, events: list[bytes], fill: Any
) -> tuple[float, list[tuple[str, float, Pruned, int, int]]]:
    settings = load(data_dir=root)
    fill(settings.spool_dir, events)
    spool = Spool(settings.spool_dir, settings.spool)
    quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "bench")
    async with Database(settings.database_file) as database:
        ingest = Ingest(settings, database, spool, quarantine, Redactor(b"bench", PrivacyLevel.DEFAULT))
        await ingest.start()
        started = time.perf_counter()
        stored = await ingest.step()
        ingesting = time.perf_counter() - started
        ingest.close()
        assert stored == len(events), (stored, len(events))
        steps = []
        for name, days in (("bodies", settings.retention.bodies), ("rows", settings.retention.rows)):
            later = time.time_ns() // 1_000_000 + (days + 1) * DAY
            pruner = Pruner(settings, database, clock=lambda later=later: later)  # type: ignore[misc]
            before = settings.database_file.stat().st_size
            started = time.perf_counter()
            pruned = await pruner.run()
            steps.append((name, time.perf_counter() - started, pruned, before, settings.database_file.stat().st_size))
        left = await database.query("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tool_usage)")
        assert left == [(1, 0)], left
        assert (await database.read(lambda reader: state(reader.query))).shrinks
    return ingesting, steps


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    source = drain()
    events = source.payloads(count)
    print(f"{count} events, {sum(map(len, events)) / count:.0f} bytes each, {ROUNDS} rounds")
    ratios = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as root:
            ingesting, steps = asyncio.run(measure(Path(root), events, source.fill))
        pruning = sum(took for _, took, *_ in steps)
        ratios.append(ingesting / pruning)
        print(
            f"  ingest {count / ingesting:7.0f} events/s   prune {count / pruning:7.0f} events/s   ratio {ratios[-1]:.2f}"
        )
        for name, took, pruned, before, after in steps:
            print(
                f"    {name:7} {took:6.2f} s, {pruned.transactions:5} transactions, longest {pruned.longest * 1e3:5.1f} ms, "
                f"file {before / 1e6:6.1f} → {after / 1e6:6.1f} MB"
            )
    print(f"median ratio {statistics.median(ratios):.2f} (at least 2 is asked for)")


if __name__ == "__main__":
    main()
