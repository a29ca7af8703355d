"""How fast transcripts are read, and in how much memory, against what nobody can do without.

The floors, over the same files: reading them and splitting the lines, and `json.loads` of each line. The sums are
compared with those of the corpus. Memory is that of a fresh process that reads one file of eight times the corpus.
Run: python tests/benchmarks/bench_transcripts.py [megabytes]
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import transcripts
from tasks.transcripts import Message, Position

if TYPE_CHECKING:
    from tests.benchmarks import corpus
else:
    import corpus  # beside this script

REPEAT = 3
FOLLOWED = 64 << 10  # bytes: what a file grew by between two looks
COPIES = 8


def read_and_split(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(4 << 20):
                block.split(b"\n")


def parse_each(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                json.loads(line)


def read_all(paths: list[Path], limit: int) -> dict[str, Message]:
    """The answers in the files: of those with one id the one in the file begun first."""
    found: dict[str, Message] = {}
    for path in paths:
        position = Position()
        done = False
        while not done:
            chunk = transcripts.read(path, position, limit=limit)
            for message in chunk.messages:
                known = found.get(message.message_id)
                if known is None or message.output_tokens > known.output_tokens:
                    found[message.message_id] = message
            position, done = chunk.position, chunk.done
    return found


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, the best of REPEAT: others use the machine too."""
    times = []
    for _ in range(REPEAT):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def compare(found: dict[str, Message], truth: corpus.Truth) -> str:
    got = corpus.Tokens(
        len(found),
        *(
            sum(getattr(message, name) for message in found.values())
            for name in list(corpus.Tokens.__dataclass_fields__)[1:]
        ),
    )
    return "as generated" if got == truth.total else f"WRONG: {got} instead of {truth.total}"


def growth(path: Path) -> float:
    """Megabytes by which the largest memory of a process grows that reads the file."""
    command = [sys.executable, __file__, "--memory", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure_memory(path: Path) -> None:
    before = _peak()
    position = Position()
    done = False
    while not done:
        chunk = transcripts.read(path, position)
        position, done = chunk.position, chunk.done
    print((_peak() - before) / 1e6)


def _peak() -> int:
    """Bytes."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # What Linux reports to getrusage begins with the largest size of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        _measure_memory(Path(sys.argv[2]))
        return
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        truth = corpus.write(root / "projects", megabytes)
        started = time.perf_counter()
        files = transcripts.find(root / "projects")
        listed = time.perf_counter() - started
        paths = [file.path for file in files]
        floor = seconds(lambda: read_and_split(paths))
        rows = {
            "read and split lines": floor,
            "json.loads of each line": seconds(lambda: parse_each(paths)),
            "transcripts.read": seconds(lambda: read_all(paths, 4 << 20)),
            "transcripts.read, 64 KiB at once": seconds(lambda: read_all(paths, FOLLOWED)),
            "transcripts.peek of each file": seconds(lambda: [transcripts.peek(path) for path in paths]),
        }
        size = truth.bytes / 1e6
        print(
            f"{size:.0f} MB, {truth.files} files, {truth.lines} lines, {truth.messages} answers; best of {REPEAT}, one core"
        )
        print(f"sums: {compare(read_all(paths, 4 << 20), truth)}; of every line: {truth.naive.messages} answers")
        for name, took in rows.items():
            print(f"{name:34} {took:8.3f} s {size / took:9.0f} MB/s   {took / floor:6.1f} of the floor")
        print(f"{'transcripts.find':34} {listed:8.3f} s")
        with (root / "large.jsonl").open("wb") as large:
            for path in paths * COPIES:
                with path.open("rb") as file:
                    shutil.copyfileobj(file, large)
        print(f"memory grew by {growth(root / 'large.jsonl'):.0f} MB while one file of {size * COPIES:.0f} MB was read")


if __name__ == "__main__":
    main()
