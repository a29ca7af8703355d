"""Why a tool call failed, read off the form of its error text. Pure tables and one walk over the lines; no I/O.

The five standard categories come first: a refused login is `permission_denied` and a connection that timed out is
`timeout`; `network_error`, `resource_exhausted` and the others only refine what those five leave open.
"""

import re

from tasks.words import ErrorCategory

__all__ = ["ErrorCategory", "categorize"]

#: Only this much of either end is looked at: programs say why they failed first or last, never in the middle.
_END = 3000  # characters
_MAX_LINES = 80  # lines from the end that may decide

_C = ErrorCategory
_Rule = tuple[str, re.Pattern[str], ErrorCategory]


def _group(category: ErrorCategory, *forms: str) -> str:
    return f"(?P<{category.value}>{'|'.join(forms)})"


#: What the client itself says, matched at the start of its (lower-case) text; the first group that matches decides.
_CLIENT = re.compile(
    "|".join(
        (
            _group(
                _C.USER_REJECTED,
                r"\[request interrupted",
                r"(?:the )?user (?:rejected|denied|declined|cancell?ed|aborted|doesn.t want|did not allow|stopped)",
                r"(?:tool use|request|operation) (?:was )?(?:rejected|interrupted|cancell?ed|aborted) by (?:the )?user",
                r"interrupted by (?:the )?user",
                r"permission denied by (?:the )?user",
                r"permission (?:prompt was aborted|request withdrawn)",
            ),
            _group(
                _C.BLOCKED,
                r"permission (?:to|for) \S[^\n]{0,1500}? denied",
                r"permission denied by (?:\w+ )?hook",
                r"permission (?:rule|prompts? (?:is|are) not)",
                r"claude requested permission",
                r"[\w:.-]{1,200} hook (?:error|returned|denied|blocked|stopped)",
                r"hook [\w:.-]{1,200} (?:denied|blocked)",
                r"(?:execution|operation) (?:stopped|blocked) by",
                r"blocked(?: by|:)",
                r"(?:command|tool|operation|action|request) (?:is |was |has been )?(?:blocked|denied|forbidden|not allowed)\b",
                r"(?:this|the) (?:bash )?(?:command|tool|operation) [^\n]{0,80}?requires? (?:your )?approval",
                r"[^\n]{1,300}? (?:was|is|has been) (?:blocked\b|denied by)",
                r"[^\n]{1,80}? denied by (?:a |your |the )?(?:plugin|rule|policy|permission|hook)",
                r"file is in a (?:directory|folder) that is (?:denied|ignored) by your",
                r"this bash command contains multiple operations",
                r"claude code is unable to fetch",
                r"auto mode did not approve",
                r"\{\s*\"error_type\":\s*\"egress_blocked",
            ),
            _group(
                _C.STALE_EDIT,
                r"file has not been read yet",
                r"file has been (?:unexpectedly )?modified",
                r"(?:file|notebook) must be read",
                r"string (?:to replace )?not found",
                r"found \d+ matches of the string to replace",
                r"`?old_str(?:ing)?`? (?:was )?not (?:found|unique)",
            ),
            _group(
                _C.TIMEOUT,
                r"command timed out",
                r"mcp (?:server|tool) [^\n]{0,300}?timed out",
                r"mcp error -32001\b",
                r"(?:\w+ ){0,4}timed[ -]?out\b",
                r"timeout (?:of|after) \d+|(?:\w+ ){0,2}timeout(?:[ :.,(]|$)",
                r"mcp server [^\n]{0,200}? did not answer the call within its deadline",
            ),
            _group(
                _C.INVALID_INPUT,
                r"inputvalidationerror",
                r"no such tool",
                r"unknown (?:skill|tool|agent|command|option|parameter)\b",
                r"mcp error -32602\b",
                r"file content \(|file is too large|this tool cannot",
                r"(?:eisdir|enotdir|enametoolong|einval): ",
                r"(?:missing|invalid) (?:required )?(?:param|argument|input|value|url|cron|skill|request)",
                r"no task found|no (?:scheduled )?(?:job|shell) (?:found )?with|shell \S+ not found",
                r"agent type '[^'\n]{0,200}' not found",
                r"no changes to make|no-op:",
                r"cell with id|cannot create new file",
            ),
            _group(
                _C.FILE_NOT_FOUND,
                r"(?:notebook )?(?:file|path|directory|folder) (?:\S[^\n]{0,1000}? )?(?:does not exist|not found)",
            ),
            _group(
                _C.NETWORK_ERROR,
                r"unable to verify if domain",
                r"request failed with status code",
                r"(?:failed to fetch|fetch failed|network ?error|socket hang up|too many redirects)",
                r"(?:connection|connect) (?:error|refused|reset|failed)",
                r"(?:unable to|cannot|could not|failed to) (?:connect|resolve|reach) ",
                r"maxcontentlength|web search error|net::err_",
                r"unable to (?:get local issuer|verify the first) certificate|self[- ]signed certificate",
            ),
            _group(_C.TOOL_ERROR, r"cancelled: parallel tool call|sibling tool call errored"),
        )
    )
)
_EXIT = re.compile(r"exit code (-?\d{1,10})(?:\n|$)")
_WRAPPER = re.compile(r"<tool_use_error>|error calling tool(?: \([^)\n]{0,200}\))?: |error: |mcp error -\d+: ")

