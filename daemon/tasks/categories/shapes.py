"""One line of an error without what differs from one occurrence to the next. Pure; every expression is linear."""

import re

#: Characters of a line that are looked at, and of a shape.
LINE_LIMIT, SHAPE_LIMIT = 1_000, 200

PATH, HOST, URL, ID, NUMBER, TIME, SECRET, QUOTED = (
    "<path>",
    "<host>",
    "<url>",
    "<id>",
    "<n>",
    "<time>",
    "<secret>",
    "'…'",
)

_ANSI = re.compile(r"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)?|[@-_])")
_MARK = re.compile(r"\[REDACTED:[^\]\n]{0,80}\]")
_CUT = re.compile(r"…\[cut \d+ (?:characters|items|of)[^\]\n]{0,80}\]")
_TIME = re.compile(
    r"\[?\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d)?)?\]?(?!\d)"
    r"|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}\d{1,2} \d\d:\d\d:\d\d\b"
    r"|\[?\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b\]?"
)
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s'\"`<>)\],;]*[^\s'\"`<>)\],;:.?!]")
_QUOTES = re.compile(
    r"(?<!\w)'\[[^\]\n]*\]'|`''|`[^`'\n]*['`]|\"[^\"\n]*\"|‘[^’\n]*’|“[^”\n]*”|«[^»\n]*»|(?<![\w'])'[^'\n]*'(?!\w)"
    # GNU's and shells' own ways to put a quote into quotes
    r"|(?<!\w)\$'[^'\n]*'"
)
_OPEN_QUOTE = re.compile(r"(?:(?<![\w'])'|\"|`|‘|“)[^'\"`’”\n]*$")
#: Quoted, and yet the name of a kind of failure.
_CODE = re.compile(r"['\"`]E[A-Z0-9]{3,20}['\"`]|['\"`](?:NoneType|undefined|null)['\"`]")

_EXTENSIONS = (
    "ad[ab]|asm|bash|bin|bz2|c|cc|cfg|cjs|class|conf|cpp|cs|css|csv|cts|cxx|dart|db|diff|dll|dylib|el|elm|env|erl|exe|exs?"
    "|fs|gif|go|gql|gradle|graphql|gz|h|hcl|hpp|hs|html?|hxx|ico|ini|ipynb|jar|java|jinja2?|jl|jpe?g|js|json[5cl]?|jsx|key"
    "|kts?|less|lock|log|lua|md|mdx|mjs|ml|mli|mod|mp[34]|mts|nim|nix|o|odt|out|parquet|patch|pdf|pem|php|pl|plist|pm|png"
    "|proto|ps1|py[cdi]?|r|rake|rb|rlib|rs|rst|sass|scala|scss|service|sh|so|socket|sol|sql|sqlite3?|sum|sv|svelte|svg|swift"
    "|tar|tex|tf|tfvars|tgz|tmp|toml|tsv?|tsx|ttf|txt|v|vb|vue|wasm|webp|whl|woff2?|xlsx?|xml|xz|ya?ml|zig|zip|zsh"
)
_POSITION = r"(?::\d+(?::\d+)?(?!\d)|\(\d+(?:,\d+)?\)|:\[\d+,\d+\])?"
_PART = r"[\w.@+~%=#$*-]"
_PATHS = re.compile(
    # absolute, of a home, of here; on Windows
    rf"(?<![\w<>])(?:~|\.{{1,2}})?/(?:[^\s'\"`:,;()\[\]{{}}<>|]*)?{_POSITION}"
    rf"|(?<!\w)[A-Za-z]:\\[^\s'\"`:,;()\[\]{{}}<>|]+{_POSITION}"
    rf"|(?<![\w.@/-])(?P<relative>{_PART}{{1,120}}(?:/{_PART}{{1,120}})+/?){_POSITION}"
    rf"|(?<![\w.@/-])[\w@+~-][\w.@+~-]{{0,200}}\.(?:{_EXTENSIONS})(?![\w-]|\.\w){_POSITION}"
    rf"|(?<![\w.@/-])(?:Dockerfile|Makefile|Gemfile|Rakefile|Procfile)\b{_POSITION}"
    # names of branches, which may be one word
    r"|(?<=\brefspec )[^\s:,]+|(?<=\bremote ref )[^\s:,]+"
    r"|(?<![\w.@/-])tmp[._-]?(?=[A-Za-z_]*[A-Z0-9])[A-Za-z0-9_]{6,40}\b"
)
#: With a stroke, and yet no path.
_WORDS = frozenset(
    ("i/o", "and/or", "net/http", "tcp/ip", "read/write", "input/output", "client/server", "n/a", "add/add", "yes/no",
     "modify/delete", "rename/delete", "rename/rename", "add/rename", "rename/add", "file/directory", "ssl/tls",
     "start/stop", "either/or", "on/off", "true/false", "http/1.0", "http/1.1", "http/2", "http/3")
)  # fmt: skip
_PROGRAM = re.compile(r"^(?:[A-Za-z]:\\[^\s:]{0,200}\\|/(?:[\w.+-]{1,80}/){0,20}?(?:bin|sbin)/)([\w.+-]{1,80}?)(?=: )")

