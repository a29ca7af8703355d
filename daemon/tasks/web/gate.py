"""The gate before the web application: who does not belong here, has not logged in or may not do this gets no further.

Everything is decided before the application sees the request, and before its body is read. Loopback is no border: any user
of this machine and any page in a browser can reach it, hence Host, Origin and the token of every writing request.
"""

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.api import Context
from tasks.api.audited import Note
from tasks.api.rules import SAFE, Rule, RuleBook
from tasks.errors import StoreError
from tasks.users import Authority, InvalidToken, Principal, Ticket

log = logging.getLogger(__name__)

#: What every answer carries. Nothing from elsewhere, nothing inline, no frames, no guesses, no traces.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not no-referrer: browsers then send forms with the origin `null`, like a page that hides where it comes from.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": (
        "accelerometer=(), camera=(), clipboard-read=(), display-capture=(), geolocation=(), gyroscope=(), "
        "microphone=(), midi=(), payment=(), usb=()"
    ),
    "cache-control": "no-store",
}
CSRF_HEADER = "x-csrf-token"
BEARER = "bearer "
#: Seconds between two looks whether whoever reads a stream is still logged in.
RECHECK = 5.0


class Gate:
    """Lets requests through to `app` that `rules` allow, with `scope["principal"]` set to whoever asks.

    `hosts` are the only values of Host that are ours, with the port that is listened on.
    """

    def __init__(
        self,
        app: ASGIApp,
        context: Context,
        *,
        authority: Authority,
        rules: RuleBook,
        hosts: frozenset[str],
        cookie: str,
        refuse: Callable[[Scope, int, str], Response],
    ) -> None:
        self._app = app
        self._context = context
        self._authority = authority
        self._rules = rules
        self._hosts = hosts
        self.cookie = cookie
        #: makes the page that says no
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the web application speaks HTTP alone, not {scope['type']}")
        answered = _Answered(send)
        refused = await self._decide(scope, answered)
        try:
            await (refused or self._app)(scope, receive, answered)
        finally:
            if (note := scope.get("note")) is not None:
                await note.write(answered.status)

    async def _decide(self, scope: Scope, answered: "_Answered") -> Response | None:
        """None: it may go on. Else the answer."""
        headers = Headers(scope=scope)
        method, path = str(scope["method"]), str(scope["path"])
        if headers.getlist("host") != [headers.get("host")] or headers["host"] not in self._hosts:
            return self._no(scope, 403, "this address is not one of this server: " + ", ".join(sorted(self._hosts)))
        if not _is_ours(headers, method):
            return self._no(scope, 403, "this request comes from another site")
        rule, methods = self._rules.of(method, path)
        if rule is not None and rule.socket_only:
            rule, methods = None, []
        token, via = self._token(headers)
        principal = await self._principal(token, via)
        if isinstance(principal, Response):
            return principal
        if rule is not None and rule.role is None:
            scope["principal"] = principal
            return None
        if principal is None:
            return self._log_in_first(scope, method, path)
        return self._allowed(scope, rule, methods, principal, token, answered)

    def _allowed(
        self,
        scope: Scope,
        rule: Rule | None,
        methods: list[str],
        principal: Principal,
        token: str,
        answered: "_Answered",
    ) -> Response | None:
        headers = Headers(scope=scope)
        if rule is None:
            if methods:
                no = self._no(scope, 405, "this address does not take that method")
                no.headers["allow"] = ", ".join(sorted(methods))
                return no
            return self._no(scope, 404, "there is nothing at this address")
        if rule.writes:
            scope["note"] = Note.of(self._context, scope, rule, principal)
        by_script = rule.writes and principal.via == "cookie" and not rule.form
        if by_script and not self.is_ours(principal, headers.get(CSRF_HEADER, "")):
            return self._no(scope, 403, f"the header {CSRF_HEADER} is missing or wrong: reload the page")
        if rule.role is None or not principal.role.covers(rule.role):
            log.warning(
                "refused user=%s role=%s action=%s %s", principal.username, principal.role, rule.method, rule.path
            )
            return self._no(scope, 403, f"{principal.username} is {principal.role}; this takes {rule.role}")
        scope["principal"] = principal
        answered.still_welcome = lambda: self._is_in(principal)
        if principal.via == "cookie" and (ticket := self._authority.renewed(principal, token)):
            answered.headers["set-cookie"] = self.set_cookie(ticket)
        return None

    async def _principal(self, token: str, via: str) -> Principal | Response | None:
        """None: nobody."""
        if not token:
            return None
        try:
            principal = await self._authority.check(token)
        except InvalidToken:
            return None
        except StoreError as error:
            log.warning("cannot check a login error=%s", error)
            return JSONResponse({"detail": f"logins cannot be checked now: {error}"}, 503, {"retry-after": "2"})
        # A token is good for the way in that it was made for: one out of a cookie would need no token against forgery else.
        return principal if principal.via == via else None

    async def _is_in(self, principal: Principal) -> bool:
        """Whether somebody is still logged in as before. Does not count as a request."""
        try:
            return (await self._authority.standing(principal)).role is principal.role
        except InvalidToken:
            return False
        except StoreError:
            return True  # the store will say so later

    def _token(self, headers: Headers) -> tuple[str, str]:
        """The token of the request and how it came, "" when there is none. Whoever names one in a header means that."""
        given = headers.get("authorization", "")
        if given[: len(BEARER)].lower() == BEARER:
            return given[len(BEARER) :].strip(), "bearer"
        return cookies(headers).get(self.cookie, ""), "cookie"

    def is_ours(self, principal: Principal, csrf: str) -> bool:
        """Whether `csrf` is the token that pages of this login carry."""
        expected = self._authority.csrf(principal.login_id or "")
        return principal.login_id is not None and hmac.compare_digest(
            csrf.encode("utf-8", "replace"), expected.encode()
        )

    def set_cookie(self, ticket: Ticket | None) -> str:
        """The header that stores the token; None: that removes it. Ports share cookies, so its name has the port."""
        value, age = (ticket.token, "") if ticket else ("", "; Max-Age=0")
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict{age}"

    def _log_in_first(self, scope: Scope, method: str, path: str) -> Response:
        wants_page = "text/event-stream" not in Headers(scope=scope).get("accept", "")
        if is_for_programs(path) or method not in SAFE or not wants_page:
            return JSONResponse({"detail": "log in first"}, 401, {"www-authenticate": 'Bearer realm="tasksd"'})
        query = scope["query_string"].decode("latin-1")
        wanted = path + "?" * bool(query) + query
        return RedirectResponse("/login" + (f"?next={quote(wanted, safe='')}" if wanted != "/" else ""), 303)

    def _no(self, scope: Scope, status: int, reason: str) -> Response:
        if is_for_programs(str(scope["path"])):
            return JSONResponse({"detail": reason}, status)
        return self._refuse(scope, status, reason)


