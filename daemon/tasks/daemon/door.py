"""The way in for people: the web application on loopback, when it is switched on."""

import asyncio
import contextlib
import logging

from tasks.api import WEB_LIMITS, ApiServer, Context, bind_loopback
from tasks.database import Database
from tasks.errors import TasksError
from tasks.users import Authority, KeyRing, load_pepper

log = logging.getLogger(__name__)


async def open_web(context: Context, database: Database, stack: contextlib.AsyncExitStack) -> None:
    """Listen, until `stack` is closed. Where that is impossible there is no page, and everything else goes on.

    Logins are looked up in `database`, where no page has to be waited for.
    """
    # Only who has a page pays for what it is made of.
    from tasks import web

    settings = context.settings.web
    try:
        pepper = await asyncio.to_thread(load_pepper, context.settings.auth_dir)
        keys = await asyncio.to_thread(KeyRing, context.settings.auth_dir)
        authority = Authority(database, keys, pepper, cost=settings.password_cost)
        stack.callback(authority.close)
        listener = bind_loopback(settings.host, settings.port)
    except TasksError as error:
        context.web = f"not served: {error}"
        log.error("the page is not served, everything else goes on error=%s", error)
        return
    port = listener.getsockname()[1]
    gate = web.create_web_app(context, authority, port=port)
    await stack.enter_async_context(ApiServer(gate, listener, WEB_LIMITS))
    context.authority = authority
    context.web = f"http://{settings.host if ':' not in settings.host else f'[{settings.host}]'}:{port}"
    log.info("the page is served url=%s", context.web)
