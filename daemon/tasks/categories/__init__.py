"""Why a tool call failed, read off the form of its error text. Pure tables and one walk over the lines; no I/O.

The five standard categories come first: a refused login is `permission_denied` and a connection that timed out is
`timeout`; `network_error`, `resource_exhausted` and the others only refine what those five leave open.
"""

import re

from tasks.categories.client import CLIENT
from tasks.categories.exceptions import BARE_EXCEPTION, EXCEPTION, TRACEBACK, is_known, of_exception
from tasks.categories.programs import LINE_RULES, QUOTING, TEST_RUN, TEST_WORDS
from tasks.words import ErrorCategory

__all__ = ["ErrorCategory", "categorize"]

#: Only this much of either end is looked at: programs say why they failed first or last, never in the middle.
_END = 3000  # characters
_MAX_LINES = 80  # lines from the end that may decide

_C = ErrorCategory

_EXIT = re.compile(r"exit code (-?\d{1,10})(?:\n|$)")
_WRAPPER = re.compile(r"<tool_use_error>|error calling tool(?: \([^)\n]{0,200}\))?: |error: |mcp error -\d+: ")

#: How a tool's own failure begins; anything else said about a guarded tool is the reason of a refusal.
_SPOKEN = re.compile(
    r"(?:error|failed|failure|fatal|could not|unable|command (?:failed|exited)|process|exit|unexpected)\b"
)
_GUARDED_TOOLS = frozenset(
    ("Bash", "Edit", "Glob", "Grep", "LS", "MultiEdit", "NotebookEdit", "PowerShell", "Read", "Write")
)
_SHELLS = frozenset(("Bash", "BashOutput", "PowerShell"))


def categorize(error: str, *, tool_name: str, is_interrupt: bool = False) -> ErrorCategory:
    """Return the category of a failed call of `tool_name` whose client or caller gave the text `error`.

    Every text gets a category, nothing is raised, and the time is bounded whatever the text's length: only its first
    and last 3,000 characters count. `is_interrupt` is the flag of the PostToolUseFailure event.
    """
    if is_interrupt:
        return _C.USER_REJECTED
    if len(error) > 2 * _END:
        error = f"{error[:_END]}\n{error[-_END:]}"
    text = error.lower().strip()
    if exit_code := _EXIT.match(text):
        return _of_command(exit_code[1], text[exit_code.end() :])
    return _of_client(text, tool_name)


def _of_command(exit_code: str, output: str) -> ErrorCategory:
    if output.startswith("[request interrupted by user") or output.endswith(
        "[request interrupted by user for tool use]"
    ):
        return _C.USER_REJECTED
    if exit_code == "124" or output.startswith("command timed out after"):
        return _C.TIMEOUT
    if exit_code == "137":  # SIGKILL: in practice the kernel's or the container's memory limit
        return _C.RESOURCE_EXHAUSTED
    return _of_output(output) or _C.COMMAND_FAILED


def _of_client(text: str, tool_name: str) -> ErrorCategory:
    refused = text.startswith("<tool_use_error>")
    start, known = 0, None
    while known is None:
        known = CLIENT.match(text, start)
        wrapper = _WRAPPER.match(text, start)
        if wrapper is None:
            break
        start = wrapper.end()
    if known is not None and known.lastgroup is not None:
        return ErrorCategory(known.lastgroup)
    body = text[start:].removesuffix("</tool_use_error>")
    if found := _of_output(body):
        return found
    if refused:
        return _C.INVALID_INPUT
    if tool_name in _SHELLS and (not body or start or _SPOKEN.match(body) or body.endswith("command not found")):
        return _C.COMMAND_FAILED
    # A hook's own reason is free text; these tools name every failure of their own in a known form.
    if tool_name in _GUARDED_TOOLS and body and not start and not _SPOKEN.match(body):
        return _C.BLOCKED
    return _C.TOOL_ERROR


def _of_output(text: str) -> ErrorCategory | None:
    """What a program's merged output says, or None: the last line that has the form of a reason decides."""
    present = [rule for rule in LINE_RULES if rule[0] in text]
    at = text.rfind(TRACEBACK)
    if not present and at < 0 and "error" not in text:
        return None
    if any(word in text for word in TEST_WORDS) and TEST_RUN.search(text):
        return _C.COMMAND_FAILED
    if at >= 0 and (raised := EXCEPTION.search(text, at)):
        return of_exception(raised[1].rpartition(".")[2], raised[2] or "")
    for line in reversed(text.split("\n")[-_MAX_LINES:]):
        if "error" in line and (raised := BARE_EXCEPTION.match(line)):
            name = raised[1].rpartition(".")[2]
            if is_known(name):
                return of_exception(name, raised[2] or "")
        for stem, pattern, category in present:
            if stem in line and pattern.search(line.strip()) and not QUOTING.match(line):
                return category
    return None
