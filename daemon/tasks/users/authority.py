"""The authority over logins: who gets in, whether they are still in, and how they leave. Made for the event loop."""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks.database import Connection, Database, Write
from tasks.errors import StoreError
from tasks.users import accounts, audit, logins, passwords, tokens
from tasks.users.accounts import Credentials
from tasks.users.codes import Codes
from tasks.users.keys import KeyRing
from tasks.users.passwords import Hasher
from tasks.users.presence import Presence
from tasks.users.principal import Principal
from tasks.users.records import Kind, Login, Query, User, told
from tasks.users.refusals import InvalidToken, NoSuchUser, Overloaded, WrongCredentials
from tasks.users.throttle import Throttle
from tasks.words import Role

log = logging.getLogger(__name__)

#: Seconds of age from which a token is replaced by a fresh one.
RENEWED_AFTER = 5 * 60
#: Seconds that a check waits for such a note.
PATIENCE = 1.0

#: Stands in the audit log for names of no account: people type passwords there.
_NOBODY = "(unknown)"
_LONGEST_CLIENT = 200

_LOGIN = """
SELECT kind, logins.created_at, last_seen_at, ended_at, user_id, username, role, disabled
FROM logins JOIN users USING (user_id) WHERE login_id = :login_id
"""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What whoever logged in gets."""

    token: str
    login_id: str
    #: of the token, epoch milliseconds
    expires_at: int
    principal: Principal


class Authority:
    """Checks passwords, codes and tokens against the store. All its methods are safe to call at once.

    Raises StoreError when the store cannot be read, or a login not be stored; ConfigError when the keys are not private.
    """

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        pepper: bytes,
        *,
        cost: int,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        tokens.prepare()
        self._database = database
        self._keys = keys
        self._hasher = Hasher(pepper, cost=cost)
        self._throttle = Throttle(monotonic)
        self._csrf_key = hmac.digest(pepper, b"tasksd csrf", hashlib.sha256)
        self._now = now
        self._presence = Presence()
        self._codes = Codes(monotonic)

    def close(self) -> None:
        self._hasher.close()

    # Getting in.

    async def log_in(self, username: str, password: str, *, kind: Kind, address: str, client: str) -> Ticket:
        """Raises WrongCredentials, in the same words and the same time whether the name, the password or the account is
        wrong; TooManyAttempts; Overloaded.
        """
        found, replaced = await self._proven(username, password, kind, address)
        return await self._begin(found.user, kind, address, client, found.password_hash, replaced)

    async def issue_once(self, username: str | None = None) -> str:
        """A code that logs in to the account once, within 60 s; None: to the first one that may do everything.

        Whoever asks has to be known to be the owner. Raises NoSuchUser.
        """
        user = await self._database.read(
            lambda reader: (
                accounts.first_admin(reader.query) if username is None else accounts.find(reader.query, username)
            )
        )
        if user.disabled:
            raise NoSuchUser(f"the account {user.username} is disabled; `tasksd users enable {user.username}`")
        return self._codes.give(user.user_id)

    async def log_in_once(self, code: str, *, kind: Kind, address: str, client: str) -> Ticket:
        """Raises WrongCredentials for a code that was never given out, is used, or is too old."""
        user_id = self._codes.redeem(code)
        if user_id is None:
            raise WrongCredentials("this address was good for one login within a minute; ask for a new one")
        try:
            user = await self._database.read(lambda reader: accounts.by_id(reader.query, user_id))
        except NoSuchUser:
            raise WrongCredentials from None
        return await self._begin(user, kind, address, client, detail="by a code")

    # Being in.

    async def check(self, token: str) -> Principal:
        """Who made a request with this token. Looks at the login and its account every time, and notes that it was seen.

        Raises InvalidToken for whatever is not a token of an open login.
        """
        claims = tokens.read(self._keys, token, now=self._now())
        principal, last_seen = await self._standing(claims.login_id)
        if principal.user_id != claims.user_id:
            raise InvalidToken
        now = self._milliseconds()
        if self._presence.note(claims.login_id, last_seen, now=now):
            await self._attempt(logins.seen(claims.login_id, now=now))
        return principal

    async def standing(self, principal: Principal) -> Principal:
        """The same person as of now, for answers that go on for long. Does not count as a request.

        Raises InvalidToken when the login is over.
        """
        return principal if principal.login_id is None else (await self._standing(principal.login_id))[0]

    def renewed(self, principal: Principal, token: str) -> Ticket | None:
        """A fresh token for the same login when `token`, which was just checked, is older than 5 minutes."""
        try:
            claims = tokens.read(self._keys, token, now=self._now())
        except InvalidToken:
            return None
        return self.ticket(principal) if self._now() - claims.issued_at > RENEWED_AFTER else None

    def ticket(self, principal: Principal) -> Ticket:
        """A fresh token for the login that was just checked. Raises InvalidToken for whoever has none."""
        if principal.user_id is None or principal.login_id is None:
            raise InvalidToken
        token, expires = tokens.issue(
            self._keys, user_id=principal.user_id, login_id=principal.login_id, now=self._now()
        )
        return Ticket(token, principal.login_id, expires * 1000, principal)

    def csrf(self, login_id: str) -> str:
        """What requests that change something have to bring along beside a cookie: 64 hexadecimal characters."""
        return hmac.new(self._csrf_key, login_id.encode(), hashlib.sha256).hexdigest()

    async def logins(self, user_id: int | None = None) -> list[Login]:
        """Those that are open, of one account or of all, the last seen first."""
        now = self._milliseconds()
        return await self._database.read(lambda reader: logins.listed(reader.query, now=now, user_id=user_id))

    # Getting out.

    async def log_out(self, login_id: str) -> None:
        await self._database.apply([logins.ending(login_id, "logout", now=self._milliseconds())])

    async def end_login(self, login_id: str) -> None:
        """Like `log_out`, by somebody else."""
        await self._database.apply([logins.ending(login_id, "killed", now=self._milliseconds())])

    # Passwords.

    async def hash_new(self, username: str, password: str) -> str:
        """What is stored for a new password. Raises PasswordRefused, Overloaded."""
        await asyncio.to_thread(passwords.check_new, password, username)
        return await self._hasher.hash(password)

    async def change_password(self, principal: Principal, current: str, new: str) -> None:
        """Whoever knows the present one may choose another: all logins of the account end but the one that asks.

        Raises WrongCredentials, TooManyAttempts, Overloaded, PasswordRefused.
        """
        found, _ = await self._proven(principal.username, current, None, "")
        hashed = await self.hash_new(principal.username, new)
        now = self._milliseconds()

        def change(connection: Connection) -> None:
            _require(connection, found.user, found.password_hash)
            accounts.set_password(
                connection, found.user.username, password_hash=hashed, now=now, keep=principal.login_id
            )

        await self._database.transaction(change)

    async def _proven(
        self, username: str, password: str, kind: Kind | None, address: str
    ) -> tuple[Credentials, str | None]:
        """The account that name and password are right for, and what to store instead of its hash, if anything.

        `kind` of the login that is attempted, for the audit log; None: it is none.
        """
        self._throttle.admit(username)
        try:
            found = await self._database.read(lambda reader: _credentials(reader.query, username))
            verdict = await self._hasher.verify(password, found.password_hash if found else None)
        except BaseException:
            self._throttle.withdrawn(username)
            raise
        if found is not None and verdict.malformed:
            log.error("a stored password is malformed, set a new one user_id=%d", found.user.user_id)
        if found is None or not verdict.ok or found.user.disabled:
            if kind is not None:
                await self._note_failure(found, kind, address)
            raise WrongCredentials
        self._throttle.succeeded(username)
        return found, await self._rehashed(password) if verdict.outdated else None

    async def _rehashed(self, password: str) -> str | None:
        """At the present cost; None: when there is more time."""
        try:
            return await self._hasher.hash(password)
        except Overloaded:
            return None

    async def _begin(
        self,
        user: User,
        kind: Kind,
        address: str,
        client: str,
        stored: str | None = None,
        replaced: str | None = None,
        detail: str | None = None,
    ) -> Ticket:
        """Store a login. `stored` is the hash that the password was compared with, `replaced` what takes its place."""
        now = self._milliseconds()
        login = Login(
            secrets.token_urlsafe(24), user.user_id, user.username, kind, now, now,
            told(address, audit.LONGEST), told(client, _LONGEST_CLIENT),
        )  # fmt: skip

        def begin(connection: Connection) -> Principal:
            # While the password was compared, the account may have become another one.
            role = _require(connection, user, stored)
            if replaced is not None:
                connection.execute(
                    "UPDATE users SET password_hash = :hash WHERE user_id = :user_id",
                    {"hash": replaced, "user_id": user.user_id},
                )
            logins.begin(connection, login)
            principal = Principal(user.user_id, user.username, role, kind, login.login_id)
            audit.record(connection, audit.entry(principal, "login", address=address, detail=detail, now=now))
            return principal

        ticket = self.ticket(await self._database.transaction(begin))
        log.info("logged in user=%s kind=%s address=%s", user.username, kind, login.address)
        return ticket

    async def _standing(self, login_id: str) -> tuple[Principal, int]:
        """Who is logged in, and when that login was last seen according to its row. Raises InvalidToken."""
        rows = await self._database.query(_LOGIN, {"login_id": login_id})
        if not rows:
            raise InvalidToken
        kind, created_at, last_seen, ended_at, user_id, username, role, disabled = rows[0]
        if ended_at is not None or disabled:
            raise InvalidToken
        now = self._milliseconds()
        if now - self._presence.last(login_id, last_seen) > logins.IDLE or now - created_at > logins.ABSOLUTE:
            await self._attempt(logins.ending(login_id, "expired", now=now))
            raise InvalidToken
        return Principal(user_id, username, Role(role), kind, login_id), last_seen

    async def _note_failure(self, found: Credentials | None, kind: Kind, address: str) -> None:
        user_id, name = (found.user.user_id, found.user.username) if found else (None, _NOBODY)
        log.warning("login failed user=%s address=%s", name, told(address, audit.LONGEST))
        nobody = Principal(user_id, name, Role.VIEWER, kind)
        await self._attempt(audit.entry(nobody, "login_failed", outcome=401, address=address, now=self._milliseconds()))

    async def _attempt(self, write: Write) -> None:
        """Store what nobody has to wait for, or to fail for."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._database.apply([write])
        except (StoreError, TimeoutError) as error:
            log.warning("cannot note what became of a login error=%s", error or "the store is slow")

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _credentials(query: Query, username: str) -> Credentials | None:
    try:
        return accounts.credentials(query, username)
    except NoSuchUser:
        return None


def _require(connection: Connection, user: User, stored: str | None) -> Role:
    """Its present role. Raises WrongCredentials when the account is gone, disabled, or has another password than `stored`."""
    row = connection.execute(
        "SELECT role FROM users WHERE user_id = :user_id AND NOT disabled AND password_hash = coalesce(:stored, password_hash)",
        {"user_id": user.user_id, "stored": stored},
    ).fetchone()
    if row is None:
        raise WrongCredentials
    return Role(row[0])
