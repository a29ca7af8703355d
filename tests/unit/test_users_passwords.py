"""Passwords: what may be one, how it is stored, what checking it tells and costs."""

import asyncio
import os
import statistics
import threading
import time
import unicodedata

import bcrypt
import pytest
from tasks.errors import ConfigError
from tasks.users import Overloaded, PasswordRefused
from tasks.users.passwords import QUEUE, THREADS, Hasher, Verdict, check_new, hash_password, prehash

PEPPER = bytes(range(32))
COST = 4

EMOJI = "🙂" * 19  # 76 bytes
GOOD = [
    "correct horse battery",
    EMOJI,
    "x" * 71 + "é" * 5,
    "y" * 1024,
    "nul\0inside it",
    "tab\tand space ",
    "ﬁne ligature",
]


async def verdict_of(password: str, stored: str | None, cost: int = COST) -> Verdict:
    hasher = Hasher(PEPPER, cost=cost)
    try:
        return await hasher.verify(password, stored)
    finally:
        hasher.close()


@pytest.mark.parametrize("password", GOOD)
async def test_a_password_of_any_length_and_alphabet_is_its_own_and_no_other(password: str) -> None:
    check_new(password, "ada")
    stored = hash_password(PEPPER, password, COST)
    assert stored.startswith("v1$$2b$04$")
    assert await verdict_of(password, stored) == Verdict(ok=True)
    for other in (password[:-1], password + "x", password[:-1] + "z", password.swapcase() + "!"):
        assert not (await verdict_of(other, stored)).ok


async def test_what_comes_after_72_bytes_or_a_nul_counts() -> None:
    for one, other in (("x" * 80 + "a", "x" * 80 + "b"), ("start of it\0a", "start of it\0b")):
        assert not (await verdict_of(other, hash_password(PEPPER, one, COST))).ok


async def test_how_a_character_is_composed_makes_no_difference() -> None:
    composed, taken_apart = "crème brûlée", unicodedata.normalize("NFD", "crème brûlée")
    assert composed != taken_apart
    assert (await verdict_of(taken_apart, hash_password(PEPPER, composed, COST))).ok


def test_bcrypt_gets_44_bytes_without_nul_that_depend_on_the_key() -> None:
    hashed = prehash(PEPPER, "anything")
    assert len(hashed) == 44
    assert b"\0" not in hashed
    assert hashed != prehash(os.urandom(32), "anything")


async def test_without_the_key_a_stored_hash_is_worth_nothing() -> None:
    stored = hash_password(os.urandom(32), "correct horse", COST)
    assert not (await verdict_of("correct horse", stored)).ok


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "shorter than 8"), ("seven 7", "shorter than 8"), ("🙂🙂🙂", "shorter than 8"),
        ("x" * 1025, "longer than 1,024 bytes"), ("é" * 513, "longer than 1,024 bytes"), ("̈" * 100_000, "longer"),
        ("sunshine", "most common"), ("PassWord", "most common"), ("1234567890", "most common"),
        ("adalovelace", "name of the account"), ("ADALOVELACE", "name of the account"),
        ("lone \ud800 surrogate", "not valid text"),
    ],
)  # fmt: skip
def test_a_weak_password_is_refused_with_the_reason(password: str, reason: str) -> None:
    with pytest.raises(PasswordRefused, match=reason) as refused:
        check_new(password, "AdaLovelace")
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("password", ["aaaaaaab", "nodigits", "n0 capitals at all", "        x"])
def test_there_are_no_rules_about_what_it_is_made_of(password: str) -> None:
    check_new(password, "ada")


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "v1$",
        "v1$nonsense",
        "plain text",
        "v2$$2b$04$" + "a" * 53,
        "v1$$2b$04$short",
        "v1$$2b$99$" + "a" * 53,
        "v1$$2b$31$" + "a" * 53,
        "v1$\0",
        "é",
    ],
)
async def test_a_malformed_hash_lets_nobody_in_and_says_so(stored: str) -> None:
    assert await verdict_of("", stored) == Verdict(ok=False, malformed=True)


async def test_nothing_stored_lets_nobody_in() -> None:
    for password in ("", "x" * 2000, "\ud800" * 9):
        assert await verdict_of(password, None) == Verdict(ok=False)


async def test_a_password_too_long_to_be_stored_is_wrong_whatever_it_is() -> None:
    stored = hash_password(PEPPER, "", COST)
    assert not (await verdict_of("x" * 1025, stored)).ok


async def test_a_hash_of_a_lower_cost_is_outdated_when_the_password_is_right() -> None:
    stored = hash_password(PEPPER, "correct horse", 4)
    assert await verdict_of("correct horse", stored, 5) == Verdict(ok=True, outdated=True)
    assert await verdict_of("wrong horse", stored, 5) == Verdict(ok=False)
    assert await verdict_of("correct horse", hash_password(PEPPER, "correct horse", 6), 5) == Verdict(ok=True)


@pytest.mark.parametrize("cost", [3, 0, -1, 19, 31, 1000])
def test_an_impossible_cost_is_a_mistake_in_the_configuration(cost: int) -> None:
    with pytest.raises(ConfigError, match=r"web\.password_cost"):
        Hasher(PEPPER, cost=cost)
    with pytest.raises(ConfigError, match=r"web\.password_cost"):
        hash_password(PEPPER, "correct horse", cost)


async def test_an_unknown_name_costs_what_a_known_one_costs() -> None:
    """Generously: other work shares the machine. `bench_login.py` has the strict figure."""
    hasher = Hasher(PEPPER, cost=8)
    stored = hash_password(PEPPER, "correct horse", 8)
    known: list[int] = []
    unknown: list[int] = []
    for _ in range(30):
        for times, what in ((known, stored), (unknown, None)):
            began = time.perf_counter_ns()
            assert not (await hasher.verify("wrong horse", what)).ok
            times.append(time.perf_counter_ns() - began)
    hasher.close()
    ratio = statistics.median(known) / statistics.median(unknown)
    assert 1 / 1.5 < ratio < 1.5


async def test_more_than_ten_at_once_are_sent_away_and_the_others_are_served() -> None:
    hasher = Hasher(PEPPER, cost=COST)
    stored = hash_password(PEPPER, "correct horse", COST)
    gate = threading.Event()
    inside = [asyncio.create_task(hasher._run(gate.wait)) for _ in range(THREADS + QUEUE)]
    await asyncio.sleep(0)
    for late in (hasher.verify("correct horse", stored), hasher.verify("x", None), hasher.hash("correct horse")):
        with pytest.raises(Overloaded):
            await late
    gate.set()
    assert await asyncio.gather(*inside) == [True] * (THREADS + QUEUE)
    assert (await hasher.verify("correct horse", stored)).ok
    hasher.close()


async def test_callers_that_give_up_free_their_places() -> None:
    hasher = Hasher(PEPPER, cost=6)
    for _ in range(5):
        tasks = [asyncio.create_task(hasher.hash("correct horse")) for _ in range(THREADS + QUEUE)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while hasher.crowd:
            await asyncio.sleep(0.01)
    assert bcrypt.checkpw(prehash(PEPPER, "correct horse"), (await hasher.hash("correct horse"))[3:].encode())
    hasher.close()
