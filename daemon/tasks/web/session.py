"""Logging in and out by pages. The cookie is all that a browser keeps; its scripts cannot read it."""

from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tasks.errors import StoreError
from tasks.users import Authority, Overloaded, Principal, TooManyAttempts, WrongCredentials
from tasks.web.frame import Frame
from tasks.web.gate import Gate, client_address

#: Bytes of a form.
LONGEST = 8 << 10


class LoginPages:
    def __init__(self, frame: Frame, authority: Authority) -> None:
        self._frame = frame
        self._authority = authority

    async def show(self, request: Request) -> Response:
        """GET /login"""
        if request.scope.get("principal") is not None:
            return RedirectResponse(_safe(request.query_params.get("next", "")), 303)
        return self._page(200, next_=request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        """POST /login: a name and a password, or a code that is good once."""
        form = await _form(request)
        next_, gate = form.get("next", ""), _gate(request)
        address, client = client_address(request.scope), request.headers.get("user-agent", "")
        try:
            if once := form.get("once", ""):
                ticket = await self._authority.log_in_once(once, kind="cookie", address=address, client=client)
            else:
                name, password = form.get("username", ""), form.get("password", "")
                ticket = await self._authority.log_in(name, password, kind="cookie", address=address, client=client)
            before: Principal | None = request.scope.get("principal")
            if before is not None and before.via == "cookie" and before.login_id is not None:
                await self._authority.log_out(before.login_id)  # its cookie is about to be replaced
        except WrongCredentials as error:
            return self._page(401, str(error), next_, form.get("username", ""))
        except (TooManyAttempts, Overloaded) as error:
            page = self._page(429, str(error), next_, form.get("username", ""))
            page.headers["retry-after"] = str(error.retry_after)
            return page
        except StoreError as error:
            return self._page(503, f"cannot log anybody in now: {error}", next_, form.get("username", ""))
        return RedirectResponse(_safe(next_), 303, {"set-cookie": gate.set_cookie(ticket)})

    async def log_out(self, request: Request) -> Response:
        """POST /logout"""
        who, gate = request.scope["principal"], _gate(request)
        if not gate.is_ours(who, (await _form(request)).get("csrf", "")):
            return self._frame.refusal(request, 403, "this form is not of this login: reload the page and try again")
        await self._authority.log_out(who.login_id)
        return RedirectResponse("/login", 303, {"set-cookie": gate.set_cookie(None)})

    def _page(self, status: int, reason: str = "", next_: str = "", username: str = "") -> HTMLResponse:
        return self._frame.plain("login.html", status, reason=reason, next=next_, username=username)


def _gate(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; nothing of one that is longer than any of ours, or that did not arrive."""
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > LONGEST:
                return {}
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=16, strict_parsing=False)
    except (ValueError, ClientDisconnect):
        return {}
    return {name: values[0] for name, values in fields.items()}


def _safe(address: str) -> str:
    """An address of ours to go on at; a page elsewhere is none."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain and "\\" not in address else "/"
