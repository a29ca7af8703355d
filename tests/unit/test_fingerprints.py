"""Kinds of errors: the same failure elsewhere is the same kind, another failure is another."""

import json
import random
import re
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.categories import categorize
from tasks.categories.fingerprints import fingerprint
from tasks.words import ErrorCategory

DATA = Path(__file__).parents[1] / "data"
LABELLED: list[dict[str, Any]] = [
    json.loads(line)
    for name in ("errors", "program_errors")
    for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]
VARIANTS = 5

#: Labelled errors that are one kind, by a part of each.
SAME_KIND = (
    ("Read", "File does not exist. Note: your current working directory"),
    ("Read", "EISDIR: illegal operation on a directory, read"),
    ("Read", "This tool cannot read binary files."),
    ("Edit", "matches of the string to replace, but replace_all is false."),
    ("Bash", "SyntaxError: invalid syntax"),
    ("Bash", "ModuleNotFoundError: No module named"),
    ("Bash", "ommand timed out after"),
    ("Bash", "Couldn't connect to server"),
    ("Bash", "FileNotFoundError: [Errno 2] No such file or directory:"),
    ("Bash", "PermissionError: [Errno 13] Permission denied:"),
    ("Bash", "error: failed to push some refs to"),
    ("Bash", "Tests: "),
    ("Bash", "cat: "),
    ("Bash", "ls: cannot access '"),
    ("Bash", "bash: line 1: "),
    ("Bash", "bash: -c: line "),
    ("Bash", "Exit code "),
)

_KINDS = re.compile(  # numbers by which failures are told apart
    r"(?:Errno|os error|curl:|MCP error|API Error:|HTTP|HTTP/|status code|returned error:|^ERROR|code|code E|TS|E|SHA|utf)"
    r"[ /(-]*$",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w/:.*<])(/[\w.-]*\w(?:/[\w.-]*\w)*)")
_INTEGER = re.compile(r"(?<![\w./:-])\d+(?![\w./]|:\d)")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_QUOTE = re.compile(r"(?<![\w'])'(\w[\w /.-]+)'(?!\w)|(?<![\w\"])\"(\w[\w /.-]+)\"(?!\w)")
_LOCATION = re.compile(r":\d+:\d+:")


def variant(error: str, rng: random.Random) -> str:
    """The same failure with other paths, numbers, addresses and quoted values."""

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 9)))

    def path(found: re.Match[str]) -> str:
        whole = found[1]
        if "/bin/" in whole:
            return whole
        suffix = re.search(r"\.\w+$", whole.rsplit("/", 1)[-1])
        names = [rng.choice((word(), f"{word()}-{rng.randint(1, 99)}", f"tmp{rng.randint(100, 999)}{word()}"))
                 for _ in range(rng.randint(1, 5))]  # fmt: skip
        return "/" + "/".join(names) + (suffix[0] if suffix and not whole.startswith("/.") else "")

    def integer(found: re.Match[str]) -> str:
        if _KINDS.search(found.string[: found.start()].rpartition("\n")[2]):
            return found[0]
        return str(rng.choice((2, rng.randint(3, 99), rng.randint(100, 99_999))))

    def quote(found: re.Match[str]) -> str:
        mark, inside = found[0][0], found[1] or found[2]
        if re.fullmatch(r"E[A-Z]+|NoneType", inside) or "message" in inside or inside in ("code", "path", "url"):
            return found[0]
        return mark + rng.choice((word(), f"{word()} {word()}", f"/{word()}/{word()}.py")) + mark

    head, rest = "", error
    if exit_code := re.match(r"Exit code \d+(?:\n|$)", error):
        head, rest = exit_code[0], error[exit_code.end() :]
    client = rest.startswith(("<tool_use_error>InputValidation", "<tool_use_error>Error calling tool (Bash): ["))
    rest = rest if client else _QUOTE.sub(quote, rest)
    rest = _ADDRESS.sub(lambda _: ".".join(str(rng.randint(1, 254)) for _ in range(4)), rest)
    rest = _LOCATION.sub(lambda _: f":{rng.randint(1, 9999)}:{rng.randint(1, 120)}:", rest)
    return head + _INTEGER.sub(integer, _PATH.sub(path, rest))


