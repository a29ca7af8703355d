"""Error texts and their categories: labelled recordings, and what real programs print, in their exact formats."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.categories import ErrorCategory, categorize

DATA = Path(__file__).parents[1] / "data"
SAMPLES = [json.loads(line) for line in (DATA / "errors.jsonl").read_text().splitlines()]

#: What bash, git, curl, compilers, interpreters, package managers, databases and the client print, with its category.
PROGRAMS = [json.loads(line) for line in (DATA / "program_errors.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("sample", SAMPLES, ids=[f"{n}-{s['category']}" for n, s in enumerate(SAMPLES)])
def test_every_labelled_recording_gets_its_label(sample: dict[str, Any]) -> None:
    found = categorize(sample["error"], tool_name=sample["tool_name"], is_interrupt=bool(sample["is_interrupt"]))
    assert found == sample["category"]


@pytest.mark.parametrize("sample", PROGRAMS, ids=[f"{n}-{s['category']}" for n, s in enumerate(PROGRAMS)])
def test_what_real_programs_print_is_told_apart(sample: dict[str, Any]) -> None:
    assert categorize(sample["error"], tool_name=sample["tool_name"]) == sample["category"]


@pytest.mark.parametrize("recording", sorted((DATA / "hooks").glob("PostToolUseFailure-*")))
def test_every_recorded_failure_event_gets_a_category_but_never_the_one_of_closing(recording: Path) -> None:
    event = json.loads(recording.read_text())
    found = categorize(event["error"], tool_name=event["tool_name"], is_interrupt=event["is_interrupt"])
    assert found is not ErrorCategory.INTERRUPTED


def test_an_interrupt_is_the_users_whatever_the_text_says() -> None:
    assert categorize("Exit code 1\nx: Permission denied", tool_name="Bash", is_interrupt=True) == "user_rejected"


def test_the_last_line_with_a_reason_decides() -> None:
    error = "Exit code 1\ncp: cannot stat 'a': No such file or directory\nrm: cannot remove 'b': Permission denied"
    assert categorize(error, tool_name="Bash") == "permission_denied"


def test_a_reason_at_the_end_of_megabytes_is_found() -> None:
    error = "Exit code 1\n" + "building\n" * 500_000 + "cat: x: Permission denied"
    assert categorize(error, tool_name="Bash") == "permission_denied"


@given(st.text(), st.sampled_from(["Bash", "Read", "mcp__a__b", "", "Odd\ud800"]), st.booleans())
def test_any_text_gets_a_category(error: str, tool: str, is_interrupt: bool) -> None:
    for text in (error, f"Exit code 1\n{error}", f"<tool_use_error>{error}"):
        assert isinstance(categorize(text, tool_name=tool, is_interrupt=is_interrupt), ErrorCategory)


WORDS = (
    *("permission denied", "syntaxerror", "timed out", "error: ", "assert", "connection", "killed", "failed ", "hook "),
    *("Traceback (most recent call last)\n", "was blocked", "a.", " ", "\n", ": ", "e999 ", "exception in thread "),
    *("command '", "java.", "path "),
)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("head", ["", "Exit code 1\n", "<tool_use_error>", "error: " * 300])
def test_time_is_bounded_on_texts_made_to_hurt(head: str, word: str) -> None:
    for text in (
        head + word * (10_000 // len(word)),
        head + word * (2_000_000 // len(word)),
        head + (word + ": x ") * 900,
    ):
        started = time.thread_time()  # other load on the machine does not count
        categorize(text, tool_name="Bash")
        assert time.thread_time() - started < 1  # about 0.05; a quadratic form takes many seconds