_TLD = (
    "com|org|net|io|dev|test|local|localhost|invalid|example|internal|ai|app|co|de|uk|eu|fr|edu|gov|cloud|lan|home|arpa"
)
_HOSTS = re.compile(
    r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?:/\d{1,2})?(?::\d{1,5})?(?![\w.]\w)"
    r"|(?<![\w:.])\[?(?=[0-9a-fA-F:]{0,39}::)[0-9a-fA-F:]{2,39}(?<!\w::)\]?(?::\d{1,5})?(?![\w:])"
    r"|(?<![\w:.])(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}(?![\w:])"
    r"|(?<![\w.@-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}(?::\d{1,5}\b)?"
    rf"|(?<![\w.@-])(?:[A-Za-z0-9_-]{{1,63}}\.){{1,6}}(?:{_TLD})(?![\w-]|\.\w)(?::\d{{1,5}}\b)?"
    r"(?:/[\w./-]*\w)?"
    r"|(?<![\w.@-])localhost(?::\d{1,5})?(?![\w.-]\w)"
    r"|(?<=connect to host )[^\s:,]+|(?<=resolve host: )[^\s:,]+|(?<=resolve host )[^\s:,]+|(?<=lookup )[^\s:,]+"
)

_IDS = re.compile(
    r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"
    r"|\b0x[0-9a-fA-F]+\b|\bsha\d{1,3}[:-][0-9A-Za-z+/=]{6,}"
    r"|(?<![\w-])(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{6,64}(?![\w])"
    r"|\b(?:toolu|msg|req|call|task|job|run|evt|shell|bash|agent)_(?=[a-z_]*[A-Z0-9])[A-Za-z0-9]{5,64}\b"
    r"|(?<=\bID: )\w[\w.-]*|(?<=\bid: )\w[\w.-]*|(?<=\bwith id )\w[\w.-]*|(?<=\bwith ID )\w[\w.-]*"
)
_FUNCTION = re.compile(r"(?<![\w.])[\w.]{1,120}\(\)")
_MAYBE_ID = re.compile(r"\d| id|ID: ")
_TOKEN = re.compile(r"(?<![\w<>])[A-Za-z0-9_+=-]{12,}(?![\w<>])")
_CHANGE = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])|[a-z](?=[A-Z])")

_NUMBERS = re.compile(
    # numbers that name a kind of failure
    r"(?P<kept>\b(?:Errno|os error|curl:|MCP error|API Error|HTTP(?:/[\d.]+)?|status code|status|code|returned error|^ERROR)"
    r"[:=]? ?[\[(]?-?\d{1,6}(?![\w.]\w)|\butf-?(?:8|16|32)\b|\bISO-8859-\d+|\bSHA-\d+|\bx86[_-]64\b)"
    r"|(?<![A-Za-z0-9])\d+(?:\.\d+)?[dhm]\d[\dhms.]{0,20}(?!\w)"
    r"|(?<![A-Za-z0-9])[-+]?(?:\d+(?:[.,:/x-]\d+)*)(?:\.(?=\s|$))?"
    r"(?: ?(?:ns|[µu]s|ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?|[kKMGT]i?B|bytes?|B|%)(?![\w]))?"
    r"(?:(?:e[+-]?\d+)(?!\w))?"
    r"|(?<=(?-i:[a-z]))\d{3,}(?!\w)",
    re.IGNORECASE,
)
_EXIT = re.compile(r"\bexit (?:code|status):? -?\d+", re.IGNORECASE)
_PLURAL = re.compile(r"(?<=[a-z][a-z](?:ch|sh|ss))es\b|(?<=[a-z][a-z]x)es\b|(?<=[a-rt-z][a-rt-z])s\b")
_REPEATED = re.compile(r"(<[\w…]+>|'…')(?:(?:, ?| and | | or )\1)+")
_RUN = re.compile(r"([^\w\s])\1{3,}|([^\W\d])\2{9,}")
_SPACE = re.compile(r"\s+")
# What a shell says of a process that a signal ended; the command line follows.
_SIGNAL = re.compile(
    r"(: line \d+: +\d+ (?:Segmentation fault|Killed|Aborted|Bus error|Terminated|Floating point exception"
    r"|Illegal instruction|Hangup|Quit))\b.*"
)
_PLACEHOLDER = re.compile(r"<(?:path|host|url|id|n|time|secret)>|'…'")
_PLACE = re.compile(r"^<…>(?::| -) (?=\S)")  # of the source that a compiler talks about; not every line of it says so
_LEADING = re.compile(r"^(?:\W{0,4}(?:<time>|<n>)\]?[:,]? )+(?=\S)")