def print_of(sample: dict[str, Any], error: str | None = None) -> str:
    return fingerprint(sample["tool_name"], sample["category"], sample["error"] if error is None else error).id


def split_wrongly() -> tuple[list[tuple[str, str]], int]:
    rng = random.Random(4)
    wrong, pairs = [], 0
    for sample in LABELLED:
        for _ in range(VARIANTS):
            other = variant(sample["error"], rng)
            if (
                categorize(other, tool_name=sample["tool_name"], is_interrupt=bool(sample.get("is_interrupt")))
                != sample["category"]
            ):
                continue  # the words that were put in say something else
            pairs += 1
            if print_of(sample) != print_of(sample, other):
                wrong.append((sample["error"], other))
    return wrong, pairs


def merged_wrongly() -> tuple[list[tuple[str, str]], int]:
    kinds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for sample in LABELLED:
        kinds[print_of(sample)].append(sample)
    wrong = [
        (one["error"], other["error"])
        for alike in kinds.values()
        for one, other in combinations(alike, 2)
        if one["error"] != other["error"]
        and not any(
            one["tool_name"] == other["tool_name"] == tool and part in one["error"] and part in other["error"]
            for tool, part in SAME_KIND
        )
    ]
    return wrong, len(LABELLED) * (len(LABELLED) - 1) // 2


def test_the_same_failure_elsewhere_is_the_same_kind() -> None:
    wrong, pairs = split_wrongly()
    assert pairs > 2_500
    assert wrong == []


def test_different_failures_are_different_kinds() -> None:
    wrong, pairs = merged_wrongly()
    assert pairs > 130_000
    assert wrong == []


BASH, COMMAND = "Bash", ErrorCategory.COMMAND_FAILED

