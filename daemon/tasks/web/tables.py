"""The numbers of a page as CSV, at an address of their own."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tasks.api import Context
from tasks.errors import TasksError
from tasks.text import csv_text
from tasks.web.frame import Look, reason_of
from tasks.words import Role


@dataclass(frozen=True, slots=True)
class Table:
    """`path` ends in .csv; the file that it is saved as has the same name."""

    path: str
    columns: tuple[str, ...]
    load: Callable[[Look], Awaitable[Iterable[Mapping[str, object]]]]
    role: Role = Role.VIEWER

    def endpoint(self, ctx: Context) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            look = Look(ctx, request.scope["principal"], request.path_params, request.query_params)
            try:
                rows = await self.load(look)
            except (TasksError, HTTPException) as error:
                status, reason = reason_of(error)
                return PlainTextResponse(reason, status)
            name = request.url.path.rpartition("/")[2]
            headers = {"content-disposition": f'attachment; filename="{name}"'}
            return Response(csv_text(rows, self.columns), media_type="text/csv", headers=headers)

        return answer
