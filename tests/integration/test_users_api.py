"""Accounts, logins and the audit log over HTTP, asked by people of every role."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tasks.users import Authority, InvalidToken, KeyRing, Principal, Ticket, audit_entry, load_pepper, owner
from tasks.words import Role

from .service import Answer, Service

PASSWORD, OTHER = "correct horse battery", "another good one"


@dataclass
class Desk:
    service: Service
    authority: Authority

    async def ask(self, target: str, method: str = "GET", by: Principal | None = None, **body: Any) -> Answer:
        """`by`: whom the gate of the page would have let through; else the owner, on the socket."""
        self.service.app.state.principal = by or owner("socket")
        headers = {"content-type": "application/json"} if body else {}
        return await self.service.ask(target, method, headers, json.dumps(body).encode() if body else b"")

    async def log_in(self, name: str, password: str = PASSWORD) -> Ticket:
        return await self.authority.log_in(name, password, kind="cookie", address="127.0.0.1", client="a browser")

    async def is_in(self, ticket: Ticket) -> bool:
        try:
            await self.authority.check(ticket.token)
        except InvalidToken:
            return False
        return True


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    service = Service(tmp_path)
    await service.start()
    folder = service.context.settings.auth_dir
    authority = Authority(service.context.database, KeyRing(folder), load_pepper(folder), cost=4)
    service.context.authority = authority
    made = Desk(service, authority)
    for name, role in (("root", "admin"), ("ada", "operator"), ("eve", "viewer")):
        answer = await made.ask("/v1/users", "POST", username=name, password=PASSWORD, role=role)
        assert answer.status == 201, answer.body
    yield made
    authority.close()
    await service.stop()


async def test_accounts_are_listed_read_and_made(desk: Desk) -> None:
    listed = (await desk.ask("/v1/users")).json()
    assert [(one["username"], one["role"], one["disabled"]) for one in listed] == [
        ("ada", "operator", False), ("eve", "viewer", False), ("root", "admin", False),
    ]  # fmt: skip
    assert (await desk.ask("/v1/users/ADA")).json() == listed[0]
    made = await desk.ask("/v1/users", "POST", username="Zoë", password=OTHER)
    assert (made.status, made.json()["role"], made.json()["last_login_at"]) == (201, "viewer", None)
    assert (await desk.ask("/v1/users/zo%C3%AB")).json() == made.json()
    assert (await desk.log_in("Zoë", OTHER)).principal.role is Role.VIEWER


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"username": "ADA", "password": OTHER}, 409),
        ({"username": "a b", "password": OTHER}, 400),
        ({"username": "x", "password": "short"}, 400),
        ({"username": "x", "password": "y" * 1025}, 400),
        ({"username": "x", "password": "y" * 5000}, 422),
        ({"username": "x", "password": OTHER, "role": "king"}, 422),
        ({"username": "x", "password": OTHER, "admin": True}, 422),
        ({"username": "x", "password": 12345678901}, 422),
        ({"username": "x", "passwort": OTHER}, 422),
        ({"password": OTHER}, 422),
    ],
)
async def test_what_is_wrong_with_a_new_account_is_said_without_its_password(
    desk: Desk, order: dict[str, Any], status: int
) -> None:
    answer = await desk.ask("/v1/users", "POST", **order)
    assert answer.status == status, answer.body
    assert len((await desk.ask("/v1/users")).json()) == 3
    for secret in (OTHER, "12345678901", "yyyyyyyy"):
        assert secret not in answer.body.decode()


async def test_a_body_that_is_no_json_is_not_repeated_either(desk: Desk) -> None:
    body = b'{"username": "x", "password": "' + OTHER.encode()
    answer = await desk.service.ask("/v1/users", "POST", {"content-type": "application/json"}, body)
    assert answer.status == 422
    assert OTHER not in answer.body.decode()


async def test_a_new_password_ends_the_logins_of_the_account(desk: Desk) -> None:
    ticket, root = await desk.log_in("ada"), await desk.log_in("root")
    answer = await desk.ask("/v1/users/ada/password", "POST", by=root.principal, password=OTHER)
    assert answer.status == 200
    assert OTHER not in answer.body.decode()
    assert (await desk.is_in(ticket), await desk.is_in(root)) == (False, True)
    assert await desk.log_in("ada", OTHER)


async def test_an_admin_who_sets_the_own_password_stays(desk: Desk) -> None:
    root, other = await desk.log_in("root"), await desk.log_in("root")
    await desk.ask("/v1/users/root/password", "POST", by=root.principal, password=OTHER)
    assert (await desk.is_in(root), await desk.is_in(other)) == (True, False)


@pytest.mark.parametrize("order", [("role", {"role": "admin"}), ("disable", {})])
async def test_who_may_do_something_else_from_now_on_has_to_log_in_again(
    desk: Desk, order: tuple[str, dict[str, Any]]
) -> None:
    ticket = await desk.log_in("ada")
    answer = await desk.ask(f"/v1/users/ada/{order[0]}", "POST", **order[1])
    assert answer.status == 200
    assert not await desk.is_in(ticket)
    assert (await desk.ask("/v1/users/ada/enable", "POST")).json()["disabled"] is False
    assert await desk.log_in("ada")


async def test_a_removed_account_is_gone(desk: Desk) -> None:
    ticket = await desk.log_in("ada")
    assert (await desk.ask("/v1/users/ada", "DELETE")).status == 204
    assert not await desk.is_in(ticket)
    for method, target in (("GET", ""), ("DELETE", ""), ("POST", "/disable"), ("POST", "/enable")):
        assert (await desk.ask(f"/v1/users/ada{target}", method)).status == 404
    assert (await desk.ask("/v1/users/ada/password", "POST", password=OTHER)).status == 404
    assert (await desk.ask("/v1/users/ada/role", "POST", role="admin")).status == 404


async def test_the_last_admin_stays(desk: Desk) -> None:
    orders: list[tuple[str, str, dict[str, Any]]] = [
        ("DELETE", "", {}), ("POST", "/disable", {}), ("POST", "/role", {"role": "viewer"}),
    ]  # fmt: skip
    for method, target, body in orders:
        answer = await desk.ask(f"/v1/users/root{target}", method, **body)
        assert answer.status == 409
        assert "last account" in answer.json()["detail"]


ADMINS_ONLY = [
    ("GET", "/v1/users"), ("POST", "/v1/users"), ("GET", "/v1/users/ada"), ("DELETE", "/v1/users/ada"),
    ("POST", "/v1/users/ada/password"), ("POST", "/v1/users/ada/role"), ("POST", "/v1/users/ada/disable"),
    ("POST", "/v1/users/ada/enable"), ("GET", "/v1/logins?all=true"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), ADMINS_ONLY)
@pytest.mark.parametrize("name", ["ada", "eve"])
async def test_nobody_but_an_admin_manages_accounts_whatever_the_gate_says(
    desk: Desk, name: str, method: str, target: str
) -> None:
    who = (await desk.log_in(name)).principal
    body: dict[str, Any] = {"username": "x", "password": OTHER} if (method, target) == ("POST", "/v1/users") else {}
    if target.endswith("password"):
        body = {"password": OTHER}
    elif target.endswith("role"):
        body = {"role": "admin"}
    assert (await desk.ask(target, method, by=who, **body)).status == 403
    assert len((await desk.ask("/v1/users")).json()) == 3


# Me


async def test_everybody_is_told_who_they_are(desk: Desk) -> None:
    mine = (await desk.ask("/v1/me")).json()
    assert (mine["user_id"], mine["username"], mine["role"], mine["via"]) == (
        None, owner("socket").username, "admin", "socket",
    )  # fmt: skip
    ticket = await desk.log_in("ada")
    assert (await desk.ask("/v1/me", by=ticket.principal)).json() == {
        "user_id": ticket.principal.user_id, "username": "ada", "role": "operator", "via": "cookie",
        "login_id": ticket.login_id, "csrf": desk.authority.csrf(ticket.login_id),
    }  # fmt: skip


async def test_the_own_password_is_changed_by_who_knows_it(desk: Desk) -> None:
    ticket, other = await desk.log_in("eve"), await desk.log_in("eve")
    wrong = await desk.ask("/v1/me/password", "POST", by=ticket.principal, current="wrong", new=OTHER)
    assert (wrong.status, wrong.json()) == (403, {"detail": "the present password is wrong"})
    weak = await desk.ask("/v1/me/password", "POST", by=ticket.principal, current=PASSWORD, new="password1")
    assert weak.status == 400
    right = await desk.ask("/v1/me/password", "POST", by=ticket.principal, current=PASSWORD, new=OTHER)
    assert (right.status, right.body) == (204, b"")
    assert (await desk.is_in(ticket), await desk.is_in(other)) == (True, False)
    assert await desk.log_in("eve", OTHER)


async def test_guessing_the_own_password_is_slowed_down(desk: Desk) -> None:
    who = (await desk.log_in("eve")).principal
    statuses = []
    while 429 not in statuses:  # the delay soon gets longer than any machine takes
        answer = await desk.ask("/v1/me/password", "POST", by=who, current="wrong", new=OTHER)
        statuses.append(answer.status)
        assert len(statuses) < 15
    assert set(statuses[:-1]) == {403}
    assert len(statuses) > 5
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_owner_on_the_socket_has_no_password(desk: Desk) -> None:
    answer = await desk.ask("/v1/me/password", "POST", current="x", new=OTHER)
    assert answer.status == 409
    assert "/v1/users/{name}/password" in answer.json()["detail"]


# Logins


async def test_everybody_sees_and_ends_the_own_logins_and_an_admin_all(desk: Desk) -> None:
    ada, again, eve = await desk.log_in("ada"), await desk.log_in("ada"), await desk.log_in("eve")
    root = await desk.log_in("root")
    mine = (await desk.ask("/v1/logins", by=ada.principal)).json()
    assert {(one["login_id"], one["current"]) for one in mine} == {(ada.login_id, True), (again.login_id, False)}
    assert {one["address"] for one in mine} == {"127.0.0.1"}
    every = (await desk.ask("/v1/logins?all=true", by=root.principal)).json()
    assert {one["username"] for one in every} == {"ada", "eve", "root"}
    assert (await desk.ask("/v1/logins")).json() == []

    assert (await desk.ask(f"/v1/logins/{eve.login_id}", "DELETE", by=ada.principal)).status == 404
    assert await desk.is_in(eve)
    assert (await desk.ask(f"/v1/logins/{again.login_id}", "DELETE", by=ada.principal)).status == 204
    assert not await desk.is_in(again)
    assert (await desk.ask(f"/v1/logins/{again.login_id}", "DELETE", by=ada.principal)).status == 404
    assert (await desk.ask(f"/v1/logins/{eve.login_id}", "DELETE", by=root.principal)).status == 204
    assert not await desk.is_in(eve)
    assert (await desk.ask("/v1/logins/nothing", "DELETE")).status == 404


# The audit log


async def test_the_audit_log_is_read_page_by_page(desk: Desk) -> None:
    await desk.service.context.database.transaction(lambda c: c.execute("DELETE FROM audit"))
    writes = [audit_entry(owner("cli"), f"action {n % 2}", target=str(n)) for n in range(5)]
    old = audit_entry(owner("cli"), "old", now=1)
    await desk.service.context.database.apply([*writes, old])
    first = (await desk.ask("/v1/audit?limit=2&days=1")).json()
    assert [one["target"] for one in first] == ["4", "3"]
    rest = (await desk.ask(f"/v1/audit?before={first[-1]['id']}&action=action%200")).json()
    assert [one["target"] for one in rest] == ["2", "0"]
    assert [one["action"] for one in (await desk.ask(f"/v1/audit?user={owner('cli').username}&limit=1")).json()] == [
        "old"
    ]
    assert set(first[0]) == {
        "id", "timestamp", "user_id", "username", "via", "action", "target", "outcome", "address", "detail",
    }  # fmt: skip


@pytest.mark.parametrize(
    "query", ["days=0", "days=nan", "days=inf", "limit=0", "limit=1001", f"before={2**63}", "before=x"]
)
async def test_the_audit_log_refuses_what_it_cannot_answer(desk: Desk, query: str) -> None:
    assert (await desk.ask(f"/v1/audit?{query}")).status == 422


async def test_no_password_is_stored_or_logged_or_kept_in_the_audit_log(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    ticket = await desk.log_in("eve")
    await desk.ask("/v1/users/ada/password", "POST", password=OTHER)
    await desk.ask("/v1/me/password", "POST", by=ticket.principal, current=PASSWORD, new=OTHER)
    dump: list[Any] = []
    for table in ("users", "logins", "audit"):
        dump += await desk.service.context.database.query(f"SELECT * FROM {table}")
    for secret in (PASSWORD, OTHER, ticket.token):
        assert secret not in str(dump)
        assert secret not in caplog.text


async def test_accounts_are_managed_on_the_socket_while_nobody_can_log_in(desk: Desk) -> None:
    desk.service.context.authority = None
    assert (await desk.ask("/v1/users", "POST", username="new", password=OTHER)).status == 201
    assert (await desk.ask("/v1/users", "POST", username="newer", password="short")).status == 400
    assert await desk.log_in("new", OTHER)
