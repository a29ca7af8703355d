"""What programs say of a failure, and where in the line they put it. All in lower case."""

import re

from tasks.words import ErrorCategory

_C = ErrorCategory
#: (text that must occur, where it must stand in the line, category)
Rule = tuple[str, re.Pattern[str], ErrorCategory]

#: Where a program puts what strerror(3) says: after a colon or in brackets, up to the end or to a path or position.
_BEFORE = (
    r"(?:^|[:>\]] {1,2}|\be902 |\(| - |^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )(?:\d+: |\[errno -?\d+\] |e[a-z]{2,15}: )?"
)
_AFTER = r"(?=$|[.,;)>'(]|:(?: |$)| \(| @ | \[| at \S+ line \d| while trying)"


def _said(category: ErrorCategory, *texts: str) -> tuple[Rule, ...]:
    return tuple((text, re.compile(_BEFORE + re.escape(text) + _AFTER), category) for text in texts)


def _errno(category: ErrorCategory, *names: str) -> tuple[Rule, ...]:
    """Names of errno as Node, npm, Rust and Ruby print them; a name in prose or in quotes does not count."""
    form = (
        r"(?:^|error: |errno::|code: '|code |connect |listen |bind |read |write |getaddrinfo "
        r"|request to \S{1,300} failed, reason: |\()"
    )
    return tuple((n, re.compile(form + n + r"(?=$|[:,'} )])"), category) for n in names)


def _form(category: ErrorCategory, *pairs: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple((stem, re.compile(pattern), category) for stem, pattern in pairs)


#: (text that must occur, where it must stand in the line, category), all in lower case; within a line the first wins.
LINE_RULES: tuple[Rule, ...] = (
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
            r"^(?:error: |\w*error: )?timeout of \d+ ?ms exceeded|\btimeout \d+ ?ms exceeded"
            r"|^(?:[\w.]+\.)?\w*timeout(?:error|exception|expired)?(?:$|: )",
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
            r"\(accessdenied(?:exception)?\)|^(?:exception in thread .*|caused by: )?java\.nio\.file\.accessdeniedexception"
            r"|^[\w.]*accessdenied(?:$|:)",
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
QUOTING = re.compile(
    r"(?!\d{4}-\d\d-\d\d \d\d:\d\d:\d\d error \d{3}: |\[error\] \S+(?:: syntaxerror|\.java:\[))"
    r"(?:\s*(?:[-+<|](?![\w<-])\s?|e {2,}|>(?! )|expected\b|received\b|actual\b|got\b|want\b|assert)"
    r"|\[?\d{4}-\d\d-\d\d[t ]|\[?\d\d:\d\d:\d\d\b|\w{3} +\d+ \d\d:\d\d:\d\d "
    r"|\[?(?:info|debug|trace|notice|warn)\b|\[(?:warning|error|fatal)\]|(?:info|warning|error|critical|debug):[\w.]+:"
    r"|[\w./-]{1,200}:\d+:\s*(?:#|//|raise |return |throw |if |echo |print))"
)

#: The summary of a run of tests: what the tests print on the way is their matter.
TEST_WORDS = ("failed", "failing", "failure", "fail:", "fail\t", "not ok", "# fail", " error")
TEST_RUN = re.compile(
    r"^=+ (?:.{0,200}, )?\d+ (?:failed|errors?)\b|^\d+ (?:failed|errors?)[, ].{0,80} in [\d.]+s|^failed \((?:failures|errors)="
    r"|^(?:failed|error) \S+\.py(?:::| - )|^tests?: +(?:\d+ \w+, )*\d+ failed"
    r"|^ *test (?:files|suites:) +\d+ failed|^--- fail:|^fail\t"
    r"|^test result: failed|^ *\d+ failing$|^not ok \d|^\d+ examples?, [1-9]\d* failure|^# fail [1-9]"
    r"|tests run: \d+, +(?:failures: [1-9]|failures: 0, +errors: [1-9])|^\d+% tests passed, [1-9]|^fail: test"
    r"|^\d+ tests? failed|^ *● .{1,200} › |^failures!$",
    re.MULTILINE,
)
