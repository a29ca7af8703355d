"""How a resource gets at the context of the application that serves it, and at who asks."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request

from tasks.api.context import Context
from tasks.users import Principal


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def _principal(request: Request) -> Principal:
    """Put there by the gate of the web application; on the Unix socket it is always the owner."""
    found: Principal | None = request.scope.get("principal") or request.app.state.principal
    if found is None:
        raise HTTPException(401, "log in first")
    return found


Ctx = Annotated[Context, Depends(_context)]
Who = Annotated[Principal, Depends(_principal)]
