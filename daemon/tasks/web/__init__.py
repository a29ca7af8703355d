"""The web page: the API behind a login on loopback, and pages for people."""

from tasks.web.app import create_web_app

__all__ = ["create_web_app"]