ALIKE = {
    "colours": ("Exit code 1\n\x1b[31merror\x1b[0m: no \x1b[1mluck\x1b[m", "Exit code 1\nerror: no luck"),
    "exit codes": ("Exit code 1", "Exit code 2"),
    "plurals": ("Exit code 1\n1 error generated.", "Exit code 1\n12 errors generated."),
    "durations": ("Exit code 1\nbuild failed after 3.2s", "Exit code 1\nbuild failed after 1500 ms"),
    "sizes": ("Exit code 1\ncannot allocate 12 GiB", "Exit code 1\ncannot allocate 1.5 MB"),
    "hashes": (
        "Exit code 1\nbad object 1f2e3d4c5b",
        "Exit code 1\nbad object a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
    ),
    "uuids": (
        "Exit code 1\njob 6f1c2b9e-5a0d-4c0e-9b61-0b4d7c8f1a2e failed",
        "Exit code 1\njob 00000000-0000-4000-8000-000000000001 failed",
    ),
    "addresses": ("Exit code 1\nno route to 10.0.0.1:80", "Exit code 1\nno route to db.example.com:5432"),
    "version 6": ("Exit code 1\ncannot bind to [::1]:80", "Exit code 1\ncannot bind to [fe80::1:2]:8080"),
    "times": (
        "Exit code 1\n2026-01-02T03:04:05.678Z failed to start",
        "Exit code 1\n2025-11-22 10:00:00 failed to start",
    ),
    "temporary names": (
        "Exit code 1\ncannot remove /tmp/tmpab12cd",
        "Exit code 1\ncannot remove /tmp/pytest-of-me/pytest-3/x",
    ),
    "drives": ("Exit code 1\ncannot remove C:\\Users\\me\\a.txt", "Exit code 1\ncannot remove D:\\b.txt"),
    "bare names": ("Exit code 1\ncat: notes: Permission denied", "Exit code 1\ncat: /etc/shadow: Permission denied"),
    "secrets": ("Exit code 1\nbad key [REDACTED:api_key:1a2b]", "Exit code 1\nbad key [REDACTED:api_key:ffff]"),
    "folders of programs": ("Exit code 1\n/usr/bin/git: no luck", "Exit code 1\n/opt/homebrew/bin/git: no luck"),
    "what came before": ("Exit code 1\nstep 1\nstep 2\nfatal: no luck", "Exit code 1\nother step\nfatal: no luck\nbye"),
    "frames": (
        "Exit code 1\nTraceback (most recent call last):\n  File \"/a.py\", line 1, in f\n    f()\nKeyError: 'a'",
        "Exit code 1\nlog\nTraceback (most recent call last):\n  File \"/b/c.py\", line 9, in g\n    g(x)\nKeyError: 'b'",
    ),
    "failing tests": (
        "Exit code 1\nFAILED tests/test_a.py::test_x - assert 1 == 2\n=== 1 failed in 0.1s ===",
        "Exit code 1\nFAILED b/test_c.py::test_y - KeyError: 'z'\n=== 3 failed, 9 passed in 12.1s ===",
    ),
    "lines of Windows": ("Exit code 1\r\nerror: no luck\r\n", "Exit code 1\nerror: no luck\n"),
    "an id of digits alone": ("Exit code 1\nbad object 1f2e3d4c5b", "Exit code 1\nbad object 12345678"),
    "quotes": (
        "Exit code 1\nrm: cannot remove 'a b': Is a directory",
        "Exit code 1\nrm: cannot remove a.txt: Is a directory",
    ),
    "branches": (
        "Exit code 1\nerror: src refspec main does not match any",
        "Exit code 1\nerror: src refspec a/b does not match any",
    ),
    "several errors": ("Exit code 1\n1 previous error, 2 matches", "Exit code 1\n4 previous errors, 1 match"),
    "functions": (
        "Exit code 1\nTypeError: f() missing 1 required positional argument: 'x'",
        "Exit code 1\nTypeError: g_h() missing 2 required positional arguments: 'x' and 'y'",
    ),
    "places": (
        "Exit code 1\nsrc/a.ts(1,2): error TS6133: 'b' is not used",
        "Exit code 1\nerror TS6133: 'c' is not used",
    ),
    "minutes": ("Exit code 1\nfailed in 3m12s", "Exit code 1\nfailed in 45s"),
    "command lines": (
        "Exit code 139\nbash: line 1: 4711 Segmentation fault      (core dumped) ./a.out x",
        "Exit code 139\nbash: line 7: 99 Segmentation fault      /opt/prog --all",
    ),
    "case": ("Exit code 1\nError: No luck", "Exit code 1\nerror: no luck"),
}

