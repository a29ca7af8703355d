"""What a shell would make of a command line, as far as that is certain without running it. Linear in its length."""

import re
from dataclasses import dataclass, field

#: Stand in a word for what only the shell could fill in, and for the home directory. No real command line holds them.
UNKNOWN = "\0"
HOME = "\1"

#: Command lines inside of others, counted from the outermost.
DEPTH = 12

_BLANK = re.compile(r"(?:[ \t\r]|\\\n)+")
_PLAIN = re.compile(r"[^ \t\r\n'\"\\$`;&|()<>]+")
_TILDE = re.compile(r"~(?=[/ \t\r\n;&|()<>]|$)")
_LITERAL = re.compile(r"[^\"\\$`]+")
_OPERATOR = re.compile(r"\|\||&&|;;&|;;|;&|\|&|[;&|()\n]")
_REDIRECTION = re.compile(r"(?:\d+)?(?:<<<|<<-|<<|<>|<&|<|>>|>&|>\||>)|&>>?")
_NAME = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])")


@dataclass(frozen=True, slots=True)
class Operator:
    """What stands between commands: `;` (also for a new line), `&`, `&&`, `||`, `|`, `(`, `)`."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command: its words without quotes, redirections and comments."""

    words: tuple[str, ...]
    #: the command lines in its `$(…)`, `` `…` `` and `<(…)`, which run before it
    inner: tuple[tuple["Command | Operator", ...], ...] = ()


Line = tuple[Command | Operator, ...]


class _Unsure(Exception):
    """From here on nothing is certain."""


def parse(text: str) -> Line:
    """The commands of `text`, up to where it ends or stops being certain; an unfinished command is left out."""
    reader = _Reader(text.replace(UNKNOWN, "").replace(HOME, ""))
    line = _Line()
    try:
        reader.read(line, until="", depth=0)
    except _Unsure:
        return tuple(line.items)
    return tuple(line.items)


@dataclass(slots=True)
class _Line:
    """A command line under construction."""

    items: list[Command | Operator] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    inner: list[Line] = field(default_factory=list)

    def end(self, operator: str | None = None) -> None:
        if self.words or self.inner:
            self.items.append(Command(tuple(self.words), tuple(self.inner)))
            self.words, self.inner = [], []
        if operator is not None:
            self.items.append(Operator(";" if operator == "\n" or operator.startswith(";") else operator[:2]))


