"""Assembles the web application: the same resources as on the Unix socket and the pages, behind the gate."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tasks.api import Context, create_app
from tasks.api.rules import API_RULES, Rule, RuleBook
from tasks.users import Authority
from tasks.web import assets, pages
from tasks.web.frame import Frame, Page
from tasks.web.gate import Gate
from tasks.web.session import LoginPages
from tasks.words import Role

#: Besides the pages, each of which names its own role.
WEB_RULES = (
    Rule("GET", "/assets/{name}", None),
    Rule("GET", "/login", None),
    Rule("POST", "/login", None, form=True),
    Rule("POST", "/logout", Role.VIEWER, form=True),
)


def rules() -> list[Rule]:
    """Who may ask for what, all of it: what is not in here is refused."""
    of_pages = [Rule("GET", page.path, page.role) for page in pages.PAGES]
    of_tables = [Rule("GET", table.path, table.role) for table in pages.TABLES]
    return [*API_RULES, *WEB_RULES, *of_pages, *of_tables]


def create_web_app(context: Context, authority: Authority, *, port: int) -> Gate:
    """The application for the listener on `port` of this machine, the one that is really listened on."""
    app = create_app(context)
    frame = Frame(context, authority)
    logins = LoginPages(frame, authority)
    _route(app, "/assets/{name}", assets.serve)
    _route(app, "/login", logins.show)
    _route(app, "/login", logins.log_in, "POST")
    _route(app, "/logout", logins.log_out, "POST")
    for page in pages.PAGES:
        _route(app, page.path, _endpoint(frame, page))
    for table in pages.TABLES:
        _route(app, table.path, table.endpoint(context))

    def refuse(scope: Scope, status: int, reason: str) -> Response:
        return frame.refusal(Request(scope), status, reason)

    gate = Gate(
        app,
        context,
        authority=authority,
        rules=RuleBook(rules()),
        hosts=frozenset({f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}),
        cookie=f"tasksd_{port}",
        refuse=refuse,
    )
    app.state.gate = gate
    return gate


def _endpoint(frame: Frame, page: Page) -> Callable[[Request], Any]:
    async def show(request: Request) -> Response:
        return await frame.answer(page, request)

    return show


def _route(app: FastAPI, path: str, endpoint: Callable[[Request], Any], method: str = "GET") -> None:
    app.add_route(path, endpoint, methods=[method], include_in_schema=False)
