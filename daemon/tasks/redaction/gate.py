"""The gate before the rules of redaction: could any of them act on this text?

Some ten searches, each for a letter or word that is rare in ordinary text, so that an ordinary event costs
microseconds. The gate may say yes in vain, but never no where a rule would act.
"""

import re
from collections.abc import Callable
from typing import AnyStr

# What may stand between a name and its `:` or `=`, in plain and in JSON-escaped text.
_BETWEEN = r"(?:\\u[0-9a-f]{4}|\\.|[\"'`\s])*"
_ASSIGN = _BETWEEN + "[:=]"
_SPACE = r"[\s\\]"  # after the name of a --flag, or of what a command sets


# In text as it is:
_FLAG_BRANCH = r"[kpu](?<=[\snrtfbcadABCD9]-.)|"
_FLAG = r"-[kpu](?<=[\snrtfbcadABCD9]-.)"
_DASH = (
    # a flag behind whitespace, which JSON may escape; the other branches are prefixes of tokens
    rf"-(?:{_FLAG_BRANCH}----BEGIN |(?=[A-Za-z0-9_-]{{10}})"
    r"(?:(?<=sk-)|(?<=xox[abeprs]-)|(?<=pypi-)|(?<=gl[a-z]t-)|(?<=gl[a-z]{2}t-)|(?<=xapp-)))"
)
_UNDERSCORE = r"_(?=[A-Za-z0-9_-]{10})(?:(?<=[sr]k_)|(?<=gh[pousr]_)|(?<=b_pat_)|(?<=npm_)|(?<=hf_)|(?<=whsec_))"
_CLOUD = r"A(?:[KS]IA|Iza)[\w-]{10}"
_VAULT = r"hv[sbr]\.[\w-]{10}"
_JWT = r"J(?<=eyJ)[\w-]{8}"
_URL = r":(?:\\?/){2}[^\s/@]*@"
# Any ASCII character may hide behind \u00XX in JSON; then only the parsed text can tell.
_ESCAPED_ASCII = r"\\u00[2-7]"


def _names(ending: str) -> tuple[str, ...]:
    """What finds names of secrets in text in lower case, also where `ending` follows."""

    def named(word: str, plural: str = "") -> str:
        # A name without a prefix stands behind `set -x `, `setx `, `setenv `, `config set ` or `set --export `.
        before = rf"(?:(?<=[a-z_-]{word})|(?<=(?:et|nv|rt|[a-z-]x) {word}))"
        return rf"(?<={word})(?:{plural}{_ASSIGN}|(?={_SPACE}){before}{ending})"

    end = rf"(?:{_ASSIGN}|{_SPACE}{ending})"
    cookie = rf"(?:{_BETWEEN}[:=,]{ending})"
    return (
        rf"k(?:en{named('token')}|ey(?<=[a-z_-]key)(?:[_-]?base)?{end}|ie(?<=cookie){cookie})",
        rf"p(?:ass(?:word{named('password', 's?')}|wd{named('passwd')}|phrase{named('passphrase')})|wd{named('pwd')})",
        rf"cre(?:t(?<=secret)s?{end}|dentials?{end})",
    )


# At the end of a JSON string: {"name": "DB_PASSWORD", "value": …}
_QUOTED = '|s?"'
#: The programs that take a password behind -p, -u or -k.
_PROGRAMS = ("curl", "wget", "mysql", "mariadb", "sshpass", "login", "openssl")


def _gate(
    search: Callable[[str], Callable[[AnyStr], object]], word: Callable[[str], AnyStr]
) -> Callable[[AnyStr], bool]:
    dash, underscore, cloud, jwt, url = map(search, (_DASH, _UNDERSCORE, _CLOUD, _JWT, _URL))
    names, followed_names = tuple(map(search, _names(_QUOTED))), tuple(map(search, _names("")))
    token_key_cookie, password, secret = names
    vault, escaped, at, z, capital_j = search(_VAULT), search(_ESCAPED_ASCII), word("@"), word("z"), word("J")
    value = word('"value"')
    authorization, programs = word("authoriz"), tuple(map(word, _PROGRAMS))
    flag, token = search(_FLAG), search(_DASH.replace(_FLAG_BRANCH, ""))

    def gate(text: AnyStr) -> bool:
        if underscore(text) or cloud(text) or vault(text) or escaped(text):
            return True
        if (capital_j in text and jwt(text)) or (at in text and url(text)):
            return True
        lower = text.lower()
        if (token_key_cookie(lower) or password(lower) or secret(lower)) and (
            # a name that is only the end of a string counts beside a value
            value in lower or any(followed(lower) for followed in followed_names)
        ):
            return True
        if z in lower and authorization in lower:
            return True
        # -p, -u and -k are common: they count only beside one of the programs
        return dash(text) is not None and (
            token(text) is not None or (flag(text) is not None and any(program in lower for program in programs))
        )

    return gate


def _search_str(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.A).search


def _search_bytes(pattern: str) -> Callable[[bytes], object]:
    return re.compile(pattern.encode()).search


_TOKENS = tuple(
    re.compile(p, re.A).search for p in (_UNDERSCORE, _CLOUD, _VAULT, _JWT, _DASH.replace(_FLAG_BRANCH, ""))
)


def may_contain_token(text: str) -> bool:
    """Whether a secret that is recognised by its own form could be in a text."""
    return any(search(text) is not None for search in _TOKENS)


#: Whether any rule could act on a text.
may_contain: Callable[[str], bool] = _gate(_search_str, str)
#: The same for a raw JSON text: True whenever a rule could act on any string or any secret-looking key in it.
may_contain_bytes: Callable[[bytes], bool] = _gate(_search_bytes, str.encode)
