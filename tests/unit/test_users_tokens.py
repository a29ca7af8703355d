"""Tokens: nothing but what was signed here, for this, not long ago, is taken."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tasks.users import InvalidToken, KeyRing
from tasks.users.tokens import LEEWAY, LIFETIME, LONGEST, Claims, issue, read

NOW = 1_800_000_000.0

Forge = Callable[..., str]


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "auth", now=lambda: NOW)


@pytest.fixture
def forge(keys: KeyRing) -> Forge:
    """A token as ours, with some claims or parts of its header changed; None takes one out. `secret`: its own."""

    def make(
        secret: bytes | None = None, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        key, at = keys.current(), int(NOW)
        ours: dict[str, Any] = {
            "iss": "tasksd", "aud": "tasksd-web", "sub": "7", "jti": "login", "iat": at, "nbf": at, "exp": at + LIFETIME,
        }  # fmt: skip
        body = {name: value for name, value in (ours | claims).items() if value is not None}
        head = {"typ": "tasksd-login+jwt", "alg": algorithm, "kid": key.kid} | (header or {})
        text = ".".join(_encoded({k: v for k, v in part.items() if v is not None}) for part in (head, body))
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(algorithm)
        signature = hmac.digest(key.secret if secret is None else secret, text.encode(), digest) if digest else b""
        return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    return make


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def refused(keys: KeyRing, token: str, now: float = NOW) -> bool:
    with pytest.raises(InvalidToken) as error:
        read(keys, token, now=now)
    assert str(error.value) == InvalidToken.__doc__
    return True


def test_a_token_says_whose_login_it_is_and_how_long_it_holds(keys: KeyRing) -> None:
    token, expires = issue(keys, user_id=7, login_id="login", now=NOW)
    assert read(keys, token, now=NOW) == Claims(7, "login", int(NOW), expires)
    assert expires == NOW + 15 * 60


def test_the_forger_of_these_tests_makes_tokens_like_ours(keys: KeyRing, forge: Forge) -> None:
    """Else refusing what it makes would prove nothing."""
    assert read(keys, forge(), now=NOW) == Claims(7, "login", int(NOW), int(NOW) + LIFETIME)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "XYZ"])
def test_no_other_algorithm_is_taken_even_with_the_right_key(keys: KeyRing, forge: Forge, algorithm: str) -> None:
    assert refused(keys, forge(algorithm=algorithm))
    assert refused(keys, forge(algorithm=algorithm).rpartition(".")[0] + ".")


def test_a_real_rsa_signature_is_not_taken(keys: KeyRing) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    at = int(NOW)
    claims = {"iss": "tasksd", "aud": "tasksd-web", "sub": "7", "jti": "x", "iat": at, "nbf": at, "exp": at + 900}
    head = {"typ": "tasksd-login+jwt", "kid": keys.current().kid}
    assert refused(keys, jwt.encode(claims, private, "RS256", headers=head))


def test_a_public_key_as_secret_is_not_taken(keys: KeyRing, forge: Forge) -> None:
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert refused(keys, forge(secret=pem))


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"secret"])
def test_no_other_secret_is_taken(keys: KeyRing, forge: Forge, secret: bytes) -> None:
    assert refused(keys, forge(secret=secret))


@pytest.mark.parametrize("kid", ["other", "", None, 1, ["a"], {"a": 1}, "../../etc/passwd", "x" * 2000])
def test_a_token_has_to_name_a_key_of_ours(keys: KeyRing, forge: Forge, kid: Any) -> None:
    assert refused(keys, forge(header={"kid": kid}))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "", None, 1, "TASKSD-LOGIN+JWT"])
def test_a_token_of_another_type_is_not_taken(keys: KeyRing, forge: Forge, typ: Any) -> None:
    assert refused(keys, forge(header={"typ": typ}))


@pytest.mark.parametrize("header", [{"b64": False}, {"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"crit": "x"}])
def test_a_header_that_changes_the_rules_is_not_taken(keys: KeyRing, forge: Forge, header: dict[str, Any]) -> None:
    assert refused(keys, forge(header=header))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "sub", "jti", "aud", "iss"])
def test_every_claim_is_needed(keys: KeyRing, forge: Forge, claim: str) -> None:
    assert refused(keys, forge(**{claim: None}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"}, {"aud": ["tasksd-web", "other"]}, {"aud": []}, {"iss": "other"}, {"iss": ["tasksd"]},
        {"sub": 7}, {"sub": "seven"}, {"sub": ""}, {"jti": 1}, {"jti": ["login"]},
    ],
    ids=str,
)  # fmt: skip
def test_no_claim_of_another_value_or_type_is_taken(keys: KeyRing, forge: Forge, claims: dict[str, Any]) -> None:
    assert refused(keys, forge(**claims))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1800000600", 1_800_000_600.5, True, [1], {}, 1e300])
def test_times_are_whole_numbers(keys: KeyRing, forge: Forge, claim: str, value: Any) -> None:
    assert refused(keys, forge(**{claim: value}))


def test_a_token_is_good_until_a_minute_after_it_expires(keys: KeyRing, forge: Forge) -> None:
    token = forge()
    assert read(keys, token, now=NOW + LIFETIME + LEEWAY - 1)
    assert refused(keys, token, now=NOW + LIFETIME + LEEWAY)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_the_future_is_not_taken_beyond_a_minute(keys: KeyRing, forge: Forge, claim: str) -> None:
    assert read(keys, forge(**{claim: int(NOW) + LEEWAY}), now=NOW)
    assert refused(keys, forge(**{claim: int(NOW) + LEEWAY + 1}))


def test_after_the_clock_was_set_back_an_hour_older_tokens_are_of_the_future(keys: KeyRing) -> None:
    token, _ = issue(keys, user_id=7, login_id="login", now=NOW)
    assert refused(keys, token, now=NOW - 3600)
    fresh, _ = issue(keys, user_id=7, login_id="login", now=NOW - 3600)
    assert read(keys, fresh, now=NOW - 3600)


def test_a_token_of_the_key_before_is_taken_and_of_an_older_one_is_not(tmp_path: Path) -> None:
    clock = [NOW]
    keys = KeyRing(tmp_path / "auth", now=lambda: clock[0])
    token, _ = issue(keys, user_id=7, login_id="login", now=NOW)
    keys.rotate()
    assert read(keys, token, now=NOW)
    clock[0] += LIFETIME
    assert refused(keys, token)


def test_nothing_is_taken_while_the_keys_are_open_to_others(keys: KeyRing, forge: Forge, tmp_path: Path) -> None:
    token = forge()
    (tmp_path / "auth/web-keys.json").chmod(0o644)
    assert refused(keys, token)
    (tmp_path / "auth/web-keys.json").chmod(0o600)
    assert read(keys, token, now=NOW)


def test_a_long_token_is_not_looked_at_even_when_it_is_right(keys: KeyRing, forge: Forge) -> None:
    assert len(forge(pad="x" * 3000)) > LONGEST
    assert refused(keys, forge(pad="x" * 3000))
    assert read(keys, forge(pad="x" * 1000), now=NOW)


@pytest.mark.parametrize(
    "garbage",
    [
        "", ".", "..", "a.b.c", "x" * 5_000_000, "é.é.é", "\ud800", "\0", "eyJ.eyJ.", " ",
        base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.", base64.urlsafe_b64encode(b'{"a":' * 600).decode() + ".e30.x",
        base64.urlsafe_b64encode(b"1" * 3000).decode() + ".e30.x", "bnVsbA.bnVsbA.", "W10.W10.",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_garbage_is_refused_like_everything_else(keys: KeyRing, garbage: str) -> None:
    assert refused(keys, garbage)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_token_is_good_any_more_once_a_character_is_another(
    keys: KeyRing, forge: Forge, data: st.DataObject
) -> None:
    token = forge()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=0x7F).filter(lambda one: one != token[at]))
    changed = token[:at] + other + token[at + 1 :]
    if (
        base64.urlsafe_b64decode(token.split(".")[2] + "=") != _signature(changed)
        or changed.split(".")[:2] != token.split(".")[:2]
    ):
        assert refused(keys, changed)


def _signature(token: str) -> bytes | None:
    """Two spellings of one signature are the same token: base64 leaves bits of its last character unused."""
    try:
        return base64.urlsafe_b64decode(token.split(".")[2] + "=")
    except (ValueError, IndexError):
        return None


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300) | st.lists(st.binary(max_size=200), min_size=3, max_size=3).map(
    lambda parts: ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
))  # fmt: skip
def test_whatever_is_sent_is_refused_and_breaks_nothing(keys: KeyRing, text: str) -> None:
    assert refused(keys, text)
