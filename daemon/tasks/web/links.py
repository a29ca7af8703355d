"""Addresses of the same page with another question."""

from collections.abc import Callable
from urllib.parse import urlencode

from starlette.datastructures import QueryParams


def linker(query: QueryParams) -> Callable[..., str]:
    """A function that gives the query of a link: as it is, with the named parts changed, or left out when they are None."""
    present = dict(query.items())

    def to(**changes: object) -> str:
        parts = {name: value for name, value in (present | changes).items() if value is not None}
        return "?" + urlencode(parts, errors="replace")

    return to
