"""A real daemon: how soon an event can be read after its hook has ended, and what it costs to have nothing to do.

Latency: hooks/record is started 50 times a second; from its exit until a reader of the database sees the row.
Idle: processor time and memory of the daemon over a quiet span. Floor of both: none, the figures are absolute.
Run: python tests/benchmarks/bench_daemon.py [--events N] [--idle SECONDS]
"""

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tasks import assets

RATE = 50  # events a second
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_daemon(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {"TASKSD_DATA_DIR": str(data_dir), "XDG_CONFIG_HOME": str(data_dir)}
    program = Path(sys.executable).with_name("tasksd")
    daemon = subprocess.Popen([program, "up"], env=environ, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not (data_dir / "tasksd.sock").exists():
            if time.monotonic() > deadline or daemon.poll() is not None:
                raise SystemExit("the daemon did not start")
            time.sleep(0.05)
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(20)


def latency(data_dir: Path, count: int) -> list[float]:
    """Milliseconds from the end of the hook until the row can be read, sorted."""
    environ = {"PATH": os.environ["PATH"], "TASKSD_DATA_DIR": str(data_dir)}
    ended: dict[str, float] = {}
    seen: dict[str, float] = {}

    def look() -> None:
        connection = sqlite3.connect(f"file:{data_dir}/tasks.db?mode=ro", uri=True)
        last = 0
        while len(seen) < count:
            for seq, id_ in connection.execute(
                "SELECT seq, tool_use_id FROM events WHERE seq > ? ORDER BY seq", (last,)
            ):
                seen[id_] = time.perf_counter()
                last = seq
            time.sleep(0.001)
        connection.close()

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    started = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        payload = {"session_id": "bench", "hook_event_name": "PreToolUse", "tool_name": "Bash",
                   "tool_use_id": f"t{number}", "tool_input": {"command": "make test " * 20}}  # fmt: skip
        subprocess.run([assets.path("hooks/record")], input=json.dumps(payload).encode(), env=environ, check=True)
        ended[f"t{number}"] = time.perf_counter()
    reader.join(30)
    if len(seen) != count:
        raise SystemExit(f"{count - len(seen)} of {count} events were not seen")
    return sorted(max(0.0, seen[id_] - ended[id_]) * 1e3 for id_ in ended)


def idle(daemon: subprocess.Popen[bytes], seconds: float) -> tuple[float, float]:
    """Percent of a core, and resident MiB."""

    def used() -> float:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    before, started = used(), time.monotonic()
    time.sleep(seconds)
    percent = (used() - before) / (time.monotonic() - started) * 100
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    return percent, resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir(mode=0o700)
        with running_daemon(data_dir) as daemon:
            times = latency(data_dir, options.events)
            p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
            print(f"hook exit → row readable at {RATE}/s: p50 {p50:.1f} ms (limit 30), p99 {p99:.1f} ms (limit 250)")
            time.sleep(2)
            percent, resident = idle(daemon, options.idle)
            print(f"idle: {percent:.2f} % of a core (limit 1.5), {resident:.0f} MiB resident (limit 100)")


if __name__ == "__main__":
    main()
