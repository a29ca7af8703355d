"""The same history asked of tasksd and of ccusage (npm): the same totals, each difference explained, and how long both take.

A generated corpus of transcripts whose sums are known (corpus.py). ccusage is installed from npm into a temporary folder; its
versions from 20 on are native programs. Tokens must agree with the truth and with each other for every day and model. Money
differs by rules, which are applied to our rows one after another until nothing is left over:
  batch    answers of the batch API cost half
  search   web searches cost $10 a thousand
  long     an answer whose request has more than 200,000 tokens of context costs more as a whole with older models;
           ccusage charges more for those tokens of each kind that are above 200,000
  fast     a fast answer of a model without a fast price is not priced by us, but listed as unpriced
Run: python tests/benchmarks/bench_ccusage.py [megabytes] [version of ccusage]
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import corpus  # type: ignore[import-not-found]

VERSION = "20.0.24"
REPEAT = 5
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
THEIRS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens")

#: Our rows by day, model, modifiers: tokens, searches, dollars; NULL: unpriced.
_OURS = """
SELECT date(timestamp / 1000, 'unixepoch'), m.model, m.modifiers, sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_5m_tokens + cache_write_1h_tokens),
       sum(m.cost) / 1e12, sum(m.web_searches * p.web_search) / 1e12, sum(m.cost IS NULL)
FROM messages AS m LEFT JOIN prices AS p USING (price_id) GROUP BY 1, 2, 3
"""

#: Answers of long requests: their rates, and those of the same model for short ones.
_LONG = """
SELECT input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
       long.input, long.output, long.cache_read, long.cache_write_5m, long.cache_write_1h,
       short.input, short.output, short.cache_read, short.cache_write_5m, short.cache_write_1h
FROM messages JOIN prices AS long USING (price_id) JOIN prices AS short
     ON short.model = long.model AND short.modifiers = long.modifiers AND short.input < long.input
"""
LONG = 200_000


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 220.0
    version = sys.argv[2] if len(sys.argv) > 2 else VERSION
    if shutil.which("npm") is None:
        sys.exit("npm is needed to install ccusage")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        subprocess.run(
            ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", home / "npm", f"ccusage@{version}"],
            check=True,
        )
        truth = corpus.write(home / ".claude/projects", megabytes, 7)
        print(
            f"corpus: {truth.bytes / 1e6:.0f} MB, {truth.files} files, {truth.messages:,} answers, {truth.calls:,} calls"
        )
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), "TZ": "UTC", "TASKSD_DATA_DIR": str(home / "state")}
        theirs, their_s = _ccusage(home, environ)
        backfill_s, db = _backfill(home, environ)
        offline_s = _timed(lambda: _tasksd(home, environ, "costs", "--days", "90"))
        with _Daemon(home, environ):
            costs_s = _timed(lambda: _tasksd(home, environ, "costs", "--days", "90"))
        _compare(theirs, db, truth)
        print(f"ccusage {version} daily           {their_s * 1e3:8.0f} ms   floor")
        print(f"tasksd backfill, reconciled      {backfill_s * 1e3:8.0f} ms   {backfill_s / their_s:6.2f} ×  (3)")
        print(f"tasksd costs, daemon running     {costs_s * 1e3:8.0f} ms   1/{their_s / costs_s:.1f}  (1/10)")
        print(f"tasksd costs, no daemon          {offline_s * 1e3:8.0f} ms   1/{their_s / offline_s:.1f}")


def _ccusage(home: Path, environ: dict[str, str]) -> tuple[Any, float]:
    program = home / "npm/node_modules/.bin/ccusage"
    command: list[str | Path] = [program, "claude", "daily", "--offline", "--json", "--timezone", "UTC"]

    def run() -> bytes:
        return subprocess.run(command, env=environ, check=True, capture_output=True).stdout

    answer = json.loads(run())
    return answer, _timed(run)


def _tasksd(home: Path, environ: dict[str, str], *arguments: str) -> bytes:
    program = Path(sys.executable).with_name("tasksd")
    command: list[str | Path] = [program, *arguments]
    return subprocess.run(command, env=environ, check=True, capture_output=True).stdout


def _backfill(home: Path, environ: dict[str, str]) -> tuple[float, sqlite3.Connection]:
    times = []
    for _ in range(3):
        shutil.rmtree(home / "state", ignore_errors=True)
        started = time.perf_counter()
        _tasksd(home, environ, "backfill")
        times.append(time.perf_counter() - started)
    return statistics.median(times), sqlite3.connect(home / "state/tasks.db")


class _Daemon:
    def __init__(self, home: Path, environ: dict[str, str]) -> None:
        program = Path(sys.executable).with_name("tasksd")
        self._process = subprocess.Popen([program, "up"], env=environ, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "ready" in line:
                return
        sys.exit("the daemon did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


def _timed(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEAT):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _compare(theirs: Any, db: sqlite3.Connection, truth: corpus.Truth) -> None:
    ours: dict[tuple[str, str], list[int]] = {}
    money: dict[str, float] = {"cost": 0.0, "search": 0.0, "batch": 0.0}
    unpriced: dict[str, int] = {}
    for day, model, modifiers, *tokens, cost, for_searches, without in db.execute(_OURS):
        name = f"{model}-fast" if "fast" in modifiers.split() else model  # as ccusage lists them
        row = ours.setdefault((day, name), [0] * 4)
        for number, count in enumerate(tokens):
            row[number] += count
        if without:
            unpriced[name] = unpriced.get(name, 0) + without
        money["cost"] += cost or 0.0
        money["search"] += for_searches or 0.0
        if "batch" in modifiers.split():
            money["batch"] += (cost or 0.0) - (for_searches or 0.0)
    different = 0
    listed: dict[tuple[str, str], list[int]] = {}
    their_fast = 0.0
    for day in theirs["daily"]:
        for one in day["modelBreakdowns"]:
            listed[day["date"], one["modelName"]] = [one[name] for name in THEIRS]
            if one["modelName"] in unpriced:
                their_fast += one["cost"]
    for key in ours.keys() | listed.keys():
        different += ours.get(key) != listed.get(key)
    total = [sum(row[number] for row in ours.values()) for number in range(4)]
    wanted = [
        truth.total.input_tokens,
        truth.total.output_tokens,
        truth.total.cache_read_tokens,
        truth.total.cache_write_5m_tokens + truth.total.cache_write_1h_tokens,
    ]
    print(f"tokens: {'as the truth' if total == wanted else f'{total}, NOT the truth {wanted}'}; "
          f"days and models that differ from ccusage: {different} of {len(ours)}")  # fmt: skip
    their_total = theirs["totals"]["totalCost"]
    long = 0.0
    for row in db.execute(_LONG):
        for tokens, above, below in zip(row[:5], row[5:10], row[10:], strict=True):
            long -= min(tokens, LONG) * (above - below) / 1e12
    steps = [
        ("ours", money["cost"]),
        ("long requests only above 200,000 of each kind", long),
        ("without web searches", -money["search"]),
        ("batch answers at the full price", money["batch"]),
        (f"fast answers without a price ({sum(unpriced.values())} messages)", their_fast),
    ]
    left = their_total - sum(amount for _, amount in steps)
    for text, amount in [*steps, ("ccusage", their_total), ("left over", left)]:
        print(f"  {text:50} ${amount:12.6f}")


if __name__ == "__main__":
    main()
