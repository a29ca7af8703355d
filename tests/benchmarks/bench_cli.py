"""What a plain reader costs: `tasksd status` and its like, piped, against `python -c pass`, in turns so that noise cancels.

    python tests/benchmarks/bench_cli.py [--runs N]

The daemon is a real one with a small history. The command is the installed console script.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks import assets

FLOOR = "python -c pass"
READERS = ("status", "status --json", "tools", "tools --json", "errors --json", "sessions", "events")
LIMIT = 3.0  # times the floor
START_TIMEOUT = 30.0  # seconds
EVENTS = 40

_PAYLOAD = (
    '{"hook_event_name":"PostToolUse","session_id":"00000000-0000-4000-8000-%012d","cwd":"/srv/project",'
    '"tool_name":"Bash","tool_input":{"command":"true"},"tool_use_id":"toolu_%d","duration_ms":%d,'
    '"tool_response":{"stdout":"","stderr":"","interrupted":false}}'
)


def _took(command: list[str], environ: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def _fill(environ: dict[str, str]) -> None:
    for number in range(EVENTS):
        payload = (_PAYLOAD % (number % 5, number, number)).encode()
        subprocess.run([assets.path("hooks/record")], input=payload, env=environ, check=True)


def _wait_for(program: str, environ: dict[str, str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    wanted = f"{EVENTS} stored"
    while time.monotonic() < deadline:
        said = subprocess.run([program, "status"], env=environ, capture_output=True, text=True, check=False).stdout
        if wanted in said:
            return
        time.sleep(0.1)
    sys.exit("the daemon did not start, or did not store the events")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    program = str(Path(sys.executable).parent / "tasksd")
    commands = {FLOOR: [sys.executable, "-c", "pass"]} | {name: [program, *name.split()] for name in READERS}
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="tasksd-") as folder:
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "TASKSD_DATA_DIR": f"{folder}/d", "LANG": "C.UTF-8"}
        Path(folder, "d", "spool").mkdir(parents=True, mode=0o700)
        _fill(environ)
        daemon = subprocess.Popen([program, "up"], env=environ, stderr=subprocess.DEVNULL)
        try:
            _wait_for(program, environ)
            for run in range(runs + 3):
                for name, command in commands.items():
                    took = _took(command, environ)
                    if run >= 3:  # the first runs fill the caches
                        times[name].append(took)
        finally:
            daemon.terminate()
            daemon.wait()
    floor = statistics.median(times[FLOOR])
    worst = 0.0
    for name, all_ in times.items():
        ratio = statistics.median(all_) / floor
        worst = max(worst, ratio)
        print(f"{name:16} {statistics.median(all_) * 1000:6.1f} ms  {ratio:5.2f} x")
    print(f"worst {worst:.2f}, limit {LIMIT}: {'ok' if worst <= LIMIT else 'too slow'}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
