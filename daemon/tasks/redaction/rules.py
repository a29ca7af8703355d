"""What a secret looks like, and how to take it out of a text. Every rule starts at its keyword and is linear in time."""

import re
from collections.abc import Callable, Iterator

from tasks.redaction.gate import may_contain_token

#: Makes the replacement of one secret: (rule, secret) -> text.
Mark = Callable[[str, str], str]

_KEYS = (
    r"(?:api|access|secret|private|account|auth|signing|master|encryption|shared|consumer|service)[_-]?key"
    r"(?:[_-]?base)?"
)
#: A name is secret when it ends with one of these: `db_password` and `X-Api-Key` are, `max_tokens` and `token_count` not.
_NAMES = rf"passw(?:or)?d|passphrase|pwd|secrets?|token|credentials?|{_KEYS}"
_SECRET_NAME = re.compile(rf"(?ai:(?:{_NAMES}|passwords|authorization|cookie)\Z)")

# A word may begin after an escaped newline, too: tools print JSON inside of JSON.
_WORD_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_FORMATS = re.compile(
    r"(?P<anthropic>sk-ant-[A-Za-z0-9]{3,10}-[\w-]{10,})"
    rf"|(?P<openai>{_WORD_START}sk-(?:proj|svcacct|admin)-[\w-]{{16,}}|{_WORD_START}sk-[A-Za-z0-9]{{20,}})"
    r"|(?P<github>gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"
    r"|(?P<aws>(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9]))"
    r"|(?P<google>AIza[\w-]{30,})"
    r"|(?P<slack>xox[abeprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,})"
    rf"|(?P<stripe>{_WORD_START}[sr]k_(?:live|test)_[A-Za-z0-9]{{10,}}|whsec_[A-Za-z0-9]{{20,}})"
    rf"|(?P<vault>{_WORD_START}hv[sbr]\.[\w-]{{20,}})"
    r"|(?P<npm>npm_[A-Za-z0-9]{30,})"
    r"|(?P<pypi>pypi-[\w-]{40,})"
    r"|(?P<gitlab>gl(?:pa|d|r|so|ag|im)t-[\w-]{20,})"
    rf"|(?P<huggingface>{_WORD_START}hf_[A-Za-z0-9]{{20,}})"
    r"|(?P<jwt>eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*|eyJ[\w-]{1000,})",
    re.A,
)
_URL = re.compile(r"(?<=://)([^\s/:@\"'`<>\\]*):([^\s/@\"'`<>\\]+)(?=@)", re.A)
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"(?:\s|\\[nrt]|[\"'+,\d→|])*[A-Za-z0-9+/]{8}")
_HEADER = re.compile(
    r"(?ai:authorization(?:\\{0,3}[\"'])?[ \t]{0,4}[:=,][ \t]{0,4}(?:f?\\{0,3}[\"'])?"
    r"(?:(?:basic|bearer|token|digest|negotiate|apikey|key)[ \t]{1,4})?)([^\s\"'\\,;`]{6,})"
)
_COOKIE = re.compile(
    r"(?ai:cookie)(?:[ \t]{0,4}[:=]|\\{0,3}[\"'`][ \t]{0,4}[:=,])[ \t]{0,4}(?:[bf]?\\{0,3}[\"'`])?"
    r"(?=[\w!#$%&*+.^|~-]{1,100}=)",
    re.A,
)
_COOKIE_PAIR = re.compile(r"[ \t]{0,4}([\w!#$%&*+.^|~-]{1,100})(?:=([^\s;\"'`\\]*))?(?:;|(?=(\Z|[^;])))", re.A)
_COOKIE_ATTRIBUTES = frozenset(("domain", "expires", "max-age", "path", "priority", "samesite", "version"))
_NAME = re.compile(
    rf"(?ai:{_NAMES})(?P<quote>\\{{0,3}}[\"'`])?"
    r"(?P<sep>[ \t]{0,4}(?:=>|:=|[:=](?!=))[ \t]{0,4}|(?P<flag>[ \t]{1,4}))",
    re.A,
)
#: One of them is in every such name, in lower case.
_CORE = re.compile(r"pass|pwd|secret|token|credential|key")
_VALUE = re.compile(
    r"(?:[bfru]{1,2}(?=[\"']))?(?:\"(?P<double>(?:\\.|[^\"\\\n])+)|'(?P<single>(?:\\.|[^'\\\n])+)|`(?P<tick>[^`\n]+)"
    r"|(?P<escaped>\\+[\"'])(?P<inner>(?:(?!(?P=escaped))[^\n])+))"
    r"|(?P<bare>[^\s\"'`;&|<>(){}\[\],\\=]+(?:=+(?![^\s\"'`;&|<>(){}\[\],\\]))?)(?P<after>[(\[]?)"
)
_CONFIG = r"(?:(?<=config[ :])|(?<=configure[ :]))"
#: What stands, from `set` on, before the name in commands that set a name to the word behind it; a name without a prefix
#: ends in " ". In lower case, and matched at each `set` alone: searching for it would be slow.
_SETS = re.compile(
    rf"(?a:(?:{_CONFIG}set(?:[ \t]{{1,4}}--?[a-z-]{{1,20}}){{0,3}}|\bsetenv|\bsetx"
    rf"|\bset(?:[ \t]{{1,4}}--?[a-z]{{1,20}}){{1,3}})[ \t]{{1,4}}[\w./:@-]{{0,40}}[a-z_-]"
    rf"|(?:{_CONFIG}set|\bsetenv|\bsetx|\bset -[a-z]{{0,3}}x|\bset --export) )\Z"
)
#: Programs that take a password behind -u (as user:password), -p, -k or -pass, and such flags, in the order of the text.
_FLAGS = re.compile(
    r"(?P<end>\n)|(?P<curl>curl|wget)\b|(?P<mysql>mysql|mariadb)|(?P<openssl>openssl)\b"
    r"|(?P<other>sshpass|(?:docker|podman|registry) login)\b"
    r"|(?<=\s)-(?:pass(?:in|out)?[ \t]{1,4}[\\\"']{0,4}pass:(?P<pass>[^\s\"'\\;|&]+)"
    r"|k[ \t]{1,4}(?P<k>\"[^\"\n]+\"|'[^'\n]+'|[^\s;|&-][^\s;|&]*)"
    r"|u[ \t]{0,4}[\"']?[^\s:\"']{1,100}:(?P<u>[^\s\"']+)|p(?P<p>[^\s;|&]+)|p[ \t](?P<word>[^\s;|&-][^\s;|&]*))",
    re.A,
)

