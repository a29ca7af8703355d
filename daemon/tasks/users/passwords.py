"""Passwords: what may be one, how it is stored, and checking it in a time that says nothing about who has an account.

Stored is `v1$` and the bcrypt hash of a keyed hash of the password: bcrypt alone looks at 72 bytes only, and without the
key, which is not in the database, a stolen database is no start for guessing.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import importlib.util
import re
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import bcrypt

from tasks.errors import ConfigError
from tasks.users.refusals import Overloaded, PasswordRefused

T = TypeVar("T")

#: Characters, and bytes of UTF-8.
SHORTEST, LONGEST = 8, 1024
#: So many of the most common passwords that are long enough are refused (OWASP ASVS 5.0, 6.2.4).
COMMON = 3000
#: Passwords that are hashed at once, and that may wait for it.
THREADS, QUEUE = 2, 8
#: Of bcrypt: below is no protection, above takes minutes.
COSTS = range(4, 19)

_VERSION = "v1$"
_STORED = re.compile(r"v1\$(\$2b\$(\d\d)\$[./A-Za-z0-9]{53})")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing a password with a stored one said."""

    ok: bool
    #: right, but stored at a lower cost than the present one
    outdated: bool = False
    #: what is stored is no hash of ours
    malformed: bool = False


def prehash(pepper: bytes, password: str) -> bytes:
    """44 bytes without NUL that depend on every byte of the password, however it was composed."""
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(pepper, text, hashlib.sha256))


def check_new(password: str, username: str) -> None:
    """Raises PasswordRefused with the reason. There are no rules about what it is made of."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise PasswordRefused("the password is not valid text") from None
    if size > LONGEST:  # before anything that takes longer for longer texts
        raise PasswordRefused(f"the password is longer than {LONGEST:,} bytes")
    if len(unicodedata.normalize("NFC", password)) < SHORTEST:
        raise PasswordRefused(f"the password is shorter than {SHORTEST} characters; 15 or more are advised")
    folded = _folded(password)
    if folded == _folded(username):
        raise PasswordRefused("the password is the name of the account")
    if folded in _common():
        raise PasswordRefused(f"the password is one of the {COMMON:,} most common ones")


def hash_password(pepper: bytes, password: str, cost: int) -> str:
    """What is stored. Takes a third of a second at cost 12, and twice as long with each step."""
    check_cost(cost)
    return _VERSION + bcrypt.hashpw(prehash(pepper, password), bcrypt.gensalt(cost)).decode("ascii")


def check_cost(cost: int) -> None:
    if cost not in COSTS:
        raise ConfigError(f"web.password_cost = {cost}: a number from {COSTS[0]} to {COSTS[-1]} is needed")


class Hasher:
    """Hashes passwords on threads of its own, so that neither the event loop nor other work waits for it.

    Raises Overloaded instead of letting more than `QUEUE` wait.
    """

    def __init__(self, pepper: bytes, *, cost: int) -> None:
        check_cost(cost)
        self._pepper = pepper
        self._cost = cost
        # Comparing takes the salt and the cost from it; its digest is that of no password.
        self._dummy = bcrypt.gensalt(cost) + b"." * 31
        self._threads = ThreadPoolExecutor(THREADS, "tasksd-password")
        self._lock = threading.Lock()
        self._inside = 0

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether `password` is the one that is stored. Takes the same time when nothing is stored, or nonsense."""
        return await self._run(lambda: self._verify(password, stored))

    async def hash(self, password: str) -> str:
        return await self._run(lambda: hash_password(self._pepper, password, self._cost))

    @property
    def crowd(self) -> int:
        """Passwords that are being hashed, or wait for it."""
        return self._inside

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, stored: str | None) -> Verdict:
        # Composing takes quadratic time for hostile texts, and none that long is stored.
        fits = len(password) <= LONGEST
        hashed = prehash(self._pepper, password if fits else "")
        match = None if stored is None else _STORED.fullmatch(stored)
        if match is not None and int(match[2]) in COSTS:
            with contextlib.suppress(ValueError):  # no salt that bcrypt takes
                same = bcrypt.checkpw(hashed, match[1].encode("ascii"))
                return Verdict(same and fits, outdated=same and fits and int(match[2]) < self._cost)
        bcrypt.checkpw(hashed, self._dummy)
        return Verdict(ok=False, malformed=stored is not None)

    async def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._inside >= THREADS + QUEUE:
                raise Overloaded
            self._inside += 1
        # Counted until it is done, not until its caller has lost patience.
        try:
            future = self._threads.submit(work)
        except RuntimeError:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: Future[T] | None) -> None:
        with self._lock:
            self._inside -= 1


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


@functools.cache
def _common() -> frozenset[str]:
    # A module of word lists, run by itself and let go: the package around it would take 10 MiB for good.
    package = importlib.util.find_spec("zxcvbn")
    places = (package and package.submodule_search_locations) or []
    found = [path for place in places if (path := Path(place) / "frequency_lists.py").is_file()]
    spec = importlib.util.spec_from_file_location("tasksd_words", found[0]) if found else None
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("zxcvbn, which has the most common passwords, is not installed", name="zxcvbn")
    lists = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lists)
    ranked = (one for one in lists.FREQUENCY_LISTS["passwords"] if len(one) >= SHORTEST)
    return frozenset(one.casefold() for one, _ in zip(ranked, range(COMMON), strict=False))
