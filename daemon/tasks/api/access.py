"""How a resource gets at the context of the application that serves it."""

from typing import Annotated

from fastapi import Depends, Request

from tasks.api.context import Context


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Ctx = Annotated[Context, Depends(_context)]
