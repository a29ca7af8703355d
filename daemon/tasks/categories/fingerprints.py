"""Which failures are of the same kind: an error text without what differs from one occurrence to the next. Pure."""

import hashlib
import re
from typing import NamedTuple

from tasks.categories.exceptions import TRACEBACK
from tasks.categories.programs import LINE_RULES, QUOTING, TEST_RUN, TEST_WORDS, Rule
from tasks.categories.shapes import LINE_LIMIT, folded, shape
from tasks.words import ErrorCategory

#: Only this much of either end is looked at, as for the category.
_END = 3_000  # characters
_MAX_LINES = 80

_C = ErrorCategory

_EXIT = re.compile(r"exit code (-?\d{1,10})(?:\n|$)", re.IGNORECASE)
_WRAPPER = re.compile(r"(?:<tool_use_error>|error calling tool(?: \([^)\n]{0,200}\))?: |error: )+", re.IGNORECASE)
#: What the client itself says to the model: one line, whatever it quotes after that.
_SPOKEN = frozenset((_C.STALE_EDIT, _C.INVALID_INPUT, _C.BLOCKED, _C.USER_REJECTED, _C.INTERRUPTED))
_SENTENCE = re.compile(r"(?<=[\w'>)…])[.!?] +(?=[\"'(*]{0,2}[A-Z])")
_SHORTEST_SENTENCE = 10
_HOOK = re.compile(r"^(\S{1,100} hook (?:error|returned|denied|blocked|stopped)[^\[\n]{0,40}: )\[.*\](?=: )", re.DOTALL)
_ISSUE = re.compile(r'"message": "([^"\n]{1,120})"')
_LETTERS = re.compile(r"[^\W\d_]{2}")

_RAISED = re.compile(
    r"(?:Uncaught |Unhandled )?[A-Za-z_][\w.:]{0,120}"
    r"(?:Error|Exception|Expired|Timeout|Denied|Interrupt)(?:: .*|:?$)"
)
_STRONG = re.compile(r"\b(?:error|fatal|panic|panicked|exception|conflict)\b|\berr!", re.IGNORECASE)
_WEAK = re.compile(
    r"\b(?:failed|failure|fails|cannot|can't|couldn't|could not|unable|undefined|invalid|denied|not found|unknown|missing"
    r"|refused|no such|not a|not an|must|abort(?:ed|ing)?)\b",
    re.IGNORECASE,
)
#: Ends of a process that a shell reports by the number alone: not executable, not found, a signal.
_TELLING_EXITS = frozenset(("124", "126", "127", "130", "134", "137", "139", "141", "143"))
#: Of these, what is printed on the way is none of the reason: out of time, out of memory.
_LIMITS = frozenset(("124", "137"))

#: What runners of tests print last, by what is matched of it.
_RUNNERS = (
    (re.compile(r"failed \((?:failures|errors)="), "unittest: tests failed"),
    (re.compile(r"--- fail:|fail\t"), "go test: tests failed"),
    (re.compile(r"test result: failed"), "cargo test: tests failed"),
    (re.compile(r"not ok |# fail"), "TAP: tests failed"),
    (re.compile(r" *●| *tests?: | *test (?:files|suites)"), "jest: tests failed"),
    (re.compile(r"tests run: "), "maven: tests failed"),
    (re.compile(r"\d+ examples?, |failures!"), "rspec: tests failed"),
    (re.compile(r".*%"), "ctest: tests failed"),
    (re.compile(r" *\d+ failing"), "mocha: tests failed"),
    (re.compile(r"error|.*\d errors?"), "pytest: errors"),
    (re.compile(r"failed|.*\d failed"), "pytest: tests failed"),
)


def _rules_of(category: ErrorCategory) -> tuple[Rule, ...]:
    return tuple(rule for rule in LINE_RULES if rule[2] is category)


_RULES: dict[str, tuple[Rule, ...]] = {category: _rules_of(category) for category in ErrorCategory}


class Fingerprint(NamedTuple):
    #: 16 hexadecimal characters
    id: str
    #: at most 200 characters, on one line
    message: str

    def unsaid(self) -> "Fingerprint":
        """The same kind, without its message."""
        return self._replace(message="")


