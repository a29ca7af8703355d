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
    "bench_transcripts.py",
    "bench_ccusage.py",
    "bench_analytics.py quick",
    "bench_retention.py",
    "bench_forecast.py",
    "bench_login.py",
    "bench_web.py",
)


def main() -> None:
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        program, *arguments = name.split()
        ended = subprocess.run([sys.executable, Path(__file__).with_name(program), *arguments], check=False)
        print(f"({time.monotonic() - started:.0f} s, exit {ended.returncode})", flush=True)


if __name__ == "__main__":
    main()
