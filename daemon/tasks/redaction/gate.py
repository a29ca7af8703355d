"""The gate before the rules of redaction: could any of them act on this text?

Some ten searches, each for a letter or word that is rare in ordinary text, so that an ordinary event costs
microseconds. The gate may say yes in vain, but never no where a rule would act.
"""

import re
from collections.abc import Callable
from typing import AnyStr

# What may stand between a name and its `:` or `=`, in plain and in JSON-escaped text.
_ASSIGN = r"(?:\\u[0-9a-f]{4}|\\.|[\"'`\s])*[:=]"
_SPACE = r"[\s\\]"  # after the name of a --flag


def _named(word: str, *, plural: str = "") -> str:
    return rf"(?<={word})(?:{plural}{_ASSIGN}|(?<=[a-z_-]{word}){_SPACE})"


# In text as it is:
_FLAG_BRANCH = r"[pu](?<=[\snrtfbcadABCD9]-.)|"
_FLAG = r"-[pu](?<=[\snrtfbcadABCD9]-.)"
_DASH = (
    # a flag behind whitespace, which JSON may escape; the other branches are prefixes of tokens
    rf"-(?:{_FLAG_BRANCH}----BEGIN |(?=[A-Za-z0-9_-]{{10}})"
    r"(?:(?<=sk-)|(?<=xox[abeprs]-)|(?<=pypi-)|(?<=gl[a-z]t-)|(?<=gl[a-z]{2}t-)|(?<=xapp-)))"
)
_UNDERSCORE = r"_(?=[A-Za-z0-9_-]{10})(?:(?<=[sr]k_)|(?<=gh[pousr]_)|(?<=b_pat_)|(?<=npm_)|(?<=hf_)|(?<=whsec_))"
_CLOUD = r"A(?:[KS]IA|Iza)[\w-]{10}"
_JWT = r"J(?<=eyJ)[\w-]{8}"
_URL = r":(?:\\?/){2}[^\s/@]*@"
# Any ASCII character may hide behind \u00XX in JSON; then only the parsed text can tell.
_ESCAPED_ASCII = r"\\u00[2-7]"

# In text in lower case:
_TOKEN_OR_KEY = rf"k(?:en{_named('token')}|ey(?<=[a-z_-]key)(?:[_-]?base)?(?:{_ASSIGN}|{_SPACE}))"
_PASSWORD = rf"w(?:or)?d(?:{_named('password', plural='s?')}|{_named('passwd')}|{_named('pwd')})"
_SECRET = rf"cre(?:t(?<=secret)s?(?:{_ASSIGN}|{_SPACE})|dentials?(?:{_ASSIGN}|{_SPACE}))"
_PASSPHRASE = rf"phrase{_named('passphrase')}"
#: The programs that take a password behind -p or -u.
_PROGRAMS = ("curl", "wget", "mysql", "mariadb", "sshpass", "login")


def _gate(
    search: Callable[[str], Callable[[AnyStr], object]], word: Callable[[str], AnyStr]
) -> Callable[[AnyStr], bool]:
    dash, underscore, cloud, jwt, url = map(search, (_DASH, _UNDERSCORE, _CLOUD, _JWT, _URL))
    token_or_key, password, secret = map(search, (_TOKEN_OR_KEY, _PASSWORD, _SECRET))
    passphrase, escaped, at, z = search(_PASSPHRASE), search(_ESCAPED_ASCII), word("@"), word("z")
    authorization, programs = word("authoriz"), tuple(map(word, _PROGRAMS))
    flag, token = search(_FLAG), search(_DASH.replace(_FLAG_BRANCH, ""))

    def gate(text: AnyStr) -> bool:
        if underscore(text) or cloud(text) or jwt(text) or (at in text and url(text)) or escaped(text):
            return True
        lower = text.lower()
        if token_or_key(lower) or password(lower) or secret(lower) or passphrase(lower):
            return True
        if z in lower and authorization in lower:
            return True
        # -p and -u are common: they count only beside one of the programs
        return dash(text) is not None and (
            token(text) is not None or (flag(text) is not None and any(program in lower for program in programs))
        )

    return gate


def _search_str(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.A).search


def _search_bytes(pattern: str) -> Callable[[bytes], object]:
    return re.compile(pattern.encode()).search


_TOKENS = tuple(re.compile(p, re.A).search for p in (_UNDERSCORE, _CLOUD, _JWT, _DASH.replace(_FLAG_BRANCH, "")))


def may_contain_token(text: str) -> bool:
    """Whether a secret that is recognised by its own form could be in a text."""
    return any(search(text) is not None for search in _TOKENS)


#: Whether any rule could act on a text.
may_contain: Callable[[str], bool] = _gate(_search_str, str)
#: The same for a raw JSON text: True whenever a rule could act on any string or any secret-looking key in it.
may_contain_bytes: Callable[[bytes], bool] = _gate(_search_bytes, str.encode)