# For MySQL a separate word is the database, and -p alone asks for the password.
_CALLERS_OF = {"pass": {"openssl"}, "k": {"openssl"}, "u": {"curl"}, "p": {"mysql", "other"}, "word": {"other"}}

_SYMBOLIC = re.compile(r"\$|\{|<|%\(|%[A-Za-z_]+%|\[REDACTED:|\*+\Z|\.{3}|…")
_PLACEHOLDERS = frozenset(
    (
        *("none", "null", "nil", "true", "false", "undefined", "unset", "empty", "optional", "required", "changeme"),
        *("str", "string", "bytes", "int", "number", "bool", "boolean", "any", "object", "secretstr"),
        *("self", "this", "type", "input", "xxx", "xxxx", "xxxxx", "xxxxxx", "xxxxxxxx"),
    )
)
_IDENTIFIER = re.compile(r"(?a:[A-Za-z_][A-Za-z_.]*[,;:]?)\Z")
#: What the code around a secret calls it.
_NAMELIKE = re.compile(
    r"(?ai:pass|pw|token|tok\b|secret|key|cred|auth|self|args|env|config|settings|value|val\b|get|read|next|user)"
)


def is_secret_name(name: str) -> bool:
    """Whether the value under this key of a JSON object is secret whatever it looks like."""
    return _SECRET_NAME.search(name[-40:]) is not None


def redact(text: str, mark: Mark) -> str:
    """Replace every secret in `text` by `mark(rule, secret)`. What is already a mark stays as it is."""
    if may_contain_token(text):
        text = _replace(text, "pem", _private_keys(text), mark)
        text = _FORMATS.sub(lambda m: mark(m.lastgroup or "", m[0]), text)
    if "@" in text:
        text = _URL.sub(lambda m: m[0] if _is_placeholder(m[2]) else f"{m[1]}:{mark('url', m[2])}", text)
    text = _replace(text, "authorization", _headers(text), mark)
    text = _replace(text, "cookie", _cookies(text), mark)
    if "-u" in text or "-p" in text or "-k" in text:
        text = _replace(text, "flag", _flags(text), mark)
    return _replace(text, "assignment", _assignments(text), mark)


def _replace(text: str, rule: str, spans: Iterator[tuple[int, int]], mark: Mark) -> str:
    parts: list[str] = []
    last = 0
    for start, end in spans:
        parts += (text[last:start], mark(rule, text[start:end]))
        last = end
    return "".join(parts) + text[last:] if parts else text


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    last = 0
    for begin in _PEM_BEGIN.finditer(text):
        if begin.start() >= last and _PEM_BODY.match(text, begin.end(), begin.end() + 200):
            end = _PEM_END.search(text, begin.end())
            last = end.end() if end else len(text)  # no end: it was cut off, and all that follows is the key
            yield begin.start(), last


