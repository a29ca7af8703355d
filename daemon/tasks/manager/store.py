"""The store as the manager has it: opened when it is first needed, its own or the daemon's, with redaction beside it."""

import asyncio
import os
import re
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tasks.config import Settings, load, secret_key
from tasks.database import Connection, Database, Value
from tasks.manager import statements
from tasks.manager.task import Task
from tasks.redaction import Redactor

T = TypeVar("T")

#: Bytes of UTF-8 of a prompt, and characters of a result or an error.
LONGEST_TEXT = 1 << 20

_SURROGATES = re.compile("[\ud800-\udfff]")


class Store:
    """Opens and closes the database; every change goes through `_transact`, so that it is whole and durable or not at all.

    Works in several event loops, one after another. One that is never closed ends with the process all the same.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        database: Database | None = None,
        settings: Settings | None = None,
    ) -> None:
        if settings is None:
            settings = load(data_dir=data_dir if data_dir is not None or database is None else database.path.parent)
        elif data_dir is not None:
            raise ValueError("data_dir is part of the settings: give one of the two")
        self._settings = settings
        self._shared = database
        self._opened: Database | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._redactor: Redactor | None = None
        self._finalizer: weakref.finalize[[], Store] | None = None

    async def close(self) -> None:
        """Close what was opened here; a database that was given stays open. What is asked for later opens it again."""
        async with self._opening():
            opened, self._opened = self._opened, None
            if self._finalizer is not None:
                self._finalizer.detach()
                self._finalizer = None
            if opened is not None:
                await opened.close()

    async def __aenter__(self) -> Self:
        await self._store()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _runs_dir(self) -> Path:
        return self._settings.runs_dir

    async def _store(self) -> Database:
        if self._shared is not None:
            return self._shared
        if self._opened is None:
            async with self._opening():
                if self._opened is None:
                    settings = self._settings
                    self._opened = await Database(settings.database_file, backup_dir=settings.backup_dir).open()
                    self._finalizer = weakref.finalize(self, self._opened.abandon)
        return self._opened

    def _opening(self) -> asyncio.Lock:
        # A lock belongs to the event loop in which somebody first had to wait for it.
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        return self._lock[1]

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        return await (await self._store()).transaction(work)

    async def _change(self, task_id: str, decide: Callable[[Task], Mapping[str, Value]]) -> Task:
        """Look at the task, decide, write: in one transaction. `decide` gives the columns that change, or raises.

        Raises NoSuchTask.
        """

        def work(connection: Connection) -> Task:
            task = statements.fetch(connection, task_id)
            return statements.update(connection, task_id, decide(task))

        return await self._transact(work)

    async def _redact(self, text: str) -> str:
        """What may be stored of a text: no secret, nothing that cannot be stored."""
        if self._redactor is None:
            key = await asyncio.to_thread(secret_key, self._settings)
            self._redactor = Redactor(key, self._settings.privacy.level)
        return self._redactor.text(text[:LONGEST_TEXT])


def storable(text: str) -> str:
    """`text` without lone surrogates, which bytes that are no UTF-8 become in file names and arguments."""
    return _SURROGATES.sub("\ufffd", text)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