#: Where a program puts what strerror(3) says: after a colon or in brackets, up to the end or to a path or position.
_BEFORE = (
    r"(?:^|[:>\]] {1,2}|\be902 |\(| - |^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )(?:\d+: |\[errno -?\d+\] |e[a-z]{2,15}: )?"
)
_AFTER = r"(?=$|[.,;)>'(]|:(?: |$)| \(| @ | \[| at \S+ line \d| while trying)"


def _said(category: ErrorCategory, *texts: str) -> tuple[_Rule, ...]:
    return tuple((text, re.compile(_BEFORE + re.escape(text) + _AFTER), category) for text in texts)


def _errno(category: ErrorCategory, *names: str) -> tuple[_Rule, ...]:
    """Names of errno as Node, npm, Rust and Ruby print them; a name in prose or in quotes does not count."""
    form = r"(?:^|error: |errno::|code: '|code |connect |listen |bind |read |write |getaddrinfo |request to \S{1,300} failed, reason: |\()"
    return tuple((n, re.compile(form + n + r"(?=$|[:,'} )])"), category) for n in names)


def _form(category: ErrorCategory, *pairs: tuple[str, str]) -> tuple[_Rule, ...]:
    return tuple((stem, re.compile(pattern), category) for stem, pattern in pairs)


