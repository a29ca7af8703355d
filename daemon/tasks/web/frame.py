"""What all pages have in common: a page is a frame around named sections, rendered here from templates and what is stored.

The same address gives the page to whoever asks for HTML, and its sections as they change to whoever asks for an event
stream. However many people look at a page, it is loaded and rendered once.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from tasks.api import Context
from tasks.api.app import code_of
from tasks.errors import TasksError
from tasks.users import Authority, Principal
from tasks.web import assets, charts, shown
from tasks.words import Role

log = logging.getLogger(__name__)

#: Seconds between two renderings of a page that somebody looks at: at least, and at most.
SOONEST, LATEST = 0.4, 2.0
#: Seconds of silence after which a stream sends a comment; the gate ends it then if its login has ended.
HEARTBEAT = 5.0
#: Seconds after which a stream ends and the browser asks again, as somebody whose login is checked and renewed.
STREAM = 240.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a page is about to be made from."""

    ctx: Context
    who: Principal
    #: the parts of the address
    path: Mapping[str, str]
    query: QueryParams

    def number(self, name: str, usual: int, *, least: int = 1, most: int = 1000) -> int:
        """A whole number of the query; what is none, or out of bounds, is the usual one."""
        text = self.query.get(name, "")
        return (
            int(text) if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most else usual
        )

    def choice(self, name: str, choices: "tuple[str, ...] | list[str]") -> str:
        """One of `choices`; the first of them unless another is named."""
        given = self.query.get(name, "")
        return given if given in choices else choices[0]

    def may(self, role: str) -> bool:
        return self.who.role.covers(Role(role))


Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """`path` as a route spells it; `name` is that of its template and of the folder of its sections' templates."""

    path: str
    name: str
    title: str
    #: what its sections show
    load: Callable[[Look], Awaitable[Data]]
    sections: tuple[str, ...]
    role: Role = Role.VIEWER
    #: the entry of the menu that it belongs to
    menu: str = ""
    #: shows something of the person's own: not shared with others of the same role
    personal: bool = False
    live: bool = True


