"""/v1/users, /v1/me and /v1/logins: accounts, who asks, and which logins are open. No answer ever holds a password."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tasks.api.access import Ctx, Who
from tasks.api.audited import made_known
from tasks.api.context import Context
from tasks.api.discreet import DiscreetRoute
from tasks.database import Connection
from tasks.users import (
    Authority,
    NoSuchLogin,
    Overloaded,
    Principal,
    TooManyAttempts,
    User,
    WrongCredentials,
    accounts,
    load_pepper,
    logins,
    passwords,
)
from tasks.words import Role

router = APIRouter(tags=["users"], route_class=DiscreetRoute)

Name = Annotated[str, Field(max_length=256)]
#: Its limits are those of tasks.users; whatever is beyond is not even read.
Password = Annotated[str, Field(max_length=4096, json_schema_extra={"format": "password", "writeOnly": True})]


class Account(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: int
    username: str
    role: Role
    disabled: bool
    #: this and the following: epoch milliseconds
    created_at: int
    password_changed_at: int
    last_login_at: int | None


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAccount(_Order):
    username: Name
    password: Password
    #: null: an admin when it is the first account, else a viewer
    role: Role | None = None


class NewPassword(_Order):
    password: Password


class NewRole(_Order):
    role: Role


class OwnPassword(_Order):
    current: Password
    new: Password


class Me(BaseModel):
    #: null: the user that the daemon runs as
    user_id: int | None
    username: str
    role: Role
    via: Literal["socket", "cli", "cookie", "bearer"]
    login_id: str | None
    #: what requests that change something have to bring as X-CSRF-Token; null where they need not
    csrf: str | None


class OpenLogin(BaseModel):
    login_id: str
    user_id: int
    username: str
    kind: Literal["cookie", "bearer"]
    #: epoch milliseconds
    created_at: int
    #: epoch milliseconds, to the minute
    last_seen_at: int
    address: str | None
    #: what the browser or program calls itself
    client: str | None
    #: the one that asks
    current: bool


def _admin(who: Who) -> Principal:
    if not who.role.covers(Role.ADMIN):
        raise HTTPException(403, f"{who.username} is {who.role}; this takes {Role.ADMIN}")
    return who


#: Whoever manages accounts.
_for_admins = [Depends(_admin)]


@router.get("/users", dependencies=_for_admins)
async def list_users(ctx: Ctx) -> list[Account]:
    """By name."""
    return [_shown(user) for user in await ctx.database.read(lambda reader: accounts.listed(reader.query))]


@router.post("/users", status_code=201, dependencies=_for_admins)
async def create_user(ctx: Ctx, order: NewAccount, request: Request) -> Account:
    """409 when there is one of that name, 400 when the name or the password is refused."""
    name = await ctx.database.read(lambda reader: accounts.check_free(reader.query, order.username))
    hashed = await _hashed(ctx, name, order.password)
    made_known(request, name)
    return await _changed(
        ctx,
        lambda connection, now: accounts.create(connection, name, password_hash=hashed, role=order.role, now=now),
    )


@router.get("/users/{name}", dependencies=_for_admins)
async def read_user(ctx: Ctx, name: str) -> Account:
    return _shown(await _found(ctx, name))


@router.delete("/users/{name}", status_code=204, dependencies=_for_admins)
async def remove_user(ctx: Ctx, name: str) -> None:
    """Gone with its logins. 409 for the last admin that is not disabled."""
    await ctx.database.transaction(lambda connection: accounts.remove(connection, name))


@router.post("/users/{name}/password", dependencies=_for_admins)
async def set_password(ctx: Ctx, who: Who, name: str, order: NewPassword) -> Account:
    """All its logins end; the one that asks does not."""
    user = await _found(ctx, name)
    hashed = await _hashed(ctx, user.username, order.password)
    return await _changed(
        ctx,
        lambda connection, now: accounts.set_password(
            connection, user.username, password_hash=hashed, now=now, keep=who.login_id
        ),
    )


@router.post("/users/{name}/role", dependencies=_for_admins)
async def set_role(ctx: Ctx, name: str, order: NewRole) -> Account:
    """All its logins end. 409 for the last admin that is not disabled."""
    return await _changed(ctx, lambda connection, now: accounts.set_role(connection, name, role=order.role, now=now))


@router.post("/users/{name}/disable", dependencies=_for_admins)
async def disable_user(ctx: Ctx, name: str) -> Account:
    """All its logins end, and nobody can log in. 409 for the last admin that is not disabled."""
    return await _changed(ctx, lambda connection, now: accounts.disable(connection, name, now=now))


@router.post("/users/{name}/enable", dependencies=_for_admins)
async def enable_user(ctx: Ctx, name: str) -> Account:
    return await _changed(ctx, lambda connection, _: accounts.enable(connection, name))


@router.get("/me")
async def read_me(ctx: Ctx, who: Who) -> Me:
    """Who asks."""
    csrf = ctx.authority.csrf(who.login_id) if ctx.authority and who.via == "cookie" and who.login_id else None
    return Me(user_id=who.user_id, username=who.username, role=who.role, via=who.via, login_id=who.login_id, csrf=csrf)


@router.post("/me/password", status_code=204)
async def change_own_password(ctx: Ctx, who: Who, order: OwnPassword) -> None:
    """Ends all other logins of the account. 403 when the present password is wrong, 429 after too many tries."""
    if who.user_id is None:
        raise HTTPException(409, "the user that the daemon runs as has no password; POST /v1/users/{name}/password")
    try:
        await _authority(ctx).change_password(who, order.current, order.new)
    except WrongCredentials as error:
        raise HTTPException(403, "the present password is wrong") from error
    except (TooManyAttempts, Overloaded) as error:
        raise HTTPException(429, str(error), {"retry-after": str(error.retry_after)}) from error


@router.get("/logins")
async def list_logins(ctx: Ctx, who: Who, every: Annotated[bool, Query(alias="all")] = False) -> list[OpenLogin]:
    """One's own that are open, the last seen first; with `all`, for admins, everybody's."""
    if every:
        _admin(who)
    elif who.user_id is None:
        return []
    now, user_id = _now(), None if every else who.user_id
    found = await ctx.database.read(lambda reader: logins.listed(reader.query, now=now, user_id=user_id))
    return [
        OpenLogin(
            login_id=one.login_id, user_id=one.user_id, username=one.username, kind=one.kind, created_at=one.created_at,
            last_seen_at=one.last_seen_at, address=one.address, client=one.client, current=one.login_id == who.login_id,
        )
        for one in found
    ]  # fmt: skip


@router.delete("/logins/{login_id}", status_code=204)
async def end_login(ctx: Ctx, who: Who, login_id: str) -> None:
    """Ends one of one's own; for admins anybody's. Its tokens are worth nothing from now on."""
    now = _now()

    def end(connection: Connection) -> None:
        whose = logins.owner_of(connection, login_id)
        may = who.role.covers(Role.ADMIN) or whose == who.user_id
        # Whether it is another person's is none of the asker's business.
        if whose is None or not may or not logins.end(connection, login_id, "killed", now=now):
            raise NoSuchLogin

    await ctx.database.transaction(end)


async def _found(ctx: Context, name: str) -> User:
    return await ctx.database.read(lambda reader: accounts.find(reader.query, name))


async def _changed(ctx: Context, change: Callable[[Connection, int], User]) -> Account:
    now = _now()
    return _shown(await ctx.database.transaction(lambda connection: change(connection, now)))


async def _hashed(ctx: Context, username: str, password: str) -> str:
    """Raises PasswordRefused."""
    if ctx.authority is None:  # nobody can log in now; an account may be made all the same
        settings = ctx.settings

        def hashed() -> str:
            passwords.check_new(password, username)
            return passwords.hash_password(load_pepper(settings.auth_dir), password, settings.web.password_cost)

        return await asyncio.to_thread(hashed)
    try:
        return await ctx.authority.hash_new(username, password)
    except Overloaded as error:
        raise HTTPException(429, str(error), {"retry-after": str(error.retry_after)}) from error


def _authority(ctx: Context) -> Authority:
    if ctx.authority is None:
        raise HTTPException(503, "this daemon lets nobody log in: the page is off (web.enabled)")
    return ctx.authority


def _shown(user: User) -> Account:
    return Account.model_validate(user)


def _now() -> int:
    return time.time_ns() // 1_000_000