def _headers(text: str) -> Iterator[tuple[int, int]]:
    for header in _HEADER.finditer(text):
        has_scheme = text[header.start(1) - 1] in " \t" and text[header.start(1) - 2] not in ":=,"
        if not _is_placeholder(header[1]) and (has_scheme or _has_digit(header[1])) and "(" not in header[1]:
            yield header.span(1)


def _cookies(text: str) -> Iterator[tuple[int, int]]:
    """The values in Cookie and Set-Cookie headers."""
    last = 0
    for header in _COOKIE.finditer(text):
        if header.start() < last:
            continue
        last = header.end()
        while pair := _COOKIE_PAIR.match(text, last):
            last = pair.end()
            value = pair[2] or ""
            if len(value) >= 4 and pair[1].lower() not in _COOKIE_ATTRIBUTES and not _is_placeholder(value):
                yield pair.span(2)
            if pair[3] is not None:
                break


def _flags(text: str) -> Iterator[tuple[int, int]]:
    """Passwords given with -u, -p, -k or -pass to programs known to take one there."""
    callers: set[str] = set()
    latest = ""
    for found in _FLAGS.finditer(text):
        kind = found.lastgroup or ""
        if kind == "end":
            callers.clear()
        elif kind not in _CALLERS_OF:
            callers.add(kind)
            latest = kind
        elif kind == "k" and latest != "openssl":
            continue  # to curl it means something else
        elif not callers.isdisjoint(_CALLERS_OF[kind]) and not _is_placeholder(found[kind].lstrip("\"'")):
            yield found.span(kind)


def _assignments(text: str) -> Iterator[tuple[int, int]]:
    last = 0
    for name in _names(text):
        if name.start() < last:
            continue
        is_flag = name["flag"] is not None
        if is_flag and (name["quote"] or not (_is_flag(text, name.start()) or _is_set(text, name.start()))):
            continue
        if value := _VALUE.match(text, name.end()):
            group = "bare" if value.lastgroup in (None, "after") else value.lastgroup
            is_secret = _is_secret_word(name, value) if group == "bare" else _is_secret_string(name, value[group])
            if is_secret:
                last = value.end(group)
                yield value.span(group)


def _names(text: str) -> Iterator[re.Match[str]]:
    """All matches of _NAME, none of which goes beyond its line: looked for in the lines that may have one, for the search
    without regard to case is slow."""
    lower = text.lower()
    if len(lower) != len(text):  # a character became two: places differ
        yield from _NAME.finditer(text)
        return
    begin = 0
    while core := _CORE.search(lower, begin):
        line = max(text.rfind("\n", begin, core.start()) + 1, begin)
        end = text.find("\n", core.end())
        begin = len(text) if end < 0 else end
        yield from _NAME.finditer(text, line, begin)


def _is_secret_string(name: re.Match[str], found: str) -> bool:
    if _is_placeholder(found):
        return False
    return found.count(" ") < 4 or "phrase" in name[0].lower()  # a sentence is a message about the name


def _is_secret_word(name: re.Match[str], value: re.Match[str]) -> bool:
    found, sep = value["bare"], name["sep"]
    if name["flag"]:
        return not found.startswith("-") and not _is_placeholder(found)
    if value["after"] or len(found) < 4:
        return False
    if len(found) > 64:
        return not found.startswith(("$", "[REDACTED:"))
    assigned = "=" in sep and sep.strip() == sep
    if _IDENTIFIER.match(found) and (name["quote"] or not assigned):
        return False  # code, or a word of YAML
    if _is_placeholder(found):
        return False
    if name["quote"]:
        return True
    if assigned and name[0][: name.start("sep") - name.start()].isupper():
        return True  # an environment variable
    if _IDENTIFIER.match(found):
        return not _NAMELIKE.search(found) and "." not in found
    return _has_digit(found) or not found[0].isalpha() or any(c in "!@#$%^&*+~?" for c in found)


def _is_placeholder(found: str) -> bool:
    if found[:1] in "${<%[*.…":
        return not found or _SYMBOLIC.match(found) is not None
    lower = found[:16].lower()
    return lower in _PLACEHOLDERS or lower.startswith(("your_", "your-"))


def _is_flag(text: str, end: int) -> bool:
    """Whether the name that begins at `end` is the last word of a --long-option."""
    start = text.rfind("--", max(0, end - 40), end)
    if start < 0:
        return False
    before = text[start + 2 : end].replace("-", "").replace("_", "")
    return not before or (before.isalnum() and text[end - 1] not in "0123456789")


def _is_set(text: str, end: int) -> bool:
    """Whether the name that begins, or goes on, at `end` is what a command such as `set -x NAME VALUE` sets."""
    before = text[max(0, end - 80) : end].lower()
    at = before.rfind("set")
    while at >= 0:
        if _SETS.match(before, at):
            return True
        at = before.rfind("set", 0, at)
    return False


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text[:200])
