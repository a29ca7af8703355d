"""Accounts, logins and the audit log as pages. `now` and all times are epoch milliseconds."""

from collections.abc import Sequence

from tasks.cli.page import BAD, FAINT, GOOD, STRONG, Block, Cell, Column, Table
from tasks.cli.views import when
from tasks.users import Deed, Login, User
from tasks.words import Role


def accounts(found: Sequence[User], now: int) -> list[Block]:
    columns = [
        Column("name", flexible=True), Column("role"), Column("state"), Column("last login"),
        Column("password of", optional=True), Column("made", optional=True),
    ]  # fmt: skip
    table = Table("", columns, "no accounts; `tasksd users add NAME` makes the first one, an admin")
    for one in found:
        table.add(
            Cell(one.username, FAINT if one.disabled else STRONG), Cell(one.role, STRONG if one.role is Role.ADMIN else ""),
            Cell("disabled", BAD) if one.disabled else Cell("enabled", GOOD),
            "never" if one.last_login_at is None else when(one.last_login_at, now),
            when(one.password_changed_at, now), when(one.created_at, now),
        )  # fmt: skip
    return [table]


def logins(found: Sequence[Login], now: int) -> list[Block]:
    columns = [
        Column("name"), Column("by"), Column("since"), Column("last seen"), Column("from", optional=True),
        Column("client", flexible=True),
    ]  # fmt: skip
    table = Table("", columns, "nobody is logged in")
    for one in found:
        table.add(
            one.username, one.kind, when(one.created_at, now), when(one.last_seen_at, now), one.address or "-",
            one.client or "-",
        )  # fmt: skip
    return [table]


def deeds(found: Sequence[Deed], now: int) -> list[Block]:
    columns = [
        Column("when"), Column("who"), Column("by"), Column("did", flexible=True), Column("to", flexible=True),
        Column("outcome", right=True), Column("from", optional=True), Column("detail", optional=True),
    ]  # fmt: skip
    table = Table("", columns, "nothing was done in that time")
    for one in found:
        table.add(
            when(one.timestamp, now), one.username, one.via, one.action, one.target or "-",
            Cell(one.outcome, "" if one.outcome < 400 else BAD), one.address or "-", one.detail or "-",
        )  # fmt: skip
    return [table]