class Frame:
    """Renders pages, for people who are logged in, and for as long as they are."""

    def __init__(self, ctx: Context, authority: Authority) -> None:
        self._ctx = ctx
        self._authority = authority
        self._broadcasts: dict[tuple[str, ...], _Broadcast] = {}
        self.templates = Environment(
            loader=PackageLoader("tasks.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.templates.filters |= shown.FILTERS
        self.templates.globals |= shown.FUNCTIONS | charts.FUNCTIONS | {"asset": assets.address, "version": ctx.version}

    async def answer(self, page: Page, request: Request) -> Response:
        """The page, or its stream."""
        look = Look(self._ctx, request.scope["principal"], request.path_params, request.query_params)
        if page.live and "text/event-stream" in request.headers.get("accept", ""):
            return self._streamed(page, look, request)
        try:
            data = await page.load(look)
        except (TasksError, HTTPException) as error:
            return self.refusal(request, *reason_of(error))
        return HTMLResponse(self._whole(page, look, data))

    def plain(self, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        """A page of its own, for people who have not logged in."""
        return HTMLResponse(self.templates.get_template(template).render(values), status)

    def refusal(self, request: Request, status: int, reason: str) -> HTMLResponse:
        """A page that says why there is none."""
        who: Principal | None = request.scope.get("principal")
        return self.plain(
            "refused.html", status, who=who, csrf=self._csrf_of(who), status=status, reason=reason, menu=""
        )

    def sections(self, page: Page, look: Look, data: Data) -> dict[str, str]:
        """Name → HTML."""
        values = self._values(page, look) | data
        return {name: self.templates.get_template(f"{page.name}/{name}.html").render(values) for name in page.sections}

    def _whole(self, page: Page, look: Look, data: Data) -> str:
        made = self.sections(page, look, data)

        def section(name: str, label: str = "", classes: str = "") -> Markup:
            opening = Markup('<section id="{}" class="{}"').format(name, classes or "card")
            named = Markup(' aria-label="{}"').format(label) if label else Markup("")
            return opening + named + Markup(">") + Markup(made[name]) + Markup("</section>")  # noqa: S704  (rendered above, escaped there)

        values = self._values(page, look) | data
        return self.templates.get_template(f"{page.name}.html").render(values | {"section": section})

    def _values(self, page: Page, look: Look) -> Data:
        return {
            "page": page,
            "who": look.who,
            "may": look.may,
            "csrf": self._csrf_of(look.who),
            "menu": page.menu or page.name,
            "query": look.query,
            "now": time.time_ns() // 1_000_000,
        }

    def _csrf_of(self, who: Principal | None) -> str:
        return self._authority.csrf(who.login_id) if who is not None and who.login_id else ""

    def _streamed(self, page: Page, look: Look, request: Request) -> StreamingResponse:
        own = look.who.username if page.personal else ""
        key = (page.name, request.url.path, request.url.query, look.who.role, own)
        return StreamingResponse(self._followed(key, page, look), media_type="text/event-stream")

    async def _followed(self, key: tuple[str, ...], page: Page, look: Look) -> AsyncIterator[str]:
        # Looked up by whoever joins it, at that moment: the last one to leave it ends it.
        broadcast = self._broadcasts.get(key)
        if broadcast is None:
            broadcast = self._broadcasts[key] = _Broadcast(self, page, look, lambda: self._broadcasts.pop(key, None))
        async with contextlib.aclosing(broadcast.follow()) as pieces:
            async for piece in pieces:
                yield piece


@dataclass(slots=True)
class _Broadcast:
    """One page that people look at: made again whenever something new is stored, and told to all of them."""

    frame: Frame
    page: Page
    look: Look
    forget: Callable[[], object]
    #: section → its present HTML, and the number of the change that made it so
    made: dict[str, str] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    change: int = 0
    #: the last change as it goes over the wire, for all who have the one before
    wire: str = ""
    ended: str = ""
    #: why it is not up to date; empty: it is
    trouble: str = ""
    watchers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    work: "asyncio.Task[None] | None" = None

    async def follow(self) -> AsyncGenerator[str, None]:
        """What one of them gets: everything at first, since the page may be older, and then what changes."""
        stopping = self.look.ctx.stopping
        self.watchers += 1
        if self.work is None:
            self.work = asyncio.create_task(self._renew(), name=f"page {self.page.name}")
        has, told = 0, ""
        begun = time.monotonic()
        try:
            yield "retry: 1000\n\n"
            while not stopping.is_set() and not self.ended and time.monotonic() - begun < STREAM:
                if has < self.change:
                    text = self.wire if has and has == self.change - 1 else self._since(has)
                    has = self.change
                    yield text
                    continue
                if told != self.trouble:
                    told = self.trouble
                    yield f"event: trouble\ndata: {json.dumps(told)}\n\n"
                    continue
                news = self.news
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await news.wait()
                except TimeoutError:
                    yield ": still here\n\n"  # a reader that is gone is noticed
            if self.ended:
                yield f"event: gone\ndata: {json.dumps(self.ended)}\n\n"
        finally:
            self.watchers -= 1
            if not self.watchers:
                self.forget()
                if self.work is not None:
                    self.work.cancel()

    def _since(self, has: int) -> str:
        return _event({name: self.made[name] for name, number in self.changed.items() if number > has})

    async def _renew(self) -> None:
        try:
            await self._make_again()
        finally:
            self._ring()  # whoever follows has to know that there is no more

    async def _make_again(self) -> None:
        ctx = self.look.ctx
        while not ctx.stopping.is_set() and not self.ended:
            rings, begun = ctx.stored.rings, time.monotonic()
            try:
                await self._make()
                self._tell_trouble("")
            except TasksError as error:  # the store will answer again, or the thing is gone
                status, reason = reason_of(error)
                if status == 404:
                    self._tell_end(reason)
                else:
                    self._tell_trouble(reason)
            except HTTPException as error:
                self._tell_end(str(error.detail))
            except Exception:  # who looks keeps what there is; the next event may mend it
                if not self.trouble:
                    log.exception("a page could not be made page=%s path=%s", self.page.name, dict(self.look.path))
                self._tell_trouble("this page could not be made; the log of the daemon says why")
            # Loading takes its time on a busy machine: then it is done less often.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(SOONEST, 4 * (time.monotonic() - begun))):
                    await ctx.stopping.wait()
            await ctx.stored.wait(rings, LATEST)

    async def _make(self) -> None:
        data = await self.page.load(self.look)
        made = self.frame.sections(self.page, self.look, data)
        news = {name: html for name, html in made.items() if self.made.get(name) != html}
        if not news:
            return
        self.change += 1
        self.made = made
        self.changed |= dict.fromkeys(news, self.change)
        self.wire = _event(news)
        self._ring()

    def _tell_end(self, reason: str) -> None:
        self.ended = reason
        self._ring()

    def _tell_trouble(self, reason: str) -> None:
        if self.trouble != reason:
            self.trouble = reason
            self._ring()

    def _ring(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


def _event(sections: Mapping[str, str]) -> str:
    return f"event: sections\ndata: {json.dumps(sections, ensure_ascii=False, separators=(',', ':'))}\n\n"


def reason_of(error: TasksError | HTTPException) -> tuple[int, str]:
    """The status and the words for what could not be shown."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    return code_of(error), str(error)