class _Answered:
    """Passes an answer on with our headers, and remembers its status. A stream ends with the login that it was asked by."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500
        self.headers: dict[str, str] = {}
        self.still_welcome: Callable[[], Awaitable[bool]] | None = None
        self._looked = time.monotonic()
        self._is_over = False

    async def __call__(self, message: Message) -> None:
        if self._is_over:
            return
        if message["type"] == "http.response.body" and message.get("more_body") and await self._has_to_end():
            # The server now tells the application that its reader is gone.
            self._is_over = True
            message = {"type": "http.response.body"}
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message["headers"]))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            for name, value in self.headers.items():
                if name not in headers:  # whoever logs out or in sets it otherwise
                    headers.append(name, value)
            message = {**message, "headers": headers.raw}
        await self._send(message)

    async def _has_to_end(self) -> bool:
        if self.still_welcome is None or time.monotonic() - self._looked < RECHECK:
            return False
        self._looked = time.monotonic()
        return not await self.still_welcome()


def is_for_programs(path: str) -> bool:
    """Whether whoever asks for `path` wants data, not a page."""
    return path.startswith("/v1/") or path in ("/openapi.json", "/metrics")


def cookies(headers: Headers) -> Mapping[str, str]:
    """Name → value. Other servers of this machine may have set some too, of any form."""
    return {name: value for header in headers.getlist("cookie") for name, value in cookie_parser(header).items()}


def _is_ours(headers: Headers, method: str) -> bool:
    """Whether a request comes from our own pages, or from no page at all.

    A browser names the page's origin in every request that changes something; without it nobody has the cookie either.
    """
    origins = headers.getlist("origin")
    if origins:
        return origins == [f"http://{headers['host']}"]
    return method in SAFE or "cookie" not in headers


def client_address(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""