class _Reader:
    """Goes through the text once, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._end = len(text)

    def read(self, line: _Line, *, until: str, depth: int) -> None:
        """Read into `line` up to `until` (`)` or nothing). Raises _Unsure."""
        if depth > DEPTH:
            raise _Unsure
        open_groups = 0
        heredocs: list[tuple[str, bool]] = []
        while self._at < self._end:
            self._skip(_BLANK)
            if self._at >= self._end:
                break
            if self._text[self._at] == "#":
                self._at = self._find("\n")
            elif found := _REDIRECTION.match(self._text, self._at):
                self._redirect(found[0], line, heredocs, depth)
            elif found := _OPERATOR.match(self._text, self._at):
                if found[0] == ")" and until and not open_groups:
                    self._at = found.end()
                    line.end()
                    return
                open_groups += {"(": 1, ")": -1}.get(found[0], 0) if until else 0
                self._operate(found[0], line)
                if found[0] == "\n":
                    self._skip_heredocs(heredocs)
            else:
                if until and self._text.startswith("case", self._at):
                    raise _Unsure  # its patterns end in parentheses of their own
                line.words.append(self._word(line, depth))
        if until:
            raise _Unsure
        line.end()

    def _operate(self, operator: str, line: _Line) -> None:
        if operator == "(":
            if line.words:
                raise _Unsure  # a function, an array: what is in it need not run
            if self._text.startswith("((", self._at):
                self._at = self._after("))")
                return
        self._at += len(operator)
        line.end(operator)

    def _redirect(self, operator: str, line: _Line, heredocs: list[tuple[str, bool]], depth: int) -> None:
        self._at += len(operator)
        if operator in ("<", ">") and self._text.startswith("(", self._at):
            self._at += 1
            self._nest(line, depth)
            line.words.append(UNKNOWN)
            return
        self._skip(_BLANK)
        if self._at >= self._end or self._text[self._at] in "\n;&|()<>":
            raise _Unsure
        target = self._word(line, depth)
        if operator in ("<<", "<<-"):
            heredocs.append((target, operator == "<<-"))

    def _skip_heredocs(self, heredocs: list[tuple[str, bool]]) -> None:
        for delimiter, indented in heredocs:
            if UNKNOWN in delimiter:
                raise _Unsure
            while True:
                if self._at >= self._end:
                    raise _Unsure
                end = self._find("\n")
                body = self._text[self._at : end]
                self._at = end + 1
                if (body.lstrip("\t") if indented else body) == delimiter:
                    break
        heredocs.clear()

    def _word(self, line: _Line, depth: int) -> str:
        parts: list[str] = []
        if self._text[self._at] == "~":
            parts.append(HOME if _TILDE.match(self._text, self._at) else UNKNOWN)
            self._at += 1
        while self._at < self._end:
            char = self._text[self._at]
            if char in " \t\r\n;&|()<>":
                break
            if char == "'":
                end = self._find("'", self._at + 1)
                if end >= self._end:
                    raise _Unsure
                parts.append(self._text[self._at + 1 : end])
                self._at = end + 1
            elif char == '"':
                self._at += 1
                self._quoted(parts, line, depth)
            elif char == "\\":
                if self._text[self._at + 1 : self._at + 2] != "\n":
                    parts.append(self._text[self._at + 1 : self._at + 2])
                self._at += 2
            elif char in "$`":
                parts.append(self._expansion(line, depth))
            else:
                parts.append(self._run(_PLAIN))
        return "".join(parts)

    def _quoted(self, parts: list[str], line: _Line, depth: int) -> None:
        while self._at < self._end:
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return
            if char == "\\":
                following = self._text[self._at + 1 : self._at + 2]
                parts.append(following if following in '"\\$`' else "" if following == "\n" else char + following)
                self._at += 2
            elif char in "$`":
                parts.append(self._expansion(line, depth))
            else:
                parts.append(self._run(_LITERAL))
        raise _Unsure

    def _expansion(self, line: _Line, depth: int) -> str:
        """What `$` or a back quote begins. `$HOME` alone is told, for all else it says UNKNOWN."""
        text = self._text
        if text[self._at] == "`":
            end = self._find("`", self._at + 1)
            if end >= self._end or "\\" in text[self._at : end]:
                raise _Unsure
            line.inner.append(parse(text[self._at + 1 : end]))
            self._at = end + 1
            return UNKNOWN
        if text.startswith("$((", self._at):
            self._at = self._after("))")
            return UNKNOWN
        if text.startswith("$(", self._at):
            self._at += 2
            self._nest(line, depth)
            return UNKNOWN
        if text.startswith("${", self._at):
            whole = text.startswith("${HOME}", self._at)
            self._at = self._after("}")
            return HOME if whole else UNKNOWN
        if text.startswith("$'", self._at) or text.startswith('$"', self._at):
            raise _Unsure
        if found := _NAME.match(text, self._at):
            self._at = found.end()
            return HOME if found[0] == "$HOME" else UNKNOWN
        self._at += 1
        return "$"

    def _nest(self, line: _Line, depth: int) -> None:
        inside = _Line()
        self.read(inside, until=")", depth=depth + 1)
        line.inner.append(tuple(inside.items))

    def _run(self, pattern: re.Pattern[str]) -> str:
        """What matches here, at least one character."""
        found = pattern.match(self._text, self._at)
        run = found[0] if found else self._text[self._at]
        self._at += len(run)
        return run

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()

    def _find(self, what: str, start: int | None = None) -> int:
        found = self._text.find(what, self._at if start is None else start)
        return self._end if found < 0 else found

    def _after(self, what: str) -> int:
        found = self._text.find(what, self._at)
        if found < 0:
            raise _Unsure
        return found + len(what)
