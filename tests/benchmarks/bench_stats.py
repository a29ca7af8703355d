"""What statistics cost with 10,000 and with 1,000,000 stored calls, over the same spans of time.

The calls lie in the last 24 hours, the worst case for the span asked for. The floor is the small database.
Run: python tests/benchmarks/bench_stats.py [calls]
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tasks.analytics import AnalyticsDB
from tasks.database import SyncDatabase, Write
from tasks.tracker import ToolUsageTracker

TOOLS = ("Bash", "Read", "Edit", "Write", "Grep", "Glob", "Agent", "WebFetch", "TodoWrite", "mcp__demo__search")
CATEGORIES = ("command_failed", "file_not_found", "timeout", "permission_denied", "stale_edit", "blocked")
SPAN = 86_000_000  # milliseconds: a little less than 24 hours
REPEAT = 25

_INSERT = """
INSERT INTO tool_usage (timestamp, session_uuid, tool_use_id, tool_name, parameters, success, error, error_category,
                        duration_ms, source)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'hook')
"""


def fill(root: Path, count: int) -> None:
    database = SyncDatabase(root / "tasks.db")
    now = time.time_ns() // 1_000_000
    rng = random.Random(7)
    for start in range(0, count, 20_000):
        rows = []
        for number in range(start, min(start + 20_000, count)):
            failed = rng.random() < 0.1
            rows.append(
                (now - SPAN + SPAN * number // count, f"s{number // 500}", f"t{number}", rng.choice(TOOLS),
                 '{"command":"pytest -q"}', int(not failed), "Exit code 1" if failed else None,
                 rng.choice(CATEGORIES) if failed else None, rng.lognormvariate(4, 1.5))
            )  # fmt: skip
        database.apply([Write(_INSERT, rows)])
    database.close()


def median_ms(question: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEAT):
        started = time.perf_counter()
        question()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def ask(root: Path) -> dict[str, float]:
    tracker, analytics = ToolUsageTracker(root), AnalyticsDB(root)
    answers = {
        "get_tool_stats(hours=24)": median_ms(lambda: tracker.get_tool_stats(hours=24)),
        "get_tool_stats(hours=1)": median_ms(lambda: tracker.get_tool_stats(hours=1)),
        "get_error_rates(days=7)": median_ms(lambda: analytics.get_error_rates(days=7)),
        "get_error_rates(days=1)": median_ms(lambda: analytics.get_error_rates(days=1)),
    }
    tracker.close()
    analytics.close()
    return answers


def main() -> None:
    large = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as small_root, tempfile.TemporaryDirectory() as large_root:
        fill(Path(small_root), 10_000)
        fill(Path(large_root), large)
        small, big = ask(Path(small_root)), ask(Path(large_root))
        print(f"{'':28} {'10,000':>10} {large:>10,} calls; ms, median of {REPEAT}; at most 2.0 is asked for")
        for question, took in big.items():
            print(f"{question:28} {small[question]:10.2f} {took:10.2f}   ratio {took / small[question]:.2f}")


if __name__ == "__main__":
    main()