APART = {
    "exceptions": ("Exit code 1\nKeyError: 'a'", "Exit code 1\nIndexError: 'a'"),
    "phrases": ("Exit code 1\ngit: no luck", "Exit code 1\ngit: no chance"),
    "programs": ("Exit code 1\ngit: no luck", "Exit code 1\nnpm: no luck"),
    "error numbers": ("Exit code 1\nOSError: [Errno 98] x", "Exit code 1\nOSError: [Errno 99] x"),
    "codes of compilers": ("Exit code 1\na.ts(1,2): error TS2304: x", "Exit code 1\na.ts(1,2): error TS2322: x"),
    "rustc": ("Exit code 1\nerror[E0425]: x", "Exit code 1\nerror[E0433]: x"),
    "answers of servers": ("Exit code 1\nHTTP 404 from x", "Exit code 1\nHTTP 500 from x"),
    "curl": ("Exit code 6\ncurl: (6) no", "Exit code 7\ncurl: (7) no"),
    "signals": ("Exit code 139", "Exit code 143"),
    "names of errno": ("Exit code 1\nlisten EADDRINUSE: x", "Exit code 1\nlisten EACCES: x"),
    "missing programs": (
        "Exit code 127\nbash: line 1: jq: command not found",
        "Exit code 127\nbash: line 1: rg: command not found",
    ),
    "runners": ("Exit code 1\n--- FAIL: TestX (0.00s)", "Exit code 1\n=== 1 failed in 0.1s ==="),
    "collecting": (
        "Exit code 2\nERROR tests/test_a.py - ImportError: x\n=== 1 error in 0.1s ===",
        "Exit code 1\nFAILED tests/test_a.py::test_x\n=== 1 failed in 0.1s ===",
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_differs_by_chance_does_not_count(name: str) -> None:
    one, other = (fingerprint(BASH, COMMAND, error) for error in ALIKE[name])
    assert one.id == other.id


@pytest.mark.parametrize("name", APART)
def test_what_tells_kinds_apart_counts(name: str) -> None:
    one, other = (fingerprint(BASH, COMMAND, error) for error in APART[name])
    assert one.message != other.message
    assert one.id != other.id


def test_tool_and_category_are_part_of_the_kind() -> None:
    ids = {
        fingerprint(tool, category, "no luck").id
        for tool in ("Read", "Write")
        for category in (ErrorCategory.TOOL_ERROR, ErrorCategory.TIMEOUT)
    }
    assert len(ids) == 4


def test_an_id_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert fingerprint("Bash", "file_not_found", "Exit code 1\ncat: /srv/x: No such file or directory") == (
        "adc11b61a0babddd",
        "cat: <path>: No such file or directory",
    )


def test_the_reason_at_the_end_of_long_output_is_found() -> None:
    error = "Exit code 1\n" + "building\n" * 5_000 + "fatal: no luck\n"
    assert fingerprint(BASH, COMMAND, error).message == "fatal: no luck"


def test_what_a_failed_edit_quotes_is_no_reason() -> None:
    told = "<tool_use_error>String to replace not found in file.\nString: {}</tool_use_error>"
    prints = {fingerprint("Edit", ErrorCategory.STALE_EDIT, told.format(text)).id
              for text in ("x", "Traceback (most recent call last)\nKeyError: 1", "error: a\nfatal: b")}  # fmt: skip
    assert len(prints) == 1


@given(
    st.text(), st.sampled_from(sorted(ErrorCategory)), st.sampled_from(["Bash", "Read", "mcp__a__b", "", "Odd\ud800"])
)
def test_any_text_has_a_kind(error: str, category: ErrorCategory, tool: str) -> None:
    for text in (error, f"Exit code 1\n{error}", f"<tool_use_error>{error}", f"x: {error}: No such file or directory"):
        found = fingerprint(tool, category, text)
        assert re.fullmatch("[0-9a-f]{16}", found.id)
        assert len(found.message) <= 200
        assert "\n" not in found.message
        assert found == fingerprint(tool, category, text)


#: Pieces of which texts are made that would hurt an expression that goes back and forth.
PIECES = (
    *(
        "'",
        '"',
        "`",
        "/",
        "//",
        "a/",
        "1.",
        "1:",
        "a1",
        "A1b2c3",
        "-",
        "_",
        "a@",
        "::",
        "C:\\",
        "<n> ",
        "0x",
        "[",
        "[REDACTED:",
    ),
    *("\x1b[", "\x1b]", "2026-01-01 ", "12:00:00 ", "exit code 1 ", "cannot open ", "No such file or directory", "x: "),
    *(
        "'…' and ",
        "deadbeef1",
        "a.com ",
        "…[cut ",
        "=",
        "hook error: [",
        "]: ",
        "https://",
        "1 ms ",
        "\r",
        "error: ",
        "\n",
    ),
    *("Traceback (most recent call last)\n", "Error: ", "timed out ", "tmp", "a-", "é", " "),
)


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_time_is_bounded_on_texts_made_to_hurt(number: int) -> None:
    piece = PIECES[number]
    for head in ("", "Exit code 1\n", "cat: ", "PreToolUse:Bash hook error: ["):
        for category in (COMMAND, ErrorCategory.FILE_NOT_FOUND, ErrorCategory.BLOCKED):
            for length in (12_000, 1_000_000):
                started = time.thread_time()  # other load on the machine does not count
                fingerprint(BASH, category, head + piece * (length // len(piece)))
                assert time.thread_time() - started < 0.5  # about 0.003; a quadratic form takes seconds
