"""The HTTP face: one ASGI application, one file per resource under /v1, served on the Unix socket."""

from tasks.api.app import create_app
from tasks.api.context import Bell, Context
from tasks.api.server import WEB_LIMITS, ApiServer, Limits, bind_loopback, bind_unix_socket

__all__ = [
    "WEB_LIMITS",
    "ApiServer",
    "Bell",
    "Context",
    "Limits",
    "bind_loopback",
    "bind_unix_socket",
    "create_app",
]