_STRERROR = re.compile(
    r"(?P<said>no such file or directory|no such file|permission denied|is a directory|not a directory|file exists"
    r"|directory not empty|operation not permitted|device or resource busy|no space left on device|read-only file system"
    r"|input/output error|text file busy|file name too long|exec format error|name or service not known"
    r"|too many levels of symbolic links|directory nonexistent)(?: \(\d+\))?(?P<after>: (?:'[^'\n]*'|\"[^\"\n]*\"|\S+))?\W*$",
    re.IGNORECASE,
)
_CALL = re.compile(
    r"(?:f?open(?:at)?|read|write|l?stat|statx|mkdir|rmdir|chdir|chmod|chown|exec\w*|fork|bind|connect|listen|mmap|pipe|unlink"
    r"(?:at)?|rename|readlink|remove|scandir|fork/exec|cannot open|cannot write|cannot stat|error)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"(?P<verb>(?:.{0,80}(?:cannot|can't|couldn't|could not|unable to|failed to|error) [a-z]{1,20}(?: [a-z]{1,20}){0,2}"
    rf"|{_CALL.pattern})) (?P<what>(?!error|failed)[^\s<'\"`‘“]+)",
    re.IGNORECASE,
)


def shape(line: str) -> str:
    """`line` with its paths, hosts, quoted values, ids, numbers and times replaced; at most SHAPE_LIMIT characters."""
    is_cut = len(line) > LINE_LIMIT or "…[cut" in line
    line = _CUT.sub("", line[:LINE_LIMIT])
    if "\x1b" in line:
        line = _ANSI.sub("", line)
    line = _RUN.sub(lambda found: (found[1] or found[2]) * 3, line.strip())
    line = _TIME.sub(TIME, _MARK.sub(SECRET, line)) if "[" in line or ":" in line or "-" in line else line
    if ": " in line:
        line = _SIGNAL.sub(r"\1", _PROGRAM.sub(r"\1", line))
        line = _without_subject(line)
    if "://" in line:
        line = _URL.sub(URL, line)
    line = _QUOTES.sub(_quoted, line)
    if is_cut:
        line = _OPEN_QUOTE.sub(QUOTED, line)
    if "." in line or ":" in line or "host" in line:
        line = _HOSTS.sub(HOST, line)
    line = _PATHS.sub(_path, line)
    if "()" in line:
        line = _FUNCTION.sub(f"{ID}()", line)
    if _MAYBE_ID.search(line):
        line = _TOKEN.sub(_token, _IDS.sub(ID, line))
        line = _NUMBERS.sub(_number, _EXIT.sub("exit code <n>", line))
    line = _SPACE.sub(" ", _REPEATED.sub(r"\1", line))
    return _LEADING.sub("", line).strip(" \t-=*#")[:SHAPE_LIMIT].rstrip(" .")


def folded(shape: str) -> str:
    """What of a shape is compared: a value may be quoted here and bare there, an id be all digits, an error be several."""
    text = _REPEATED.sub(r"\1", _PLACEHOLDER.sub("<…>", shape)).casefold()
    return _PLURAL.sub("", _PLACE.sub("", text))


def _quoted(found: re.Match[str]) -> str:
    return found[0] if _CODE.fullmatch(found[0]) else QUOTED


def _path(found: re.Match[str]) -> str:
    if (relative := found["relative"]) is not None and relative.lower().rstrip("/") in _WORDS:
        return found[0]
    # A full stop that ends the sentence is not part of the name.
    return f"{PATH}{'.' * (found[0][-1] == '.' and len(found[0]) > 2)}"


def _token(found: re.Match[str]) -> str:
    """Random letters and digits change their kind often; words and names of constants do not."""
    token = found[0]
    digits = sum(map(str.isdigit, token))
    if digits >= 3 and len(_CHANGE.findall(token)) >= 4:
        return ID
    return ID if len(token) >= 32 and digits >= 2 and len(_CHANGE.findall(token)) >= 3 else token


def _number(found: re.Match[str]) -> str:
    if found["kept"] is not None:
        return found[0]
    return f"{NUMBER}." if found[0][-1] == "." else NUMBER


def _without_subject(line: str) -> str:
    """`cat: notes: Permission denied`: what a program names bare before, or a shell after, what strerror(3) says."""
    said = _STRERROR.search(line)
    if said is None:
        return line
    what = HOST if said["said"].lower().startswith("name or") else PATH
    end = f": {what}" if said["after"] else ""
    before = line[: said.start()]
    if before[-2:] == " (":  # nope (No such file or directory)
        head, _, what = before[:-2].rpartition(" ")
        return f"{head} {PATH} ({said['said']})" if head and "'" not in what and '"' not in what else line
    pieces = before.removesuffix(": ").split(": ")
    for number in range(len(pieces) - 1, -1, -1):
        piece = pieces[number]
        if (subject := _SUBJECT.fullmatch(piece)) is not None:
            pieces[number] = f"{subject['verb']} {PATH}"
            break
        if number and piece and " " not in piece and piece[0] not in "'\"`‘“<[(" and not _CALL.fullmatch(piece):
            pieces[number] = what
            break
    middle = ": " if before.endswith(": ") else ""
    tail = line[said.end("said") : said.start("after")] if said["after"] else line[said.end("said") :]
    return f"{': '.join(pieces)}{middle}{said['said']}{tail}{end}" if said["after"] or middle else line
