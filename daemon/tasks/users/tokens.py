"""Tokens: what proves a login from one request to the next. Signed here, read here, and nowhere else.

JSON Web Tokens, HS256 alone. Everything that is wrong with one is the same error, without a word about what it was.
What PyJWT brings along (cryptography, where that is installed) takes 10 MiB: it is imported by who has a page.
"""

import logging
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.users.keys import KeyRing
from tasks.users.refusals import InvalidToken

log = logging.getLogger(__name__)

#: Seconds that a token lasts, and by which clocks may differ.
LIFETIME, LEEWAY = 15 * 60, 60
#: Characters; nothing longer is looked at.
LONGEST = 4096

_ALGORITHM = "HS256"
_TYPE = "tasksd-login+jwt"
_ISSUER, _AUDIENCE = "tasksd", "tasksd-web"
_CLAIMS = ("exp", "iat", "nbf", "sub", "jti", "aud", "iss")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. Whether that login is still open is not for the token to say."""

    user_id: int
    login_id: str
    #: epoch seconds
    issued_at: int
    expires_at: int


def prepare() -> None:
    """Load what tokens take, which would hold up the first one who has any."""
    import jwt  # noqa: F401


def issue(keys: KeyRing, *, user_id: int, login_id: str, now: float) -> tuple[str, int]:
    """A token, and when it expires (epoch seconds)."""
    import jwt

    key, at = keys.current(), int(now)
    claims = {
        "iss": _ISSUER, "aud": _AUDIENCE, "sub": str(user_id), "jti": login_id,
        "iat": at, "nbf": at, "exp": at + LIFETIME,
    }  # fmt: skip
    token = jwt.encode(claims, key.secret, _ALGORITHM, headers={"typ": _TYPE, "kid": key.kid})
    return token, at + LIFETIME


def read(keys: KeyRing, token: str, *, now: float) -> Claims:
    """What the token says. Raises InvalidToken for whatever was not signed by `issue`, is over, or is of the future."""
    if len(token) > LONGEST or not token.isascii():
        raise InvalidToken
    import jwt

    try:
        return _claims(_verified(keys, token), now)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):  # the header is parsed before anything is proven
        raise InvalidToken from None
    except ConfigError as error:
        log.error("no token can be checked error=%s", error)
        raise InvalidToken from None


def _verified(keys: KeyRing, token: str) -> dict[str, Any]:
    import jwt

    header = jwt.get_unverified_header(token)
    kid = header.get("kid")
    if header.get("typ") != _TYPE or not isinstance(kid, str):
        raise InvalidToken
    secret = keys.secret_of(kid)
    if secret is None:
        raise InvalidToken
    found: dict[str, Any] = jwt.decode(
        token,
        secret,
        algorithms=[_ALGORITHM],
        audience=_AUDIENCE,
        issuer=_ISSUER,
        # Times are compared below, with the clock that was handed over; PyJWT would also take them as text.
        options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    return found


def _claims(found: dict[str, Any], now: float) -> Claims:
    times = found["iat"], found["nbf"], found["exp"]
    if any(type(one) is not int for one in times) or not isinstance(found["aud"], str):
        raise InvalidToken
    issued, begins, expires = times
    if expires <= now - LEEWAY or max(issued, begins) > now + LEEWAY:
        raise InvalidToken
    return Claims(int(found["sub"]), found["jti"], issued, expires)
