"""All benchmarks, one after another. Each prints its figures with the limits that were set for them.

Run: python tests/benchmarks/run.py
"""

import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "bench_hook.py",
    "bench_drain.py",
    "bench_daemon.py",
    "bench_cli.py",
    "bench_stats.py",
    "bench_manager.py",
    "bench_redaction.py",
    "bench_pool.py",
    "bench_tasks.py",
)


def main() -> None:
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        ended = subprocess.run([sys.executable, Path(__file__).with_name(name)], check=False)
        print(f"({time.monotonic() - started:.0f} s, exit {ended.returncode})", flush=True)


if __name__ == "__main__":
    main()
