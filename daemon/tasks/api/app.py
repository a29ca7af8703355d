"""Assembles the application from its resources."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tasks.api import errors, events, quarantine, sessions, status, tools
from tasks.api.context import Context
from tasks.errors import StoreBusy, StoreError, TasksError

RESOURCES = (status.router, sessions.router, tools.router, errors.router, events.router, quarantine.router)


def create_app(context: Context) -> FastAPI:
    app = FastAPI(
        title="tasksd",
        version=context.version,
        summary="Durable history of Claude Code agents",
        # The interactive pages would load scripts from elsewhere; /openapi.json is there for tools.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    for router in RESOURCES:
        app.include_router(router, prefix="/v1")
    app.add_exception_handler(TasksError, _explain)
    return app


async def _explain(request: Request, error: Exception) -> JSONResponse:
    code = 503 if isinstance(error, StoreBusy) else 500 if isinstance(error, StoreError) else 400
    return JSONResponse({"detail": str(error)}, status_code=code)
