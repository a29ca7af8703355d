"""The exceptions of Python, and of what speaks like it: the type decides, not the words of its message."""

import re

from tasks.categories.programs import LINE_RULES
from tasks.words import ErrorCategory

_C = ErrorCategory

TRACEBACK = "traceback (most recent call last)"
EXCEPTION = re.compile(r"\n([a-z_][\w.]*)(?::(?: (.*))?)?(?=\n|$)")
BARE_EXCEPTION = re.compile(r"([a-z_][\w.]*(?:error|exception|denied|expired))(?:: (.*)|:?$)")  # its head was cut off
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
_CATEGORIES = {
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


def is_known(name: str) -> bool:
    """Whether an exception of this name says more by its type than by its message."""
    return name != "error" and (name in _CATEGORIES or name in _CARRIERS or name in _PLAIN)


def of_exception(name: str, message: str) -> ErrorCategory:
    """The category of a Python exception: `name` without its module and `message`, both in lower case."""
    if name in _CARRIERS:
        if number := _ERRNO_NUMBER.search(message):
            return _OS_ERRORS.get(number[1], _C.COMMAND_FAILED)
        for stem, pattern, category in LINE_RULES:
            if stem in message and pattern.search(message):
                return category
    if name == "runtimeerror" and _MEMORY.search(message):
        return _C.RESOURCE_EXHAUSTED
    return _CATEGORIES.get(name, _C.COMMAND_FAILED)
