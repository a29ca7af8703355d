"""A daemon without its loops, for tests that step it themselves: a real store, spool, ingester and API on a real socket."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import ApiServer, Bell, Context, Limits, bind_unix_socket, create_app
from tasks.config import load, secret_key
from tasks.database import Database
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.users import owner

SESSION = "0a1b2c3d-1111-4222-8333-444455556666"
HEAD = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """A daemon without its loops: tests step it themselves."""

    data_dir: Path
    limits: Limits = field(default_factory=Limits)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    count: int = 0

    async def start(self) -> None:
        settings = load(data_dir=self.data_dir, environ={"HOME": str(self.data_dir)})
        self.path = self.data_dir / "run/s"
        database = await self.stack.enter_async_context(Database(settings.database_file))
        self.spool = Spool(settings.spool_dir, settings.spool)
        self.quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "1.2.3")
        bell = Bell()
        redactor = Redactor(secret_key(settings), settings.privacy.level)
        self.ingest = Ingest(settings, database, self.spool, self.quarantine, redactor, on_stored=lambda _: bell.ring())
        await self.ingest.start()
        self.stack.callback(self.ingest.close)
        self.poked = asyncio.Event()
        self.context = Context(
            settings, database, self.ingest, self.spool, self.quarantine, "1.2.3", lambda: "watching", self.poked.set, bell
        )  # fmt: skip
        self.app = create_app(self.context, owner("socket"))
        self.server = ApiServer(self.app, bind_unix_socket(self.path), self.limits)
        await self.stack.enter_async_context(self.server)

    async def stop(self) -> None:
        self.context.stopping.set()
        self.context.stored.ring()
        await self.stack.aclose()

    def leave(self, kind: str, session: str = SESSION, **fields: Any) -> Path:
        """An event in the spool, as the recorder leaves it."""
        self.count += 1
        path = self.spool.path / f"-.0.{self.count}.0.json"
        path.touch(0o600)
        path.write_text(json.dumps({"session_id": session, "hook_event_name": kind, "cwd": "/x"} | fields))
        at = time.time_ns() + self.count
        os.utime(path, ns=(at, at))
        return path

    async def happen(self, kind: str, session: str = SESSION, **fields: Any) -> None:
        self.leave(kind, session, **fields)
        assert await self.ingest.step() == 1

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path), limit=8 << 20)

    async def ask(
        self, target: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        reader, writer = await self.connect()
        head = f"{method} {target} HTTP/1.1\r\nhost: tasksd\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(head.encode() + b"\r\n" + body)
        async with asyncio.timeout(20):
            answer = await read_answer(reader)
        writer.close()
        return answer


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    length = int(headers.get("content-length", 0))
    return Answer(int(head[0].split()[1]), headers, await reader.readexactly(length))


async def is_cut(reader: asyncio.StreamReader, seconds: float = 10) -> bool:
    """Whether the server ends the connection in time, whatever it says before."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(-1)
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
