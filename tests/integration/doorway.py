"""A page with its gate in front of a stepped service, on a clock that tests set."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tasks.api import WEB_LIMITS, ApiServer, bind_loopback
from tasks.users import Authority, KeyRing, accounts, load_pepper, passwords
from tasks.web import create_web_app
from tasks.words import Role

from .service import Answer, Service, read_answer
from .site import PASSWORD, PEOPLE


class Doorway(Service):
    """`now` is what the clock shows, in epoch seconds; it stands still between requests."""

    async def start(self) -> None:
        await super().start()
        self.now = time.time()
        folder = self.context.settings.auth_dir
        self.keys = KeyRing(folder, now=lambda: self.now)
        pepper = load_pepper(folder)
        self.authority = Authority(
            self.context.database, self.keys, pepper, cost=4, now=lambda: self.now, monotonic=lambda: self.now
        )
        self.stack.callback(self.authority.close)
        self.context.authority = self.authority
        hashed = passwords.hash_password(pepper, PASSWORD, 4)
        for name, role in PEOPLE.items():
            await self.context.database.transaction(
                lambda connection, name=name, role=role: accounts.create(  # type: ignore[misc]
                    connection, name, password_hash=hashed, role=Role(role), now=int(self.now * 1000)
                )
            )
        listener = bind_loopback("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.gate = create_web_app(self.context, self.authority, port=self.port)
        self.web = ApiServer(self.gate, listener, WEB_LIMITS)
        await self.stack.enter_async_context(self.web)

    async def visit(
        self, target: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """One request to the page, of exactly these headers besides Host, Connection and Content-Length."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=8 << 20)
        lines = [f"{method} {target} HTTP/1.1", f"host: 127.0.0.1:{self.port}", "connection: close"]
        lines += [f"content-length: {len(body)}"] * bool(body or method not in ("GET", "HEAD"))
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(60):
            answer = await read_answer(reader)
        writer.close()
        return answer

    async def cookie(self, name: str = "ada") -> str:
        """Of a fresh login, as the header has it."""
        body = f"username={name}&password={PASSWORD.replace(' ', '+')}".encode()
        origin = {"origin": f"http://127.0.0.1:{self.port}", "content-type": "application/x-www-form-urlencoded"}
        answer = await self.visit("/login", "POST", origin, body)
        assert answer.status == 303, answer
        return answer.headers["set-cookie"].partition(";")[0]

    async def bearer(self, name: str = "ada") -> dict[str, str]:
        """The header of a fresh login over the API."""
        body = json.dumps({"username": name, "password": PASSWORD}).encode()
        answer = await self.visit("/v1/login", "POST", {"content-type": "application/json"}, body)
        assert answer.status == 200, answer
        return {"authorization": f"Bearer {answer.json()['token']}"}

    async def me(self, **headers: Any) -> int:
        """The status that somebody who asks who they are gets."""
        return (await self.visit("/v1/me", headers=headers)).status


@asynccontextmanager
async def doorway_in(folder: Path) -> AsyncIterator[Doorway]:
    made = Doorway(folder)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
