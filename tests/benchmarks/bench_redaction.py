"""Prints microseconds per event of redaction beside a floor in the same run: `python tests/benchmarks/bench_redaction.py`."""

import json
import timeit
from collections.abc import Callable
from pathlib import Path

from tasks.redaction import Redactor, may_contain_secret
from tasks.words import PrivacyLevel

SOURCE = (Path(__file__).parents[2] / "daemon" / "tasks" / "words.py").read_text() * 20


def microseconds(act: Callable[[], object]) -> float:
    number = max(3, int(0.02 / max(timeit.timeit(act, number=1), 1e-6)))
    return min(timeit.repeat(act, number=number, repeat=7)) / number * 1e6


def main() -> None:
    redactor = Redactor(b"k" * 32, PrivacyLevel.DEFAULT)
    token = "ghp" + "_" + "a1B2" * 9
    ordinary = {
        "file_path": "/home/dev/project/daemon/words.py",
        "old_string": SOURCE[:200],
        "new_string": SOURCE[:1600],
        "description": "Describe the categories in one place",
        "replace_all": False,
    }
    events: dict[str, dict[str, object]] = {
        "2 KB, no secret": ordinary,
        "2 KB, one secret": ordinary | {"description": f"export GITHUB_TOKEN={token}"},
        "8 strings of 8 KB": {f"part{n}": SOURCE[n : n + 8000] for n in range(8)},
        "64 KB in one string": {"content": SOURCE[: 64 * 1024]},
    }
    print(f"{'event':22} {'json.dumps':>11} {'gate(raw)':>10} {'value(raw)':>11} {'value()':>9}   µs")
    for name, event in events.items():
        raw = json.dumps(event).encode()
        floor = microseconds(lambda event=event: json.dumps(event))  # type: ignore[misc]
        gate = microseconds(lambda raw=raw: may_contain_secret(raw))  # type: ignore[misc]
        known = microseconds(lambda event=event, raw=raw: redactor.value(event, raw=raw))  # type: ignore[misc]
        alone = microseconds(lambda event=event: redactor.value(event))  # type: ignore[misc]
        print(f"{name:22} {floor:11.1f} {gate:10.1f} {known:11.1f} {alone:9.1f}")


if __name__ == "__main__":
    main()
