"""Whether a wrong login tells if there is such an account: its time for known and unknown names, at the cost that is default.

    python tests/benchmarks/bench_login.py [--tries 30] [--cost 12]

Known and unknown take turns, and turns in going first. Prints medians and 95 % percentiles of both, and by how much they
differ: less than 5 % is asked for, on a machine that does nothing else.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tasks.config import WebSettings
from tasks.database import Database
from tasks.users import Authority, KeyRing, WrongCredentials, accounts, load_pepper

LIMIT = 0.05
PASSWORD = "correct horse battery"


class Clock:
    """Steady; moved so far between two tries that none is slowed down for the one before."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def measure(folder: Path, tries: int, cost: int) -> tuple[list[float], list[float]]:
    """Milliseconds of wrong logins for a known and for unknown names."""
    clock = Clock()
    async with Database(folder / "tasks.db") as database:
        authority = Authority(
            database, KeyRing(folder / "auth"), load_pepper(folder / "auth"), cost=cost, monotonic=clock
        )
        hashed = await authority.hash_new("ada", PASSWORD)
        await database.transaction(
            lambda connection: accounts.create(connection, "ada", password_hash=hashed, role=None, now=1)
        )
        known: list[float] = []
        unknown: list[float] = []
        for number in range(tries):
            both = ((known, "ada"), (unknown, f"nobody{number}"))
            for times, name in both if number % 2 else both[::-1]:
                clock.seconds += 4000
                began = time.perf_counter()
                try:
                    await authority.log_in(name, "a wrong password", kind="cookie", address="127.0.0.1", client="")
                except WrongCredentials:
                    times.append((time.perf_counter() - began) * 1000)
        authority.close()
    return known, unknown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--cost", type=int, default=WebSettings().password_cost)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # every wrong login says a word
    with tempfile.TemporaryDirectory() as folder:
        known, unknown = asyncio.run(measure(Path(folder), chosen.tries, chosen.cost))
    worst = 0.0
    for name, of in (("median", statistics.median), ("p95", lambda times: statistics.quantiles(times, n=20)[-1])):
        one, other = of(known), of(unknown)
        gap = abs(one - other) / max(one, other)
        worst = max(worst, gap)
        print(f"{name:<6}  known {one:7.1f} ms  unknown {other:7.1f} ms  ratio {one / other:.3f}  gap {gap:.1%}")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
