"""/v1/login and its like: tokens for programs, and the way from the command line into the page.

A program logs in with a name and a password and sends the token with every request (`Authorization: Bearer …`). Tokens hold
for 15 minutes; `POST /v1/renew` gives a fresh one, for as long as the login lasts.
"""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from tasks.api.access import Ctx, Who
from tasks.api.context import Context
from tasks.api.discreet import DiscreetRoute
from tasks.users import Authority, NoSuchUser, Overloaded, Ticket, TooManyAttempts, WrongCredentials

router = APIRouter(tags=["users"], route_class=DiscreetRoute)


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: Annotated[str, Field(max_length=256)]
    password: Annotated[str, Field(max_length=4096, json_schema_extra={"format": "password"})]


class Token(BaseModel):
    token: str
    token_type: str = "bearer"  # noqa: S105  (what it is called)
    #: epoch milliseconds
    expires_at: int
    username: str
    role: str


class DashboardOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: whom the page greets; null: the first admin
    username: Annotated[str, Field(max_length=256)] | None = None


class Dashboard(BaseModel):
    #: logs in once, within a minute
    url: str


@router.post("/login")
async def log_in(ctx: Ctx, credentials: Credentials, request: Request) -> Token:
    """A token for a name and a password. 401 when they are not right, 429 after too many tries."""
    try:
        ticket = await _authority(ctx).log_in(
            credentials.username,
            credentials.password,
            kind="bearer",
            address=request.client.host if request.client else "",
            client=request.headers.get("user-agent", ""),
        )
    except WrongCredentials as error:
        raise HTTPException(401, str(error)) from error
    except (TooManyAttempts, Overloaded) as error:
        headers = {"retry-after": str(error.retry_after)}
        raise HTTPException(429, str(error), headers) from error
    return _token(ticket)


@router.post("/renew")
async def renew(ctx: Ctx, who: Who) -> Token:
    """A fresh token for the login of this one, which stays good for as long as it says."""
    if who.via != "bearer":
        raise HTTPException(409, "only a token of POST /v1/login can be renewed")
    return _token(_authority(ctx).ticket(who))


@router.post("/logout", status_code=204)
async def log_out(ctx: Ctx, who: Who) -> None:
    """Ends the login that this request was made with: its tokens are worth nothing from now on."""
    if who.login_id is None:
        raise HTTPException(409, "nobody is logged in on the Unix socket")
    await _authority(ctx).log_out(who.login_id)


@router.post("/dashboard")
async def open_dashboard(ctx: Ctx, who: Who, order: DashboardOrder | None = None) -> Dashboard:
    """The address of the page, with a code that logs in once. On the Unix socket alone: its owner may do everything anyway."""
    if not who.is_owner:
        raise HTTPException(404, "there is nothing at this address")
    if not ctx.web.startswith("http"):
        raise HTTPException(503, f"the page is {ctx.web}")
    try:
        code = await _authority(ctx).issue_once(None if order is None else order.username)
    except NoSuchUser as error:
        raise HTTPException(404, str(error)) from error
    return Dashboard(url=f"{ctx.web}/login#once={code}")


def _authority(ctx: Context) -> Authority:
    if ctx.authority is None:
        raise HTTPException(503, "this daemon lets nobody log in: the page is off (web.enabled)")
    return ctx.authority


def _token(ticket: Ticket) -> Token:
    who = ticket.principal
    return Token(token=ticket.token, expires_at=ticket.expires_at, username=who.username, role=who.role)
