"""Assembles the application from its resources."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tasks.api import (
    audit,
    calls,
    costs,
    diff,
    doctor,
    errors,
    events,
    guard,
    login,
    logs,
    metrics,
    pool,
    quarantine,
    sessions,
    settings,
    stats,
    stats_errors,
    stats_tasks,
    status,
    tasks,
    tools,
    turns,
    users,
    verdicts,
)
from tasks.api.context import Context
from tasks.errors import (
    ImpossibleTransition,
    NoSuchTask,
    PoolClosed,
    PoolFull,
    RepositoryBusy,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    TasksError,
)
from tasks.users import LastAdmin, NoSuchLogin, NoSuchUser, Principal, UserExists

RESOURCES = (
    status.router, sessions.router, tasks.router, logs.router, pool.router, tools.router, errors.router, events.router,
    quarantine.router, verdicts.router, guard.router, stats.router, stats_errors.router, stats_tasks.router, costs.router,
    calls.router, turns.router, diff.router, doctor.router, settings.router, login.router, users.router, audit.router,
)  # fmt: skip

#: The first that fits; every other TasksError is 400.
_CODES: tuple[tuple[type[TasksError], int], ...] = (
    (NoSuchTask, 404), (ImpossibleTransition, 409), (PoolFull, 429), (PoolClosed, 503), (RepositoryBusy, 503),
    (StoreBusy, 503), (StoreUnavailable, 503), (StoreError, 500),
    (NoSuchUser, 404), (NoSuchLogin, 404), (UserExists, 409), (LastAdmin, 409),
)  # fmt: skip


def create_app(context: Context, principal: Principal | None = None) -> FastAPI:
    """The application of one listener. `principal` is who asks whenever nothing says otherwise; None: that is refused."""
    app = FastAPI(
        title="tasksd",
        version=context.version,
        summary="Durable history of Claude Code agents",
        # The interactive pages would load scripts from elsewhere; /openapi.json is there for tools.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.state.principal = principal
    for router in RESOURCES:
        app.include_router(router, prefix="/v1")
    app.include_router(metrics.router)  # where scrapers look for it
    app.add_exception_handler(TasksError, _explain)
    return app


def code_of(error: Exception) -> int:
    """The HTTP status of what went wrong."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 400)


async def _explain(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=code_of(error))
