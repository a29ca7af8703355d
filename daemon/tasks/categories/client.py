"""What the client itself says of a failed call, by the beginning of its text."""

import re

from tasks.words import ErrorCategory

_C = ErrorCategory


def _group(category: ErrorCategory, *forms: str) -> str:
    return f"(?P<{category.value}>{'|'.join(forms)})"


#: What the client itself says, matched at the start of its (lower-case) text; the first group that matches decides.
CLIENT = re.compile(
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
                r"(?:pdf|image) (?:is|file|too|could|cannot|exceeds)\b",
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