def fingerprint(tool_name: str, category: str, error: str) -> Fingerprint:
    """The kind of a failure of `tool_name` that `categorize` put into `category`, told by the text `error`.

    The same kind of failure gets the same fingerprint whatever paths, numbers, lines, ids, hosts, times or quoted values
    it names; the program, the type of exception and the wording tell kinds apart. `error` is redacted already: what is
    left of it is the message. Nothing is raised, and the time is bounded whatever the length.
    """
    message = _message(category, error)
    hashed = hashlib.blake2b(digest_size=8)
    for part in (tool_name, str(category), folded(message)):
        hashed.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return Fingerprint(hashed.hexdigest(), message)


def _message(category: str, error: str) -> str:
    if len(error) > 2 * _END:
        error = f"{error[:_END]}\n{error[-_END:]}"
    text = error.replace("\r\n", "\n").replace("\r", "\n").strip()
    exit_code = _EXIT.match(text)
    body = text[exit_code.end() :].strip("\n") if exit_code else text
    if exit_code and not _LETTERS.search(body):
        return f"Exit code {exit_code[1]}" if exit_code[1] in _TELLING_EXITS else "Exit code <n>"
    if not exit_code:
        wrapper = _WRAPPER.match(body)
        body = (body[wrapper.end() :] if wrapper else body).removesuffix("</tool_use_error>")
    if category in _SPOKEN:
        return _first_sentence(_spoken(body))
    lines = [line for line in body.split("\n")[-_MAX_LINES:] if _LETTERS.search(line, 0, LINE_LIMIT)]
    if not lines:
        return shape(body)
    if exit_code is None and len(lines) == 1:
        return _first_sentence(lines[0])
    return _telling(category, body, lines, exit_code[1] if exit_code else None)


def _spoken(body: str) -> str:
    """The line of the client's own words that says what is wrong."""
    body = _HOOK.sub(r"\1[…]", body[: 2 * _END], count=1)
    first, _, rest = body.partition("\n")
    first = first.strip()
    if first.endswith(("[", "{")):
        issue = _ISSUE.search(rest)
        return f"{first[:-1].strip()} {issue[1]}" if issue else first[:-1]
    if first.endswith(":") and rest:
        return f"{first} {rest.strip().partition(chr(10))[0]}"
    return first


def _first_sentence(line: str) -> str:
    message = shape(line)
    end = _SENTENCE.search(message, min(_SHORTEST_SENTENCE, len(message)))
    return message[: end.start()] if end else message


def _telling(category: str, body: str, lines: list[str], exit_code: str | None) -> str:
    """The message from output of several lines: the test runner's verdict, the exception, the reason, the first error."""
    is_command = exit_code is not None
    lower = body.lower()
    if category == _C.COMMAND_FAILED and any(word in lower for word in TEST_WORDS) and (run := TEST_RUN.search(lower)):
        return next((said for form, said in _RUNNERS if form.match(run[0])), "tests failed")
    if (at := lower.rfind(TRACEBACK)) >= 0 and len(lower) == len(body):
        raised = next((line for line in body[at:].split("\n")[1:] if line and not line[0].isspace()), None)
        if raised is not None:
            return shape(raised)
    present = [rule for rule in _RULES.get(category, ()) if rule[0] in lower]
    chosen = (
        next((n for n, line in enumerate(lines) if _is_reason(line[:LINE_LIMIT].lower(), present)), None)
        if present
        else None
    )
    for form in () if chosen is not None else (_RAISED, *((_STRONG, _WEAK) if is_command else ())):
        chosen = next((n for n, line in enumerate(lines) if _says(form, line)), None)
        if chosen is not None:
            break
    if chosen is None and exit_code in _LIMITS:
        return f"Exit code {exit_code}"
    if chosen is None:
        chosen = len(lines) - 1 if is_command else 0
    line = lines[chosen].strip()
    if line.endswith(":") and chosen + 1 < len(lines):
        line = f"{line} {lines[chosen + 1].strip()}"
    return shape(line)


def _is_reason(line: str, rules: list[Rule]) -> bool:
    return any(stem in line and pattern.search(line.strip()) for stem, pattern, _ in rules) and not QUOTING.match(line)


def _says(form: re.Pattern[str], line: str) -> bool:
    if form is _RAISED:
        return form.match(line.strip(), 0, LINE_LIMIT) is not None
    return form.search(line, 0, LINE_LIMIT) is not None and not QUOTING.match(line[:LINE_LIMIT].lower())
