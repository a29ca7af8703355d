"""Writes down who did what: one row for every request that changes something."""

import logging
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.api.context import Context
from tasks.api.rules import API_RULES, Rule, RuleBook
from tasks.errors import StoreError
from tasks.users import Principal, audit_entry

log = logging.getLogger(__name__)

#: Writes of the daemon's own helpers, not of people.
_SILENT = {"/v1/guard", "/v1/dashboard"}


@dataclass(slots=True)
class Note:
    """What will be written once the answer is known."""

    context: Context
    principal: Principal
    action: str
    target: str
    address: str

    @classmethod
    def of(cls, context: Context, scope: Scope, rule: Rule, principal: Principal) -> "Note":
        parts = zip(rule.path.split("/"), str(scope["path"]).split("/"), strict=False)
        target = " ".join(given for spelled, given in parts if spelled.startswith("{"))
        client: Any = scope.get("client")
        return cls(
            context,
            principal,
            f"{rule.method} {rule.path}",
            target[:200],
            str(client[0]) if client else "",
        )

    async def write(self, status: int) -> None:
        """What could not be written is in the log; nothing that was done is undone for it."""
        entry = audit_entry(
            self.principal, self.action, target=self.target or None, outcome=status, address=self.address or None
        )
        try:
            await self.context.database.apply([entry])
        except StoreError as error:
            who = self.principal.username
            log.warning("cannot audit action=%s target=%s user=%s error=%s", self.action, self.target, who, error)


def made_known(request: Request, target: str) -> None:
    """Say what a request makes, where its address does not: the id of a new task, the name of a new account."""
    note: Note | None = request.scope.get("note")
    if note is not None:
        note.target = target


class Audited:
    """The application of the Unix socket, with what its owner does written down."""

    def __init__(self, app: ASGIApp, context: Context, principal: Principal) -> None:
        self._app = app
        self._context = context
        self._principal = principal
        self._rules = RuleBook(API_RULES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule, _ = self._rules.of(scope["method"], scope["path"]) if scope["type"] == "http" else (None, [])
        if rule is None or not rule.writes or rule.path in _SILENT:
            await self._app(scope, receive, send)
            return
        status = 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        note = scope["note"] = Note.of(self._context, scope, rule, self._principal)
        try:
            await self._app(scope, receive, answered)
        finally:
            await note.write(status)
