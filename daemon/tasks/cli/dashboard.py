"""`tasksd dashboard`: the page in a browser, logged in."""

import os
import sys
from collections.abc import Mapping

import click

from tasks.cli import asking
from tasks.cli.app import say
from tasks.config import Settings
from tasks.errors import ApiError

#: Where X11 and Wayland say that there is a display.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command()
@click.option("--user", metavar="NAME", help="Log in as this account (default: the oldest admin).")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.pass_obj
def dashboard(data_dir: str | None, user: str | None, no_browser: bool) -> None:
    """Open the page in a browser, logged in.

    Prints the address, which is good for one login within a minute; treat it like a password until then. A browser is
    opened where there is a display.
    """
    settings = asking.settings_for(data_dir)
    client = asking.client_for(settings)
    _require_page(client.get("/v1/status").get("web"), settings)
    url = client.post("/v1/dashboard", {"username": user})["url"]
    click.echo(url)
    if no_browser or not has_display(sys.platform, os.environ):
        return
    import webbrowser

    if not webbrowser.open(url):
        say("no browser could be opened: open the address yourself, within a minute")


def has_display(platform: str, environ: Mapping[str, str]) -> bool:
    """Whether a browser would open in a window; one that takes the terminal is nobody's wish."""
    return platform == "darwin" or any(environ.get(name) for name in _DISPLAYS)


def page_hint(settings: Settings) -> str:
    """How to switch the page on."""
    return (
        f"set enabled = true under [web] in {settings.config_file}, or TASKSD_WEB_ENABLED=true, and restart the daemon"
    )


def _require_page(web: str | None, settings: Settings) -> None:
    """Raises ApiError, saying what to do, when there is no page to open. `web` is what the daemon says of it."""
    if web is None:
        raise ApiError("the daemon that runs is an older one, without a page: restart it")
    if web == "off":
        raise ApiError(f"the page is off: {page_hint(settings)} (in a terminal: `tasksd up --web`)")
    if not web.startswith("http"):
        raise ApiError(f"the page is {web}")