#: (text that must occur, where it must stand in the line, category), all in lower case; within a line the first wins.
_LINE_RULES: tuple[_Rule, ...] = (
    *_form(_C.COMMAND_FAILED, ("assert", r"^(?:e\s+|uncaught )?[\w.:]*assert(?:ion)? ?(?:error|fail|\w* failed)")),
    *_form(
        _C.SYNTAX_ERROR,
        ("syntaxerror", r"(?:^|^uncaught |^sorry: |[\w.)\]]: |\()(?:\w+::)?syntaxerror(?:$|[: )\[])"),
        ("e999", r": e999 "),
        ("indentationerror", r"(?:^|: )indentationerror: "),
        ("taberror", r"(?:^|: )taberror: "),
        ("syntax error", r"(?:^|[:,)\]] {1,2}|^jq: error: )syntax error(?:$|[: ,])"),
        ("unexpected eof while looking for", r": unexpected eof while looking for matching"),
        ("operand expected", r": syntax error: operand expected|: arithmetic syntax error"),
        ("parse error", r"(?:^|: |^php |regex |dockerfile |toml )parse error(?:$|[: ]| near| on line| at )"),
        ("parsing error", r"\bparsing error: "),
        ("parser error", r": parser error : "),
        ("compile error", r"^jq: \d+ compile errors?$"),
        ("expression #", r"^sed: -e expression #\d+, char \d+: "),
        ("sed: ", r"^sed: \d+: |^sed: file \S+ line \d+: "),
        ("awk: ", r"^[gm]?awk: (?:cmd\. )?line:? ?\d+: .*(?:syntax error|missing|unexpected|unterminated)"),
        ("unmatched ", r"^[ef]?grep: unmatched |^(?:rip)?grep: .*unmatched [()\[]"),
        ("invalid regular expression", r"^[ef]?grep: invalid regular expression"),
        ("can't find string terminator", r"^can't find string terminator "),
        ("missing right curly", r"^missing right curly"),
        (
            "error: ",
            r"(?:^|:\d+:(?:\d+:)? )(?:fatal )?(?:parse )?error: (?:expected\b|expecting\b|unterminated|stray |extraneous )",
        ),
        (
            "error: ",
            r"^error: (?:this file contains an unclosed|unexpected closing|mismatched closing|unknown start of)",
        ),
        (
            "error: ",
            r"\.java:\d+: error: (?:.{1,60} expected$|illegal start of|reached end of file|not a statement|unclosed)",
        ),
        ("failed to parse manifest", r"^error: failed to parse manifest"),
        (
            ".java:[",
            r"\.java:\[\d+,\d+\] (?:.{1,60} expected$|illegal start of|reached end of file|not a statement|unclosed)",
        ),
        ("missing terminating", r": (?:error|warning): missing terminating "),
        ("error ts1", r"\berror ts1\d{3}: "),
        ("error cs1", r"\berror cs1\d{3}: "),
        ("invalid syntax", r": error: invalid syntax\b"),
        ("invalid-syntax", r"(?:^|: |^error\[)invalid-syntax(?:: |\]: )"),
        ("cannot parse", r": cannot parse(?: for target version .{1,40})?: "),
        ("failed to parse", r"^error: failed to parse (?!manifest)\S+"),
        ("expected '", r"^\S+\.go:\d+:\d+: expected '"),
        ("missing separator", r"^\S+:\d+: \*\*\* missing separator"),
        ("unexpected symbol", r":\d+: unexpected symbol near"),
        ("(syntax)", r"\berror\b.*\(syntax\)$"),
        ("yaml: ", r"(?:^|: )yaml: (?:line \d+|unmarshal)"),
        ("yamlexception", r"^(?:error: )?yamlexception: "),
        ("enclosed in double quotes", r"^expecting property name enclosed in double quotes: line \d"),
        (
            "(char ",
            r"^(?:expecting |extra data|unterminated |invalid |illegal )[^\n]{0,80}: line \d+ column \d+ \(char \d+\)$",
        ),
        ("ejsonparse", r"^npm (?:err!|error) code ejsonparse"),
        ("sql syntax", r"^error 1064 |you have an error in your sql syntax"),
        ("emerg", r"^nginx: \[emerg\] (?:unexpected|unknown directive|invalid number)"),
        ("tokenmissingerror", r"^\*\* \(tokenmissingerror\)"),
        ("[error] expected", r"^\S? ?\[error\] expected "),
    ),
    *_form(
        _C.TIMEOUT,
        ("timed out", r"^curl: \(28\) |^ssh: .*timed out$|^connection to \S+ port \d+ timed out|^connection timed out"),
        (
            "timed out",
            r"(?:^|: )(?:\w+ ){0,3}timed out(?: after \S+(?: \w+)?)?(?:$|[.:,)]| with \d| during| waiting| after)",
        ),
        ("timed out", r"^command '?.{1,200} timed out after |<urlopen error timed out>|^nc: .* timed out: "),
        (
            "timeout",
            r"^curl: \(28\) |: i/o timeout|statement timeout$|(?:error|failed): timeout(?:$|[: ])|client\.timeout exceeded",
        ),
        (
            "timeout",
            r"^(?:error: |\w*error: )?timeout of \d+ ?ms exceeded|\btimeout \d+ ?ms exceeded|^(?:[\w.]+\.)?\w*timeout(?:error|exception|expired)?(?:$|: )",
        ),
        ("timeout", r"^exception in thread \"[^\"]*\" [\w.]*timeoutexception\b|^timeout: sending signal"),
        ("deadline", r"(?:^|: )(?:context )?deadline ?exceeded\b"),
        ("timed_out", r"err_connection_timed_out"),
        ("timeoutexpired", r"timeoutexpired: "),
        ("retry timeout exceeded", r"retry timeout exceeded"),
    ),
    *_errno(_C.TIMEOUT, "etimedout", "esockettimedout"),
    *_said(_C.TIMEOUT, "connection timed out", "operation timed out"),
    *_form(
        _C.PERMISSION_DENIED,
        ("permission denied", r"^\S+: permission denied \(publickey|(?:^|: )error: +permission denied for "),
        ("permission denied", r"^(?:docker: |error: )?(?:got )?permission denied while trying to connect"),
        ("permission denied", r"kind: permissiondenied|^\S+: permission denied,? please try again"),
        ("remote: ", r"^remote: (?:permission to \S+ denied|.*access denied|.*forbidden)"),
        ("returned error: 40", r"requested url returned error: 40[13]"),
        ("error 40", r"error 40[13]: (?:unauthorized|forbidden)"),
        ("http 40", r"\bhttp 40[13]\b"),
        ("authentication fail", r"^fatal: authentication failed|^su: authentication failure|: authentication failed$"),
        ("could not read username", r"^fatal: could not read username|^fatal: could not read password"),
        ("could not read password", r"^fatal: could not read password"),
        ("sudo: ", r"^sudo: (?:a password is|a terminal is|no tty|\d+ incorrect)"),
        ("sudoers", r" is not in the sudoers file"),
        ("are you root", r", are you root\?|are you root\?$"),
        ("must be r", r"\bmust be run (?:as|with) (?:root|sudo)|\bmust be root\b"),
        ("unless you are root", r"unless you are root"),
        ("insufficient permission", r"^(?:error|remote: error): insufficient permission"),
        ("authentication failed", r"fatal:  ?(?:password|peer|ident) authentication failed"),
        (
            "access denied",
            r"^error 10\d\d \(\w+\).*access denied|pull access denied|: access denied$|^curl: \((?:9|67)\)",
        ),
        (
            "accessdenied",
            r"\(accessdenied(?:exception)?\)|^(?:exception in thread .*|caused by: )?java\.nio\.file\.accessdeniedexception|^[\w.]*accessdenied(?:$|:)",
        ),
        ("(forbidden)", r"^error from server \(forbidden\)"),
        ("requested access to the resource is denied", r"denied: requested access to the resource"),
        (
            "unauthorized",
            r"(?:^|: )(?:unauthorized(?:$|: )|error from server \(unauthorized\))|you must be logged in to the server",
        ),
        ("code e40", r"^npm (?:err!|error) code e40[13]$"),
        ("eneedauth", r"^npm (?:err!|error) code eneedauth"),
        ("login denied", r"login denied"),
        ("only root can", r": only root can "),
        ("superuser", r": must be superuser to "),
        ("interactive authentication", r": interactive authentication required"),
        ("not allowed to use", r"^\w+: you are not allowed to use"),
        ("gh auth login", r"please run: +gh auth login"),
    ),
    *_errno(_C.PERMISSION_DENIED, "eacces", "eperm", "erofs"),
    *_said(
        _C.PERMISSION_DENIED,
        "permission denied",
        "operation not permitted",
        "read-only file system",
        "access is denied",
    ),
    *_form(
        _C.RESOURCE_EXHAUSTED,
        (
            "killed",
            r"(?:^|: line \d+: +\d+ |^\[\d+\]\S* +\d* *)killed(?:$| {2,}|:)|fatal error: killed signal|\(killed\)$",
        ),
        ("out of memory", r"(?:heap|cuda|fatal error:|error:|: ) ?out of memory|^out of memory|^fatal: out of memory"),
        ("outofmemory", r"(?:^|[ .])outofmemoryerror(?:$|:)"),
        ("bad_alloc", r"std::bad_alloc"),
        ("memoryerror", r"^(?:[\w.]+\.)?memoryerror(?:$|:)"),
        ("memory allocation of", r"^memory allocation of \d+ bytes failed"),
        ("resource temporarily unavailable", r"fork\w*: .*resource temporarily unavailable|pthread_create"),
        ("file size limit", r"file size limit exceeded"),
        ("free space in", r"^e: you don't have enough free space in "),
        ("can't start new thread", r"can't start new thread$"),
        ("disk is full", r"database or disk is full"),
        ("disk quota", r": disk quota exceeded|^disk quota exceeded"),
        ("no space left", r": .{0,200}\bno space left on device"),
    ),
    *_errno(_C.RESOURCE_EXHAUSTED, "enospc", "emfile", "enfile", "edquot", "enomem"),
    *_said(
        _C.RESOURCE_EXHAUSTED,
        "no space left on device",
        "cannot allocate memory",
        "too many open files in system",
        "too many open files",
        "virtual memory exhausted",
        "file too large",
    ),
    *_form(
        _C.FILE_NOT_FOUND,
        ("curl: (37)", r"^curl: \(37\) "),
        ("file or directory not found", r"^error: file or directory not found: "),
        ("file not found", r"(?:^|error: |: )file not found(?:$|[:.])"),
        ("no such file", r": cannot open \S+: no such file$|kind: notfound|filenotfoundexception: "),
        ("notfoundexception: ", r"^exception in thread .*java\.io\.filenotfoundexception: "),
        ("nosuchfileexception", r"^(?:exception in thread .*|caused by: )?java\.nio\.file\.nosuchfileexception"),
        ("filenotfounderror", r"^(?:[\w.]+\.)?filenotfounderror(?:$|:)"),
        ("unable to access jarfile", r"^error: unable to access jarfile"),
        ("cannot find or open", r"^unzip: +cannot find or open "),
        ("does not exist", r"^(?:error|fatal): (?:manifest path|the (?:file|path)|path|file) .{1,300} does not exist"),
        ("error ts", r"\berror ts(?:5058|6053|5083): "),
        ("couldn't be found", r"input file .{1,200} couldn't be found"),
        ("file not found in archive", r": not found in archive$"),
    ),
    *_errno(_C.FILE_NOT_FOUND, "enoent"),
    *_said(
        _C.FILE_NOT_FOUND,
        "no such file or directory",
        "the system cannot find the file specified",
        "cannot find the path",
    ),
    *_form(
        _C.NETWORK_ERROR,
        ("curl: (", r"^curl: \((?:5|6|7|16|18|22|35|47|5[1-6]|58|60|77|83|92|97)\) "),
        ("could not resolve", r"(?:^|: )could not resolve (?:host|proxy)"),
        ("resolve host name", r"\] couldn't resolve host name"),
        ("translate host name", r"could not translate host name"),
        ("unable to resolve host", r"unable to resolve host address"),
        ("no such host", r": no such host\b"),
        ("failed to connect to", r": failed to connect to \S+ port \d+"),
        ("returned error: ", r"requested url returned error: \d"),
        ("error ", r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d error \d{3}: "),
        ("remote end hung up", r"the remote end hung up unexpectedly"),
        ("rpc failed", r"^error: rpc failed;"),
        ("connection closed", r"connection closed by (?:remote host|\S+ port \d+)|^scp: connection closed"),
        ("host key verification", r"^host key verification failed"),
        ("failed to fetch", r"^(?:e|w|err): failed to fetch |^(?:type)?error: failed to fetch"),
        ("fetch failed", r"^(?:type)?error: fetch failed"),
        ("temporary failure", r"temporary failure (?:in name resolution|resolving)"),
        ("connection broken by", r"after connection broken by "),
        ("was refused", r"^the connection to the server \S+ was refused"),
        ("unable to connect to the", r"^unable to connect to the server"),
        ("could not connect to", r"could not connect to (?:the endpoint url|server)"),
        ("socket hang up", r"(?:^|: )socket hang up"),
        (
            "err_",
            r"net::err_(?:connection|name|internet|address|network)|\berr_(?:connection_refused|name_not_resolved)",
        ),
        ("certificate", r"ssl certificate problem|certificate (?:verify failed|has expired)|x509: certificate"),
        ("tls", r": (?:tls handshake|tls: )"),
        (
            "exception",
            r"^(?:exception in thread .*|caused by: )?java\.net\.(?:connect|unknownhost|noroutetohost|socket)exception\b",
        ),
        ("connection", r": ?(?:failed )?(?:dial|connect)\w* .{0,200}connection refused|failed: connection refused"),
        ("(hy000)", r"^error 20\d\d \(hy000\)"),
        ("server closed the connection", r"server closed the connection unexpectedly"),
    ),
    *_errno(
        *(_C.NETWORK_ERROR, "econnrefused", "econnreset", "enotfound", "eai_again"),
        *("ehostunreach", "enetunreach", "econnaborted", "enetdown"),
    ),
    *_said(
        *(_C.NETWORK_ERROR, "connection refused", "connection reset by peer", "no route to host"),
        *("network is unreachable", "name or service not known", "nodename nor servname provided"),
        *("temporary failure in name resolution", "host is down"),
    ),
)

#: Lines that only quote: logs, diffs, assertions, search hits. What they say is no reason of the failure.
_QUOTING = re.compile(
    r"(?!\d{4}-\d\d-\d\d \d\d:\d\d:\d\d error \d{3}: |\[error\] \S+(?:: syntaxerror|\.java:\[))"
    r"(?:\s*(?:[-+<|](?![\w<-])\s?|e {2,}|>(?! )|expected\b|received\b|actual\b|got\b|want\b|assert)"
    r"|\[?\d{4}-\d\d-\d\d[t ]|\[?\d\d:\d\d:\d\d\b|\w{3} +\d+ \d\d:\d\d:\d\d "
    r"|\[?(?:info|debug|trace|notice|warn)\b|\[(?:warning|error|fatal)\]|(?:info|warning|error|critical|debug):[\w.]+:"
    r"|[\w./-]{1,200}:\d+:\s*(?:#|//|raise |return |throw |if |echo |print))"
)

#: The summary of a run of tests: what the tests print on the way is their matter.
_TEST_WORDS = ("failed", "failing", "failure", "fail:", "fail\t", "not ok", "# fail", " error")
_TEST_RUN = re.compile(
    r"^=+ (?:.{0,200}, )?\d+ (?:failed|errors?)\b|^\d+ (?:failed|errors?)[, ].{0,80} in [\d.]+s|^failed \((?:failures|errors)="
    r"|^(?:failed|error) \S+\.py(?:::| - )|^tests?: +(?:\d+ \w+, )*\d+ failed|^ *test (?:files|suites:) +\d+ failed|^--- fail:|^fail\t"
    r"|^test result: failed|^ *\d+ failing$|^not ok \d|^\d+ examples?, [1-9]\d* failure|^# fail [1-9]"
    r"|tests run: \d+, +(?:failures: [1-9]|failures: 0, +errors: [1-9])|^\d+% tests passed, [1-9]|^fail: test"
    r"|^ *● .{1,200} › |^failures!$",
    re.MULTILINE,
)

_TRACEBACK = "traceback (most recent call last)"
_EXCEPTION = re.compile(r"\n([a-z_][\w.]*)(?::(?: (.*))?)?(?=\n|$)")
_BARE_EXCEPTION = re.compile(r"([a-z_][\w.]*(?:error|exception|denied|expired))(?:: (.*)|:?$)")  # its head was cut off
_MEMORY = re.compile(r"out of memory|can't start new thread")
_ERRNO_NUMBER = re.compile(r"\[errno (-?\d+)\]")
_OS_ERRORS = {
    **dict.fromkeys(("2",), _C.FILE_NOT_FOUND),
    **dict.fromkeys(("1", "13", "30"), _C.PERMISSION_DENIED),
    **dict.fromkeys(("12", "23", "24", "27", "28", "122"), _C.RESOURCE_EXHAUSTED),
    **dict.fromkeys(("110", "60"), _C.TIMEOUT),
    **dict.fromkeys(("-2", "-3", "-5", "100", "101", "103", "104", "111", "113", "61"), _C.NETWORK_ERROR),
}
#: The last part of the exception's name decides; JSONDecodeError and its like are failures over data, not over source.
_EXCEPTIONS = {
    **dict.fromkeys(("filenotfounderror",), _C.FILE_NOT_FOUND),
    **dict.fromkeys(("permissionerror", "accessdenied"), _C.PERMISSION_DENIED),
    **dict.fromkeys(
        (
            *(
                "timeouterror",
                "timeout",
                "timeoutexpired",
                "connecttimeout",
                "readtimeout",
                "writetimeout",
                "pooltimeout",
            ),
            *("connecttimeouterror", "readtimeouterror", "servertimeouterror", "timeoutexception", "deadlineexceeded"),
        ),
        _C.TIMEOUT,
    ),
    **dict.fromkeys(("syntaxerror", "indentationerror", "taberror", "scannererror", "parsererror"), _C.SYNTAX_ERROR),
    **dict.fromkeys(("memoryerror", "outofmemoryerror", "_arraymemoryerror"), _C.RESOURCE_EXHAUSTED),
    **dict.fromkeys(
        (
            *(
                "connectionerror",
                "connectionrefusederror",
                "connectionreseterror",
                "connectionabortederror",
                "gaierror",
            ),
            *("herror", "sslerror", "sslcertverificationerror", "urlerror", "httperror", "connecterror", "readerror"),
            *("newconnectionerror", "maxretryerror", "proxyerror", "remotedisconnected", "clientconnectorerror"),
            *("clientconnectiondnserror", "clientconnectordnserror", "serverdisconnectederror", "remoteprotocolerror"),
            *("nameresolutionerror", "protocolerror", "endpointconnectionerror", "chunkedencodingerror", "socketerror"),
        ),
        _C.NETWORK_ERROR,
    ),
}
#: Exceptions that only carry another layer's error; what they carry decides.
_CARRIERS = frozenset(("oserror", "ioerror", "error", "operationalerror", "urlerror", "environmenterror"))
#: Exceptions over data and logic: whatever their messages quote, the command failed. RuntimeError may tell of memory.
_PLAIN = frozenset(
    (
        *("valueerror", "runtimeerror", "keyerror", "indexerror", "attributeerror", "nameerror", "importerror"),
        *("modulenotfounderror", "zerodivisionerror", "unicodedecodeerror", "jsondecodeerror", "notimplementederror"),
        *("calledprocesserror", "fileexistserror", "isadirectoryerror", "notadirectoryerror", "assertionerror"),
    )
)

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
        known = _CLIENT.match(text, start)
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
    present = [rule for rule in _LINE_RULES if rule[0] in text]
    at = text.rfind(_TRACEBACK)
    if not present and at < 0 and "error" not in text:
        return None
    if any(word in text for word in _TEST_WORDS) and _TEST_RUN.search(text):
        return _C.COMMAND_FAILED
    if at >= 0 and (raised := _EXCEPTION.search(text, at)):
        return _of_exception(raised[1].rpartition(".")[2], raised[2] or "")
    for line in reversed(text.split("\n")[-_MAX_LINES:]):
        if "error" in line and (raised := _BARE_EXCEPTION.match(line)):
            name = raised[1].rpartition(".")[2]
            if name != "error" and (name in _EXCEPTIONS or name in _CARRIERS or name in _PLAIN):
                return _of_exception(name, raised[2] or "")
        for stem, pattern, category in present:
            if stem in line and pattern.search(line.strip()) and not _QUOTING.match(line):
                return category
    return None


def _of_exception(name: str, message: str) -> ErrorCategory:
    if name in _CARRIERS:
        if number := _ERRNO_NUMBER.search(message):
            return _OS_ERRORS.get(number[1], _C.COMMAND_FAILED)
        for stem, pattern, category in _LINE_RULES:
            if stem in message and pattern.search(message):
                return category
    if name == "runtimeerror" and _MEMORY.search(message):
        return _C.RESOURCE_EXHAUSTED
    return _EXCEPTIONS.get(name, _C.COMMAND_FAILED)
