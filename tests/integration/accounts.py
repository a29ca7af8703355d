"""Accounts for tests: a real database and real keys, by a clock that the test moves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tasks.database import Database
from tasks.users import Authority, KeyRing, Ticket, User, accounts, load_pepper
from tasks.users.passwords import hash_password
from tasks.words import Role

PASSWORD = "correct horse battery"
COST = 4


class Clock:
    """Both clocks, in seconds. Only the one on the wall can be set back."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self._back = 0.0

    def steady(self) -> float:
        return self.seconds + self._back

    def set_back(self, seconds: float) -> None:
        self.seconds -= seconds
        self._back += seconds

    def __call__(self) -> float:
        return self.seconds


@dataclass
class House:
    """Where people log in."""

    folder: Path
    clock: Clock
    database: Database
    keys: KeyRing
    authority: Authority

    @classmethod
    async def built(cls, folder: Path, *, cost: int = COST) -> Self:
        clock = Clock()
        database = await Database(folder / "tasks.db").open()
        keys = KeyRing(folder / "auth", now=clock)
        pepper = load_pepper(folder / "auth")
        authority = Authority(database, keys, pepper, cost=cost, now=clock, monotonic=clock.steady)
        return cls(folder, clock, database, keys, authority)

    async def close(self) -> None:
        self.authority.close()
        await self.database.close()

    @property
    def now(self) -> int:
        return int(self.clock.seconds * 1000)

    def another(self, *, cost: int = COST) -> Authority:
        """As the next daemon has it: it remembers nothing."""
        pepper = load_pepper(self.folder / "auth")
        return Authority(self.database, self.keys, pepper, cost=cost, now=self.clock, monotonic=self.clock.steady)

    async def admit(self, name: str, role: Role = Role.VIEWER, password: str = PASSWORD) -> User:
        """A new account."""
        hashed = hash_password(load_pepper(self.folder / "auth"), password, COST)
        now = self.now
        return await self.database.transaction(
            lambda connection: accounts.create(connection, name, password_hash=hashed, role=role, now=now)
        )

    async def log_in(self, name: str = "ada", password: str = PASSWORD) -> Ticket:
        return await self.authority.log_in(name, password, kind="cookie", address="127.0.0.1", client="a browser")

    async def audit(self) -> list[tuple[object, ...]]:
        return await self.database.query(
            "SELECT user_id, username, via, action, outcome, detail FROM audit ORDER BY id"
        )
